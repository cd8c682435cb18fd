"""What the sink's commands print: results as JSON lines or CSV, jobs, crew and roster as tables."""

import codecs
import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TextIO

import msgspec
from msgspec import structs

from .. import console
from ..errors import OperatorError
from ..pace import duration, rate_text
from ..plain_text import ascii_json, counted, in_json, one_line
from ..protocol.messages import Explanation, JobReport, Report, WorkerReport
from ..protocol.reports import LONGEST_MAX
from ..protocol.users import User
from ..protocol.values import value_of
from ..transport import clock
from .arguments import is_line
from .explained import first_cause, lines
from .result_columns import ResultColumns, cell_of
from .result_formats import Format
from .rows import as_json
from .store import JobSummary, Row

_VOICE_S = 5.0
_COLUMNS = ("task", "status", "value", "error", "attempt", "worker", "seconds", "argument", "argument_digest")
_TASKS_NAMED = 5
_CREW = ("worker", "key", "address", "slots", "running", "held", "last beat", "runs")
_LONGEST = ("running longest", "tasks", "for", "worker")
_LONG_S = 1.0
"""From how long on a batch is worth a line."""
_OPEN_JOBS = ("job", "function", "ok", "failed", "total", "%", "rate", "time left", "workers")
_GAP = 2
"""Between two columns of a table."""


