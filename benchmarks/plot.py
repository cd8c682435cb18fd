"""The picture for the documents: many tiny tasks, and one task there and back.

    python -m benchmarks.plot [RESULTS.json...]

Reads the files that the bench has written, by default the newest; of a figure that stands in several the last counts.
Writes docs/performance.png.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.farm import TOP
from benchmarks.measuring import MEDIAN, OURS, RATE, spelled
from benchmarks.report import RESULTS

PICTURE = TOP / "docs" / "performance.png"
_OURS, _THEIRS, _BOUND = "#c2410c", "#94a3b8", "#cbd5e1"
_BOUNDS = ("raw", "SQLite alone")
"""Who does only a part of the work."""


def load(paths: Iterable[Path]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The machine of the last file, and the figures of all."""
    machine: dict[str, str] = {}
    figures: list[dict[str, Any]] = []
    for path in paths:
        whole = json.loads(path.read_text())
        machine = whole["machine"]
        figures += [figure for figure in whole["figures"] if not figure["skipped"]]
    return machine, figures


def picked(figures: Iterable[Mapping[str, Any]], scenario: str, measure: str) -> dict[str, float]:
    """Who, and the median; servers' peers stand beside the others."""
    found = {}
    for figure in figures:
        here = figure["scenario"] == scenario or (figure["scenario"] == "servers" and figure["who"] != OURS)
        if here and figure["measure"]["name"] == measure:
            found[figure["who"]] = float(figure["median"])
    return found


def _bars(axes: Any, values: Mapping[str, float], title: str, unit: str, best_on_top: bool) -> None:
    names = sorted(values, key=lambda name: values[name], reverse=not best_on_top)
    colours = [_OURS if n == OURS else _BOUND if n.startswith(_BOUNDS) else _THEIRS for n in names]
    bars = axes.barh(names, [values[name] for name in names], color=colours, height=0.72)
    axes.bar_label(bars, [f" {spelled(values[name])} {unit}" for name in names], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(values.values()) / 3, max(values.values()) * 12)
    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8, colors="#64748b")
    axes.spines[["top", "right", "left"]].set_visible(False)
    for label in axes.get_yticklabels():
        if label.get_text() == OURS:
            label.set(fontweight="bold", color=_OURS)


def draw(machine: Mapping[str, str], figures: list[dict[str, Any]], to: Path) -> None:
    """Draw both pictures, one above the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rates, trips = picked(figures, "many", RATE.name), picked(figures, "roundtrip", MEDIAN.name)
    if OURS not in rates or OURS not in trips:
        sys.exit("the picture needs the scenarios many and roundtrip: run the bench with both first")
    heights = [len(rates), len(trips)]
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(9.6, 0.29 * sum(heights) + 2.4), layout="constrained", height_ratios=heights
    )
    _bars(above, rates, "Many tiny tasks (n·n, two workers), more is better", "tasks/s", best_on_top=True)
    _bars(below, trips, "One task there and back, median, less is better", "ms", best_on_top=False)
    figure.supxlabel(
        "Logarithmic scales. Tradewind: separate processes, CURVE, child processes, every result synced to disk before"
        " its receipt.\nPale: bounds that do a part of the work. The executors, Pool and joblib serve one machine;"
        f" nobody but Tradewind and SQLite stores results on disk.\n{machine['cpu']}, {machine['cores']} cores,"
        f" {machine['kernel']}, Python {machine['python']}, libzmq {machine['libzmq']},"
        f" Tradewind {machine['tradewind']}",
        fontsize=8,
        color="#64748b",
        x=0.01,
        ha="left",
    )
    figure.savefig(to, dpi=130)
    pyplot.close(figure)


def main() -> None:
    """Draw from the files that are named, or the newest."""
    paths = [Path(each) for each in sys.argv[1:]] or sorted(RESULTS.glob("*.json"))[-1:]
    draw(*load(paths), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
