"""How messages name the commands: as one would type them, given how this one was typed."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from common import console
from common.command import run
from common.log_writer import LogFormat

MESSAGE = "there is no job j: `python sink.py jobs` lists them; start one with `python worker.py squares`"


@pytest.mark.parametrize(
    ("typed", "sink", "worker"),
    [
        ([".venv/bin/python", "ventilator.py"], ".venv/bin/python sink.py", ".venv/bin/python worker.py"),
        (["python3", "./ventilator.py"], "python3 sink.py", "python3 worker.py"),
        (["python", "a b/sink.py"], "python 'a b/sink.py'", "python 'a b/worker.py'"),
    ],
)
def test_in_a_checkout(monkeypatch: pytest.MonkeyPatch, typed: list[str], sink: str, worker: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.setattr(sys, "argv", typed[1:])
    expected = MESSAGE.replace("python sink.py", sink).replace("python worker.py", worker)
    assert console.as_typed(MESSAGE) == expected


@pytest.mark.parametrize("in_path", [True, False])
def test_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_path: bool) -> None:
    for role in ("sink", "worker"):
        (tmp_path / f"tradewind-{role}").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path if in_path else tmp_path / "elsewhere"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "tradewind-ventilator")])
    where = "" if in_path else f"{tmp_path}/"
    expected = MESSAGE.replace("python sink.py", f"{where}tradewind-sink")
    assert console.as_typed(MESSAGE) == expected.replace("python worker.py", f"{where}tradewind-worker")


@pytest.mark.parametrize(
    ("typed", "sink"),
    [
        (["tradewind", "worker", "squares"], "tradewind sink"),
        (["tradewind-worker", "squares"], "tradewind-sink"),
        (["my_script.py"], "tradewind sink"),
    ],
)
def test_the_one_command_and_the_hyphenated_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: list[str], sink: str
) -> None:
    for name in ("tradewind", "tradewind-sink"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", typed)
    assert console.as_typed("see `python sink.py jobs`") == f"see `{sink} jobs`"


def test_a_program_that_uses_the_package_where_no_command_is_in_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process of --local from an installed package is `python -c`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert console.as_typed("see `python sink.py jobs`") == f"see `{sys.executable} -m common sink jobs`"


def test_the_package_run_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "common", "worker"])
    monkeypatch.setattr(sys, "argv", ["/a/checkout/common/__main__.py", "worker"])
    assert console.as_typed("see `python sink.py jobs`") == "see `python3 -m common sink jobs`"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("worker squares --slots 0", "worker: --slots (or TRADEWIND_SLOTS): give a whole number from 1 to 1000; "),
        (
            "worker squares --grace long",
            "--grace (or TRADEWIND_GRACE): give a number of seconds from 0 to 1000000000; ",
        ),
        ("worker squares --grace inf", "--grace (or TRADEWIND_GRACE): give a number of seconds from 0 to 1000000000; "),
        ("worker squares --stop-after inf", "give a number of seconds from 0 to 1000000000; "),
        ("worker squares --exit-when-idle inf", "give a number of seconds from 0 to 1000000000; "),
        (
            "worker squares --max-tasks-per-child 1.5",
            "TASKS_PER_CHILD): give a whole number, at least 1; ",
        ),
        ("ventilator m:f --port 65536", "--port (or TRADEWIND_PORT): give a port number from 0 to 65535; "),
        (
            "ventilator m:f --timeout inf",
            "ventilator: --timeout (or TRADEWIND_TIMEOUT): give a number of seconds from 0.001 to 1000000000; ",
        ),
        ("ventilator m:f --timeout nan", "give a number of seconds from 0.001 to 1000000000; "),
        ("ventilator m:f --timeout 1000000001", "give a number of seconds from 0.001 to 1000000000; "),
        ("ventilator m:f --local x", "ventilator: --local: give a whole number from 1 to 1000; "),
        ("sink results --format xml", "sink: --format: give jsonl, csv, values, text or parquet; "),
        ("sink cancel", "sink: Missing argument 'JOB'; `tradewind sink cancel --help` says more"),
        ("sink reslts", "sink: No such command 'reslts'. Did you mean 'results'? `tradewind sink --help` says more"),
        ("snik", "tradewind: No such command 'snik'; `tradewind --help` says more"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_says_what_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tradewind", *typed.split()])
    with pytest.raises(SystemExit) as ended:
        run()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert error.count("\n") == 1


def test_a_log_line_with_arguments_names_the_commands_in_a_folder_whose_name_has_a_percent_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "100%/sink.py"])
    monkeypatch.setattr(sys, "argv", ["100%/sink.py"])
    for arguments in [("python sink.py of 50%",), ()]:
        record = logging.LogRecord(
            "", logging.INFO, "", 1, "python sink.py results" + " %s" * len(arguments), arguments, None
        )
        console._name_commands(record)
        assert record.getMessage() == " ".join(["python 100%/sink.py results", *arguments])


@pytest.mark.parametrize("kind", LogFormat)
def test_a_line_of_another_process_is_shown_as_it_is_or_as_a_message(kind: LogFormat, capfd: Any) -> None:
    root, line = logging.getLogger(), "lab1: 2026-11-26T06:40:34Z INFO worker: `python sink.py` 100%"
    before = root.handlers[:]
    console.start_log("crew", kind)
    try:
        console.pass_on(line)
    finally:
        console._close_log()
        root.handlers[:] = before
    shown = capfd.readouterr().err
    assert (shown == f"{line}\n") if kind is LogFormat.text else (json.loads(shown)["message"] == line)
