"""What the sink's commands print: others' names neither move the cursor nor count as markup, and break no table."""

import csv
import io
import json
import re
import sys

import pytest

from common.protocol.messages import JobReport, Report, WorkerReport
from common.protocol.values import forms
from common.sink import tables
from common.sink.result_formats import Format
from common.sink.store import JobSummary, Row

NAMES = ["work:[/x]", "work:[red]ok[/red]", "work:\x1b[31m", "work:\x9b31m", "work:\u202egnp.exe", "work:a\tb\nc\u2028"]


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def out(request: pytest.FixtureRequest) -> io.StringIO | io.TextIOWrapper:
    return Terminal() if request.param else io.TextIOWrapper(io.BytesIO(), "utf-8", newline="")


def text_of(out: io.StringIO | io.TextIOWrapper) -> str:
    out.seek(0)
    return out.read()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_and_on_one_line(out: io.StringIO, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "200")
    tables.print_jobs([JobSummary("j", name, "done", 3, 3, 1, "2026-11-26T06:40:34+00:00", None)])
    job, worker = JobReport("j", name, 0, 0, None, 1, 0.0), WorkerReport("w", name, "::1", 1, 0, 0, 1.0)
    tables.print_report(Report([job], [worker]))
    printed = re.sub(r"\x1b\[[\d;]*m", "", text_of(out))  # the heads of the tables are bold
    shown = tables.one_line(name)
    assert printed.count(shown) == 3
    assert all(line.isprintable() for line in printed.replace("\t", "").split("\n"))
    assert printed.count("\n") == 7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", [Format.jsonl, Format.csv, Format.values])
