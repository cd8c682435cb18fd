"""How many tasks a batch holds: chosen here and nowhere else."""

from .settings import DispatchSettings


class BatchSize:
    """Follows the measured task time so that a batch holds about `batch_s` seconds of work.

    It starts at one task, at most doubles with each measurement, and follows a rise of the task time at once. Few tasks
    say little: a fall is followed by halves only when it was measured on many.
    """

    _MANY = 32
    """This many tasks are enough to trust their mean."""
    _WORTH = 4
    """Batches of fewer tasks save less than they cost in balance."""

    _OVERHEAD_S = 1e-6
    """What a task costs around the user's function; it keeps the size finite for functions that cost nothing."""

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._tasks = settings.batch_tasks or 1
        self._mean_s: float | None = None

    def measured(self, count: int, seconds: float) -> None:
        """Take note of `count` tasks that ran for `seconds` seconds together."""
        if count == 0:
            return
        mean_s = seconds / count + self._OVERHEAD_S
        if self._mean_s is not None and mean_s < self._mean_s:
            mean_s = self._mean_s + (mean_s - self._mean_s) * min(0.5, count / self._MANY)
        self._mean_s = mean_s
        if self._settings.batch_tasks is not None:
            return
        wanted = int(self._settings.batch_s / mean_s)
        wanted = wanted if wanted >= self._WORTH else 1
        self._tasks = max(1, min(wanted, 2 * self._tasks, self._settings.batch_tasks_max))

    def is_short(self, left: int | None, window: int) -> bool:
        """True when such a batch is done in no time."""
        return self._mean_s is not None and self.tasks(left, window) * self._mean_s < self._settings.short_s

    def tasks(self, left: int | None, window: int) -> int:
        """Tasks for the next batch when `left` tasks of the input remain (None: unknown) for `window` batches.

        Guided self-scheduling (Polychronopoulos and Kuck, 1987): near the end a batch is at most its share of
        what is left, so that all slots finish together.
        """
        if left is None or self._settings.batch_tasks is not None:
            return self._tasks
        return max(1, min(self._tasks, left // (2 * max(1, window))))
