"""How many batches of each job a worker takes, and how many it has."""

from collections import Counter

from ..protocol.messages import Batch
from .settings import HoldingSettings


class Capacity:
    """Capacity is per job: slots and prefetch."""

    def __init__(self, settings: HoldingSettings) -> None:
        self._settings = settings
        self.functions: frozenset[str] = frozenset()
        """Those that this worker runs."""
        self.load: Counter[str] = Counter()
        """Batches that wait or run, by job."""
        self.scarce: frozenset[str] = frozenset()
        """Jobs with fewer batches than the crew has slots: of them only free slots take batches."""
        self.prefetch = settings.prefetch
        """As the last beat has said it."""

    def takes(self, batch: Batch, free: bool) -> bool:
        """True when there is room for the batch; `free` says whether a slot is."""
        if batch.function not in self.functions:
            return False
        load = self.load[batch.job]
        if load >= self.capacity:
            return False
        return load < self.share(batch.job) or free

    @property
    def capacity(self) -> int:
        """Batches of a job that may wait or run here."""
        return self._settings.slots + self.prefetch

    def share(self, job: str) -> int:
        """How many of them whether a slot is free or not: of a scarce job its share of the slots."""
        if job not in self.scarce:
            return self.capacity
        others = sum(1 for other, load in self.load.items() if load and other != job)
        return max(1, self._settings.slots // (1 + others))

    def unload(self, job: str) -> None:
        """A batch of the job neither waits nor runs any more."""
        self.load[job] -= 1
        if not self.load[job]:
            del self.load[job]
