"""How long a worker's batches take, and what follows: how many to hold, and to give to a slot at once."""

from .settings import HoldingSettings


class ServiceTimes:
    """A moving average of what a batch takes, and what is taken from it.

    Where batches are done in no time, a round trip for each would cost more than the work.
    """

    _AROUND_S = 50e-6
    """What a batch costs around its tasks: messages and wake-ups."""
    _FIRST_S = 0.02
    """What batches are thought to take until enough of them were measured."""
    _WEIGHT = 1 / 8

    def __init__(self, settings: HoldingSettings) -> None:
        self._settings = settings
        self._batch_s = self._FIRST_S
        self._moved_at = float("-inf")

    def measured(self, now: float, seconds: float) -> None:
        """A batch ran for `seconds` seconds."""
        self._batch_s += (seconds + self._AROUND_S - self._batch_s) * self._WEIGHT
        self._moved_at = now

    def began(self, now: float) -> None:
        """A slot has begun with batches."""
        self._moved_at = now

    def look(self, now: float) -> None:
        """Judge anew while batches wait: they are not short when no batch was done for long."""
        if now >= self.look_at():
            self._batch_s = max(self._batch_s, now - self._moved_at)

    def look_at(self) -> float:
        """When `look` may come to another judgement."""
        return self._moved_at + self._settings.stuck_s

    def forget(self) -> None:
        """Nothing is held: what comes next may be of another kind."""
        self._batch_s = self._FIRST_S

    def prefetch(self) -> int:
        """How many batches of a job to hold beyond the slots."""
        settings = self._settings
        if self._batch_s >= settings.short_s:
            return settings.prefetch
        worth = int(settings.slots * settings.prefetch_s / self._batch_s)
        return max(settings.prefetch, min(settings.prefetch_max, worth))

    def order_batches(self) -> int:
        """How many batches a slot is given at once."""
        return max(1, int(self._settings.order_s / self._batch_s))
