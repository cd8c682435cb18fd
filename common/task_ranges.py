"""Sets of task indexes, kept as sorted runs so that ten million tasks cost no more than their holes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class TaskRanges:
    """A set of indexes as disjoint half-open runs that do not touch each other."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, count in runs:
            self.add(first, count)

    def add(self, first: int, count: int) -> None:
        """Put the indexes `first` to `first + count - 1` in."""
        if count <= 0:
            return
        end = first + count
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, end)
        if low < high:
            first = min(first, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [end]

    def discard(self, first: int, count: int) -> None:
        """Take the indexes `first` to `first + count - 1` out."""
        if count <= 0:
            return
        end = first + count
        low = bisect_right(self._ends, first)
        high = bisect_left(self._starts, end)
        if low >= high:
            return
        pieces = [(self._starts[low], first), (end, self._ends[high - 1])]
        kept = [(start, stop) for start, stop in pieces if start < stop]
        self._starts[low:high] = [start for start, _ in kept]
        self._ends[low:high] = [stop for _, stop in kept]

    def end_of_run(self, index: int) -> int | None:
        """The index after the run that holds `index`; None when no run does."""
        place = bisect_right(self._starts, index) - 1
        if place >= 0 and index < self._ends[place]:
            return self._ends[place]
        return None

    def next_start(self, index: int) -> int | None:
        """The start of the first run that begins at or after `index`; None when there is none."""
        place = bisect_left(self._starts, index)
        return self._starts[place] if place < len(self._starts) else None

    def within(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of the runs that lie between `first` and `end - 1`, as (first, count)."""
        low, high = bisect_right(self._ends, first), bisect_left(self._starts, end)
        pieces = zip(self._starts[low:high], self._ends[low:high], strict=True)
        return [(max(start, first), min(stop, end) - max(start, first)) for start, stop in pieces]

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of `first` to `end - 1` is not in the set, as (first, count)."""
        found = []
        for start, count in self.within(first, end):
            if first < start:
                found.append((first, start - first))
            first = start + count
        return [*found, (first, end - first)] if first < end else found

    def __contains__(self, index: int) -> bool:
        return self.end_of_run(index) is not None

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs in order, as (first, count)."""
        return ((start, end - start) for start, end in zip(self._starts, self._ends, strict=True))

    def count(self) -> int:
        """How many indexes are in the set."""
        return sum(self._ends) - sum(self._starts)
