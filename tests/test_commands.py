"""The sink's commands, formats, pipes, and what every command has."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from common import __version__
from tests.conftest import PATIENCE_S, TOP, Pipeline, is_gone, wait_until

SINK = shlex.join([sys.executable, str(TOP / "sink.py")])

VALUES = """
def value(n):
    if n == 3:
        raise ValueError("three")
    return [
        n, 2.5, "a \\"quoted\\" text, with comma", None, True, {"k": [1, {"x": 2}]}, 2**64 - 1, b"\\x00\\xff"
    ][n % 8]
"""


def test_results_as_json_lines_and_csv(pipeline: Pipeline) -> None:
    pipeline.module("values", VALUES)
    pipeline.sink()
    pipeline.worker("values", "--name", "lab1")
    ventilator = pipeline.ventilator("values:value", "--range", "8", "--job", "first")
    assert ventilator.wait() == 1
    assert ventilator.out == ""
    lines = [json.loads(line) for line in pipeline.run("sink", "results", "first").out.splitlines()]
    assert [line["task"] for line in lines] == list(range(8))
    assert [line["value"] for line in lines] == [
        0, 2.5, 'a "quoted" text, with comma', None, True, {"k": [1, {"x": 2}]}, 2**64 - 1, "AP8=",
    ]  # fmt: skip
    assert lines[3]["status"] == "failed"
    assert lines[3]["error"].startswith("Traceback (most recent call last):\n")
    assert lines[3]["error"].endswith("ValueError: three")
    assert lines[0]["worker"].startswith("lab1.")
    rows = list(csv.DictReader(io.StringIO(pipeline.run("sink", "results", "--format", "csv").out)))
    assert [row["value"] for row in rows][:3] == ["0", "2.5", 'a "quoted" text, with comma']
    failed = pipeline.run("sink", "results", "--failed").out.splitlines()
    assert [json.loads(line)["task"] for line in failed] == [3]


def test_the_ledger_reads_well_in_plain_sqlite(pipeline: Pipeline) -> None:
    pipeline.module("values", VALUES)
    pipeline.sink()
    pipeline.worker("values")
    pipeline.ventilator("values:value", "--range", "8").wait()
    assert pipeline.query("SELECT task, status, value FROM results ORDER BY task") == [
        (0, "ok", 0),
        (1, "ok", 2.5),
        (2, "ok", 'a "quoted" text, with comma'),
        (3, "failed", None),
        (4, "ok", "true"),
        (5, "ok", '{"k":[1,{"x":2}]}'),
        (6, "ok", "18446744073709551615"),
        (7, "ok", b"\x00\xff"),
    ]
    assert pipeline.query("SELECT function, state, total, done, failed FROM jobs") == [
        ("values:value", "done", 8, 8, 1)
    ]


def test_follow_prints_results_as_they_arrive_until_the_job_ends(pipeline: Pipeline) -> None:
    pipeline.module(
        "gate",
        "import os, time\n"
        "def wait(n):\n    while not os.path.exists(f'open{n}'):\n        time.sleep(.01)\n    return n\n",
    )
    pipeline.sink()
    pipeline.worker("gate", "--slots", "3")
    ventilator = pipeline.ventilator("gate:wait", "--range", "3", "--job", "j")
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs"), "the job is open")
    follow = pipeline.start("sink", "results", "j", "--follow")
    for count, n in enumerate([1, 2, 0], 1):
        (pipeline.folder / f"open{n}").touch()
        wait_until(lambda count=count: len(follow.out.splitlines()) == count, f"{count} results")
    assert ventilator.wait() == 0
    assert follow.wait() == 0
    assert [json.loads(line)["task"] for line in follow.out.splitlines()] == [1, 2, 0]


def test_jobs_and_status(pipeline: Pipeline) -> None:
    pipeline.module(
        "gate", "import os, time\ndef wait(n):\n    while not os.path.exists('open'):\n        time.sleep(.01)\n"
    )
    sink = pipeline.sink()
    assert pipeline.run("sink", "status").wait() == 3, "no worker is here"
    pipeline.worker("gate", "squares", "--slots", "2", "--name", "lab1")
    sink.wait_for("joined")
    idle = pipeline.run("sink", "status")
    assert (idle.wait(), "no running job" in idle.out) == (0, True)
    (pipeline.folder / "in.txt").write_text("line\n" * 40)
    ventilator = pipeline.ventilator("gate:wait", "in.txt", "--job", "j", "--batch", "1")
    wait_until(lambda: "\t2\t2\t4\t" in pipeline.run("sink", "status").out, "two of two slots run")
    status = pipeline.run("sink", "status").out
    assert re.search(r"lab1\.\S+\tworker\t127\.0\.0\.1\t2\t2\t4\t", status), status
    assert "j\tgate:wait\t0\t0\t40\t0\t0/s\t?\t1" in status, (
        "the total is known although most of the input was not taken"
    )
    assert "j\tgate:wait\topen\t0\t0\t40\t" in pipeline.run("sink", "jobs").out
    report = json.loads(pipeline.run("sink", "status", "--json").out)
    assert [(job["job"], job["done"], job["total"]) for job in report["jobs"]] == [("j", 0, 40)]
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 0
    assert "j\tgate:wait\tdone\t40\t0\t40\t" in pipeline.run("sink", "jobs").out
    assert [json.loads(line)["state"] for line in pipeline.run("sink", "jobs", "--json").out.splitlines()] == ["done"]


def test_the_status_is_watched_until_ctrl_c(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    pipeline.worker("squares", "--slots", "2", "--name", "lab1")
    sink.wait_for("joined")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    command = [sys.executable, str(TOP / "sink.py"), "status", "--watch"]
    watch = subprocess.Popen(
        command, cwd=pipeline.folder, env=pipeline.env | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown, interrupted = b"", False
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
            if b"1 worker, 0 of 2 slots busy" in shown and sink.popen.poll() is None:
                sink.kill()
            if b"does not answer" in shown and not interrupted:
                interrupted = True
                watch.send_signal(signal.SIGINT)
    except OSError:
        pass
    os.close(ours)
    assert watch.wait(PATIENCE_S) == 0, shown
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l"), "the terminal is as it was"
    piped = pipeline.run("sink", "status", "--watch")
    assert (piped.wait(), "--watch needs a terminal" in piped.err) == (2, True)


def test_enrol_roster_revoke(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    enrol = pipeline.run("sink", "enrol", "worker", "lab1")
    assert enrol.wait() == 0
    assert "copy it to that machine and start the worker there with --key lab1.key_secret" in enrol.out
    assert (pipeline.folder / "lab1.key_secret").stat().st_mode & 0o777 == 0o600
    secret = re.search(r"secret-key = \"(.*)\"", (pipeline.folder / "lab1.key_secret").read_text())
    assert secret
    roster = pipeline.run("sink", "roster").out
    assert [line.split("\t")[:2] for line in roster.splitlines()[1:]] == [
        ["lab1", "worker"], ["worker", "worker"], ["ventilator", "ventilator"], ["observer", "observer"],
    ]  # fmt: skip
    assert secret[1] not in roster + enrol.out + enrol.err + sink.err
    host = re.search(r"sink = \"tcp://.*:(\d+)\"", (pipeline.folder / "lab1.key_secret").read_text())
    assert host
    worker = pipeline.worker("squares", "--key", "lab1.key_secret", "--sink", f"127.0.0.1:{host[1]}")
    worker.wait_for("joined the sink")
    for arguments, text in [
        (["enrol", "worker", "lab1"], "lab1 is enrolled already"),
        (["enrol", "boss", "x"], "there is no role boss"),
        (["enrol", "worker", "../x"], "is not a name for a key"),
        (["revoke", "nobody"], "nobody is not enrolled"),
    ]:
        refused = pipeline.run("sink", *arguments)
        assert (refused.wait(), text in refused.err) == (2, True), refused.err
    assert pipeline.run("sink", "revoke", "lab1").out == "worker lab1 is revoked\n"
    assert worker.wait() == 2


@pytest.mark.parametrize("script", ["sink", "worker", "ventilator"])
def test_every_command_has_help_version_and_exit_codes(pipeline: Pipeline, script: str) -> None:
    assert pipeline.run(script, "--version").out == f"tradewind {__version__}\n"
    text = pipeline.run(script, "--help").out
    assert "Exit codes: 0" in text
    assert "TRADEWIND_" in text
    wrong = pipeline.run(script, "--nosuch")
    assert wrong.wait() == 2
    assert "No such option" in wrong.err


def test_options_are_read_from_the_environment(pipeline: Pipeline) -> None:
    env = {"TRADEWIND_LEDGER": "mine.db", "TRADEWIND_KEYS": "mykeys"}
    sink = pipeline.sink(**env)
    sink.wait_for("ledger mine.db")
    pipeline.worker("squares", TRADEWIND_KEY="mykeys/worker.key_secret", TRADEWIND_NAME="envname", TRADEWIND_SLOTS="1")
    ventilator = pipeline.ventilator("squares:square", "--range", "3", TRADEWIND_KEY="mykeys/ventilator.key_secret")
    assert ventilator.wait() == 0, ventilator.err
    sink.wait_for(r"worker envname\.\S+ at 127.0.0.1 joined")


def test_input_comes_through_a_pipe_as_it_is_written(pipeline: Pipeline) -> None:
    pipeline.module("text", "def upper(line):\n    return line.upper()\n")
    pipeline.sink()
    pipeline.worker("text")
    ventilator = pipeline.ventilator("text:upper", "-", stdin=subprocess.PIPE)
    assert ventilator.popen.stdin
    ventilator.popen.stdin.write(b"one\n")
    ventilator.popen.stdin.flush()
    wait_until(lambda: pipeline.query("SELECT value FROM results") == [("ONE",)], "the first line's result")
    ventilator.popen.stdin.write(b"\ntwo")
    ventilator.popen.stdin.close()
    assert ventilator.wait() == 0
    assert pipeline.query("SELECT task, value FROM results ORDER BY task") == [(0, "ONE"), (1, "TWO")]


def test_a_piped_job_is_resumed_and_another_pipe_refused(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    for text, code in [("1\n2\n", 0), ("1\n3\n", 2), ("1\n2\n", 0)]:
        ventilator = pipeline.piped(text.encode(), "builtins:len", "-", "--job", "j")
        if len(pipeline.processes) == 3:
            pipeline.worker("builtins:len")
        assert ventilator.wait() == code, ventilator.err


def test_local_brings_its_own_sink_and_worker_and_leaves_the_ledger(pipeline: Pipeline) -> None:
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # Somebody has the port already.
            other.bind(("127.0.0.1", 5557))
            other.listen()
        ventilator = pipeline.run("ventilator", "squares:square", "--range", "1000", "--local", "2")
        assert ventilator.wait() == 0, ventilator.err
    assert "5557" not in ventilator.err
    assert pipeline.query("SELECT count(*), sum(value) FROM results") == [(1000, sum(n * n for n in range(1000)))]
    assert not (pipeline.folder / "keys").exists()
    broken = pipeline.run("ventilator", "nosuch:f", "--range", "3", "--local", "2")
    assert broken.wait() == 2
    assert "module nosuch not found" in broken.err
    assert pipeline.query("SELECT state, done FROM jobs ORDER BY job") == [("done", 1000), ("cancelled", 0)]


def imports(text: str, module: str) -> int:
    """How many of the processes that share this log have imported the module."""
    return len(re.findall(rf"^import time:.*\| +{re.escape(module)}$", text, re.MULTILINE))


def test_a_private_sink_and_worker_import_no_command_line(pipeline: Pipeline) -> None:
    """Four processes start for a single task. What a child prints is not seen here."""
    local = ("squares:square", "--range", "1", "--local", "1")
    run = pipeline.run("ventilator", *local, PYTHONPROFILEIMPORTTIME="1")
    assert run.popen.returncode == 0, run.err
    assert {name: imports(run.err, name) for name in ("typer", "rich", "asyncio", "zmq", "msgspec")} == {
        "typer": 1, "rich": 0, "asyncio": 0, "zmq": 3, "msgspec": 3
    }  # fmt: skip
    assert imports(run.err, "common.help_page") == 1
    # The environment may set more of the worker: then its command line reads it.
    more = pipeline.run("ventilator", *local, PYTHONPROFILEIMPORTTIME="1", TRADEWIND_MAX_TASKS_PER_CHILD="1")
    assert (more.popen.returncode, imports(more.err, "typer")) == (0, 2)
    refused = pipeline.run("ventilator", *local, TRADEWIND_MEMORY_LIMIT="3")
    assert refused.popen.returncode == 2
    refused.wait_for(r"(?m)^worker: --memory-limit 3: give a size of at least 64M")


def test_local_has_its_own_sink_whatever_the_environment_says(pipeline: Pipeline) -> None:
    run = pipeline.run("ventilator", "squares:square", "--range", "3", "--local", "1", TRADEWIND_SINK="127.0.0.9:1")
    assert run.popen.returncode == 0, run.err


NAPS = """
import os, pathlib, time

