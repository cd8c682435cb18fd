"""What a crew costs that has nothing to do: processor time per process, a ventilator waiting for its input."""

import subprocess
import time

from benchmarks.farm import children, cpu_s, farm, wait_for
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave

SECONDS = 20


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
            "worker's two children": children(running.workers[0].pid),
            "ventilator": [job.pid],
        }

        def idle(_: int) -> dict[Measure, float]:
            before = {name: sum(map(cpu_s, pids)) for name, pids in groups.items()}
            started_at = time.perf_counter()
            time.sleep(SECONDS)
            seconds = time.perf_counter() - started_at
            spent = {name: sum(map(cpu_s, pids)) - before[name] for name, pids in groups.items()}
            return {Measure(name, "% of a core"): 100 * spent[name] / seconds for name in groups}

        figures = interleave("idle", 1 if plan.quick else min(plan.rounds, 3), {OURS: idle})
        job.kill()
        return figures
