"""In which order a job's values are asked for and given. No socket, no clock.

The same as `row_order` does for rows, with whole runs of values at once.
"""

from collections.abc import Iterator, Sequence

from ..protocol.reading import Read, ResultRow, Values
from ..protocol.value_array import unpacked
from ..task_ranges import TaskRanges
from .row_order import START, InOrder, is_repeated

Given = Sequence[object] | ResultRow
"""Values of consecutive tasks, or the row of a task that has none."""


class ValuesAsCommitted:
    """Each task once, as they are committed."""

    kind = Values
    follows = True

    def __init__(self, job: str, may_repeat: bool, ignored_attempts: int) -> None:
        self._job = job
        self._cursor = START
        self._seen: TaskRanges | None = TaskRanges() if may_repeat else None
        """What was given, where a row may come twice: failed, and from a later attempt."""
        self._ignored_attempts = ignored_attempts

    def request(self) -> Read:
        """What to ask for."""
        return Read(self._job, "commit", self._cursor, False, True)

    def take(self, answer: Values) -> list[Given]:
        """Take the answer; returns what to give."""
        self._cursor = answer.position
        found: list[Given] = []
        for first, end, given in _given(answer, self._ignored_attempts):
            if self._seen is None:
                found.append(given)
                continue
            found += [_part(given, first, *each) for each in self._seen.missing(first, end)]
            self._seen.add(first, end - first)
        return found


class ValuesInTaskOrder(InOrder):
    """Each task once, in order."""

    kind = Values

    def __init__(self, job: str, held_max: int, ignored_attempts: int) -> None:
        super().__init__(job, 0, held_max, ignored_attempts, values=True)
        self._held: dict[int, Given] = {}
        """By their first tasks; they do not overlap."""
        self._fine = TaskRanges()
        """The tasks whose values are held."""
        self._failed: set[int] = set()
        """Those whose rows are held."""

    def take(self, answer: Values) -> list[Given]:
        """Take the answer; returns what to give."""
        self.moved(answer.position)
        limit = self.next + self.held_max
        for first, end, given in _given(answer, self.ignored_attempts):
            self.pass_over(max(first, limit), end)
            for start, count in self._fine.missing(max(first, self.next), min(end, limit)):
                self._hold(start, count, _part(given, first, start, count))
        found: list[Given] = []
        first = self.next
        while (each := self._held.pop(self.next, None)) is not None:
            found.append(each)
            self.next += 1 if isinstance(each, ResultRow) else len(each)
        self._fine.discard(first, self.next - first)
        if self._failed:
            self._failed.difference_update(range(first, self.next))
        self.gave(first)
        return found

    def _hold(self, first: int, count: int, given: Given) -> None:
        if isinstance(given, ResultRow):
            self._failed.add(first)
        else:
            self._fine.add(first, count)
            # A failed row may have been replaced.
            for task in self._failed.intersection(range(first, first + count)) if self._failed else ():
                self._failed.remove(task)
                del self._held[task]
        self._held[first] = given


def _given(answer: Values, ignored_attempts: int) -> Iterator[tuple[int, int, Given]]:
    """What the answer has, with its first task and the one after its last; no failures that are being repeated."""
    values, at = unpacked(answer.values), 0
    others = iter(answer.others)
    other = next(others, None)
    for first, count in answer.runs:
        start, end = first, first + count
        # Both are in the same order.
        while other is not None and start <= other.task < end:
            if start < other.task:
                yield start, other.task, values[at + start - first : at + other.task - first]
            if not is_repeated(other, ignored_attempts):
                yield other.task, other.task + 1, other
            start = other.task + 1
            other = next(others, None)
        if start < end:
            yield start, end, values[at + start - first : at + count]
        at += count


def _part(given: Given, first: int, start: int, count: int) -> Given:
    """Of what begins with the task `first`, this many from `start` on."""
    return given if isinstance(given, ResultRow) else given[start - first : start - first + count]
