"""When a worker beats, and what its beats say."""

from collections.abc import Iterable

from ..protocol.messages import HELD_MAX, BatchName, Beat
from .held_batch import HeldBatch
from .settings import HoldingSettings


class Beats:
    """Beats come regularly, sooner when what the worker holds has changed, and at once when that is called for."""

    def __init__(self, settings: HoldingSettings) -> None:
        self._settings = settings
        self.serial = 0
        """Of the last one."""
        self.at = float("-inf")
        """When the last one was due."""
        self.due_at: float | None = None
        """When the next one is called for."""
        self.changed = False
        """Whether the worker holds other batches than the last beat has named."""

    def next_at(self) -> float:
        """When the next one is due."""
        if self.due_at is not None:
            return self.due_at
        timing = self._settings.timing
        return self.at + (timing.beat_soon_s if self.changed else timing.beat_s)

    def beat(self, now: float, prefetch: int, held: Iterable[HeldBatch], started: Iterable[HeldBatch]) -> Beat:
        """The beat that is due."""
        self.at, self.due_at, self.changed = now, None, False
        self.serial += 1
        return Beat(
            serial=self.serial,
            slots=self._settings.slots,
            prefetch=prefetch,
            held=_named(held),
            started=_named(started),
        )


def _named(batches: Iterable[HeldBatch]) -> dict[str, list[BatchName]]:
    """Batches by job, as beats name them."""
    named: dict[str, list[BatchName]] = {}
    for held in batches:
        batch = held.batch
        names = named.setdefault(batch.job, [])
        if len(names) < HELD_MAX:
            names.append((batch.first, batch.count, batch.attempt))
    return named
