"""What a crew costs that has nothing to do: processor time per process, a ventilator waiting for its input."""

import os
import subprocess
import time
from pathlib import Path

from benchmarks.farm import farm, wait_for
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave

SECONDS = 20


def _cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def measure(plan: Plan) -> list[Figure]:
    """Percent of a core; the slots' children together."""
    with farm(slots=2) as running:
        running.squares(10_000)
        job = running.start("work:square", "-", stdin=subprocess.PIPE)
        wait_for(lambda: running.has_job(job.job), "the job")
        time.sleep(2)
        groups = {
            "sink": [running.sink.pid],
            "worker": [running.workers[0].pid],
            "worker's two children": _children(running.workers[0].pid),
            "ventilator": [job.pid],
        }

        def idle(_: int) -> dict[Measure, float]:
            before = {name: sum(map(_cpu_s, pids)) for name, pids in groups.items()}
            started_at = time.perf_counter()
            time.sleep(SECONDS)
            seconds = time.perf_counter() - started_at
            spent = {name: sum(map(_cpu_s, pids)) - before[name] for name, pids in groups.items()}
            return {Measure(name, "% of a core"): 100 * spent[name] / seconds for name in groups}

        figures = interleave("idle", 1 if plan.quick else min(plan.rounds, 3), {OURS: idle})
        job.kill()
        return figures
