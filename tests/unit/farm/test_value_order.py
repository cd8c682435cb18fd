"""Values in the order of their tasks and in that of their commits, from a ledger that is written meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from common.farm.value_order import ValuesAsCommitted, ValuesInTaskOrder
from common.protocol.reading import Read, ResultRow, Values
from common.protocol.value_array import packed

Given = list[int | str]


def failed(task: int, attempt: int) -> ResultRow:
    return ResultRow(task, None, False, None, f"failed {task}", attempt, "w", 0.0, False)


class Ledger:
    """Answers as a sink does; each commit has one receipt for a range of tasks. The value of a task is its tenfold."""

    def __init__(self, page: int) -> None:
        self.receipts: list[tuple[int, int]] = []
        self.failed: dict[int, int] = {}
        """The attempts at which these tasks have failed."""
        self.recorded: set[int] = set()
        self._page = page

    def commit(self, first: int, count: int, bad: set[int] = frozenset(), attempt: int = 1) -> None:  # type: ignore[assignment]
        self.receipts.append((first, count))
        for task in range(first, first + count):
            self.recorded.add(task)
            self.failed.pop(task, None)
            if task in bad:
                self.failed[task] = attempt

    def answer(self, read: Read) -> Values:
        assert read.values
        if read.order == "task":
            found = sorted(task for task in self.recorded if task >= read.after[0])[: self._page]
            return self._values(read, found, (found[-1] + 1 if found else read.after[0], 0), bool(found))
        found = []
        position, skipped = read.after
        for at, (first, count) in list(enumerate(self.receipts, 1))[position:]:
            for offset in range(skipped, count):
                if len(found) == self._page:
                    return self._values(read, found, (position, offset), True)
                found.append(first + offset)
            position, skipped = at, 0
        return self._values(read, found, (position, skipped), False)

    def _values(self, read: Read, tasks: list[int], position: tuple[int, int], more: bool) -> Values:
        runs: list[tuple[int, int]] = []
        for task in tasks:
            if runs and sum(runs[-1]) == task:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((task, 1))
        values = packed([None if task in self.failed else 10 * task for task in tasks])
        others = [failed(task, self.failed[task]) for task in tasks if task in self.failed]
        return Values(read.job, read.after, position, runs, values, others, more, "open")


def all_of(ledger: Ledger, order: ValuesAsCommitted | ValuesInTaskOrder) -> Given:
    """Everything that is there to give now: values, and the errors of failed tasks."""
    found: Given = []
    while True:
        answer = ledger.answer(order.request())
        for given_now in order.take(answer):
            found += [given_now.error or ""] if isinstance(given_now, ResultRow) else given_now  # type: ignore[list-item]
        if not answer.more and order.follows:
            return found


commits = st.permutations(range(8)).map(lambda order: [(4 * at, 4) for at in order])
PAGES = st.integers(1, 9)
everything: Given = [10 * task for task in range(32)]


@given(commits, PAGES, st.integers(1, 40), st.integers(0, 8), st.sets(st.integers(0, 31)))
def test_each_task_comes_once_and_in_order_whatever_is_held(
    order_of_commits: list[tuple[int, int]], page: int, held_max: int, looked_at: int, bad: set[int]
) -> None:
    ledger, order = Ledger(page), ValuesInTaskOrder("j", held_max, 0)
    found: Given = []
    for at, commit in enumerate(order_of_commits):
        ledger.commit(*commit, bad)
        if at >= looked_at:
            found += all_of(ledger, order)
            held = sum(1 if isinstance(each, ResultRow) else len(each) for each in order._held.values())
            assert held == order._fine.count() + len(order._failed) <= held_max
    found += all_of(ledger, order)
    assert found == [f"failed {task}" if task in bad else 10 * task for task in range(32)]
    assert not order._held


@given(commits, PAGES, st.booleans(), st.sets(st.integers(0, 31)))
def test_as_committed_each_task_comes_once(
    order_of_commits: list[tuple[int, int]], page: int, may_repeat: bool, bad: set[int]
) -> None:
    ledger, order = Ledger(page), ValuesAsCommitted("j", may_repeat, 0)
    for commit in order_of_commits:
        ledger.commit(*commit, bad)
    tasks = [task for first, count in order_of_commits for task in range(first, first + count)]
    assert all_of(ledger, order) == [f"failed {task}" if task in bad else 10 * task for task in tasks]


@given(commits, PAGES, st.integers(1, 40), st.sets(st.integers(0, 31)), st.booleans())
def test_failures_that_are_being_repeated_are_not_given(
    order_of_commits: list[tuple[int, int]], page: int, held_max: int, bad: set[int], ordered: bool
) -> None:
    ledger = Ledger(page)
    order = ValuesInTaskOrder("j", held_max, 1) if ordered else ValuesAsCommitted("j", True, 1)
    for commit in order_of_commits:
        ledger.commit(*commit, bad)
    found = all_of(ledger, order)
    for task in bad:
        ledger.commit(task, 1, attempt=2)
    found += all_of(ledger, order)
    assert found == everything if ordered else sorted(found) == everything  # type: ignore[type-var]


@given(commits, PAGES, st.integers(1, 40), st.sets(st.integers(1, 31)))
def test_a_row_that_was_replaced_while_it_was_held_is_given_as_it_is_now(
    order_of_commits: list[tuple[int, int]], page: int, held_max: int, bad: set[int]
) -> None:
    """Another program repeats the failed tasks of a job that this one reads."""
    ledger, order = Ledger(page), ValuesInTaskOrder("j", held_max, 0)
    for first, count in order_of_commits:
        if first:
            ledger.commit(first, count, bad)
    assert all_of(ledger, order) == []
    for task in bad - set(range(4)):
        ledger.commit(task, 1, attempt=2)
    assert all_of(ledger, order) == []
    ledger.commit(0, 4)
    assert all_of(ledger, order) == everything
    assert not order._held


def test_a_row_that_was_replaced_after_it_was_given_is_given_once() -> None:
    ledger, order = Ledger(5), ValuesAsCommitted("j", True, 0)
    ledger.commit(0, 4, {2})
    assert all_of(ledger, order) == [0, 10, "failed 2", 30]
    ledger.commit(2, 1, attempt=2)
    ledger.commit(1, 5)
    assert all_of(ledger, order) == [40, 50]