def test_results_keep_their_values_and_cannot_control_a_terminal(
    out: io.StringIO, name: str, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", out)
    printer = tables._Printer(format, out)
    printer.print(Row(0, "ok", name, None, None, 1, "w", 0.5))
    printed = text_of(out)
    is_terminal = out.isatty()
    if format is Format.csv:
        [row] = csv.DictReader(io.StringIO(printed, newline=""))
        assert row["value"] == ("\n".join(map(tables.one_line, name.split("\n"))) if is_terminal else name)
    else:
        found = json.loads(printed)
        assert (found if format is Format.values else found["value"]) == name
    if is_terminal or format is not Format.csv:
        assert all(line.isprintable() for line in printed.split("\n"))


def test_csv_has_numbers_as_programs_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    stored = [(1.5, None), ('"NaN"', 1), ("NaN", 1), (float("-inf"), None), (b"\xff", None), ("[1]", 1), (None, None)]
    rows = [Row(task, "ok", value, json, None, 1, "w", 0.5) for task, (value, json) in enumerate(stored)]
    tables.print_results(rows, Format.csv, sys.stdout)
    cells = [row["value"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert cells == ["1.5", "NaN", "NaN", "-Infinity", "/w==", "[1]", ""]


def test_only_values_are_printed_and_failed_tasks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row(0, "ok", None, None, None, 1, "w", 0.5),
        Row(1, "failed", None, None, "no", 1, "w", 0.5),
        Row(2, "ok", '{"a":[1,"NaN"]}', 1, None, 1, "w", 0.5),
        Row(3, "ok", "two\nlines", None, None, 1, "w", 0.5),
    ]
    tables.print_results(rows, Format.values, sys.stdout)
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [None, {"a": [1, "NaN"]}, "two\nlines"]
    assert printed.err.startswith("sink: 1 failed task left out: ")


def test_tasks_that_are_ok_and_failed_ones_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables.print_jobs([JobSummary("j", "m:f", "open", 9, 5, 2, "2026-11-26T06:40:34+00:00", None)])
    tables.print_report(Report([JobReport("j", "m:f", 5, 2, 9, 1, 2.0)], []))
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert dict(zip(lines[0], lines[1], strict=True)) | {"state": ""} == {
        "job": "j", "function": "m:f", "state": "", "ok": "3", "failed": "2", "total": "9", "%": "55",
        "opened (UTC)": "2026-11-26T06:40:34", "ended (UTC)": "",
    }  # fmt: skip
    assert lines[-2:] == [
        ["job", "function", "ok", "failed", "total", "%", "rate", "time left", "workers"],
        ["j", "m:f", "3", "2", "9", "55", "2.0/s", "2 s", "1"],
    ]


def test_status_says_what_each_worker_runs_and_what_runs_longest(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        JobReport("slow", "m:f", 0, 0, 9, 1, 0.0, [(0, 7, 1, 130.0), (0, 20, 4, 12.0), (0, 30, 1, 0.5)]),
        JobReport("other", "m:f", 0, 0, 9, 1, 0.0, [(0, 3, 1, 100.0)]),
    ]
    tables.print_report(Report(jobs, [WorkerReport("w", "k", "::1", 4, 3, 2, 0.5, [(0, 2), (1, 1)])]))
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert (lines[0][-1], lines[1][-1]) == ("runs", "slow 2, other 1")
    assert lines[-4:] == [
        ["running longest", "tasks", "for", "worker"],
        ["slow", "7", "2 min 10 s", "w"],
        ["other", "3", "1 min 40 s", "w"],
        ["slow", "20-23", "12 s", "w"],
    ]


def test_what_is_not_known_of_a_job_is_a_question_mark(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [JobReport("a", "m:f", 5, 0, None, 1, 2.0), JobReport("b", "m:f", 0, 0, 0, 1, 0.0)]
    tables.print_report(Report(jobs, []))
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.split("\t")[4:] == ["?", "?", "2.0/s", "?", "1"]
    assert second.split("\t")[4:] == ["0", "100", "0/s", "?", "1"]


def test_json_has_what_the_tables_have(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_jobs_as_json(JOBS)
    tables.print_report_as_json(
        Report([JobReport("j", "m:\u202ef", 5, 2, 9, 1, 2.0)], [WorkerReport("w", "k", "::1", 4, 1, 2, 0.5)])
    )
    *jobs, report = capsys.readouterr().out.splitlines()
    assert json.loads(jobs[1]) == {
        "job": "first", "function": "mine:square", "state": "cancelled", "total": None, "done": 7, "failed": 0,
        "opened_at": "2026-11-26T06:40:34", "ended_at": "2026-11-26T06:40:35",
    }  # fmt: skip
    assert report.isprintable()
    assert json.loads(report) == {
        "jobs": [
            {"job": "j", "function": "m:\u202ef", "done": 5, "failed": 2, "total": 9, "workers": 1, "rate": 2.0,
             "longest": []},
        ],
        "workers": [
            {"worker": "w", "key": "k", "address": "::1", "slots": 4, "running": 1, "held": 2, "silent_s": 0.5,
             "runs": []},
        ],
        "counters": {
            "ok": 0, "failed": 0, "retried": 0, "duplicates": 0, "returned": 0, "quarantined": 0, "workers_lost": 0,
            "commits": 0, "commit_s": 0.0,
        },
        "is_stuck": False,
        "ledger_bytes": 0,
        "ledger": "",
    }  # fmt: skip


JOBS = [
    JobSummary(
        "mine-square-20261126-125217-489", "mine:square", "done", 123456, 123456, 0, "2026-11-26T06:40:34", None
    ),
    JobSummary("first", "mine:square", "cancelled", None, 7, 0, "2026-11-26T06:40:34", "2026-11-26T06:40:35"),
]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (140, ""),
        (110, "ended (UTC)"),
        (95, "function, ended (UTC)"),
        (80, "function, opened (UTC), ended (UTC)"),
        (50, "function, opened (UTC), ended (UTC)"),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_every_number_whole(
    width: int, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    tables.print_jobs(JOBS)
    printed = re.sub(r"\x1b\[[\d;]*m", "", text_of(out))
    table, _, rest = printed.partition("(a wider terminal shows more: ")
    assert " ".join(rest.split()) == (f"{left_out})" if left_out else "")
    assert max(map(len, printed.splitlines())) <= width
    assert len(re.findall(r"\b123456\b", table)) == 2
    assert ("mine-square-20261126-125217-489" in table) == (width >= 80)
    folded = "".join(line[:width].split("  ")[0].strip() for line in table.splitlines())
    assert "mine-square-20261126-125217-489" in folded


def test_what_commands_have_printed_is_printed_as_it_was(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [
        {"exit_code": 0, "stdout": "a\tb\n\x1b[31m\u20ac", "stderr": "no"},
        {"exit_code": 0, "stdout": b"\xff\0", "stderr": ""},
        {"exit_code": 0, "stdout": "cut\n", "stderr": "", "stdout_bytes": 5_000_000},
        {"stdout": 7},
        "text\r",
        [1, None],
    ]
    kept = [(value, None, None) if isinstance(value, str) else (*stored(value),) for value in values]
    rows = [Row(task, "ok", *form[:2], None, 1, "w", 0.5, form[2]) for task, form in enumerate(kept)]
    tables.print_results([*rows, Row(9, "failed", None, None, "no", 1, "w", 0.5)], Format.text, out)
    if out.isatty():
        assert text_of(out) == 'a\tb\n\\x1b[31m\u20ac\ufffd\\x00cut\n{"stdout":7}\ntext\\r\n[1,null]\n'
    else:
        raw = out.buffer.getvalue()  # type: ignore[attr-defined]
        assert raw == "a\tb\n\x1b[31m\u20ac".encode() + b'\xff\0cut\n{"stdout":7}\ntext\r\n[1,null]\n'
    said = capsys.readouterr().err
    assert "1 failed task left out" in said
    assert "1 output cut" in said


def stored(value: object) -> tuple[str, int, bytes | None]:
    """How the ledger has it."""
    readable, exact = forms(value)
    return bytes(readable.data).decode(), 1, exact