class _Screen:
    """A terminal as a file: what would control it is shown as an escape. CSV has none, so only terminals get them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        """Print the text, which may have several lines."""
        self._out.write("\n".join(map(one_line, text.split("\n"))))


class _Printer:
    """Rows as lines of text."""

    def __init__(self, format: Format, out: TextIO) -> None:
        self.left_out = 0
        """How many failed tasks were passed over."""
        self._out = out
        self._values_only = format is Format.values
        self._csv = _csv_to(out) if format is Format.csv else None
        self._escaped = _escaping(out)
        if self._csv:
            self._csv.writerow(_COLUMNS)

    def print(self, row: Row) -> None:
        """One row."""
        if self._csv:
            value = _cell(row.value, row.json)
            cells: Sequence[Any] = (
                row.task,
                row.status,
                value,
                row.error,
                row.attempt,
                row.worker,
                row.seconds,
                _cell(row.argument, row.argument_json),
                row.argument_digest and row.argument_digest.hex(),
            )
            self._csv.writerow(cells)
            return
        if self._values_only:
            if row.status == "ok":
                self._out.write(self._escaped(as_json(row.value, row.json)) + "\n")
            else:
                self.left_out += 1
            return
        fields: dict[str, Any] = {
            "task": row.task,
            "status": row.status,
            "value": msgspec.Raw(as_json(row.value, row.json).encode()),
            "error": row.error,
            "attempt": row.attempt,
            "worker": row.worker,
            "seconds": row.seconds,
            "argument": msgspec.Raw(as_json(row.argument, row.argument_json).encode()),
        }
        if row.argument_digest:
            # Then the argument is only the beginning.
            fields["argument_digest"] = row.argument_digest.hex()
        self._out.write(self._escaped(msgspec.json.encode(fields).decode()) + "\n")


class _TextPrinter:
    """What commands have printed, as it was, and the values of functions as text."""

    def __init__(self, out: TextIO) -> None:
        self.left_out = 0
        """How many failed tasks were passed over."""
        self.cut_count = 0
        """How many outputs are not in the ledger whole."""
        self._out = out
        self._is_screen = out.isatty()

    def print(self, row: Row) -> None:
        """One row."""
        if row.status != "ok":
            self.left_out += 1
            return
        value = value_of(row.value, row.json, row.exact)
        text = value.get("stdout") if isinstance(value, dict) else None
        if isinstance(text, str | bytes):
            self.cut_count += "stdout_bytes" in value
        else:
            text = (value if isinstance(value, str) else as_json(row.value, row.json)) + "\n"
        if self._is_screen:
            shown = text.decode(errors="replace") if isinstance(text, bytes) else text
            # Tabs and ends of lines move nothing that is not its own.
            self._out.write("".join(part if part in "\t\n" else one_line(part) for part in re.split("([\t\n])", shown)))
        else:
            self._out.buffer.write(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)


def print_results(rows: Iterable[Row | None], format: Format, out: TextIO) -> None:
    """The rows as they come. None says that there is no other one now."""
    printer = _TextPrinter(out) if format is Format.text else _Printer(format, out)
    quiet_since = clock.now()
    for row in rows:
        if row is not None:
            printer.print(row)
            quiet_since = max(quiet_since, clock.now())
            continue
        out.flush()
        if clock.now() >= quiet_since + _VOICE_S:
            quiet_since = clock.now() + _VOICE_S
            print("sink: no new result; waiting for more, because the job has not ended", file=sys.stderr)
    out.flush()
    if printer.left_out:
        print(
            f"sink: {counted(printer.left_out, 'failed task')} left out: a failed task has no value; --format jsonl"
            " shows why it failed",
            file=sys.stderr,
        )
    if isinstance(printer, _TextPrinter) and printer.cut_count:
        print(
            f"sink: {counted(printer.cut_count, 'output')} cut, because the ledger keeps at most 1 MiB of each: workers"
            " with --output-dir write all of it to files",
            file=sys.stderr,
        )


def _escaping(out: TextIO) -> Callable[[str], str]:
    """What makes JSON harmless for this output."""
    return in_json if codecs.lookup(out.encoding).name.startswith("utf") else ascii_json


def print_columns(rows: Callable[[], Iterable[Row]], out: TextIO) -> None:
    """The rows as CSV, in which each key of a map is a column."""
    columns = ResultColumns(spread=True)
    columns.look(rows())
    names = list(columns.types)
    writer = _csv_to(out)
    writer.writerow(names)
    for row in columns.seen(rows()):
        cells = columns.csv(row)
        writer.writerow([cells.get(name) for name in names])


def _csv_to(out: TextIO) -> Any:
    return csv.writer(_Screen(out) if out.isatty() else out, lineterminator="\n")


def _cell(stored: Any, json: int | None) -> Any:
    return stored if stored is None or (isinstance(stored, str) and not json) else cell_of(as_json(stored, json))


def print_arguments(rows: Callable[[], Iterable[Row]], out: TextIO) -> None:
    """The arguments of these rows, one a line, so that they are an input again. Raises OperatorError."""
    as_text = all(_is_text_line(row) for row in rows())
    if not as_text:
        print("sink: these are JSON lines: put them into a file named .jsonl to use them as an input", file=sys.stderr)
    on_screen = as_text and out.isatty()
    count = 0
    lost: list[int] = []
    for row in rows():
        count += 1
        line = _argument_line(row, as_text)
        if line is None:
            lost.append(row.task)
        else:
            # An input is read as UTF-8, whatever the terminal's encoding is.
            out.buffer.write((one_line(line.decode(errors="replace")).encode() if on_screen else line) + b"\n")
    out.flush()
    if lost:
        some = ", ".join(map(str, lost[:_TASKS_NAMED])) + (" ..." if len(lost) > _TASKS_NAMED else "")
        raise OperatorError(
            f"{len(lost)} of {count} arguments are not in the ledger whole, because they take more than 4 KiB or were"
            f" not kept: take them from the job's own input (tasks {some}, counted from 0)"
        )


def _is_text_line(row: Row) -> bool:
    """False when the argument must be said in JSON. One that is not there is no reason to."""
    is_whole = row.argument is not None and row.argument_digest is None
    return not is_whole or (isinstance(row.argument, str | bytes) and not row.argument_json and is_line(row.argument))


def _argument_line(row: Row, as_text: bool) -> bytes | None:
    """The argument as a line of an input, which is text or JSON; None where the ledger does not have it."""
    argument = row.argument
    if argument is None or row.argument_digest is not None:
        return None
    if as_text:
        return argument if isinstance(argument, bytes) else str(argument).encode()
    return None if isinstance(argument, bytes) else in_json(as_json(argument, row.argument_json)).encode()


def print_jobs(jobs: Iterable[JobSummary]) -> None:
    """All jobs of a ledger."""
    _print_table(
        ("job", "function", "state", "ok", "failed", "total", "%", "opened (UTC)", "ended (UTC)"),
        [
            (
                job.name,
                job.function,
                job.state,
                job.done - job.failed,
                job.failed,
                "?" if job.total is None else job.total,
                percent(job.done, job.total),
                job.opened_at.removesuffix("+00:00"),
                (job.ended_at or "").removesuffix("+00:00"),
            )
            for job in jobs
        ],
        "no job yet",
        spare=("ended (UTC)", "function", "opened (UTC)"),
    )


def print_jobs_as_json(jobs: Iterable[JobSummary]) -> None:
    """All jobs of a ledger, a JSON object a line."""
    for job in jobs:
        fields = asdict(job)
        fields = {"job": fields.pop("name"), **fields}
        _print_json(fields)


def print_report(report: Report) -> None:
    """The workers and jobs of a running sink, and what runs longest."""
    spare: tuple[str, ...] = ("key", "address", "runs")
    _print_table(_CREW, [cells_of_worker(each, report) for each in report.workers], "no worker", spare)
    print()
    spare = ("function", "workers", "%")
    _print_table(_OPEN_JOBS, [cells_of_job(each) for each in report.jobs], "no running job", spare)
    if longest := running_longest(report):
        print()
        _print_table(_LONGEST, longest, "")


def print_report_as_json(report: Report) -> None:
    """The same as one JSON object: a `report` of the protocol without its type."""
    _print_json(structs.asdict(report))


def print_explanation(found: Explanation) -> None:
    """Why a job or a task does not move, in lines."""
    for line in lines(found):
        _Screen(sys.stdout).write(console.as_typed(line))
        print()


def print_explanation_as_json(found: Explanation) -> None:
    """The same as one JSON object: the lines, the cause, and an `explanation` of the protocol without its type."""
    cause = first_cause(found)
    said = None if cause is None else {"what": console.as_typed(cause.what), "do": console.as_typed(cause.do)}
    fields = structs.asdict(found)
    if found.account is not None:
        fields["account"] = structs.asdict(found.account)
    whole = {"cause": said, "lines": [console.as_typed(line) for line in lines(found)], **fields}
    _print_json(whole)


def _print_json(fields: dict[str, Any]) -> None:
    print(_escaping(sys.stdout)(msgspec.json.encode(fields).decode()))


def cells_of_worker(worker: WorkerReport, report: Report) -> tuple[object, ...]:
    """A row of the crew's table."""
    silent = f"{worker.silent_s:.1f} s ago"
    counts = worker.slots, worker.running, worker.held
    return worker.worker, worker.key, worker.address, *counts, silent, runs_of(worker, report)


