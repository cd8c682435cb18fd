"""The batches that wait for a slot: a line for each job. The job that has used least slot time is next."""

from collections import deque
from collections.abc import Iterator

from .held_batch import HeldBatch
from .settings import HoldingSettings
from .slot_time import SlotTime


class FairQueue:
    """Lines of waiting batches by job, which share the slots' time in equal parts."""

    def __init__(self, settings: HoldingSettings, time: SlotTime) -> None:
        self._settings = settings
        self._time = time
        self._lines: dict[str, deque[HeldBatch]] = {}
        self.patience_until: float | None = None
        """Until then `next_job` waits for a job that is more urgent than those with waiting batches."""

    def count(self) -> int:
        """Waiting batches of all jobs."""
        return sum(map(len, self._lines.values()))

    def jobs(self) -> Iterator[str]:
        """The jobs that have a line; it may be empty."""
        return iter(self._lines)

    def first(self, job: str) -> HeldBatch:
        """The batch that is at the head of the job's line."""
        return self._lines[job][0]

    def append(self, now: float, held: HeldBatch) -> None:
        """The batch waits behind those of its job."""
        line = self._lines.setdefault(held.batch.job, deque())
        if not line:
            self._time.join(now, held.batch.job, (job for job, waiting in self._lines.items() if waiting))
        line.append(held)

    def put_first(self, held: HeldBatch) -> None:
        """The batch waits before those of its job."""
        self._lines.setdefault(held.batch.job, deque()).appendleft(held)

    def next_job(self, now: float) -> str | None:
        """The job whose turn it is; None when nothing waits, or what waits must be patient."""
        waiting = [job for job, line in self._lines.items() if line]
        if len(self._lines) > len(waiting):
            self._lines = {job: self._lines[job] for job in waiting}
        if not waiting or not self._time.shared:
            return waiting[0] if waiting else None
        dues = self._time.dues(now, waiting)
        found = min(waiting, key=dues.__getitem__)
        patience_s = min(self._settings.patience_max_s, self._settings.patience * self._time.order_s(found))
        # The next batch of a job that is behind is on its way, perhaps, and would wait for all of an order of this one.
        behind = (job for job in dues if job not in self._lines and dues[job] < dues[found])
        until = max((self._time.ended_at(job) + patience_s for job in behind), default=now)
        if until <= now:
            return found
        self.patience_until = until
        return None

    def take(self, job: str, sharers: int, batches_max: int) -> list[HeldBatch]:
        """What a slot is given at once: one batch, or several that are done in no time."""
        # Jobs that have used the same are served in turn.
        waiting = self._lines[job] = self._lines.pop(job)
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
