"""Commands a second, beside GNU parallel in turns, and what starting a process costs by itself.

    python -m benchmarks.commands [ROUNDS]

Each round runs `true` with both on two slots. The farm records each result, and its sink and worker are there before;
`--local` starts and ends them for the job. parallel must be installed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.farm import Farm, farm

TOP = Path(__file__).resolve().parents[1]
TASKS, FEW, STARTS = 2_000, 400, 300
COMMAND = ("--command", "t=true")
TRUE = shutil.which("true") or "/bin/true"
IS_RIGHT = "json_extract(value, '$.exit_code') = 0"


def rate(count: int, call: Callable[[], object]) -> float:
    """How many a second, from the start of the call to its end."""
    began = time.perf_counter()
    call()
    return count / (time.perf_counter() - began)


def parallel() -> None:
    """GNU parallel, with two jobs at a time."""
    lines = "".join(f"{number}\n" for number in range(FEW))
    subprocess.run(["parallel", "-j2", "true"], input=lines, text=True, check=True, stderr=subprocess.DEVNULL)


def local() -> None:
    """One command that brings its own sink and worker."""
    command = [sys.executable, str(TOP / "ventilator.py"), "command:t", "--range", str(TASKS), "--local", "2", *COMMAND]
    with tempfile.TemporaryDirectory(prefix="tradewind-bench-") as folder:
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


def ours(running: Farm) -> float:
    """From the first push to the last receipt."""
    measured = running.run("command:t", "--range", str(TASKS))
    running.check(measured.job, TASKS, IS_RIGHT)
    return TASKS / measured.seconds


def spawn() -> None:
    """Start `true` again and again, one at a time, and wait for it."""
    for _ in range(STARTS):
        os.waitpid(os.posix_spawn(TRUE, ["true"], os.environ), 0)


def popen() -> None:
    """The same with `subprocess`, and its output."""
    for _ in range(STARTS):
        subprocess.run([TRUE], stdin=subprocess.DEVNULL, capture_output=True, check=True)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    if shutil.which("parallel") is None:
        sys.exit("GNU parallel is not installed: apt-get install parallel")
    found: dict[str, list[float]] = {}
    with farm(2, workers=()) as running:
        running.start_worker(2, *COMMAND)
        running.wait_for_crew(1)
        for _ in range(rounds):
            measured = {
                "GNU parallel": rate(FEW, parallel),
                "Tradewind": ours(running),
                "Tradewind, --local": rate(TASKS, local),
                "os.posix_spawn, one at a time": rate(STARTS, spawn),
                "subprocess.run, one at a time": rate(STARTS, popen),
            }
            print(
                f"load {os.getloadavg()[0]:.1f}:", ", ".join(f"{who} {each:,.0f}/s" for who, each in measured.items())
            )
            for who, each in measured.items():
                found.setdefault(who, []).append(each)
    for who in ("Tradewind", "Tradewind, --local"):
        ratios = sorted(mine / peer for mine, peer in zip(found[who], found["GNU parallel"], strict=True))
        print(f"{who} / GNU parallel: {ratios[0]:.1f} to {ratios[-1]:.1f}, median {median(ratios):.1f}")


if __name__ == "__main__":
    main()
