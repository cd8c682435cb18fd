"""Task ranges against a plain set."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from common.task_ranges import TaskRanges

CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 20)), max_size=40)


@given(CHANGES)
def test_runs_hold_what_a_set_would(changes: list[tuple[bool, int, int]]) -> None:
    runs, model = TaskRanges(), set[int]()
    for add, first, count in changes:
        (runs.add if add else runs.discard)(first, count)
        model = model | set(range(first, first + count)) if add else model - set(range(first, first + count))
    listed = list(runs)
    assert [n for first, count in listed for n in range(first, first + count)] == sorted(model)
    assert all(first + count < after for (first, count), (after, _) in itertools.pairwise(listed))
    assert runs.count() == len(model)
    assert bool(runs) == bool(model)
    for n in range(85):
        assert (n in runs) == (n in model)
        end = runs.end_of_run(n)
        assert end == (next(m for m in range(n, 200) if m not in model) if n in model else None)
        missing = [m for first, count in runs.missing(n, n + 9) for m in range(first, first + count)]
        assert missing == [m for m in range(n, n + 9) if m not in model]
        assert runs.next_start(n) == min((first for first, _ in listed if first >= n), default=None)


def test_runs_are_made_of_runs() -> None:
    assert list(TaskRanges([(5, 2), (0, 3), (3, 2)])) == [(0, 7)]
