"""`status --watch`: what fits into a terminal, what is alarming, and what others' names cannot do to it."""

import io
import re

import pytest
from rich.console import Console

from common.protocol.messages import JobReport, Report, WorkerReport
from common.sink.status_screen import picture


def drawn(report: Report, columns: int = 100, rows: int = 24, trouble: str = "") -> str:
    out = io.StringIO()
    Console(file=out, width=columns, height=rows, color_system=None).print(picture(report, columns, rows, trouble))
    return out.getvalue()


def worker(name: str, running: int = 0, silent_s: float = 0.5) -> WorkerReport:
    return WorkerReport(name, "lab1", "10.0.0.7", 4, running, 2, silent_s)


def test_totals_percent_rate_and_time_left() -> None:
    jobs = [JobReport("half", "m:f", 500, 2, 1_000, 1, 10.0), JobReport("endless", "m:f", 7, 0, None, 1, 2.0)]
    shown = drawn(Report(jobs, [worker("a", 3)]))
    assert "1 worker, 3 of 4 slots busy   2 open jobs, 12.0/s" in shown
    assert "500/1,000  50       2  10.0/s       50 s" in shown
    assert "7/?   ?       0   2.0/s          ?" in shown
    assert "10.0.0.7" in shown


def test_an_empty_farm_says_so() -> None:
    assert "no running job" in (shown := drawn(Report([], [])))
    assert "no worker" in shown


@pytest.mark.parametrize(("columns", "rows"), [(100, 24), (60, 12), (40, 9)])
def test_it_fits_the_terminal_and_says_what_it_leaves_out(columns: int, rows: int) -> None:
    jobs = [JobReport(f"job-{number}", "m:f", number, 0, 10**9, 1, 0.0) for number in range(50)]
    shown = drawn(
        Report(jobs, [worker(f"w{number}") for number in range(1_000)]), columns, rows, "sink away"
    ).splitlines()
    assert len(shown) <= rows
    assert max(map(len, shown)) <= columns
    assert sum("more" in line for line in shown) == 2


def test_silent_workers_come_first_then_busy_ones() -> None:
    shown = drawn(Report([], [worker("idle"), worker("busy", 4), worker("silent", 0, 9.0)]))
    assert re.findall(r"^(silent|busy|idle) ", shown, re.MULTILINE) == ["silent", "busy", "idle"]


def test_a_name_is_no_markup_and_moves_nothing() -> None:
    shown = drawn(Report([JobReport("j[red]\x1b[2J", "m:f", 0, 0, 1, 1, 0.0)], [worker("w\u202e[bold]")]))
    assert "j[red]\\x1b[2J" in shown
    assert "w\\u202e[bold]" in shown
