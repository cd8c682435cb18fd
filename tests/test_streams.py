"""Standard streams that are closed, in ASCII or unread, and Pythons that lack something: words, and no harm."""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, TOP, Pipeline


def shell(pipeline: Pipeline, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run what stands behind `python` in a shell."""
    return subprocess.run(
        f"{shlex.quote(sys.executable)} {line}",
        shell=True,
        cwd=pipeline.folder,
        env=pipeline.env | env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def script(role: str) -> str:
    return shlex.quote(str(TOP / f"{role}.py"))


def test_an_unread_log_stops_nobody(pipeline: Pipeline) -> None:
    """As with Ctrl-S, or a pager that nobody scrolls: all three have a standard error that takes nothing more."""
    unread, full = os.pipe()
    fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096) if hasattr(fcntl, "F_SETPIPE_SZ") else None
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, b"x" * 512)
    except BlockingIOError:
        os.set_blocking(full, True)
    pipeline.module("chatty", "def chat(n):\n    print('word ' * 100)\n    return n\n")

    def start(role: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(TOP / f"{role}.py"), *arguments], cwd=pipeline.folder, env=pipeline.env, stderr=full
        )

    free = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
    roles = [start("sink", *free), start("worker", "chatty", "--slots", "1")]
    roles.append(start("ventilator", "chatty:chat", "--range", "300", "--port", "0"))
    try:
        assert roles[2].wait(PATIENCE_S) == 0
        for role in roles[:2]:
            role.send_signal(signal.SIGTERM)
        assert [role.wait(PATIENCE_S) for role in roles[:2]] == [0, 0]
    finally:
        for role in roles:
            role.kill()
            role.wait()
        os.close(full)
        os.close(unread)
    assert pipeline.query("SELECT count(*) FROM results") == [(300,)]


def test_standard_streams_that_are_closed(pipeline: Pipeline) -> None:
    run = shell(pipeline, f"{script('ventilator')} squares:square - --local 1 <&-")
    said = r"ventilator: standard input is closed: give it a file or a pipe, or name a file instead of -\n"
    assert (run.returncode, bool(re.fullmatch(said, run.stderr))) == (2, True), run.stderr
    silent = shell(pipeline, f"{script('ventilator')} squares:square --range 3 --local 1 <&- >&- 2>&-")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    assert pipeline.query("SELECT sum(value) FROM results") == [(5,)]
    wrong = shell(pipeline, f"{script('sink')} nosuch 2>&-")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_an_ascii_terminal(pipeline: Pipeline) -> None:
    pipeline.module(
        "text",
        "def echo(line):\n    print(line)\n    if line == 'ß':\n        raise ValueError(line)\n    return line\n",
    )
    (pipeline.folder / "in.txt").write_text("größer\nß\n")
    ascii_only = {"PYTHONIOENCODING": "ascii", "TRADEWIND_LOG_LEVEL": "info"}
    run = shell(pipeline, f"{script('ventilator')} text:echo in.txt --local 1", **ascii_only)
    assert run.returncode == 1
    assert r"ValueError: \xdf" in run.stderr and r"task 0: gr\xf6\xdfer" in run.stderr, run.stderr
    jsonl = shell(pipeline, f"{script('sink')} results", **ascii_only)
    assert (jsonl.returncode, '"value":"gr\\u00f6\\u00dfer"' in jsonl.stdout) == (0, True), jsonl.stdout
    table = shell(pipeline, f"{script('sink')} results --format csv", **ascii_only)
    assert (table.returncode, r"gr\xf6\xdfer" in table.stdout) == (0, True), table.stderr


@pytest.mark.parametrize("role", ["sink", "worker", "ventilator"])
def test_a_python_that_lacks_something_is_one_line(pipeline: Pipeline, role: str) -> None:
    what = f"start `{re.escape(str(TOP))}/.venv/bin/python -m tradewind {role}`"
    unseen = shell(pipeline, f"{script(role)} --help", PYTHONSAFEPATH="1")
    assert re.fullmatch(rf"{role}: No module named 'common'; run `make run` once, and {what}\n", unseen.stderr)
    bare = shell(pipeline, f"-S {script(role)} --help")
    assert re.fullmatch(rf"{role}: No module named 'typer'; run `make run` once, and {what}\n", bare.stderr)
    assert (unseen.returncode, bare.returncode) == (2, 2)


def test_a_library_that_is_missing_later_is_one_line_too(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.module("zmq", "raise ModuleNotFoundError(\"No module named 'zmq'\", name='zmq')\n")
    run = shell(pipeline, f"{script('sink')} status", PYTHONPATH=str(pipeline.folder))
    assert run.returncode == 2
    said = rf"sink: this Python \({re.escape(sys.executable)}\) has no module zmq: run `make run` in \S+ once, .*\n"
    assert re.fullmatch(said, run.stderr), run.stderr


def test_json_lines_from_all_three_roles(pipeline: Pipeline) -> None:
    run = shell(
        pipeline,
        f"{script('ventilator')} squares:square --range 3 --local 1 --log-format json",
        TRADEWIND_LOG_LEVEL="info",
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert {line["role"] for line in lines} == {"sink", "worker", "ventilator"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    wrong = shell(pipeline, f"{script('ventilator')} squares:square nosuch.txt --log-format json")
    [line] = wrong.stderr.splitlines()
    assert json.loads(line)["message"].startswith("cannot read the input nosuch.txt")
