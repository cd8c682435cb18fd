"""Batches that come through the relay before the sink has named their job. No socket, no clock."""

from collections import deque
from collections.abc import Container

from ..protocol.messages import Batch

_BYTES_MAX = 32 * 1024 * 1024


class EarlyBatches:
    """The control link and the relay are two connections: a job's first batch may overtake the sink's word of it.

    So batches of jobs that are not known are kept for a moment. After that nobody wants them: their job was dropped.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._kept: deque[tuple[float, Batch]] = deque()
        self._bytes = 0

    def keep(self, now: float, batch: Batch) -> None:
        """Keep a batch of a job that is not known; those that came before it go if it is too much."""
        self._kept.append((now, batch))
        self._bytes += _size(batch)
        while self._bytes > _BYTES_MAX:
            self._forget_first()

    def take(self, jobs: Container[str]) -> list[Batch]:
        """The batches of these jobs, which are known now."""
        found = [batch for _, batch in self._kept if batch.job in jobs]
        if found:
            self._kept = deque(each for each in self._kept if each[1].job not in jobs)
            self._bytes -= sum(map(_size, found))
        return found

    def tick(self, now: float) -> None:
        """Forget those whose time is over."""
        while self._kept and now >= self._kept[0][0] + self._keep_s:
            self._forget_first()

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return self._kept[0][0] + self._keep_s if self._kept else None

    def _forget_first(self) -> None:
        self._bytes -= _size(self._kept.popleft()[1])


def _size(batch: Batch) -> int:
    return memoryview(batch.arguments).nbytes + 1_000
