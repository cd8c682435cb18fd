"""The batches that wait for a slot: a line for each job, and the jobs' turns."""

from collections import deque
from collections.abc import Iterator

from .held_batch import HeldBatch
from .settings import HoldingSettings


class FairQueue:
    """Lines of waiting batches by job; jobs are served in turn."""

    def __init__(self, settings: HoldingSettings) -> None:
        self._settings = settings
        self._lines: dict[str, deque[HeldBatch]] = {}
        self._turns: deque[str] = deque()

    @property
    def nothing(self) -> bool:
        """True when no job has a turn."""
        return not self._turns

    def count(self) -> int:
        """Waiting batches of all jobs."""
        return sum(map(len, self._lines.values()))

    def jobs(self) -> Iterator[str]:
        """The jobs that have a line; it may be empty."""
        return iter(self._lines)

    def first(self, job: str) -> HeldBatch:
        """The batch that is at the head of the job's line."""
        return self._lines[job][0]

    def append(self, held: HeldBatch) -> None:
        """The batch waits behind those of its job."""
        self._line(held.batch.job).append(held)

    def put_first(self, held: HeldBatch) -> None:
        """The batch waits before those of its job."""
        self._line(held.batch.job).appendleft(held)

    def _line(self, job: str) -> deque[HeldBatch]:
        if job not in self._lines:
            self._lines[job] = deque()
            self._turns.append(job)
        return self._lines[job]

    def next_job(self) -> str | None:
        """The job whose turn it is, of those with waiting batches."""
        while self._turns:
            job = self._turns[0]
            if self._lines[job]:
                return job
            del self._lines[self._turns.popleft()]
        return None

    def take(self, job: str, sharers: int, batches_max: int) -> list[HeldBatch]:
        """What a slot is given at once: one batch, or several that are done in no time. It takes the job's turn."""
        self._turns.rotate(-1)
        waiting = self._lines[job]
        most = min(batches_max, -(-len(waiting) // sharers))
        taken = [waiting.popleft()]
        first = taken[0].batch
        room = self._settings.order_bytes_max - memoryview(first.arguments).nbytes
        alone = first.suspect or taken[0].one_by_one
        while waiting and len(taken) < most and not alone:
            batch = waiting[0].batch
            room -= memoryview(batch.arguments).nbytes
            alike = (batch.function, batch.timeout_s) == (first.function, first.timeout_s)
            alike = alike and not batch.suspect and not waiting[0].one_by_one
            if not alike or room < 0:
                break
            taken.append(waiting.popleft())
        return taken

    def take_back(self, job: str, count: int) -> list[HeldBatch]:
        """The `count` batches of the job that came last wait no more."""
        waiting = self._lines.get(job, deque())
        return [waiting.pop() for _ in range(min(count, len(waiting)))]
