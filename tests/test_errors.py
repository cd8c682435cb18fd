"""What a newcomer gets wrong: each time one line that says what is wrong and what to do, and exit code 2."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TOP, Pipeline, Process, typed, wait_until


def last_line(process: Process) -> str:
    assert "Traceback" not in process.err
    return process.err.rstrip().rpartition("\n")[2]


def refused(process: Process, pattern: str) -> None:
    assert process.wait() == 2, process.err
    assert re.search(pattern, last_line(process)), process.err


def test_no_sink_at_the_address_is_said_and_said_again(pipeline: Pipeline) -> None:
    pipeline.sink().kill()
    worker = pipeline.worker("squares")
    ventilator = pipeline.ventilator("squares:square", "--range", "3")
    status = pipeline.start("sink", "status", "--sink", "127.0.0.1:20001")
    worker.wait_for(
        rf"no sink answers at tcp://127.0.0.1:\d+: start it in its folder with `{typed('sink')}`, or name its"
    )
    ventilator.wait_for("no sink answers at ")
    pipeline.sink()
    assert ventilator.wait() == 0
    refused(status, "no sink answers at tcp://127.0.0.1:20001")


def test_a_worker_that_meets_no_sink_in_its_time_fails(pipeline: Pipeline) -> None:
    waiting = pipeline.worker("squares", "--stop-after", "0.3")
    refused(waiting, "no key file keys/worker.key_secret yet: start the sink in this folder")
    pipeline.sink().kill()
    refused(pipeline.worker("squares", "--exit-when-idle", "0.3"), "^worker: no sink answers at tcp://127.0.0.1:")


def test_commands_started_before_the_sink_wait_for_its_keys(pipeline: Pipeline) -> None:
    ventilator = pipeline.ventilator("squares:square", "--range", "3")
    worker = pipeline.worker("squares")
    for process in (ventilator, worker):
        process.wait_for(r"no key file keys/\w+.key_secret yet: start the sink in this folder")
    pipeline.sink()
    assert ventilator.wait() == 0


def test_no_worker_is_said_and_the_job_goes_on_when_one_comes(pipeline: Pipeline) -> None:
    pipeline.sink()
    ventilator = pipeline.ventilator("squares:square", "--range", "3")
    ventilator.wait_for(rf"no worker exposes squares:square: start one with `{typed('worker')} squares`")
    pipeline.worker("squares")
    assert ventilator.wait() == 0


def test_keys_that_do_not_fit(pipeline: Pipeline) -> None:
    pipeline.sink()
    folder = pipeline.folder
    other = Pipeline(folder / "other")
    other.folder.mkdir()
    try:
        other.sink()
        assert other.run("sink", "enrol", "worker", "foreign").wait() == 0
    finally:
        other.close()
    foreign = folder / "other" / "foreign.key_secret"
    address = re.search(r"sink = \"tcp://([^\"]*)\"", (folder / "keys" / "worker.key_secret").read_text())
    sink_key = re.search(r"public-key = (\S+)", (folder / "keys" / "sink.key").read_text())
    assert address and sink_key
    process = pipeline.run("worker", "squares", "--key", str(foreign), "--sink", address[1])
    refused(process, "has another key than .*foreign.key_secret says: give that sink's own key file")

    text = foreign.read_text()
    stranger = folder / "stranger.key_secret"
    stranger.touch(mode=0o600)
    stranger.write_text(re.sub(r"sink-key = \S+", lambda _: f"sink-key = {sink_key[1]}", text))
    process = pipeline.run("worker", "squares", "--key", str(stranger), "--sink", address[1])
    refused(process, "refuses this key .*it is not enrolled there, or was revoked.*enrol worker NAME")
    pipeline.processes[0].wait_for(r"refused an unknown key \(\S+\.\.\.\) from 127.0.0.1 on the control link")


def test_a_key_of_the_wrong_role(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    refused(
        pipeline.run("worker", "squares", "--key", "keys/ventilator.key_secret"),
        "is a ventilator's key: a worker needs one from `enrol worker NAME`",
    )
    lie = pipeline.folder / "lie.key_secret"
    lie.touch(mode=0o600)
    lie.write_text(
        (pipeline.folder / "keys/ventilator.key_secret").read_text().replace('role = "ventilator"', 'role = "worker"')
    )
    refused(
        pipeline.run("worker", "squares", "--key", "lie.key_secret"),
        "key ventilator is enrolled as ventilator, not as worker",
    )
    sink.wait_for("refused 127.0.0.1: key ventilator is enrolled as ventilator")


def test_a_revoked_key_is_cut_off_while_it_works(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    worker = pipeline.worker("squares")
    sink.wait_for("joined with 1 function")
    assert pipeline.run("sink", "revoke", "worker").wait() == 0
    refused(worker, "refuses: key worker was revoked")
    sink.wait_for("key worker was revoked: .* is cut off")
    refused(pipeline.run("worker", "squares"), "it is not enrolled there, or was revoked")


def test_key_files_that_cannot_be_used(pipeline: Pipeline) -> None:
    pipeline.sink()
    key = pipeline.folder / "keys" / "worker.key_secret"
    key.chmod(0o644)
    refused(pipeline.run("worker", "squares"), "others can read the secret in keys/worker.key_secret: run `chmod 600")
    refused(
        pipeline.run("worker", "squares", "--key", "no.key_secret"), "cannot read the key file no.key_secret: No such"
    )
    refused(pipeline.run("worker", "squares", "--key", "squares.py"), "squares.py is not a key file")


@pytest.mark.parametrize(
    ("module", "pattern"),
    [
        ("nosuch", "module nosuch not found: it is not in "),
        ("squares:nosuch", "module squares has no function nosuch; it has .*square"),
        ("empty", "module empty makes no public function itself: write one whose name does not begin with _"),
        ("squares.py", "name the module as Python imports it from this folder, like squares"),
        ("broken", "SyntaxError: "),
        ("needs", "ModuleNotFoundError: No module named 'absent'"),
    ],
)
def test_modules_that_cannot_be_served(pipeline: Pipeline, module: str, pattern: str) -> None:
    pipeline.module("empty", "from os import remove\n_x = 1\n")
    pipeline.module("broken", "def f(:\n")
    pipeline.module("needs", "import absent\n")
    pipeline.sink()
    worker = pipeline.run("worker", module)
    assert worker.wait() == 2
    assert re.search(pattern, worker.err.rstrip().rpartition("\n")[2]), worker.err
    # Of a traceback only the lines that are about the user's files.
    assert "importlib" not in worker.err


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["squares:square", "nosuch.txt"], "cannot read the input nosuch.txt: No such file"),
        (["squares:square"], "give one input: a file with a task per line, - for standard input, or --range"),
        (["squares:square", "-", "--range", "3"], "give one input"),
        (["squares:square", "--range", "x"], "--range x: give START:STOP"),
        (["squares:square", "--range", "3:1"], "--range 3:1: STOP is less than START"),
        (
            ["squares:square", "--range", "3", "--key", "no"],
            "cannot read the key file no: No such file; name the one that",
        ),
        (["squares", "--range", "3"], "squares: name the function as MODULE:FUNCTION"),
        (["examples/squares.py:square", "--range", "3"], "like examples.squares:square"),
        (["squares:square", "--range", "3", "--job", "a b"], "--job a b: use letters"),
    ],
)
def test_wrong_use_of_the_ventilator(pipeline: Pipeline, arguments: list[str], pattern: str) -> None:
    refused(pipeline.run("ventilator", *arguments), pattern)


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        ("ventilator squares:square --rang 3", "^ventilator: No such option: --rang .*--range"),
        ("ventilator squares:square a b", r"^ventilator: .*\(b\)"),
        ("ventilator squares:square --range 3 --retries x", "^ventilator: .*--retries"),
        ("ventilator squares:square --range", "^ventilator: .*--range"),
        ("worker", "^worker: name a module to serve, or a command with --command"),
        ("worker squares --slots 0", "^worker: .*--slots"),
        ("sink --control-port 99999", "^sink: .*--control-port"),
        ("sink nosuch", "^sink: No such command .*nosuch"),
        ("sink results --format xml", "^sink: .*--format.*jsonl"),
        ("sink cancel", "^sink: Missing argument .*JOB"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_points_to_the_help(
    pipeline: Pipeline, command: str, pattern: str
) -> None:
    script, *arguments = command.split()
    process = pipeline.run(script, *arguments)
    refused(process, pattern)
    of = f"{typed(script)} {arguments[0]}" if arguments and arguments[0] in ("results", "cancel") else typed(script)
    assert re.fullmatch(rf".*; `{of} --help` says more\n", process.err), process.err


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ("--cancel j squares:square in.txt --range 3", "--cancel JOB only cancels: leave out .*INPUT.*, --range"),
        ("squares:square --range 3 --local 1 --sink there", "--local starts its own sink: leave out --sink"),
        ("squares:square --range 3 --ledger my.db", "--ledger is for --local: .*the sink's own --ledger"),
        (
            "squares:square --range 3 --local 1 --ledger postgresql://me:word@host/db",
            "cannot use the ledger postgresql://host/db: it is no file; give a file with --ledger$",
        ),
    ],
)
def test_options_that_would_count_for_nothing_are_refused(pipeline: Pipeline, arguments: str, pattern: str) -> None:
    refused(pipeline.run("ventilator", *arguments.split()), f"^ventilator: {pattern}")


@pytest.mark.parametrize("command", ["status", "cancel j", "status --keys elsewhere", "roster", "revoke ada"])
def test_commands_of_a_sink_that_was_never_started_here(pipeline: Pipeline, command: str) -> None:
    process = pipeline.run("sink", *command.split())
    refused(
        process,
        rf"no key f\S+ \S+: start the sink in this folder first \({typed('sink')}( --keys elsewhere)?\), or name its",
    )


def test_a_name_that_does_not_resolve_is_said_and_said_again(pipeline: Pipeline) -> None:
    pipeline.sink().kill()
    elsewhere = ["--sink", "nosuchhost.invalid"]
    ventilator = pipeline.ventilator("squares:square", "--range", "3", *elsewhere)
    worker, status = pipeline.worker("squares", *elsewhere), pipeline.start("sink", "status", *elsewhere)
    said = r"the name in tcp://nosuchhost.invalid:\d+ does not resolve to an address: fix the sink's name with --sink"
    refused(status, said)
    for process in (ventilator, worker):
        process.wait_for(rf"{said}.*; still trying\n(.*\n)*.*{said}")
        process.signal(signal.SIGINT)
    assert (ventilator.wait(), worker.wait()) == (130, 0)


def test_a_job_whose_function_nobody_exposes_is_not_left_open(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    refused(pipeline.ventilator("squares:sqaure", "--range", "3", "--job", "j"), "no worker exposes squares:sqaure")
    wait_until(lambda: pipeline.query("SELECT state FROM jobs") == [("cancelled",)], "the job is not left open")
    pipeline.module("squares", "def sqaure(n):\n    return n * n\n")
    pipeline.worker("squares")
    assert pipeline.ventilator("squares:sqaure", "--range", "3", "--job", "j").wait() == 0
    assert pipeline.query("SELECT state, done FROM jobs") == [("done", 3)]


def test_an_input_that_is_not_text_is_said_once_and_leaves_no_job_open(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    (pipeline.folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    ventilator = pipeline.ventilator("squares:square", "picture.png")
    refused(ventilator, "^ventilator: cannot use picture.png as the input: it is not text")
    assert ventilator.err.count("it is not text") == 1
    wait_until(lambda: pipeline.query("SELECT state FROM jobs") == [("cancelled",)], "the job is not left open")


def test_a_line_that_cannot_be_a_task_fails_with_its_reason_and_no_other_does(pipeline: Pipeline) -> None:
    """Also when the job is run again, with retries: its function is not called."""
    pipeline.module("name", "def size(name):\n    open('called', 'a').write(name)\n    return len(name)\n")
    pipeline.sink()
    pipeline.worker("name")
    (pipeline.folder / "names").write_bytes(b"a\n\nb\xe4\nccc\n")
    arguments = ["name:size", "names", "--job", "j", "--retries", "9", "--batch", "3"]
    for more in ([], [], ["--retry-failed"]):
        ventilator = pipeline.ventilator(*arguments, *more)
        assert ventilator.wait() == 1, ventilator.err
        ventilator.wait_for("job j is done: 2 tasks ok, 1 failed")
        reason = ventilator.wait_for("task 1 failed: (names:3: the line is not UTF-8 text .*)")[1]
        rows = pipeline.query("SELECT task, status, value, error FROM results ORDER BY task")
        assert rows == [(0, "ok", 1, None), (1, "failed", None, reason), (2, "ok", 3, None)]
    assert (pipeline.folder / "called").read_text() == "accc"


def test_a_file_that_is_cut_while_the_job_runs_is_not_done_and_goes_on_when_it_is_whole(pipeline: Pipeline) -> None:
    pipeline.module(
        "gate",
        "import os, time\n"
        "def wait(n):\n    open('runs', 'w').close()\n"
        "    while not os.path.exists('open'):\n        time.sleep(.01)\n",
    )
    pipeline.sink()
    pipeline.worker("gate")
    (pipeline.folder / "in").write_text(whole := f"{'x' * 999}\n" * 300)
    ventilator = pipeline.ventilator("gate:wait", "in", "--job", "j", "--batch", "50")
    wait_until((pipeline.folder / "runs").exists, "a task runs")
    (pipeline.folder / "in").write_text("")
    (pipeline.folder / "open").touch()
    refused(ventilator, "in is shorter than at the start of the job .*: restore it")
    ventilator.wait_for("job j stopped: [1-9].* tasks are recorded\n.*to go on with it, run .* --job j\n")
    (pipeline.folder / "in").write_text(whole)
    assert pipeline.ventilator("gate:wait", "in", "--job", "j").wait() == 0
    assert pipeline.query("SELECT state, done, failed FROM jobs") == [("done", 300, 0)]


def test_a_standard_output_that_cannot_be_written(pipeline: Pipeline) -> None:
    pipeline.sink()
    status = [sys.executable, str(TOP / "sink.py"), "status"]
    for redirected, pattern in [
        ("> /dev/full", "cannot write to standard output: No space left"),
        (">&-", "is closed"),
    ]:
        shell = f"{shlex.join(status)} {redirected}"
        done = subprocess.run(shell, shell=True, cwd=pipeline.folder, env=pipeline.env, capture_output=True, text=True)
        assert done.returncode == 2
        assert re.fullmatch(rf"sink: .*{pattern}.*\n", done.stderr), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_files_of_another_user(pipeline: Pipeline) -> None:
    pipeline.sink()
    (pipeline.folder / "keys").chmod(0o700)
    (pipeline.folder / "results.db").chmod(0o600)
    for folder in (pipeline.folder, *pipeline.folder.parents[:2]):
        folder.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

    def said(script: str, *arguments: str) -> Process:
        process = pipeline.start(script, *arguments, inside=nobody)
        process.wait()
        return process

    refused(said("worker", "squares"), "^worker: cannot read the key file keys/worker.key_secret: Permission denied")
    refused(said("ventilator", "squares:square", "--range", "3"), "^ventilator: cannot read the key file keys/ventil")
    refused(said("sink", "jobs"), "^sink: cannot read the ledger results.db: its permissions forbid it")
    refused(said("sink", "status"), "^sink: cannot read the key file keys/observer.key_secret: Permission denied")
    refused(said("sink", "roster"), "^sink: cannot read the key folder keys: Permission denied")


def test_what_is_no_address(pipeline: Pipeline) -> None:
    pipeline.sink()
    refused(pipeline.run("sink", "status", "--sink", "a b"), "'a b' is not a sink address: give HOST or HOST:PORT")
    enrol = pipeline.run("sink", "enrol", "worker", "ada", "--address", "tcp://a b:5559")
    refused(enrol, "'tcp://a b:5559' is not a sink address")
    options = ["--keys", "k", "--ledger", "l.db", "--control-port", "0", "--listen", "nosuchhost.invalid"]
    pattern = "cannot listen at nosuchhost.invalid .*: it is not an address of this machine"
    refused(pipeline.run("sink", *options), pattern)


def test_ports_in_use(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--listen", "127.0.0.1", "--results-port", "0"]
        refused(
            pipeline.run("sink", *options, "--control-port", port),
            f"port {port} is in use: stop that program, or give another with --control-port",
        )
        pipeline.sink()
        ventilator = pipeline.start("ventilator", "squares:square", "--range", "3", "--port", port)
        refused(ventilator, f"port {port} is in use: stop that program, or give another with --port")


def test_ledgers_that_cannot_be_used(pipeline: Pipeline) -> None:
    pipeline.sink()
    free = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
    refused(pipeline.run("sink", *free), "the ledger results.db is in use by another sink")
    refused(pipeline.run("sink", *free, "--ledger", "no/x.db"), "cannot write the ledger no/x.db: No such file")
    refused(pipeline.run("sink", *free, "--ledger", "squares.py"), "cannot use the ledger squares.py: file is not a")
    refused(pipeline.run("sink", "results", "--ledger", "no.db"), "there is no ledger no.db")
    for command in (free, ["results"], ["jobs"]):
        refused(pipeline.run("sink", *command, "--ledger", "mysql://host/db"), "cannot use the ledger mysql://host/db")
    refused(pipeline.run("sink", "results"), "there is no job yet in results.db")
    refused(pipeline.run("sink", "results", "nosuch"), "there is no job nosuch in results.db")


def test_a_job_resumed_on_another_input_or_function_is_refused(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    lines = pipeline.folder / "in.jsonl"
    for text, code in [("1\n2\n3\n", 0), ("1\n2\n4\n", 2), ("1\n2\n3\n4\n", 2), ("1\n2\n", 2), ("1\n2\n3\n", 0)]:
        lines.write_text(text)
        ventilator = pipeline.ventilator("squares:square", "in.jsonl", "--job", "j")
        assert ventilator.wait() == code, (text, ventilator.err)
        if code:
            assert "the input is not the one that job j was started with" in last_line(ventilator)
    refused(
        pipeline.ventilator("squares:cube", "in.jsonl", "--job", "j"), "job j runs squares:square, not squares:cube"
    )
    refused(pipeline.ventilator("squares:square", "--range", "3", "--job", "j"), "job j was started on another input")


def test_ctrl_c_says_what_is_done_and_how_to_go_on(pipeline: Pipeline) -> None:
    pipeline.module(
        "gate",
        "import os, time\ndef wait(n):\n    while n > 5 and not os.path.exists('open'):\n        time.sleep(.01)\n",
    )
    pipeline.sink()
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:wait", "--range", "100", "--job", "j", "--batch", "1")
    wait_until(lambda: pipeline.query("SELECT 1 FROM results WHERE task=5"), "task 5 is recorded")
    ventilator.signal(signal.SIGINT)
    ventilator.wait_for("SIGINT: pushing no more")
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 130
    ventilator.wait_for(r"job j stopped: \d+ of 100 tasks are recorded")
    ventilator.wait_for("to go on with it, run the same command with --job j")
    assert pipeline.ventilator("gate:wait", "--range", "100", "--job", "j").wait() == 0
    assert pipeline.query("SELECT count(*), count(DISTINCT task) FROM results") == [(100, 100)]


def test_a_second_ctrl_c_ends_at_once(pipeline: Pipeline) -> None:
    pipeline.module("sleep", "import time\ndef long(n):\n    open('runs', 'w').close()\n    time.sleep(600)\n")
    pipeline.sink()
    pipeline.worker("sleep")
    ventilator = pipeline.ventilator("sleep:long", "--range", "2")
    wait_until(lambda: (pipeline.folder / "runs").exists(), "a task runs")
    ventilator.signal(signal.SIGINT)
    ventilator.wait_for("SIGINT: pushing no more")
    ventilator.signal(signal.SIGINT)
    ventilator.wait_for("SIGINT again: leaving at once")
    assert ventilator.wait() == 130


def test_a_pipe_that_is_closed_early_is_no_error(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    assert pipeline.ventilator("squares:square", "--range", "50000").wait() == 0
    script = Path(__file__).resolve().parent.parent / "sink.py"
    shell = f"'{sys.executable}' '{script}' results | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], cwd=pipeline.folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('{"task":0,"status":"ok","value":0,')


def test_commands_that_wait_with_the_address_of_an_earlier_sink_find_the_new_one(pipeline: Pipeline) -> None:
    pipeline.sink().kill()
    ventilator = pipeline.ventilator("squares:square", "--range", "3")
    worker = pipeline.worker("squares")
    worker.wait_for("exposing")
    options = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
    pipeline.start("sink", *options).wait_for("listening")
    assert ventilator.wait() == 0, ventilator.err


def test_an_option_that_stands_before_the_command_is_not_dropped_in_silence(pipeline: Pipeline) -> None:
    for option in ("--ledger", "--keys"):
        said = pipeline.run("sink", option, "elsewhere", "roster")
        assert (said.wait(), said.out) == (2, "")
        said.wait_for(rf"^sink: {option} stands before roster: put it after")


def test_failed_tasks_of_a_job_that_is_not_there_are_not_run_again(pipeline: Pipeline) -> None:
    pipeline.sink()
    ventilator = pipeline.ventilator("squares:square", "--range", "3", "--job", "nosuch", "--retry-failed")
    assert ventilator.wait() == 2
    ventilator.wait_for(f"there is no job nosuch: `{typed('sink')} jobs --key keys/ventilator.key_secret` lists them")
    assert pipeline.query("SELECT * FROM jobs") == []


def test_a_folder_given_as_the_ledger_is_said_to_be_one(pipeline: Pipeline) -> None:
    refused(pipeline.start("sink", "--ledger", str(pipeline.folder)), r"it is a folder; give a file with --ledger$")


@pytest.mark.parametrize("role", ["sink", "worker", "ventilator"])
def test_an_interrupt_while_a_command_is_imported_is_no_traceback(pipeline: Pipeline, role: str) -> None:
    pipeline.module("slow/typer", "import time\nopen('importing', 'w').close()\ntime.sleep(600)\n")
    command = pipeline.start(role, "--help", PYTHONPATH=str(pipeline.folder / "slow"))
    wait_until((pipeline.folder / "importing").exists, "typer is imported")
    command.signal(signal.SIGINT)
    assert command.wait() == -signal.SIGINT
    assert command.err == ""
