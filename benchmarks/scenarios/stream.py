"""A quiet stream: from a line's writing into a FIFO to the start of its task, spooled and synced in between."""

import os
import time

from benchmarks.farm import Farm, farm, wait_for
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave, round_trip

LINES = 200
WARM_UP = 5
QUIET_S = 0.1
"""Between two lines; everybody has gone to sleep by then."""


def starts(running: Farm, count: int) -> list[float]:
    """Seconds from each line to the start of its task."""
    path = running.folder / f"in-{time.monotonic_ns()}"
    os.mkfifo(path)
    ventilator = running.start("work:since", path.name)
    with path.open("w") as lines:
        for done in range(1, count + WARM_UP + 1):
            print(time.monotonic(), file=lines, flush=True)
            wait_for(lambda done=done: len(running.values(ventilator.job)) == done, "the task")
            time.sleep(QUIET_S)
    ventilator.finish(running.sink_rss_bytes)
    return running.values(ventilator.job)[WARM_UP:]


def measure(plan: Plan) -> list[Figure]:
    """Milliseconds, median and the slowest in a hundred."""
    count = max(20, plan.scaled(LINES))
    with farm(slots=1) as running:

        def tradewind(_: int) -> dict[Measure, float]:
            return round_trip(starts(running, count))

        return interleave("stream", plan.rounds, {OURS: tradewind})
