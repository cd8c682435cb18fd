"""What a task costs, in counts and in virtual time: a change that makes the farm idle, chatty or hot fails here.

The numbers are functions of their seeds; they have a little room above what was seen when they were written.
"""

import pytest

from tests.simulation.balance import Balance, Crew, Level, heavy_tailed
from tests.simulation.truth import Task


def balance(name: str, crew: Crew, tasks: list[Task], batch_tasks: int | None = None) -> Balance:
    return Level(name, crew, tasks, batch_tasks).measure()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_heavy_tailed_tasks_keep_equal_workers_busy(seed: int) -> None:
    found = balance(f"8 equal {seed}", Crew(8, 1), heavy_tailed(seed, 800))
    assert found.ratio <= 1.03
    assert found.returns_a_task <= 2
    assert found.messages_a_task <= 11
    assert found.commits_a_task <= 1
    assert found.wakes_a_task <= 0.6


def test_a_slow_machine_holds_up_only_what_runs_on_it() -> None:
    found = balance("half 2x slower 1", Crew(8, 1, (2.0,) * 4), heavy_tailed(1, 800))
    assert found.ratio <= 1.05
    assert found.returns_a_task <= 2


def test_a_large_crew_costs_a_task_no_more() -> None:
    small = balance("small", Crew(5, 4), heavy_tailed(7, 600, 0.1))
    large = balance("large", Crew(20, 4), heavy_tailed(7, 2_400, 0.1))
    assert large.ratio <= 1.05
    assert large.returns_a_task <= 2
    assert large.messages_a_task <= 1.2 * small.messages_a_task
    assert large.wakes_a_task <= 2 * small.wakes_a_task


def test_a_batch_finds_a_free_place_in_a_crew_of_many_workers() -> None:
    found = balance("wide", Crew(100, 1), heavy_tailed(7, 2_000, 0.25))
    assert found.ratio <= 1.05
    assert found.returns_a_task <= 2


def test_tiny_tasks_share_batches_messages_and_commits() -> None:
    found = balance("tiny", Crew(1, 2), [Task(20e-6)] * 20_000)
    assert found.batches <= 150
    assert found.messages_a_task <= 0.05
    assert found.commits_a_task <= 0.005
    assert found.wakes_a_task <= 0.001


def test_tiny_batches_share_messages_and_commits() -> None:
    found = balance("tiny batches", Crew(1, 2), [Task(20e-6)] * 4_000, batch_tasks=1)
    assert found.returns_a_task <= 0.1
    assert found.messages_a_task <= 3, "a push and a result each, and little else"
    assert found.commits_a_task <= 0.05
    assert found.wakes_a_task <= 0.01


@pytest.mark.parametrize("stalled_s", [1.0, 3.5, 8.0, 60.0])
@pytest.mark.parametrize("speculates", [False, True])
def test_a_stopped_worker_swallows_no_job(stalled_s: float, speculates: bool) -> None:
    """PUSH goes on feeding it, and nothing that it has comes back before it is missed."""
    tasks = [Task(0.05)] * 400
    level = Level(f"stalled {stalled_s}", Crew(2, 2), tasks, batch_tasks=1, speculates=speculates)
    level.world.at(5.0, lambda: next(iter(level.workers.values())).stall(5.0 + stalled_s))
    found = level.measure()
    alone_s, ideal_s, timing = sum(task.seconds for task in tasks) / 2, 5.0, level.timing
    # The other one has all the work, after it was missed; what its last beat has named waits until it is lost.
    assert found.ratio * ideal_s <= min(alone_s, ideal_s + stalled_s) + timing.silence_s + timing.beat_s
