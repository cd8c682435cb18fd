"""`status --watch`: crew, open jobs and what runs longest on the whole terminal, anew each second, until Ctrl-C."""

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from .. import console
from ..errors import OperatorError, SinkGone
from ..pace import rate_text
from ..plain_text import counted, one_line
from ..protocol.messages import JobReport, Query, Report
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from .tables import percent, running_longest, runs_of, time_left

_EACH_S = 1.0
_ANSWER_S = 2.0
_QUIET_S = 3.0
"""A worker beats each second."""
_BAR_COLUMNS = 20
_COLUMNS_FOR_ALL = 80
"""On a narrower terminal, bars and addresses are left out."""
_BESIDE_ROWS = 7
"""Lines that are not rows of the tables of jobs and crew."""
_ROWS_FOR_LONGEST = 6
"""One line of this many is for what runs longest, and none on a terminal with fewer than three times as many."""


def watch_status(key: Path, roles: tuple[str, ...], sink: str | None) -> None:
    """Show the sink's report until Ctrl-C. Raises OperatorError when the sink cannot be joined."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        raise OperatorError("--watch needs a terminal: leave it out, or use --json in scripts")
    console.start_log("sink")
    screen = Console()
    with closing(SinkTalk(key, roles, sink)) as talk:
        report = talk.ask(Query(), Report, by=clock.now() + _ANSWER_S)
        # What the link would log is in the picture.
        logging.disable(logging.WARNING)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            with Live(console=screen, screen=True, auto_refresh=False) as live:
                trouble = ""
                while True:
                    live.update(picture(report, screen.width, screen.height, trouble), refresh=True)
                    time.sleep(_EACH_S)
                    try:
                        report, trouble = talk.ask(Query(), Report, by=clock.now() + _ANSWER_S), ""
                    except SinkGone as gone:
                        trouble = console.as_typed(str(gone))
        except KeyboardInterrupt:
            # The way to end it.
            return


def picture(report: Report, columns: int, rows: int, trouble: str) -> RenderableType:
    """What is shown on a terminal of this size; `trouble` says why the report is an old one."""
    slots, running = (sum(getattr(each, name) for each in report.workers) for name in ("slots", "running"))
    crew = f"{counted(len(report.workers), 'worker')}, {running:,} of {counted(slots, 'slot')} busy"
    jobs = f"{counted(len(report.jobs), 'open job')}, {rate_text(sum(job.rate for job in report.jobs))}"
    head = Text(f"{crew}   {jobs}", style="bold", no_wrap=True, overflow="ellipsis")
    longest = running_longest(report)[: rows // _ROWS_FOR_LONGEST] if rows >= 3 * _ROWS_FOR_LONGEST else []
    # With a head and a line above it.
    room = max(2, rows - _BESIDE_ROWS - (len(longest) + 2 if longest else 0))
    job_rows = min(len(report.jobs), max(room // 2, room - len(report.workers)))
    parts: list[RenderableType] = [
        head,
        Text(one_line(trouble), style="bold red"),
        _jobs(report.jobs, job_rows, columns >= _COLUMNS_FOR_ALL),
    ]
    crew_rows = _crew(report, room - max(1, job_rows), columns >= _COLUMNS_FOR_ALL)
    return Group(*parts, Text(), crew_rows, *([Text(), _longest(longest)] if longest else []))


def _jobs(jobs: Sequence[JobReport], rows: int, with_bar: bool) -> RenderableType:
    if not jobs:
        return Text("no running job", style="dim")
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("done", "%", "failed", "rate", "time left")]
    bars = [Column("", width=_BAR_COLUMNS)] if with_bar else []
    table = Table(_names("job"), *bars, *numbers, box=None, pad_edge=False, expand=True)
    for job in jobs[:rows]:
        done = f"{job.done:,}/{'?' if job.total is None else format(job.total, ',')}"
        failed = Text(f"{job.failed:,}", style="red" if job.failed else "")
        bar = Text() if job.total is None else _bar(job.done, job.total)
        cells = done, percent(job.done, job.total), failed, rate_text(job.rate), time_left(job)
        table.add_row(Text(one_line(job.job)), *([bar] if with_bar else []), *cells)
    return _with_rest(table, len(jobs) - rows)


def _crew(report: Report, rows: int, with_addresses: bool) -> RenderableType:
    workers = report.workers
    if not workers:
        return Text("no worker", style="red")
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("running", "slots", "held", "last beat")]
    others = [_names("runs", ratio=3), _names("address")] if with_addresses else []
    table = Table(_names("worker"), *numbers, *others, box=None, pad_edge=False, expand=True)
    by_trouble = sorted(workers, key=lambda each: (each.silent_s < _QUIET_S, -each.running, each.worker))
    for each in by_trouble[:rows]:
        silent = Text(f"{each.silent_s:.1f} s ago", style="red" if each.silent_s >= _QUIET_S else "")
        name = Text(one_line(each.worker))
        more = (Text(one_line(runs_of(each, report))), each.address) if with_addresses else ()
        table.add_row(name, str(each.running), str(each.slots), str(each.held), silent, *more)
    return _with_rest(table, len(workers) - rows)


def _longest(rows: Sequence[tuple[str, str, str, str]]) -> RenderableType:
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("tasks", "for")]
    table = Table(_names("running longest"), *numbers, _names("worker"), box=None, pad_edge=False, expand=True)
    for job, tasks, how_long, worker in rows:
        table.add_row(Text(one_line(job)), tasks, how_long, Text(one_line(worker)))
    return table


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(max(1, total), done, width=_BAR_COLUMNS, complete_style="green", finished_style="green")


def _names(head: str, ratio: int = 1) -> Column:
    return Column(head, ratio=ratio, no_wrap=True, overflow="ellipsis")


def _with_rest(table: Table, left_out: int) -> RenderableType:
    return Group(table, Text(f"and {left_out:,} more", style="dim")) if left_out > 0 else table
