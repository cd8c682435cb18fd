"""In which order a job's rows are asked for and given. No socket, no clock.

Rows come from the ledger in the order in which they were committed. Whoever wants them in the order of the tasks must
wait for the slowest one: what comes meanwhile is held, up to a limit, and what is beyond it is read again later.
"""

from collections.abc import Sequence

from ..protocol.reading import Cursor, Read, ResultRow, Rows
from ..task_ranges import TaskRanges

START: Cursor = (0, 0)
_INDEX, _SKIP = 2**20, 2**40

PlacedRows = Sequence[tuple[ResultRow, int]]
"""Rows, each with the position to go on from behind it."""


class AsCommitted:
    """Each row once, as they are committed."""

    kind = Rows

    def __init__(self, job: str, after: int, may_repeat: bool, ignored_attempts: int) -> None:
        self.follows = True
        """The next request is for what is committed next, not for what was passed over."""
        self._job = job
        rest, self._skip = divmod(after, _INDEX)
        position, within = divmod(rest, _SKIP)
        self._cursor: Cursor = (position, within)
        self._seen: TaskRanges | None = TaskRanges() if may_repeat else None
        """What was given, where a row may come twice: failed, and from a later attempt."""
        self._ignored_attempts = ignored_attempts

    def request(self) -> Read:
        """What to ask for."""
        return Read(self._job, "commit", self._cursor, False)

    def take(self, rows: Rows) -> PlacedRows:
        """Take the answer; returns what to give."""
        position, within = self._cursor
        base = (position * _SKIP + within) * _INDEX
        found = [(row, base + at) for at, row in enumerate(rows.rows[self._skip :], self._skip + 1)]
        self._skip, self._cursor = max(0, self._skip - len(rows.rows)), rows.position
        return found if self._seen is None else [each for each in found if self._is_new(each[0], self._seen)]

    def _is_new(self, row: ResultRow, seen: TaskRanges) -> bool:
        if row.task in seen or is_repeated(row, self._ignored_attempts):
            return False
        seen.add(row.task, 1)
        return True


class InOrder:
    """What is given in the order of the tasks: what to ask for, and what was passed over because too much was held."""

    def __init__(self, job: str, first: int, held_max: int, ignored_attempts: int, values: bool) -> None:
        self.next = first
        """The next task to give."""
        self.held_max = held_max
        self.ignored_attempts = ignored_attempts
        """Failures of these attempts are being repeated."""
        self._job = job
        self._values = values
        self._cursor = START
        self._passed_over = TaskRanges()
        """Recorded, and not held."""

    @property
    def follows(self) -> bool:
        """The next request is for what is committed next, not for what was passed over."""
        return self.next not in self._passed_over

    def request(self) -> Read:
        """What to ask for."""
        if self.follows:
            return Read(self._job, "commit", self._cursor, False, self._values)
        return Read(self._job, "task", (self.next, 0), False, self._values)

    def moved(self, position: Cursor) -> None:
        """The answer to the request has come; `position` is its."""
        if self.follows:
            self._cursor = position
        else:
            # Should it not be there after all, it is waited for.
            self._passed_over.discard(self.next, 1)

    def pass_over(self, first: int, end: int) -> None:
        """These tasks are recorded, and are read again later."""
        self._passed_over.add(first, end - first)

    def gave(self, first: int) -> None:
        """The tasks from `first` to before `next` are given."""
        self._passed_over.discard(first, self.next - first)


class InTaskOrder(InOrder):
    """Each row once, in the order of the tasks. A position is the number of the next task."""

    kind = Rows

    def __init__(self, job: str, after: int, held_max: int, ignored_attempts: int) -> None:
        super().__init__(job, after, held_max, ignored_attempts, values=False)
        self._held: dict[int, ResultRow] = {}

    def take(self, rows: Rows) -> PlacedRows:
        """Take the answer; returns what to give."""
        self.moved(rows.position)
        end = self.next + self.held_max
        for row in rows.rows:
            if row.task < self.next or is_repeated(row, self.ignored_attempts):
                continue
            if row.task < end:
                self._held[row.task] = row
            else:
                self.pass_over(row.task, row.task + 1)
        first = self.next
        while self.next in self._held:
            self.next += 1
        self.gave(first)
        return [(self._held.pop(task), task + 1) for task in range(first, self.next)]


def is_repeated(row: ResultRow, attempts: int) -> bool:
    """True for a failure at an attempt up to this one: its task is run again."""
    return row.error is not None and row.attempt <= attempts
