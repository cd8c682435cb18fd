"""How many tasks a batch holds."""

from hypothesis import given
from hypothesis import strategies as st

from common.ventilator.batch_size import BatchSize
from common.ventilator.settings import DispatchSettings

SETTINGS = DispatchSettings()


def test_it_starts_with_one_task() -> None:
    assert BatchSize(SETTINGS).tasks(None, 4) == 1


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100)), max_size=50))
def test_it_at_most_doubles_and_stays_in_bounds(measurements: list[tuple[int, float]]) -> None:
    size = BatchSize(SETTINGS)
    before = size.tasks(None, 4)
    for count, seconds in measurements:
        size.measured(count, seconds)
        after = size.tasks(None, 4)
        assert 1 <= after <= min(2 * before, SETTINGS.batch_tasks_max)
        before = after


def test_it_holds_about_as_much_work_as_a_batch_should() -> None:
    size = BatchSize(SETTINGS)
    for _ in range(20):
        size.measured(100, 0.1)
    assert 0.9 * SETTINGS.batch_s < size.tasks(None, 4) * 0.001 <= SETTINGS.batch_s


def test_it_follows_a_slower_task_time_at_once() -> None:
    size = BatchSize(SETTINGS)
    for _ in range(20):
        size.measured(100, 0.0001)
    size.measured(1, 0.002)
    assert size.tasks(None, 4) == 9


def test_it_has_a_bound_however_short_the_tasks() -> None:
    size = BatchSize(DispatchSettings(batch_tasks_max=50))
    for _ in range(20):
        size.measured(100, 0.0)
    assert size.tasks(None, 4) == 50


def test_near_the_end_a_batch_is_its_share_of_what_is_left() -> None:
    size = BatchSize(SETTINGS)
    for _ in range(20):
        size.measured(100, 0.0001)
    assert size.tasks(10**9, 4) == SETTINGS.batch_tasks_max
    assert size.tasks(800, 4) == 100
    assert size.tasks(3, 4) == 1


def test_an_explicit_size_stays() -> None:
    size = BatchSize(DispatchSettings(batch_tasks=7))
    size.measured(100, 100.0)
    assert (size.tasks(None, 4), size.tasks(3, 4)) == (7, 7)
