"""Rows in the order of their tasks and in that of their commits, from a ledger that is written meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from common.farm.row_order import AsCommitted, InTaskOrder
from common.protocol.reading import Read, ResultRow, Rows

PAGE = 3


def row(task: int, error: str | None = None, attempt: int = 1) -> ResultRow:
    return ResultRow(task, task * 10, False, None, error, attempt, "w", 0.0, False)


class Ledger:
    """Answers as a sink does; each commit has one receipt for a range of tasks."""

    def __init__(self) -> None:
        self.receipts: list[tuple[int, int]] = []
        self.rows: dict[int, ResultRow] = {}

    def commit(self, first: int, count: int, **changes: object) -> None:
        self.receipts.append((first, count))
        self.rows |= {task: row(task, **changes) for task in range(first, first + count)}  # type: ignore[arg-type]

    def answer(self, read: Read) -> Rows:
        if read.order == "task":
            found = [self.rows[task] for task in sorted(self.rows) if task >= read.after[0]][:PAGE]
            position = (found[-1].task + 1 if found else read.after[0], 0)
            return Rows(read.job, read.after, position, found, bool(found), "open")
        found = []
        position, skipped = read.after
        for at, (first, count) in list(enumerate(self.receipts, 1))[position:]:
            for offset in range(skipped, count):
                if len(found) == PAGE:
                    return Rows(read.job, read.after, (position, offset), found, True, "open")
                found.append(self.rows[first + offset])
            position, skipped = at, 0
        return Rows(read.job, read.after, (position, skipped), found, False, "open")


def all_of(ledger: Ledger, order: AsCommitted | InTaskOrder) -> list[tuple[ResultRow, int]]:
    """Everything that is there to give now."""
    given_rows: list[tuple[ResultRow, int]] = []
    while True:
        rows = ledger.answer(order.request())
        given_rows += order.take(rows)
        if not rows.more and order.follows:
            return given_rows


commits = st.permutations(range(8)).map(lambda order: [(3 * at, 3) for at in order])


@given(commits, st.integers(1, 30), st.integers(0, 8))
def test_each_task_comes_once_and_in_order_whatever_is_held(
    order_of_commits: list[tuple[int, int]], held_max: int, looked_at: int
) -> None:
    ledger, order = Ledger(), InTaskOrder("j", 0, held_max, 0)
    found = []
    for at, commit in enumerate(order_of_commits):
        ledger.commit(*commit)
        if at >= looked_at:
            found += all_of(ledger, order)
            assert len(order._held) <= held_max
    found += all_of(ledger, order)
    assert [each.task for each, _ in found] == list(range(24))
    assert [position for _, position in found] == list(range(1, 25))


@given(commits, st.integers(0, 24), st.booleans())
def test_whoever_goes_on_from_a_position_misses_nothing_and_sees_nothing_twice(
    order_of_commits: list[tuple[int, int]], stop: int, ordered: bool
) -> None:
    def make(after: int) -> AsCommitted | InTaskOrder:
        return InTaskOrder("j", after, 5, 0) if ordered else AsCommitted("j", after, False, 0)

    ledger = Ledger()
    for commit in order_of_commits:
        ledger.commit(*commit)
    everything = all_of(ledger, make(0))
    seen = everything[:stop]
    rest = all_of(ledger, make(seen[-1][1] if seen else 0))
    assert [each.task for each, _ in [*seen, *rest]] == [each.task for each, _ in everything]
    assert [position for _, position in [*seen, *rest]] == [position for _, position in everything]


def test_a_failure_that_is_being_repeated_is_not_given() -> None:
    for order in (InTaskOrder("j", 0, 10, 1), AsCommitted("j", 0, True, 1)):
        ledger = Ledger()
        ledger.commit(0, 1, error="bad", attempt=1)
        ledger.commit(1, 1)
        early = [each.task for each, _ in all_of(ledger, order)]
        ledger.commit(0, 1, attempt=2)
        late = [(each.task, each.error) for each, _ in all_of(ledger, order)]
        assert (early, late) in (([], [(0, None), (1, None)]), ([1], [(0, None)]))


def test_a_row_that_was_replaced_is_given_once() -> None:
    ledger, order = Ledger(), AsCommitted("j", 0, True, 0)
    ledger.commit(0, 1, error="bad", attempt=1)
    ledger.commit(0, 1, attempt=2)
    assert [each.task for each, _ in all_of(ledger, order)] == [0]