def runs_of(worker: WorkerReport, report: Report) -> str:
    """The jobs of which the worker runs batches, with how many."""
    return ", ".join(f"{report.jobs[place].job} {count}" for place, count in worker.runs)


def running_longest(report: Report) -> list[tuple[str, str, str, str]]:
    """The batches that run longest, of all jobs: job, tasks, how long, worker. Short ones are no news."""
    found = [
        (seconds, job.job, first, count, report.workers[place].worker)
        for job in report.jobs
        for place, first, count, seconds in job.longest
        if seconds >= _LONG_S
    ]
    found.sort(key=lambda each: -each[0])
    return [
        (job, f"{first}" if count == 1 else f"{first}-{first + count - 1}", duration(seconds), worker)
        for seconds, job, first, count, worker in found[:LONGEST_MAX]
    ]


def cells_of_job(job: JobReport) -> tuple[object, ...]:
    """A row of the table of open jobs."""
    total = "?" if job.total is None else job.total
    counts = job.done - job.failed, job.failed, total, percent(job.done, job.total)
    return job.job, job.function, *counts, rate_text(job.rate), time_left(job), job.workers


def percent(done: int, total: int | None) -> str:
    """How much of it is done."""
    if total is None:
        return "?"
    return f"{100 * done // total if total else 100}"


def time_left(job: JobReport) -> str:
    """Until the job is done at this rate."""
    return "?" if job.total is None or not job.rate else duration((job.total - job.done) / job.rate)


def print_roster(users: Iterable[User]) -> None:
    """The enrolled keys."""
    _print_table(
        ("name", "role", "public key"),
        [(user.name, user.role, user.key) for user in users],
        "no key is enrolled",
    )


def _print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], none: str, spare: Sequence[str] = ()
) -> None:
    """The rows, or the words for `none`. A terminal that is too narrow for all columns loses the `spare` ones."""
    if not rows:
        print(none)
        return
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        numbers = {name for at, name in enumerate(columns) if any(isinstance(row[at], int) for row in rows)}
        _show_table(columns, cells, numbers, spare)
        return
    # For pipes: tab-separated, whole, one row a line.
    for line in (columns, *cells):
        print("\t".join(line))


def _show_table(columns: Sequence[str], cells: list[list[str]], numbers: set[str], spare: Sequence[str]) -> None:
    # Imported here because they take as long to import as the rest of a command.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    widths = {name: max(map(cell_len, (name, *(row[at] for row in cells)))) for at, name in enumerate(columns)}
    left_out: set[str] = set()
    for name in spare:
        if sum(widths[each] + _GAP for each in columns if each not in left_out) - _GAP > console.width:
            left_out.add(name)
    shown = [at for at, name in enumerate(columns) if name not in left_out]
    # Names that are still too long are folded, because one that was cut cannot be copied. Numbers stay whole.
    heads = [Column(columns[at], overflow="fold", no_wrap=columns[at] in numbers) for at in shown]
    table = Table(*heads, box=None, pad_edge=False)
    for row in cells:
        # As `Text`, because names are no markup.
        table.add_row(*(Text(row[at]) for at in shown))
    console.print(table)
    if left_out:
        more = ", ".join(name for name in columns if name in left_out)
        console.print(f"(a wider terminal shows more: {more})", style="dim", highlight=False)
