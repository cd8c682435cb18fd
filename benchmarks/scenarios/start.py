"""How long each command takes to import and to print its help, next to Python that does nothing."""

import subprocess
import sys
import time

from benchmarks.farm import TOP
from benchmarks.measuring import Contender, Figure, Measure, Plan, interleave

ROUNDS = 10
SECONDS = Measure("start to end", "s")


def _timed(*arguments: str) -> Contender:
    def run(_: int) -> dict[Measure, float]:
        started_at = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=TOP, stdout=subprocess.DEVNULL, check=True)
        return {SECONDS: time.perf_counter() - started_at}

    return run


def measure(plan: Plan) -> list[Figure]:
    """Seconds of wall time."""
    contenders = {"python -c pass": _timed("-c", "pass")}
    for role in ("sink", "worker", "ventilator"):
        contenders[f"import {role}"] = _timed("-c", f"import {role}")
        contenders[f"{role}.py --help"] = _timed(f"{role}.py", "--help")
    return interleave("start", ROUNDS, contenders)
