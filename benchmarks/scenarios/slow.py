"""The same sleeps with one worker of eight 10 × slower, over greedy with the same slow worker."""

import subprocess
import sys

from benchmarks.farm import TOP, farm
from benchmarks.measuring import OURS, Contender, Figure, Measure, Plan, Skipped, interleave
from benchmarks.scenarios import tail

SLOWNESS = [10.0] + [1.0] * (tail.WORKERS - 1)


def measure(plan: Plan) -> list[Figure]:
    """Makespans over greedy; with `--speculate` also the variant that the ventilator offers under that name."""
    with farm(slots=1, workers=[{"SLOW": f"{each:g}"} for each in SLOWNESS]) as running:

        def tradewind(number: int, *options: str) -> dict[Measure, float]:
            return tail.ours(running, number + 1, SLOWNESS, *options)

        contenders: dict[str, Contender] = {OURS: tradewind}
        if plan.speculate:
            contenders[f"{OURS} --speculate"] = lambda number: tradewind(number, _speculate())
        return interleave("slow", plan.rounds, contenders)


def _speculate() -> str:
    shown = subprocess.run([sys.executable, TOP / "ventilator.py", "--help"], capture_output=True, text=True)
    if "--speculate" not in shown.stdout:
        raise Skipped("this ventilator has no --speculate")
    return "--speculate"