def nap(n):
    pathlib.Path("draft").write_text(f"{os.getpid()} {os.getppid()}")
    os.replace("draft", "pids")
    time.sleep(3600)
"""


def is_free(ledger: Path) -> bool:
    """True when no sink has it."""
    with ledger.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the processes are watched in /proc")
@pytest.mark.parametrize("how", [["SIGKILL"], ["SIGHUP"], ["SIGINT", "SIGINT"]], ids=" ".join)
def test_whatever_ends_the_ventilator_of_a_local_farm_nothing_is_left(pipeline: Pipeline, how: list[str]) -> None:
    pipeline.module("naps", NAPS)
    temporary = pipeline.folder / "tmp"
    temporary.mkdir()
    ventilator = pipeline.start(
        "ventilator", "naps:nap", "--range", "3", "--local", "1", "--port", "0", TMPDIR=str(temporary)
    )
    wait_until((pipeline.folder / "pids").exists, "a task runs")
    child, worker = map(int, (pipeline.folder / "pids").read_text().split())
    assert [path.name[:10] for path in temporary.iterdir()] == ["tradewind-"]
    for name in how[:-1]:
        ventilator.signal(signal.Signals[name])
        ventilator.wait_for("again to leave at once")
    ventilator.signal(signal.Signals[how[-1]])
    told_at = time.monotonic()
    ventilator.wait()
    for pid in (child, worker):
        wait_until(lambda pid=pid: is_gone(pid), "the worker is gone")
    wait_until(lambda: is_free(pipeline.folder / "results.db.lock"), "the sink is gone")
    wait_until(lambda: not list(temporary.iterdir()), "the keys are gone")
    # It takes half a second. A worker that waits for its task takes 30, and a sink that is waited for 10.
    assert time.monotonic() < told_at + 8, ventilator.err


def test_the_command_that_reads_the_results_works_as_it_is_printed(pipeline: Pipeline) -> None:
    arguments = ["squares:square", "--range", "3", "--local", "1", "--ledger", "my results.db"]
    ventilator = pipeline.run("ventilator", *arguments)
    printed = ventilator.wait_for(r"results: (.*)\n")[1]
    done = subprocess.run(printed, shell=True, cwd=pipeline.folder, env=pipeline.env, capture_output=True, text=True)
    assert [json.loads(line)["value"] for line in done.stdout.splitlines()] == [0, 1, 4], done.stderr


def test_a_job_says_at_once_what_it_is(pipeline: Pipeline) -> None:
    pipeline.sink().kill()
    ventilator = pipeline.ventilator("squares:square", "--range", "3", "--job", "j")
    ventilator.wait_for(r"\A\S+ INFO ventilator: job j: squares:square over range 0:3, sink at 127.0.0.1\n")


def test_a_terminal_gets_a_progress_line_and_a_pipe_no_colours(pipeline: Pipeline) -> None:
    pipeline.module(
        "gate", "import os, time\ndef wait(n):\n    while not os.path.exists('open'):\n        time.sleep(.01)\n"
    )
    pipeline.sink()
    pipeline.worker("squares", "gate", "--slots", "1")
    plain = pipeline.ventilator("squares:square", "--range", "1000")
    assert plain.wait() == 0
    assert "\x1b" not in plain.err
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    command = [sys.executable, str(TOP / "ventilator.py"), "gate:wait", "--range", "3", "--port", "0", "--job", "gates"]
    env = pipeline.env | {"TERM": "xterm"}
    process = subprocess.Popen(command, cwd=pipeline.folder, env=env, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
            if re.search(rb"\x1b\[K0/3  0%  0/s  [^\r]+  gates\r", shown):
                (pipeline.folder / "open").touch()
    except OSError:
        pass
    assert process.wait(PATIENCE_S) == 0, shown
    # The line is taken away before the last lines of the log are written.
    assert re.search(rb"\r\x1b\[K\S+ INFO ventilator: job gates is done: 3 tasks ok, 0 failed, in .*\n.*\n\Z", shown), (
        shown
    )
    os.close(ours)


def test_commands_work_from_any_directory(pipeline: Pipeline) -> None:
    elsewhere = Path(pipeline.folder / "deep" / "er")
    elsewhere.mkdir(parents=True)
    (elsewhere / "cubes.py").write_text("def cube(n):\n    return n ** 3\n")
    done = subprocess.run(
        [
            sys.executable,
            os.path.relpath(TOP / "ventilator.py", elsewhere),
            "cubes:cube",
            "--range",
            "4",
            "--local",
            "1",
        ],
        cwd=elsewhere,
        env=pipeline.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "results.db").exists()


@pytest.mark.parametrize("arguments", [["empty.txt"], ["--range", "7:7"], ["-"]])
def test_an_empty_input_is_a_job_that_is_done(pipeline: Pipeline, arguments: list[str]) -> None:
    (pipeline.folder / "empty.txt").write_text("\n  \n")
    pipeline.sink()
    pipeline.worker("squares")
    for _ in range(2):
        ventilator = pipeline.ventilator("squares:square", *arguments, "--job", "nothing")
        assert ventilator.wait() == 0, ventilator.err
        assert "the input has no task" in ventilator.err
    assert pipeline.query("SELECT state, total, done FROM jobs") == [("done", 0, 0)]


GATE = """
import os, time

