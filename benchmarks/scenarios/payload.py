"""Large arguments and results: megabytes per second, there and back, two worker processes."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.farm import Farm, farm
from benchmarks.measuring import OURS, Figure, Measure, Plan, interleave
from benchmarks.peers import raw


@dataclass(frozen=True)
class Load:
    """`count` payloads of `size` bytes."""

    measure: Measure
    size: int
    count: int

    def lines(self) -> Iterator[str]:
        """Text that differs from line to line."""
        rest = _TEXT[: self.size - 8]
        return (f"{number:08d}{rest}" for number in range(self.count))


_TEXT = base64.b64encode(os.urandom(750_000)).decode()
LOADS = [
    Load(Measure("100 KB", "MB/s", more_is_better=True), 100_000, 2_000),
    Load(Measure("1 MB", "MB/s", more_is_better=True), 1_000_000, 200),
]


def scaled(plan: Plan) -> list[Load]:
    """The loads of a run."""
    return [Load(each.measure, each.size, max(20, plan.scaled(each.count))) for each in LOADS]


def ours(running: Farm, load: Load, *options: str) -> float:
    """MB/s of a job with these options of the ventilator; every value is checked."""
    path = running.folder / f"payload-{load.size}.txt"
    if not path.exists():
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in load.lines())
    measured = running.run("work:echo", path.name, *options)
    running.check_values(measured.job, load.lines())
    return load.size * load.count / measured.seconds / 1e6


def measure(plan: Plan) -> list[Figure]:
    """The payload is counted once."""
    loads = scaled(plan)
    with farm(slots=1, workers=[{}, {}]) as running:

        def tradewind(_: int) -> dict[Measure, float]:
            return {load.measure: ours(running, load) for load in loads}

        def bare(_: int) -> dict[Measure, float]:
            return {load.measure: raw.bytes_rate(load.count, _TEXT[: load.size].encode()) / 1e6 for load in loads}

        return interleave("payload", plan.rounds, {OURS: tradewind, "raw PUSH/PULL, CURVE": bare})
