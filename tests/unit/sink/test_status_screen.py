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


def worker(
    name: str, running: int = 0, silent_s: float = 0.5, runs: list[tuple[int, int]] | None = None
) -> WorkerReport:
    return WorkerReport(name, "lab1", "10.0.0.7", 4, running, 2, silent_s, runs or [])


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
    longest = [(999, 10**9, 1, 86_400.0)] * 5
    jobs = [JobReport(f"job-{number}", "m:f", number, 0, 10**9, 1, 0.0, longest) for number in range(50)]
    runs = [(number, 3) for number in range(10)]
    crew = [worker(f"w{number}", runs=runs) for number in range(1_000)]
    shown = drawn(Report(jobs, crew), columns, rows, "sink away").splitlines()
    assert len(shown) <= rows
    assert max(map(len, shown)) <= columns
    assert sum("more" in line for line in shown) == 2


def test_what_each_worker_runs_and_what_runs_longest() -> None:
    jobs = [
        JobReport("slow", "m:f", 0, 0, 9, 2, 0.0, [(1, 7, 1, 7_320.0), (0, 20, 4, 12.0), (0, 30, 1, 0.5)]),
        JobReport("other", "m:f", 0, 0, 9, 2, 0.0, [(0, 3, 1, 100.0)]),
    ]
    report = Report(jobs, [worker("a", 3, runs=[(0, 2), (1, 1)]), worker("b", 1, runs=[(0, 1)])])
    shown = drawn(report)
    assert "slow 2, other 1" in shown
    table = shown[shown.index("running longest") :]
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["slow", "7", "2", "h", "02", "min", "b"],
        ["other", "3", "1", "min", "40", "s", "a"],
        ["slow", "20-23", "12", "s", "a"],
    ]
    assert "running longest" not in drawn(report, rows=12), "there is no room"
    assert "running longest" not in drawn(Report([], [worker("a")]))


def test_silent_workers_come_first_then_busy_ones() -> None:
    shown = drawn(Report([], [worker("idle"), worker("busy", 4), worker("silent", 0, 9.0)]))
    assert re.findall(r"^(silent|busy|idle) ", shown, re.MULTILINE) == ["silent", "busy", "idle"]


def test_a_name_is_no_markup_and_moves_nothing() -> None:
    job = JobReport("j[red]\x1b[2J", "m:f", 0, 0, 1, 1, 0.0, [(0, 0, 1, 5.0)])
    shown = drawn(Report([job], [worker("w\u202e[bold]", runs=[(0, 1)])]))
    # As the job, as what the worker runs, and as what runs longest.
    assert shown.count("j[red]\\x1b[2J") == 3
    assert shown.count("w\\u202e[bold]") == 2
