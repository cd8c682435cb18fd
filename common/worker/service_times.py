"""How long a worker's batches take, job by job, and what follows: how many to hold, and to give to a slot at once."""

from dataclasses import dataclass

from .settings import HoldingSettings


@dataclass(slots=True)
class _Pace:
    batch_s: float
    moved_at: float


class ServiceTimes:
    """Where batches are done in no time, a round trip for each would cost more than the work."""

    _AROUND_S = 50e-6
    """What a batch costs around its tasks: messages and wake-ups."""
    _WEIGHT = 1 / 8

    def __init__(self, settings: HoldingSettings) -> None:
        self._settings = settings
        self._paces: dict[str, _Pace] = {}

    def measured(self, now: float, job: str, seconds: float) -> None:
        """Take note that a batch of the job ran for `seconds` seconds."""
        pace = self._paces.get(job)
        if pace is None:
            self._paces[job] = _Pace(seconds, now)
        else:
            pace.batch_s += (seconds - pace.batch_s) * self._WEIGHT
            pace.moved_at = now

    def began(self, now: float, job: str) -> None:
        """A slot has begun with batches of the job."""
        pace = self._paces.get(job)
        if pace is not None:
            pace.moved_at = max(pace.moved_at, now)

    def keep(self, jobs: frozenset[str]) -> None:
        """Forget all other jobs."""
        self._paces = {job: pace for job, pace in self._paces.items() if job in jobs}

    def extra(self, job: str) -> int:
        """How many batches of the job to hold beyond slots and prefetch."""
        batch_s, settings = self._short(job), self._settings
        return 0 if batch_s is None else min(settings.extra_max, int(settings.slots * settings.extra_s / batch_s))

    def order_batches(self, job: str) -> int:
        """How many batches of the job a slot is given at once."""
        batch_s, settings = self._short(job), self._settings
        return 1 if batch_s is None else min(settings.order_batches_max, max(1, int(settings.order_s / batch_s)))

    def look(self, now: float, job: str) -> None:
        """Judge a job anew whose batches wait: they are not short when none of them was done for long."""
        pace = self._paces.get(job)
        if pace is not None and now >= pace.moved_at + self._settings.stuck_s:
            pace.batch_s = max(pace.batch_s, now - pace.moved_at)

    def look_at(self, job: str) -> float | None:
        """When `look` may come to another judgement."""
        return None if self._short(job) is None else self._paces[job].moved_at + self._settings.stuck_s

    def _short(self, job: str) -> float | None:
        """Seconds that a batch of the job takes with all around it, if that is no time."""
        pace = self._paces.get(job)
        return None if pace is None or pace.batch_s >= self._settings.short_s else pace.batch_s + self._AROUND_S
