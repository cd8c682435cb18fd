"""Makespan of heavy-tailed sleeps over that of one perfect central queue (greedy, same order).

    python -m benchmarks.tail [SEED...]

800 tasks, mean 25 ms, at most 1 s (Pareto 1.5), on 8 workers of one slot; then the same with one worker 10 x slower.
"""

import heapq
import random
import statistics
import sys
from collections.abc import Sequence

from benchmarks.farm import farm

SLEEPS = "import os, time\nSLOW = float(os.environ['SLOW'])\ndef sleep(s):\n    time.sleep(s * SLOW)\n    return s\n"
TASKS, WORKERS, MEAN_S, MAX_S = 800, 8, 0.025, 1.0


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


def main() -> None:
    """One line a seed, then the medians."""
    seeds = [int(each) for each in sys.argv[1:]] or [1, 2, 3, 4, 5]
    for name, slowness in (("equal workers", [1.0] * WORKERS), ("one 10 x slower", [10.0] + [1.0] * (WORKERS - 1))):
        ratios = []
        with farm("sleeps", SLEEPS, [{"SLOW": str(each)} for each in slowness], slots=1) as running:
            for seed in seeds:
                times = sleep_times(seed)
                (running.folder / "in.jsonl").write_text("".join(f"{each!r}\n" for each in times))
                measured = running.run("sleeps:sleep", "in.jsonl")
                ratios.append(measured.seconds / greedy(times, slowness))
                print(f"{name}, seed {seed}: {ratios[-1]:.3f} x greedy, {measured.returns / TASKS:.1f} returns a task")
        print(f"{name}: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}")


if __name__ == "__main__":
    main()
