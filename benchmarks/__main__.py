"""The bench: `python -m benchmarks [SCENARIO...]`."""

import argparse
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from benchmarks import machine, plot, report
from benchmarks.measuring import Figure, Plan, say

SCENARIOS = (
    "many",
    "single",
    "roundtrip",
    "trip",
    "stream",
    "tail",
    "slow",
    "long",
    "resume",
    "full",
    "payload",
    "relay",
    "slots",
    "idle",
    "start",
    "database",
)
"""In the order in which they run; each is a module of `benchmarks.scenarios`."""
INSTALLING = ("servers", "api")
"""Measured only when named, or with `--all`: they install much."""


def main() -> None:
    """Run the scenarios that are named, or all; print the table, write the JSON file."""
    # SIGTERM too must end what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scenarios = {name: import_module(f"benchmarks.scenarios.{name}") for name in (*SCENARIOS, *INSTALLING)}
    options = _options(scenarios)
    plan = Plan(options.rounds, options.quick, options.speculate)
    described = machine.described()
    figures: list[Figure] = []
    for name in options.scenario or (*SCENARIOS, *(INSTALLING if options.all else ())):
        say(f"{name}: {_title(scenarios[name])}")
        figures += scenarios[name].measure(plan)
    report.show(described, figures)
    written = report.write(described, figures)
    print(f"all values: {written}")
    if {"many", "roundtrip"} <= {figure.scenario for figure in figures}:
        _draw(written)


def _draw(written: Path) -> None:
    """The picture, beside the JSON file; `python -m benchmarks.plot` draws the one of the documents."""
    if find_spec("matplotlib") is None:
        say("no picture: matplotlib is not installed")
        return
    plot.draw(*plot.load([written]), written.with_suffix(".png"))
    print(f"picture: {written.with_suffix('.png')}")


def _options(scenarios: dict[str, ModuleType]) -> argparse.Namespace:
    titles = "\n".join(f"  {name:10} {_title(module)}" for name, module in scenarios.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure Tradewind and its peers in the same run.\n\n{titles}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="*", help="what to measure (default: all but servers and api)")
    parser.add_argument("--all", action="store_true", help="also servers and api, which install their peers")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the tasks: to see that it works")
    parser.add_argument("--speculate", action="store_true", help="slow: also with the ventilator's --speculate")
    options = parser.parse_args()
    unknown = [name for name in options.scenario if name not in scenarios]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(scenarios)}")
    return options


def _title(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    main()
