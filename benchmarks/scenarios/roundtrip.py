"""One task there and back: from its push to its receipt at the ventilator, in an idle pipeline."""

import json
import os
import subprocess
import sys

from benchmarks.farm import SQUARED, TOP, Farm, farm
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave, round_trip
from benchmarks.peers import executor, managers, raw

TASKS = 1_000
WARM_UP = 50


def ours(running: Farm, count: int, relay: str = "auto") -> list[float]:
    """Seconds of each round trip, measured in the ventilator's own loop (`benchmarks/probe.py`)."""
    return trips(running, count, relay)[0]


def trips(running: Farm, count: int, relay: str = "auto") -> tuple[list[float], float]:
    """Seconds of each round trip, and the ventilator's processor time for one."""
    running.probes += 1
    job, tasks = f"probe-{running.probes}", count + WARM_UP + 1
    with (running.folder / "probe.log").open("w+") as log:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.probe", "keys/ventilator.key_secret", job, str(tasks), relay],
            cwd=running.folder,
            env=os.environ | {"PYTHONPATH": str(TOP), "TRADEWIND_LOG_LEVEL": "warning"},
            stdout=subprocess.PIPE,
            stderr=log,
        )
        if done.returncode:
            sys.exit(f"the probe failed:\n{log.seek(0) or log.read()}")
    running.check(job, tasks, SQUARED)
    seconds, processor_s = json.loads(done.stdout)
    return seconds[WARM_UP:], processor_s


def measure(plan: Plan) -> list[Figure]:
    """Milliseconds, median and the slowest in a hundred."""
    count = max(500, plan.scaled(TASKS))
    with farm(slots=1) as running:

        def tradewind(_: int) -> dict[Measure, float]:
            return round_trip(ours(running, count))

        return interleave(
            "roundtrip",
            plan.rounds,
            {
                OURS: tradewind,
                "multiprocessing.managers": lambda _: round_trip(managers.round_trips(count)),
                "ProcessPoolExecutor": lambda _: round_trip(executor.round_trips(count)),
                "raw CURVE, three links": lambda _: round_trip(raw.round_trips(count)),
            },
        )
