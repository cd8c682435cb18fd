"""How long tasks take, from how a job stands at each look."""

import pytest

from common.crew.task_times import TaskTimes
from common.protocol.reports import JobReport, Report, WorkerReport


def report(done: int, busy: int, name: str = "j") -> Report:
    return Report(
        [JobReport(name, "work:run", done, 0, 1000, 1, 0.0)],
        [WorkerReport("a.1-f", "cluster", "", 50, busy, busy, 0.0, [(0, busy)])] if busy else [],
    )


def mean_s(*looks: tuple[float, int, int]) -> float | None:
    """What is known after these looks, each an instant, the tasks done, and the busy slots."""
    times = TaskTimes()
    found: float | None = None
    for now, done, busy in looks:
        found = times.note(now, report(done, busy)).get("j")
    return found


def test_a_first_look_says_nothing() -> None:
    assert mean_s((7.0, 3, 9)) is None


def test_an_hour_in_the_queue_is_not_the_tasks() -> None:
    assert mean_s((0.0, 0, 0), (3600.0, 0, 0), (3630.0, 0, 1), (3660.0, 3, 1)) == pytest.approx(30 / 3.5)


def test_before_the_first_is_done_a_task_takes_twice_what_it_has_taken() -> None:
    assert mean_s((0.0, 0, 4), (30.0, 0, 4)) is None, "of those that ran at first it is not known since when"
    assert mean_s((0.0, 0, 0), (1.0, 0, 4), (31.0, 0, 4)) == 60.0
    assert mean_s((0.0, 0, 0), (1.0, 0, 4), (31.0, 0, 4), (61.0, 1, 4)) == 80.0


def test_a_crew_that_grows_does_not_make_tasks_seem_long() -> None:
    """Each task takes 10 seconds; at each look four slots more have begun."""
    looks = [(0.0, 0, 0), (30.0, 0, 4), (60.0, 12, 8), (90.0, 36, 12), (120.0, 72, 16)]
    assert mean_s(*looks) == pytest.approx(10.0, rel=0.15)


def test_a_crew_that_goes_does_not_make_them_seem_short() -> None:
    looks = [(30.0 * number, 9 * number, 3) for number in range(12)]
    assert mean_s(*looks, (360.0, 102, 0)) == pytest.approx(10.0, rel=0.15)


def test_what_a_crew_that_went_has_returned_is_no_worth() -> None:
    assert mean_s((0.0, 0, 10), (30.0, 2, 2)) == 300.0


def test_old_looks_do_not_count_when_new_ones_say_enough() -> None:
    slow = [(30.0 * number, number, 1) for number in range(20)]
    fast = [(600.0 + 30.0 * number, 20 + 30 * number, 1) for number in range(12)]
    assert mean_s(*slow) == 30.0
    assert mean_s(*slow, *fast) == 1.0


def test_few_tasks_need_many_looks() -> None:
    assert mean_s(*[(30.0 * number, number // 20, 1) for number in range(201)]) == pytest.approx(600.0, rel=0.1)


def test_each_job_for_itself_and_one_that_ended_is_forgotten() -> None:
    times = TaskTimes()
    times.note(0.0, report(0, 1))
    times.note(10.0, report(10, 1))
    assert times.note(20.0, report(10, 1, "k")) == {}
    assert times.note(30.0, report(15, 1, "k")) == {"k": 2.0}
    assert times.note(40.0, report(20, 1)) == {}
