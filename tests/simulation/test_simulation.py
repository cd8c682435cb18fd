"""The machines under a virtual clock and a hostile network: nothing lost, nothing twice, and it ends.

`TRADEWIND_SEEDS=N:M` runs the seeds from N to M - 1 instead of the default ones; all cores share them. One seed alone:
`TRADEWIND_SEEDS=17:18 python -m pytest tests/simulation`.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.farm import Farm
from tests.simulation.plan import Plan
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.truth import JobTruth, Task
from tests.simulation.world import CALM, Broken, Weather

TOP = Path(__file__).resolve().parents[2]
SEEDS = range(1_000)


def simulate(seed: int) -> str | None:
    """Run one seed; returns what went wrong."""
    try:
        Farm(seed).run()
    except Broken as broken:
        return str(broken)
    return None


def wanted() -> range:
    """The seeds that the environment asks for, or the default ones."""
    text = os.environ.get("TRADEWIND_SEEDS")
    if text is None:
        return SEEDS
    first, _, end = text.partition(":")
    return range(int(first), int(end))


@pytest.mark.parametrize(("seed", "reason"), REGRESSIONS)
def test_a_seed_that_failed_once_holds(seed: int, reason: str) -> None:
    broken = simulate(seed)
    assert broken is None, f"{reason}\n{broken}"


@pytest.mark.timeout(0)
def test_every_task_is_recorded_once_whatever_happens() -> None:
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        failures = [text for text in pool.imap_unordered(simulate, wanted(), chunksize=20) if text is not None]
    summary = "\n".join(text.partition("\n")[0] for text in failures)
    assert not failures, f"{len(failures)} of {len(wanted())} seeds fail:\n{summary}\n\n{failures[0]}"


@pytest.mark.parametrize("seed", range(20))
def test_a_ledger_on_disk_is_opened_again_by_each_new_sink(seed: int, tmp_path: Path) -> None:
    Farm(seed, path=str(tmp_path / "results.db")).run()


def plan(tasks: list[Task], **changes: object) -> Plan:
    """One job and no faults, unless the changes say otherwise."""
    job = JobTruth("job0", "work:alpha", tasks, 0, 1, 3, False)
    fields: dict[str, object] = {
        "jobs": [job],
        "worker_count": 2,
        "slots_max": 2,
        "prefetch_max": 2,
        "prefetch_limit": 0,
        "weather": CALM,
        "faults_s": 0.0,
        "faults_per_s": 0.001,
        "receipts_page": 10_000,
        "trickle_per_s": 5.0,
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]


def test_without_faults_each_task_is_executed_once() -> None:
    for seed in range(20):
        farm = Farm(f"calm {seed}", plan([Task(0.05)] * 50, weather=Weather(delay_s=(0.0005, 0.05))))
        farm.run()
        assert set(farm.jobs[0].executions.values()) == {1}


def test_copies_free_a_job_from_a_slow_worker_and_the_worker_from_the_job() -> None:
    tasks = [Task(0.2)] * 20
    for seed in range(10):
        job = JobTruth("job0", "work:alpha", tasks, 0, 1, 3, False, speculates=True)
        farm = Farm(f"slow {seed}", plan(tasks, jobs=[job], worker_count=3, slots_max=1, faults_s=60.0))
        farm.world.after(1.0, slow_down, farm)
        assert farm.world.run(15.0, farm._all_closed), "the job waits for the slow worker"
        assert farm.world.run(farm.world.now + 0.1, farm.is_over), "the slow worker has something to do yet"
        assert set(job.executions) == set(range(20))
        assert sum(job.executions.values()) <= 20 + farm.plan.worker_count


def slow_down(farm: Farm) -> None:
    """One worker takes a minute for what takes others a moment."""
    next(iter(farm.workers.values())).slowness = 300.0


@pytest.mark.parametrize(("keeps", "longest_s"), [("silent", 8.0), ("named", 15.0)])
def test_whoever_keeps_batches_costs_a_job_some_seconds_and_nobody_runs_a_task_twice(
    keeps: str, longest_s: float
) -> None:
    tasks = [Task(0.1)] * 800
    for seed in range(5):
        farm = Farm(f"{keeps} {seed}", plan(tasks, worker_count=3, slots_max=2, keepers=True, faults_s=100.0))
        farm.world.after(3.0, farm.start_keeper, keeps)
        silences = watched(farm)
        assert farm.world.run(100.0, farm._all_closed), "the job does not end"
        assert max(silences) < longest_s, "the job stands still"
        assert farm.disk.rows.keys() == {("job0", task) for task in range(800)}
        assert set(farm.jobs[0].executions.values()) == {1}


def test_whoever_keeps_batches_and_came_first_is_found_too() -> None:
    tasks = [Task(0.1)] * 800
    for seed in range(3):
        farm = Farm(f"first {seed}", plan(tasks, worker_count=0, slots_max=2, keepers=True, faults_s=200.0))
        farm.start_keeper("silent")
        for _ in range(3):
            farm.world.after(2.0, farm.start_worker)
        assert farm.world.run(200.0, farm._all_closed), "the job does not end"
        assert set(farm.jobs[0].executions.values()) == {1}


def watched(farm: Farm) -> list[float]:
    """How long it takes until the next row is there, looked at each half second."""
    found = [0.0]
    seen = {"count": 0, "at": 0.0}

    def look() -> None:
        if len(farm.disk.rows) > seen["count"]:
            seen.update(count=len(farm.disk.rows), at=farm.world.now)
        found.append(farm.world.now - seen["at"])
        farm.world.after(0.5, look)

    farm.world.after(0.5, look)
    return found


def test_a_poison_task_is_quarantined_and_its_mates_are_not() -> None:
    poisoned = [Task(0.05)] * 20 + [Task(0.05, kills_worker=True)] + [Task(0.05)] * 20
    for batch_tasks in (1, 7, None):
        for seed in range(5):
            job = JobTruth("job0", "work:alpha", poisoned, 0, batch_tasks, 3, False)
            farm = Farm(f"poison {seed}", plan(poisoned, jobs=[job]))
            farm.run()
            failed = [task for (_, task), (status, *_) in farm.disk.rows.items() if status == "failed"]
            assert failed == [20]
            assert farm.jobs[0].executions[20] <= 6


def test_a_task_that_outlives_its_timeout_fails_and_its_mates_do_not() -> None:
    tasks = [Task(0.05)] * 20 + [Task(60.0)] + [Task(0.05)] * 20
    for batch_tasks in (1, 7, None):
        for seed in range(5):
            job = JobTruth("job0", "work:alpha", tasks, 1, batch_tasks, 3, False, timeout_s=1.0)
            farm = Farm(f"timeout {seed}", plan(tasks, jobs=[job]))
            farm.run()
            failed = [(task, row[3]) for (_, task), row in farm.disk.rows.items() if row[0] == "failed"]
            assert failed == [(20, 2)]
            assert job.executions[20] == 2


def test_a_crew_that_is_replaced_while_its_tasks_run_loses_none() -> None:
    tasks = [Task(4.0)] * 20
    for grace_s in (0.0, 1.0):
        farm = Farm(f"drain {grace_s}", plan(tasks, faults_s=60.0, drain_at=3.0, drain_grace_s=grace_s))
        farm.run()
        assert {row[0] for row in farm.disk.rows.values()} == {"ok"}
        assert max(farm.jobs[0].executions.values()) == 2, "what ran past the grace runs elsewhere"


def test_a_ventilator_that_is_killed_and_run_again_has_nothing_run_twice() -> None:
    tasks = [Task(3.0)] * 40
    for batch_tasks in (1, 3, None):
        for seed in range(8):
            job = JobTruth("job0", "work:alpha", tasks, 0, batch_tasks, 3, False)
            farm = Farm(f"resume {seed}", plan(tasks, jobs=[job]))
            for at in (5.0, 15.0):
                farm.world.at(at + seed / 10, kill_ventilator, farm)
            farm.run()
            assert farm._started >= 3, "it was not run again"
            assert set(job.executions.values()) == {1}


def kill_ventilator(farm: Farm) -> None:
    """SIGKILL; the operator runs it again."""
    for ventilator in list(farm.ventilators.values()):
        farm.kill_ventilator(ventilator)


def test_failed_tasks_that_run_again_at_once_wait_for_no_lease() -> None:
    tasks = [Task(0.1, failures=1)] * 100
    for seed in range(10):
        job = JobTruth("job0", "work:alpha", tasks, 0, 1, 3, False)
        farm = Farm(f"again {seed}", plan(tasks, jobs=[job], faults_s=60.0))
        assert farm.world.run(60.0, farm._all_closed)
        done_at = farm.world.now
        farm.closed.clear()
        job.retries_failed = True
        farm.start_ventilator(job)
        # Before the next beat: the last one names what is over.
        farm.ventilators["job0"]._connect()
        assert farm.world.run(done_at + farm.timing.lease_s - 1, farm._all_closed), "it waits for leases"
        assert set(job.executions.values()) == {2}


def test_the_ventilators_memory_does_not_grow_with_the_input() -> None:
    peaks = []
    for count in (1_200, 4_800):
        # Both last longer than a lease: the timer of a batch stays that long, whatever became of it.
        farm = Farm("long input", plan([Task(0.05)] * count))
        farm.weighs = True
        farm.run()
        window = 2 * (farm.plan.slots_max + farm.plan.prefetch_max)
        assert farm.peak_flights <= window
        peaks.append((farm.peak_flights, farm.peak_payload, farm.peak_other))
    (flights, payload, other), (flights_longer, payload_longer, other_longer) = peaks
    assert flights_longer <= flights + 1
    assert payload_longer <= 2 * payload
    assert other_longer <= 1.2 * other


DIGEST = """
from tests.simulation.farm import Farm
for seed in range(8):
    farm = Farm(seed)
    farm.run()
    print(seed, farm.world.event_count, farm.world.now, sorted(farm.disk.rows.items()))
"""


def test_a_run_is_a_function_of_its_seed() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=TOP,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1
