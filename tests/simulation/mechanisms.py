"""What each scheduling mechanism is worth alone: the same seeds with it and without it, in virtual time.

python -m tests.simulation.mechanisms [--seeds N] [--large] [NAME...]
"""

import argparse
import math
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from unittest.mock import patch

from common.ventilator.dispatch import Dispatch
from common.ventilator.settings import DispatchSettings
from tests.simulation import ventilator_role, worker_role
from tests.simulation.balance import Balance, Crew, Level, heavy_tailed

SCENES = {
    "8 equal": (Crew(8, 1), 800, 0.025),
    "one 10x slower": (Crew(8, 1, (10.0,)), 800, 0.025),
    "one 100x slower": (Crew(8, 1, (100.0,)), 800, 0.025),
    "half 2x slower": (Crew(8, 1, (2.0,) * 4), 800, 0.025),
}
LARGE_SCENES = {
    "100 x 8": (Crew(100, 8), 24_000, 0.1),
    "1000 x 1": (Crew(1_000, 1), 20_000, 0.25),
}
WITHOUT: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "scarce": lambda: patch.object(Dispatch, "input_scarce", lambda self, now, dry: []),
    "one-free": lambda: patch.object(
        ventilator_role, "DispatchSettings", partial(DispatchSettings, one_free_in=1_000_000)
    ),
    "give-back": lambda: patch.object(worker_role, "STUCK_S", math.inf),
    "speculate": nullcontext,
}
"""The configuration without the mechanism. `--speculate` is off unless it is asked for."""


def run(scene: tuple[Crew, int, float], name: str, seed: int, *, has_it: bool) -> Balance:
    """One job of the scene."""
    crew, count, mean_s = scene
    with nullcontext() if has_it else WITHOUT[name]():
        speculates = has_it and name == "speculate"
        return Level(f"{name} {seed}", crew, heavy_tailed(seed, count, mean_s), speculates=speculates).measure()


def main() -> None:
    """A line for each mechanism and scene; the worst in brackets."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mechanisms")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"{', '.join(WITHOUT)} (default: all)")
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--large", action="store_true", help="also the large crews, one seed each")
    options = parser.parse_args()
    for name in options.name or WITHOUT:
        for title, scene in {**SCENES, **(LARGE_SCENES if options.large else {})}.items():
            seeds = range(1, 2 if title in LARGE_SCENES else options.seeds + 1)
            with_it = [run(scene, name, seed, has_it=True) for seed in seeds]
            without = [run(scene, name, seed, has_it=False) for seed in seeds]
            gains = [a.ratio / b.ratio for a, b in zip(with_it, without, strict=True)]
            print(
                f"{name:<10} {title:<16} with {_spread(with_it)}, without {_spread(without)},"
                f" with / without {statistics.median(gains):.3f} ({max(gains):.3f})",
                flush=True,
            )


def _spread(found: list[Balance]) -> str:
    ratios = [each.ratio for each in found]
    returns = statistics.median(each.returns_a_task for each in found)
    return f"{statistics.median(ratios):.3f} ({max(ratios):.3f}) x greedy, {returns:.2f} returns"


if __name__ == "__main__":
    main()
