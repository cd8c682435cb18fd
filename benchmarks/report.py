"""The table of ratios, and the JSON file beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.farm import TOP
from benchmarks.measuring import OURS, Figure, ratios, spelled

RESULTS = TOP / "benchmarks" / "results"


def show(machine: Mapping[str, str], figures: Sequence[Figure]) -> None:
    """Print what was measured. A ratio is ours by theirs, the median of the rounds'."""
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    for name, value in machine.items():
        console.print(f"{name:10} {value}")
    table = Table(box=SIMPLE_HEAD)
    for column in ("scenario", "who", "measure"):
        table.add_column(column, no_wrap=True)
    for column in ("median", "lowest", "highest", "Tradewind ÷ this"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for before, figure in zip([None, *figures], figures, strict=False):
        if before is not None and before.scenario != figure.scenario:
            table.add_section()
        table.add_row(*_cells(figure, figures))
    console.print(table)


def _cells(figure: Figure, figures: Sequence[Figure]) -> list[str]:
    if figure.skipped:
        return [figure.scenario, figure.who, f"skipped: {figure.skipped}"]
    better = "more is better" if figure.measure.more_is_better else "less is better"
    ratio = ratio_of(figure, figures)
    return [
        figure.scenario,
        figure.who,
        f"{figure.measure.name}, {figure.measure.unit}",
        *(spelled(each) for each in (figure.median, min(figure.values), max(figure.values))),
        "" if ratio is None else spelled(ratio),
        "" if ratio is None else better,
    ]


def ratio_of(figure: Figure, figures: Sequence[Figure]) -> float | None:
    """Tradewind's by this figure's, or None for our own and for what we have no match for."""
    for mine in figures:
        if mine.who == OURS != figure.who and (mine.scenario, mine.measure) == (figure.scenario, figure.measure):
            found = sorted(ratios(mine.values, figure.values))
            return found[len(found) // 2] if found else None
    return None


def write(machine: Mapping[str, str], figures: Sequence[Figure]) -> Path:
    """Write everything, every round's value too; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    found = []
    for figure in figures:
        entry = asdict(figure)
        if not figure.skipped:
            entry |= {"median": figure.median, "tradewind_by_this": ratio_of(figure, figures)}
        found.append(entry)
    whole = {"measured_at": now.isoformat(timespec="seconds"), "machine": dict(machine), "figures": found}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return path
