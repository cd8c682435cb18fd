"""Heavy-tailed sleeps on 8 workers: makespan over that of one perfect central queue (greedy, same order).

800 tasks, mean 25 ms, at most 1 s (Pareto 1.5); a seed a round.
"""

import heapq
import random
from collections.abc import Sequence

from benchmarks.farm import Farm, farm
from benchmarks.measuring import MAKESPAN, OURS, Figure, Measure, Plan, interleave
from benchmarks.peers import executor

TASKS, WORKERS, MEAN_S, MAX_S = 800, 8, 0.025, 1.0
RETURNS = Measure("returns", "a task")


def sleep_times(seed: int) -> list[float]:
    """The tasks of a seed, in seconds."""
    dice = random.Random(seed)
    raw = [dice.paretovariate(1.5) for _ in range(TASKS)]
    scale = MEAN_S * TASKS / sum(raw)
    return [min(MAX_S, each * scale) for each in raw]


def greedy(times: Sequence[float], slowness: Sequence[float]) -> float:
    """Makespan when each task goes to the worker that is free first."""
    free = [(0.0, worker) for worker in range(len(slowness))]
    ends = []
    for seconds in times:
        at, worker = heapq.heappop(free)
        ends.append(at + seconds * slowness[worker])
        heapq.heappush(free, (ends[-1], worker))
    return max(ends)


def ours(running: Farm, seed: int, slowness: Sequence[float], *options: str) -> dict[Measure, float]:
    """One job on a running farm whose workers are so slow."""
    times = sleep_times(seed)
    path = running.folder / "sleeps.jsonl"
    path.write_text("".join(f"{each!r}\n" for each in times))
    measured = running.run("work:sleep", path.name, *options)
    running.check_values(measured.job, times)
    return {MAKESPAN: measured.seconds / greedy(times, slowness), RETURNS: measured.returns / TASKS}


def measure(plan: Plan) -> list[Figure]:
    """Makespans over greedy, equal workers."""
    equal = [1.0] * WORKERS
    with farm(slots=1, workers=[{}] * WORKERS) as running:

        def tradewind(number: int) -> dict[Measure, float]:
            return ours(running, number + 1, equal)

        def pool(number: int) -> dict[Measure, float]:
            times = sleep_times(number + 1)
            return {MAKESPAN: executor.makespan(times, WORKERS) / greedy(times, equal)}

        return interleave("tail", plan.rounds, {OURS: tradewind, "ProcessPoolExecutor": pool})
