"""Several jobs share a crew's slot time, whatever their tasks take: the same machines, in virtual time."""

import random

import pytest

from tests.simulation.balance import CREW_S, CalmFarm, Crew
from tests.simulation.truth import JobTruth, Task

MINUTE_S = 60.0


def job(number: int, tasks: list[Task]) -> JobTruth:
    return JobTruth(f"job{number}", "work:alpha", tasks, 0, None, 3, False)


def tasks_of(mean_s: float, seconds: float, dice: random.Random) -> list[Task]:
    """Tasks that take about `mean_s` each and `seconds` together."""
    return [Task(mean_s * dice.uniform(0.5, 1.5)) for _ in range(int(seconds / mean_s))]


def slot_seconds(found: JobTruth) -> float:
    """What the job's tasks that have begun take."""
    return sum(task.seconds for number, task in enumerate(found.tasks) if found.executions[number])


@pytest.mark.parametrize(
    ("crew", "means_s"),
    [
        (Crew(1, 2), [0.05, 1.0]),
        (Crew(1, 2), [1.0, 0.05, 0.3]),
        (Crew(2, 2), [0.1, 2.0, 0.5, 0.05]),
        (Crew(1, 1), [0.5, 0.03]),
    ],
    ids=str,
)
def test_each_job_gets_its_share_of_a_minute(crew: Crew, means_s: list[float]) -> None:
    slots = crew.worker_count * crew.slots
    dice = random.Random(7)
    jobs = [job(number, tasks_of(mean_s, 1.5 * slots * MINUTE_S, dice)) for number, mean_s in enumerate(means_s)]
    farm = CalmFarm(f"share {crew} {means_s}", crew, jobs)
    farm.world.run(CREW_S + 5.0)
    before = [slot_seconds(each) for each in jobs]
    farm.world.run(CREW_S + 5.0 + MINUTE_S)
    used = [slot_seconds(each) - earlier for each, earlier in zip(jobs, before, strict=True)]
    farm.disk.close()
    share = slots * MINUTE_S / len(jobs)
    assert all(0.9 * share <= each <= 1.1 * share for each in used), [round(each / share, 3) for each in used]


@pytest.mark.parametrize("seed", range(5))
def test_a_short_job_waits_for_the_longest_running_task_at_most(seed: int) -> None:
    dice = random.Random(seed)
    starts_at = CREW_S + dice.uniform(1.0, 9.0)
    long, short = job(0, [Task(5.0)] * 12), job(1, [Task(0.001)] * 5)
    farm = CalmFarm(f"short {seed}", Crew(1, 2), [long, short], {"job1": starts_at})
    farm.world.run(starts_at + 10.0, lambda: "job1" in farm.closed)
    took_s = farm.world.now - starts_at
    farm.disk.close()
    assert "job1" in farm.closed
    assert took_s <= 5.5
