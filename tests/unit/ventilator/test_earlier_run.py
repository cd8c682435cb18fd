"""What an earlier run has left, and how a resumed one reads its input because of that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.messages import BatchName, Opened
from common.ventilator.earlier_run import EarlierRun, _Names


def earlier(*held: BatchName, mark: int = 0, resumed: bool = True) -> EarlierRun:
    run = EarlierRun()
    run.opened(0.0, Opened("job", "ledger", b"k" * 32, mark, b"", None, 0, resumed, 2.0), 1.0)
    for name in held:
        run.named(name, 0)
    return run


@pytest.mark.parametrize(
    ("held", "mark", "adopted"),
    [
        ([], 0, None),
        ([(4, 6, 1)], 0, (4, 6, 1)),
        ([(3, 6, 1), (5, 2, 1)], 0, None),
        ([(4, 6, 1), (4, 2, 1)], 0, (4, 6, 1)),
        ([(4, 6, 1), (4, 1, 2)], 0, (4, 1, 2)),
        ([(4, 6, 1), (7, 1, 2)], 0, None),
        ([(4, 6, 2), (7, 1, 1)], 0, (4, 6, 2)),
        ([(4, 6, 1), (10, 1, 2)], 0, (4, 6, 1)),
        ([(4, 6, 1)], 7, None),
        ([(4, 6, 1)], 10, (4, 6, 1)),
        ([(4, 6, 1)], 4, (4, 6, 1)),
    ],
    ids=[
        "nothing",
        "as it is named",
        "begins elsewhere",
        "the longer one",
        "the later attempt",
        "replaced by a retry inside",
        "an older one inside",
        "a retry behind it",
        "the mark inside",
        "the mark at its end",
        "the mark at its beginning",
    ],
)
def test_a_batch_is_adopted_by_its_name(held: list[BatchName], mark: int, adopted: BatchName | None) -> None:
    assert earlier(*held, mark=mark).adoptable_at(4) == adopted


def test_reading_stops_where_a_batch_begins_that_a_worker_holds() -> None:
    run = earlier((5, 2, 1), (9, 9, 1))
    assert [run.count_to_bound(at, 10) for at in (0, 5, 6, 9)] == [5, 4, 3, 10]
    run.let_go((5, 2, 1))
    assert run.count_to_bound(0, 10) == 9
    run.passed(0, 6)
    run.record(7, 8)
    assert run.count_to_recorded(6, 10) == 1


def test_reading_stops_where_the_earlier_run_had_stopped() -> None:
    run = earlier(mark=7)
    assert [run.count_to_bound(at, 10) for at in (0, 6, 7)] == [7, 1, 10]


def test_nothing_is_adopted_for_a_new_job_or_behind_what_was_read() -> None:
    assert earlier((4, 6, 1), resumed=False).adoptable_at(4) is None
    run = earlier((4, 6, 1))
    run.passed(0, 5)
    run.named((4, 6, 1), 5)
    assert run.adoptable_at(4) is None


def test_a_new_job_does_not_wait_for_the_sink_to_know_its_workers() -> None:
    assert earlier(resumed=False).gathered_at is None
    assert earlier().gathered_at == 1.0, "nor does a resumed one wait for longer than the timing says"


NAMES = st.tuples(st.integers(0, 12), st.integers(1, 3), st.integers(1, 2))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES), st.tuples(st.just("discard"), NAMES), st.tuples(st.just("before"), NAMES)
    )
)


@given(STEPS)
def test_names_in_order_are_what_a_set_of_them_is(steps: list[tuple[str, BatchName]]) -> None:
    names, plain = _Names(), set[BatchName]()
    for step, name in steps:
        if step == "add":
            names.add(name)
            plain.add(name)
        elif step == "discard":
            names.discard(name)
            plain.discard(name)
        else:
            names.discard_before(name[0])
            plain = {each for each in plain if each[0] >= name[0]}
        assert len(names) == len(plain)
        assert (name in names) == (name in plain)
        for task in range(14):
            assert names.at(task) == {each for each in plain if each[0] == task}
            assert names.next_first(task) == min((each[0] for each in plain if each[0] > task), default=None)
            assert set(names.between(task, task + 4)) == {each for each in plain if task < each[0] < task + 4}