def wait(n):
    while n and not os.path.exists("open"):
        time.sleep(0.01)
    return {"n": n}
"""


@pytest.fixture
def desk(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Another machine: a folder that has a ventilator's key and no ledger. The sink runs, and a worker."""
    folder = pipeline.folder / "desk"
    folder.mkdir()
    sink = pipeline.sink()
    port = sink.wait_for(r"ports (\d+) and")[1]
    pipeline.module("gate", GATE)
    pipeline.worker("gate", "--slots", "2")
    assert pipeline.run("sink", "enrol", "ventilator", "desk", "--address", f"tcp://127.0.0.1:{port}").wait() == 0
    (pipeline.folder / "desk.key_secret").rename(folder / "desk.key_secret")
    with contextlib.closing(Pipeline(folder)) as made:
        yield made


def test_results_are_read_on_another_machine_as_they_are_beside_the_ledger(pipeline: Pipeline, desk: Pipeline) -> None:
    key = ["--key", "desk.key_secret"]
    ventilator = desk.ventilator("gate:wait", "--range", "3", "--job", "far", "--batch", "1", *key)
    wait_until(lambda: (pipeline.folder / "results.db").exists() and pipeline.query("SELECT * FROM results"), "a row")
    follower = desk.start("sink", "results", "far", "--follow", *key)
    wait_until(lambda: '"task":0' in follower.out, "the row arrives while the job runs")
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    assert follower.wait() == 0, follower.err
    assert sorted(json.loads(line)["task"] for line in follower.out.splitlines()) == [0, 1, 2]

    printed = ventilator.wait_for(r"results: (.*)\n")[1]
    there = subprocess.run(printed, shell=True, cwd=desk.folder, env=desk.env, capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    assert there.stdout == pipeline.run("sink", "results", "far").out
    assert desk.run("sink", "jobs", *key).out == pipeline.run("sink", "jobs").out
    if find_spec("pyarrow"):
        for where, options in ((desk, key), (pipeline, [])):
            table = where.run(
                "sink", "results", "far", *options, *["--format", "parquet", "--columns", "--output", "far"]
            )
            assert table.wait() == 0, table.err
        assert (desk.folder / "far").read_bytes() == (pipeline.folder / "far").read_bytes()
    lost = desk.run("sink", "results", "nosuch", *key)
    assert lost.wait() == 2
    assert lost.err == f"sink: there is no job nosuch in this ledger: `{SINK} jobs {shlex.join(key)}` lists them\n"


NAMES = """
import os, time
def name(text):
    if text.startswith("bad") and not os.path.exists("repaired"):
        raise ValueError("no")
    while text == "slow" and not os.path.exists("open"):
        time.sleep(0.01)
    return text
"""


def test_failed_arguments_are_an_input_again(pipeline: Pipeline) -> None:
    pipeline.module("names", NAMES)
    pipeline.sink()
    pipeline.worker("names")
    (pipeline.folder / "in.txt").write_text("a\nbad 1\nc\nbad é\n" + "bad" * 5_000 + "\n")
    first = pipeline.ventilator("names:name", "in.txt", "--job", "first")
    assert first.wait() == 1
    assert "task 1 (bad 1) failed: ValueError: no" in first.err
    failed = pipeline.run("sink", "results", "first", "--failed", "--arguments")
    assert failed.out == "bad 1\nbad é\n"
    assert (failed.wait(), "1 of 3 arguments are not in the ledger whole" in failed.err) == (2, True)
    assert "(tasks 4, counted from 0)" in failed.err
    (pipeline.folder / "repaired").touch()
    (pipeline.folder / "again.txt").write_text(failed.out)
    assert pipeline.ventilator("names:name", "again.txt", "--job", "again").wait() == 0
    assert pipeline.query("SELECT job, task, argument, value FROM task_results WHERE job='again'") == [
        ("again", 0, "bad 1", "bad 1"),
        ("again", 1, "bad é", "bad é"),
    ]
    lines = [json.loads(line) for line in pipeline.run("sink", "results", "first").out.splitlines()]
    assert [line["argument"] for line in lines[:4]] == ["a", "bad 1", "c", "bad é"]
    assert (len(lines[4]["argument"]), len(lines[4]["argument_digest"])) == (4_096, 32)


def test_arguments_of_json_and_ranges_are_json_lines_and_a_job_may_keep_none(pipeline: Pipeline) -> None:
    pipeline.module("same", "def same(value):\n    return 1\n")
    pipeline.sink()
    pipeline.worker("same")
    values = [{"a": [1, None]}, "two\nlines", 2.5, "1"]
    (pipeline.folder / "in.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    assert pipeline.ventilator("same:same", "in.jsonl", "--job", "json").wait() == 0
    assert pipeline.ventilator("same:same", "--range=-1:2", "--job", "range").wait() == 0
    assert pipeline.ventilator("same:same", "in.jsonl", "--job", "none", "--no-arguments").wait() == 0
    printed = {job: pipeline.run("sink", "results", job, "--arguments") for job in ("json", "range", "none")}
    assert [json.loads(line) for line in printed["json"].out.splitlines()] == values
    assert "JSON lines: put them into a file named .jsonl" in printed["json"].err
    assert printed["range"].out == "-1\n0\n1\n"
    assert (printed["none"].out, printed["none"].wait()) == ("", 2)
    assert pipeline.query("SELECT DISTINCT argument FROM results WHERE job=3") == [(None,)]
    refused = pipeline.ventilator("same:same", "in.jsonl", "--job", "none", "--append")
    assert (refused.wait(), "the ledger has no arguments of job none" in refused.err) == (2, True)


def test_new_tasks_are_appended_to_a_job_that_is_done_whoever_is_killed_meanwhile(pipeline: Pipeline) -> None:
    pipeline.module("names", NAMES)
    sink = pipeline.sink()
    pipeline.worker("names", "--slots", "2")
    (pipeline.folder / "in.txt").write_text("a\nb\nc\n")
    (pipeline.folder / "more.txt").write_text("b\nd\nslow\na\nd\nbad\n")
    command = ["names:name", "more.txt", "--job", "j", "--append", "--batch", "1"]
    assert pipeline.ventilator("names:name", "in.txt", "--job", "j").wait() == 0
    killed = pipeline.ventilator(*command)
    wait_until(lambda: len(pipeline.query("SELECT 1 FROM results WHERE task>2")) == 2, "the new tasks run")
    killed.kill()
    sink.kill()
    sink = pipeline.sink()
    early = pipeline.ventilator("names:name", "in.txt", "--job", "j")
    assert (early.wait(), "its last input begins at task 3: give that input with --append" in early.err) == (2, True)
    again = pipeline.ventilator(*command)
    sink.wait_for("job j .* opened")
    (pipeline.folder / "open").touch()
    assert again.wait() == 1, again.err
    assert "3 tasks of the input were skipped: job j has had their arguments" in again.err
    (pipeline.folder / "repaired").touch()
    assert pipeline.ventilator(*command, "--retry-failed").wait() == 0
    assert pipeline.query("SELECT task, argument, value FROM task_results ORDER BY task") == [
        (task, name, name) for task, name in enumerate(["a", "b", "c", "d", "slow", "bad"])
    ]
    assert pipeline.query("SELECT state, done, total FROM jobs") == [("done", 6, 6)]
