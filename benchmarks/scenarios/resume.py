"""A job of 10,000,000 tasks that was killed half-way: from the start of its ventilator to the first new result."""

import time

from benchmarks.farm import SQUARED, Farm, Running, farm, wait_for
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave, say

TASKS = 10_000_000
FIRST = Measure("first new row", "s")
JOB = "half-done"


def _half_way(running: Farm, count: int) -> None:
    """Run the job until half is done, and kill its ventilator."""
    started = _start(running, JOB, count)
    wait_for(lambda: running.done_count(JOB) >= count // 2, "half of the job", within_s=600)
    started.kill()
    _settle(running)


def _settle(running: Farm) -> None:
    """Wait until the crew has finished what it held: no new row for a second."""
    seen = -1
    while seen != (seen := running.done_count(JOB)):
        time.sleep(1)
    say(f"resume: {seen:,} tasks are done")


def _start(running: Farm, job: str, count: int) -> Running:
    return running.start("work:square", "--range", str(count), job=job)


def first_row_s(running: Farm, job: str, count: int) -> float:
    """Seconds until a row is there that was not before; the ventilator is interrupted then."""
    before = running.done_count(job)
    started_at = time.perf_counter()
    started = _start(running, job, count)
    wait_for(lambda: running.done_count(job) > before or started.ended(), "a new row", 600, look_s=0.002)
    seconds = time.perf_counter() - started_at
    started.interrupt()
    return seconds


def measure(plan: Plan) -> list[Figure]:
    """Seconds, next to those of a new job; at the end the job is run to its end and checked."""
    count = plan.scaled(TASKS)
    with farm(slots=2) as running:
        _half_way(running, count)

        def resumed(_: int) -> dict[Measure, float]:
            return {FIRST: first_row_s(running, JOB, count)}

        def new(number: int) -> dict[Measure, float]:
            return {FIRST: first_row_s(running, f"new-{number}", count)}

        figures = interleave("resume", plan.rounds, {OURS: resumed, "a new job": new})
        _start(running, JOB, count).finish(running.sink_rss_bytes)
        running.check(JOB, count, SQUARED)
    return figures
