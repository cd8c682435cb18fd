"""A batch that a worker holds, and what of it is left to run."""

from dataclasses import dataclass

from msgspec import Raw

from ..errors import ProtocolError
from ..protocol.arguments import Cut, kept
from ..protocol.codec import slice_arguments
from ..protocol.messages import Batch
from ..task_ranges import TaskRanges

_NOTHING = TaskRanges()


@dataclass(slots=True, eq=False)
class HeldBatch:
    """A batch from when this worker takes it until each of its tasks has a receipt or the batch was returned."""

    batch: Batch
    left: TaskRanges | None = None
    """Its tasks without an outcome; None: all of them."""
    slot: int | None = None
    unreceipted_count: int = 0
    one_by_one: bool = False
    """Its tasks run one at a time, so that it is clear which one ends its child."""

    @property
    def is_done(self) -> bool:
        """True when every task has its outcome."""
        return self.left is not None and not self.left

    def settle(self, first: int, count: int) -> None:
        """These tasks have their outcomes."""
        if self.left is None and count == self.batch.count:
            self.left = _NOTHING
        else:
            self.left = self.left or TaskRanges([(self.batch.first, self.batch.count)])
            self.left.discard(first, count)

    def parts(self) -> list["TaskSlice"]:
        """What to run next of what is left: usually all of it."""
        batch = self.batch
        if self.left is None and not self.one_by_one:
            return [TaskSlice(batch.first, batch.count, batch.arguments)]
        runs = list(self.left or [(batch.first, batch.count)])
        runs = [(runs[0][0], 1)] if self.one_by_one else runs
        return [
            TaskSlice(first, count, slice_arguments(batch.arguments, first - batch.first, count))
            for first, count in runs
        ]

    def kept(self, first: int, count: int, room: int) -> tuple[bytes | None, list[Cut]]:
        """What results say of the arguments of these tasks, in at most `room` bytes; nothing unless it is asked for."""
        batch, arguments = self.batch, self.batch.arguments
        if not batch.keep:
            return None, []
        try:
            whole = count == batch.count
            return kept(arguments if whole else slice_arguments(arguments, first - batch.first, count), count, room)
        except ProtocolError:
            return None, []

    def next_task(self) -> int:
        """The first of its tasks without an outcome."""
        return next(iter(self.left))[0] if self.left else self.batch.first

    def can_be_cut(self) -> bool:
        """False when `parts` would fail: a false ventilator may nest arguments just too deep for it."""
        try:
            self.parts()
        except ProtocolError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class TaskSlice:
    """Consecutive tasks of one batch, with their arguments as one array."""

    first: int
    count: int
    arguments: Raw
