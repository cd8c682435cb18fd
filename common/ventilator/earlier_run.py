"""What an earlier run of the job has left: what is recorded, how far it had read, and what workers hold of it.

No socket, no clock; `now` is monotonic seconds.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from ..protocol.messages import BATCH_TASKS_MAX, BatchName, Opened
from ..task_ranges import TaskRanges


class _Names:
    """Names of batches, in the order of their first tasks: a crew of 10,000 holds as many, and each read asks."""

    def __init__(self) -> None:
        self._by_first: dict[int, set[BatchName]] = {}
        self._firsts: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: BatchName) -> bool:
        return name in self._by_first.get(name[0], ())

    def add(self, name: BatchName) -> None:
        """One more, unless it is there."""
        if name not in self:
            if name[0] not in self._by_first:
                insort(self._firsts, name[0])
            self._by_first.setdefault(name[0], set()).add(name)
            self._count += 1

    def discard(self, name: BatchName) -> None:
        """Without it, if it is there."""
        if name in self:
            self._by_first[name[0]].remove(name)
            self._count -= 1
            if not self._by_first[name[0]]:
                del self._by_first[name[0]], self._firsts[bisect_left(self._firsts, name[0])]

    def discard_before(self, task: int) -> None:
        """Without those that begin before this task."""
        end = bisect_left(self._firsts, task)
        for first in self._firsts[:end]:
            self._count -= len(self._by_first.pop(first))
        del self._firsts[:end]

    def at(self, task: int) -> set[BatchName]:
        """Those that begin with this task."""
        return self._by_first.get(task, set())

    def between(self, first: int, end: int) -> Iterator[BatchName]:
        """Those that begin after `first` and before `end`."""
        for each in self._firsts[bisect_right(self._firsts, first) : bisect_left(self._firsts, end)]:
            yield from self._by_first[each]

    def next_first(self, task: int) -> int | None:
        """Where the next one begins, after this task."""
        place = bisect_right(self._firsts, task)
        return self._firsts[place] if place < len(self._firsts) else None


class EarlierRun:
    """For a new job it is empty: nothing is skipped, verified or adopted."""

    _ADOPTABLE_MAX = 100_000
    """At most how many batches are remembered; it bounds what a lying worker can cost."""

    def __init__(self) -> None:
        self.resumed = False
        """The job was opened before: workers may hold batches of that run."""
        self.caught_up = False
        """The job is open, and every receipt from before this start was read."""
        self.read_count = 0
        """How many tasks of the input it had read."""
        self.gathered_at: float | None = None
        """When the beats will have named all that workers hold; None: they have."""
        self._recorded = TaskRanges()
        """Tasks with receipts that this run has not come to yet."""
        self._adoptable = _Names()
        """Batches that workers hold and that this run has not come to yet."""

    def opened(self, now: float, opened: Opened, gather_max_s: float) -> None:
        """The sink has opened the job, and not all receipts are read yet."""
        self.resumed = opened.resumed
        self.read_count = opened.mark_count
        gather_s = min(opened.gather_s, gather_max_s) if opened.resumed else 0.0
        self.gathered_at = now + gather_s if gather_s else None

    def record(self, first: int, end: int) -> None:
        """The tasks from `first` to `end - 1`, to which this run has not come yet, have their receipts."""
        self._recorded.add(first, end - first)

    def passed(self, first: int, count: int) -> None:
        """This run has read these tasks of the input, or skipped them."""
        self._recorded.discard(first, count)
        self._adoptable.discard_before(first + count)

    def goes_on(self, at: int) -> bool:
        """True when it had read this task or a later one, or such a one is recorded."""
        return at < self.read_count or bool(self.recorded_count(at)) or self._recorded.next_start(at) is not None

    # -- what to read -------------------------------------------------------------------------------------------

    def recorded_count(self, at: int) -> int:
        """How many tasks from this one on are recorded without a gap."""
        end = self._recorded.end_of_run(at)
        return 0 if end is None else end - at

    def recorded_within(self, first: int, end: int) -> list[tuple[int, int]]:
        """What is recorded of the tasks from `first` to `end - 1`."""
        return self._recorded.within(first, end)

    def adoptable_at(self, task: int) -> BatchName | None:
        """The batch with this first task that a worker holds, if this run is to read it with the same bounds.

        Of several it is the one at the latest attempt, of these the longest. A batch at a later attempt that begins
        inside replaces it; and reading must stop where the earlier run had stopped, to compare the inputs.
        """
        name = max(self._adoptable.at(task), key=_newest, default=None)
        if name is None:
            return None
        first, end = name[0], name[0] + name[1]
        is_replaced = any(each[2] > name[2] for each in self._adoptable.between(first, end))
        return None if is_replaced or first < self.read_count < end else name

    def count_to_bound(self, at: int, count: int) -> int:
        """At most `count`: how many tasks may be read from here before a batch begins that a worker holds."""
        stops = [self.read_count] if at < self.read_count else []
        held_at = self._adoptable.next_first(at)
        stops += [] if held_at is None else [held_at]
        return min([at + count, *stops]) - at

    def count_to_recorded(self, at: int, count: int) -> int:
        """At most `count`: the same, but also before a recorded task."""
        start = self._recorded.next_start(at)
        return self.count_to_bound(at, count if start is None else min(count, start - at))

    # -- what workers hold --------------------------------------------------------------------------------------

    def named(self, name: BatchName, next_task: int) -> None:
        """A beat names this batch; `next_task` is the next task that this run reads."""
        if not self.resumed:
            return
        is_ahead = name[0] >= next_task and name[1] <= BATCH_TASKS_MAX
        if is_ahead and len(self._adoptable) < self._ADOPTABLE_MAX:
            self._adoptable.add(name)

    def is_adoptable(self, name: BatchName) -> bool:
        """True when beats have named this batch, and this run has not come to it yet."""
        return name in self._adoptable

    def let_go(self, name: BatchName) -> None:
        """No worker holds this batch any more."""
        self._adoptable.discard(name)


def _newest(name: BatchName) -> tuple[int, int]:
    return name[2], name[1]
