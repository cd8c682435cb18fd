"""The worker that `docs/PROTOCOL.md` shows is correct: it does whole jobs with a real sink and real ventilators."""

import ast
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TOP, Pipeline, Process, wait_until
from tests.test_faults import GATE, everything_once, executions

FILE = TOP / "tests" / "smallest_worker.py"
FAULTS = (
    "import os, time\n"
    "def trouble(n):\n"
    "    if n == 1:\n        raise ValueError('no')\n"
    "    if n == 2:\n        os._exit(1)\n"
    "    if n == 3:\n        time.sleep(600)\n"
    "    if n == 4:\n        return object()\n"
    "    if n == 5:\n        return b'x' * 16777216\n"
    "    if n == 6:\n        return [float('nan')]\n"
    "    if n == 7:\n        return 'x' * 16777211\n"
    "    return n\n"
)


def smallest(pipeline: Pipeline, module: str, key: str = "keys/worker.key_secret") -> Process:
    tag = f"smallest-{len(pipeline.processes)}"
    command = [sys.executable, str(FILE), key, module]
    made = Process(command, pipeline.folder, tag, pipeline.env, subprocess.DEVNULL)
    pipeline.processes.append(made)
    return made


def joined(sink: Process, count: int) -> None:
    wait_until(lambda: len(re.findall("worker smallest.* joined", sink.err)) == count, f"{count} workers join")


def no_trouble(pipeline: Pipeline) -> None:
    """Nobody had to complain of anybody."""
    for process in pipeline.processes:
        assert not re.search("Traceback|said once|malformed|no message", process.err), process.err


