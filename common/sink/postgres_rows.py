"""Which rows of a commit are written, decided from those that are there. No socket, no clock.

Like the ledger in SQLite: the first row of a task stays, but a failed one of an earlier run is replaced.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .rows import RECEIPT_TASKS_MAX, RowSet

Known = dict[str, dict[int, tuple[bool, int]]]
"""By job and task: whether the row there is a failed one, and its attempt."""


@dataclass(slots=True)
class Span:
    """Consecutive tasks that get rows."""

    row_set: RowSet
    low: int
    high: int
    """Offsets in the row set, from `low` to `high - 1`."""

    @property
    def receipt(self) -> "Receipt":
        """What is receipted of them."""
        failed = sum(self.low <= at < self.high for at in self.row_set.errors)
        first, count = self.row_set.results.first + self.low, self.high - self.low
        return Receipt(first, count, sum(self.row_set.seconds[self.low : self.high]), failed)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Tasks that were recorded together."""

    first: int
    count: int
    seconds: float
    failed: int


@dataclass(slots=True)
class Plan:
    """What to write."""

    written: list[Span] = field(default_factory=list)
    replaced: dict[str, list[int]] = field(default_factory=dict)
    """By job: the tasks whose failed rows go first."""


def waves(row_sets: Iterable[RowSet]) -> Iterator[list[RowSet]]:
    """Row sets in their order, cut where one has a task of an earlier one: those of a wave may be written together."""
    wave: list[RowSet] = []
    taken: dict[str, list[tuple[int, int]]] = {}
    for row_set in row_sets:
        results = row_set.results
        ranges = taken.setdefault(results.job, [])
        first, end = results.first, results.first + results.count
        if _place(ranges, first, end):
            ranges = []
            taken = {results.job: ranges}
            yield wave
            wave = []
            _place(ranges, first, end)
        wave.append(row_set)
    if wave:
        yield wave


def _place(ranges: list[tuple[int, int]], first: int, end: int) -> bool:
    """Add the range; True when it overlaps one that is there, and then it is not added."""
    at = _after(ranges, first)
    if (at and ranges[at - 1][1] > first) or (at < len(ranges) and ranges[at][0] < end):
        return True
    # Most results continue where others of their batch ended.
    if at and ranges[at - 1][1] == first:
        ranges[at - 1] = ranges[at - 1][0], end
    else:
        ranges.insert(at, (first, end))
    return False


def _after(ranges: list[tuple[int, int]], first: int) -> int:
    if not ranges or ranges[-1][0] <= first:
        return len(ranges)
    low, high = 0, len(ranges)
    while low < high:
        middle = (low + high) // 2
        if ranges[middle][0] <= first:
            low = middle + 1
        else:
            high = middle
    return low


def planned(wave: Iterable[RowSet], known: Known) -> Plan:
    """What the wave writes where these rows are there already."""
    plan = Plan()
    for row_set in wave:
        results = row_set.results
        kept = set(row_set.again)
        rows = known.get(results.job)
        if rows:
            for at in range(results.count):
                found = rows.get(results.first + at)
                if found is None or at in kept:
                    continue
                has_failed, attempt = found
                if has_failed and attempt <= row_set.replaced_attempts:
                    plan.replaced.setdefault(results.job, []).append(results.first + at)
                else:
                    kept.add(at)
        start = 0
        for at in (*sorted(kept), results.count):
            if start < at:
                plan.written.append(Span(row_set, start, at))
            start = at + 1
    return plan


def merged(receipts: Iterable[Receipt]) -> list[Receipt]:
    """The receipts in order of their tasks, those that touch as one."""
    found: list[Receipt] = []
    for each in sorted(receipts, key=lambda receipt: receipt.first):
        last = found[-1] if found else None
        if last and last.first + last.count == each.first and last.count + each.count <= RECEIPT_TASKS_MAX:
            sums = last.seconds + each.seconds, last.failed + each.failed
            found[-1] = Receipt(last.first, last.count + each.count, *sums)
        else:
            found.append(each)
    return found