def test_it_knows_nothing_of_ours() -> None:
    imported = [node for node in ast.walk(ast.parse(FILE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    modules = {name.partition(".")[0] for name in names}
    modules |= {(node.module or "").partition(".")[0] for node in imported if isinstance(node, ast.ImportFrom)}
    assert modules - set(sys.stdlib_module_names) == {"zmq", "msgspec"}


def test_it_does_whole_jobs_and_returns_what_it_cannot_hold(pipeline: Pipeline) -> None:
    """Two of them, of which one is stuck at first: PUSH gives it batches that it must return."""
    pipeline.module("gate", GATE + "def quick(n):\n    return wait(n) if n == 0 else n\n")
    sink = pipeline.sink()
    workers = [smallest(pipeline, "gate") for _ in range(2)]
    joined(sink, 2)
    job = ["gate:quick", "--range", "300", "--batch", "1", "--job", "j"]
    ventilator = pipeline.ventilator(*job, TRADEWIND_LOG_LEVEL="debug")
    wait_until(lambda: executions(pipeline), "the first task runs")
    wait_until(lambda: pipeline.query("SELECT count(*) FROM results") == [(299,)], "all others are recorded")
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    returns = int(ventilator.wait_for(r"(\d+) returns")[1])
    assert returns > 0, ventilator.err
    everything_once(pipeline, 300)
    assert executions(pipeline) == [0]
    assert pipeline.ventilator("gate:quick", "--range", "20000", "--job", "large").wait() == 0
    assert pipeline.query("SELECT count(*), sum(value) FROM results WHERE job=2") == [(20000, sum(range(20000)))]
    (pipeline.folder / "in.jsonl").write_text("".join(f"{number}\n" for number in range(500)))
    assert pipeline.ventilator("gate:quick", "in.jsonl").wait() == 0
    assert pipeline.query("SELECT count(*) FROM results WHERE job=3 AND argument = CAST(task AS TEXT)") == [(500,)]
    for worker in workers:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    sink.wait_for("worker smallest.* has left")
    no_trouble(pipeline)


def test_two_jobs_at_once(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    smallest(pipeline, "squares")
    joined(sink, 1)
    ventilators = [pipeline.ventilator("squares:square", "--range", "500", "--job", name) for name in ("a", "b")]
    assert [each.wait() for each in ventilators] == [0, 0]
    assert pipeline.query("SELECT count(*), sum(value) FROM results") == [(1000, 2 * sum(n * n for n in range(500)))]
    no_trouble(pipeline)


def test_it_pulls_from_the_relay_and_returns_what_it_does_not_expose(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    for module in ("squares", "gate"):
        smallest(pipeline, module)
    joined(sink, 2)
    (pipeline.folder / "open").touch()
    jobs = [("squares:square", "a"), ("gate:wait", "b")]
    ventilators = [
        pipeline.start("ventilator", function, "--range", "200", "--job", name, "--relay", "always")
        for function, name in jobs
    ]
    assert [each.wait() for each in ventilators] == [0, 0]
    assert pipeline.query("SELECT count(*), count(DISTINCT worker) FROM results") == [(400, 2)]
    # A batch that takes several frames to the relay.
    (pipeline.folder / "in.txt").write_text("x" * 100_000)
    large = pipeline.start("ventilator", "gate:wait", "in.txt", "--relay", "always")
    assert large.wait() == 0, large.err
    assert pipeline.query("SELECT max(length(value)) FROM results") == [(100_000,)]
    no_trouble(pipeline)


def test_its_results_outlive_the_sink(pipeline: Pipeline) -> None:
    """A task ends while no sink is there: its result is kept, resent to the next sink, and not computed again."""
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    worker = smallest(pipeline, "gate")
    joined(sink, 1)
    ventilator = pipeline.ventilator("gate:wait", "--range", "5", "--batch", "5", "--job", "j")
    wait_until(lambda: executions(pipeline), "the first task runs")
    sink.kill()
    (pipeline.folder / "open").touch()
    wait_until(lambda: len(executions(pipeline)) == 5, "all tasks were run")
    # At another port, where nothing that was sent to the first one arrives by itself.
    pipeline._sink_options[5] = "0"
    pipeline.sink()
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 5)
    assert sorted(executions(pipeline)) == list(range(5))
    assert worker.popen.poll() is None, worker.err


def test_every_failure_is_that_of_its_task(pipeline: Pipeline) -> None:
    pipeline.module("faults", FAULTS)
    sink = pipeline.sink()
    smallest(pipeline, "faults")
    joined(sink, 1)
    job = ["faults:trouble", "--range", "10", "--batch", "10", "--timeout", "0.5", "--job", "j"]
    assert pipeline.ventilator(*job).wait() == 1
    rows = pipeline.query("SELECT task, error, length(value) FROM results ORDER BY task")
    shown = {task: (error or "").strip().rpartition("\n")[2] for task, error, _ in rows}
    assert shown.keys() == set(range(10))
    assert [shown[task] for task in (0, 7, 8, 9)] == ["", "", "", ""]
    assert rows[7][2] == 16777211
    assert shown[1] == "ValueError: no"
    assert shown[2] == "the task ended its process"
    assert shown[3] == "the task ran longer than its timeout of 0.5 seconds"
    assert "Object of type object is not JSON serializable" in shown[4]
    assert shown[5] == "ValueError: the result has 16777221 bytes, a message holds 16777216"
    assert "Out of range float values are not JSON compliant" in shown[6]
    no_trouble(pipeline)


def test_what_it_had_when_it_was_killed_is_done_by_another(pipeline: Pipeline) -> None:
    """The other one is given suspect batches: it says that it starts before it does."""
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    victim = smallest(pipeline, "gate")
    joined(sink, 1)
    ventilator = pipeline.ventilator("gate:wait", "--range", "20", "--batch", "10", "--job", "j")
    wait_until(lambda: executions(pipeline), "the first task runs")
    victim.kill()
    (pipeline.folder / "open").touch()
    smallest(pipeline, "gate")
    assert ventilator.wait() == 0, ventilator.err
    sink.wait_for("worker smallest.* is silent")
    everything_once(pipeline, 20)
    no_trouble(pipeline)


def test_a_cancelled_job_ends_at_once_and_the_next_one_runs(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE + "def quick(n):\n    return n\n")
    sink = pipeline.sink()
    smallest(pipeline, "gate")
    joined(sink, 1)
    ventilator = pipeline.ventilator("gate:wait", "--range", "5", "--batch", "1", "--job", "j")
    wait_until(lambda: executions(pipeline), "the first task runs")
    assert pipeline.run("ventilator", "--cancel", "j").wait() == 0
    assert ventilator.wait() != 0
    assert pipeline.ventilator("gate:quick", "--range", "50", "--job", "next").wait() == 0
    assert pipeline.query("SELECT count(*) FROM results") == [(50,)]
    assert executions(pipeline) == [0]
    no_trouble(pipeline)


def test_it_leaves_in_order(pipeline: Pipeline) -> None:
    """SIGTERM while a task runs: it is finished and recorded before the worker says goodbye."""
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    worker = smallest(pipeline, "gate")
    joined(sink, 1)
    ventilator = pipeline.ventilator("gate:wait", "--range", "4", "--batch", "2", "--job", "j")
    wait_until(lambda: executions(pipeline), "the first task runs")
    worker.signal(signal.SIGTERM)
    time.sleep(1)
    assert worker.popen.poll() is None, "it does not wait for what runs"
    (pipeline.folder / "open").touch()
    assert worker.wait() == 0
    assert pipeline.query("SELECT task FROM results ORDER BY task") == [(0,), (1,)]
    sink.wait_for("worker smallest.* has left")
    assert sorted(executions(pipeline)) == [0, 1]
    smallest(pipeline, "gate")
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 4)
    assert sorted(executions(pipeline)) == [0, 1, 2, 3]
    no_trouble(pipeline)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_over_ipv6(pipeline: Pipeline) -> None:
    """Hosts in `places` have no brackets, addresses in key files have."""
    pipeline._sink_options[1] = "*"
    sink = pipeline.sink()
    port = pipeline._sink_options[3]
    for role in ("worker", "ventilator"):
        assert pipeline.run("sink", "enrol", role, f"{role}6", "--address", f"tcp://[::1]:{port}").wait() == 0
    smallest(pipeline, "squares", "worker6.key_secret")
    joined(sink, 1)
    assert "at ::1 joined" in sink.err
    job = ["squares:square", "--range", "20", "--key", "ventilator6.key_secret", "--job", "j"]
    assert pipeline.ventilator(*job).wait() == 0
    assert pipeline.query("SELECT count(*) FROM results") == [(20,)]
    no_trouble(pipeline)


def test_it_fails_what_the_input_gave_no_argument_for(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    smallest(pipeline, "squares")
    joined(sink, 1)
    (pipeline.folder / "in.jsonl").write_text("2\n{bad\n3\n")
    assert pipeline.ventilator("squares:square", "in.jsonl").wait() == 1
    rows = pipeline.query("SELECT value, error FROM results ORDER BY task")
    assert [value for value, _ in rows] == [4, None, 9]
    assert "in.jsonl:2: the line is not JSON" in rows[1][1]
    no_trouble(pipeline)
