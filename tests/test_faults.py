"""Rows of the fault table, with real processes that are really killed."""

import signal
import subprocess
from contextlib import closing

import pytest

from common.sink.ledgers import open_care, open_reader
from tests.conftest import Pipeline, is_gone, wait_until
from tests.postgres import Server

SLEEP = "import time\ndef sleep(n):\n    time.sleep(.05)\n    return n\n"
GATE = (
    "import os, time\n"
    "def wait(n):\n"
    "    with open('executions', 'a') as file:\n        file.write(f'{n}\\n')\n"
    "    while not os.path.exists('open'):\n        time.sleep(.01)\n"
    "    return n\n"
)


on_both = pytest.mark.parametrize("pipeline", ["file", "database"], indirect=True)
"""Once with an SQLite file, once with a site of a PostgreSQL database."""


def everything_once(pipeline: Pipeline, count: int) -> None:
    with closing(open_reader(pipeline.ledger)) as reader:
        jobs = [reader.job(each.name) for each in reader.jobs()]
        rows = [(row.task, row.status, row.value) for job in jobs for row in reader.rows(job, failed=False)]
    assert rows == [(n, "ok", n) for n in range(count)]
    assert open_care(pipeline.ledger).faults() == []


def executions(pipeline: Pipeline) -> list[int]:
    path = pipeline.folder / "executions"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@on_both
def test_without_faults_each_task_is_executed_exactly_once(pipeline: Pipeline) -> None:
    pipeline.module(
        "count", "def note(n):\n    with open('executions', 'a') as f:\n        f.write(f'{n}\\n')\n    return n\n"
    )
    pipeline.sink()
    for _ in range(3):
        pipeline.worker("count", "--slots", "2")
    assert pipeline.ventilator("count:note", "--range", "2000").wait() == 0
    everything_once(pipeline, 2000)
    assert sorted(executions(pipeline)) == list(range(2000))


@pytest.mark.parametrize(
    ("way", "count"), [("--port 0", 600), ("--relay always", 400)], ids=["straight", "through the relay"]
)
def test_a_stopped_worker_does_not_swallow_a_job(pipeline: Pipeline, way: str, count: int) -> None:
    """It takes no batch, returns none and is still connected: pushes go on going to it, until it is cut off."""
    pipeline.module("sleep", SLEEP.replace(".05", ".005"))
    sink = pipeline.sink()
    stopped = pipeline.worker("sleep", "--slots", "2", "--name", "stopped")
    pipeline.worker("sleep", "--slots", "2", "--name", "healthy")
    for name in ("stopped", "healthy"):
        sink.wait_for(f"worker {name}.* joined")
    options = ["--range", str(count), "--batch", "1", "--job", "j", *way.split()]
    ventilator = pipeline.start("ventilator", "sleep:sleep", *options)
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE done > 20"), "both run something")
    stopped.signal(signal.SIGSTOP)
    # With leases alone it gets done with a few batches in ten seconds.
    assert ventilator.wait() == 0, ventilator.err
    stopped.signal(signal.SIGCONT)
    everything_once(pipeline, count)


def test_a_killed_worker_loses_nothing(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    victim = pipeline.worker("gate", "--slots", "2", "--name", "victim")
    sink.wait_for("victim")
    ventilator = pipeline.ventilator("gate:wait", "--range", "20", "--batch", "1")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    victim.kill()
    (pipeline.folder / "open").touch()
    pipeline.worker("gate", "--slots", "2")
    assert ventilator.wait() == 0, ventilator.err
    sink.wait_for("worker victim.* is silent: its batches are pushed again")
    everything_once(pipeline, 20)


def test_children_of_a_killed_worker_do_not_outlive_it(pipeline: Pipeline) -> None:
    pipeline.module(
        "pids", "import os, time\ndef stay(n):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    )
    pipeline.sink()
    worker = pipeline.worker("pids")
    pipeline.ventilator("pids:stay", "--range", "1")
    pid = pipeline.folder / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "the task runs")
    worker.kill()
    wait_until(lambda: is_gone(int(pid.read_text())), "the child has ended")


@on_both
def test_a_killed_and_restarted_sink_loses_nothing_and_finished_work_is_not_done_again(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:wait", "--range", "10", "--batch", "1")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    sink.kill()
    (pipeline.folder / "open").touch()
    wait_until(lambda: len(executions(pipeline)) >= 4, "the crew goes on without the sink")
    pipeline.sink()
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 10)
    assert sorted(executions(pipeline)) == list(range(10))


@on_both
def test_a_killed_ventilator_is_run_again_and_continues(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    pipeline.sink()
    pipeline.worker("gate", "--slots", "2")
    command = ["gate:wait", "--range", "20", "--batch", "1", "--job", "j"]
    ventilator = pipeline.ventilator(*command)
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    ventilator.kill()
    (pipeline.folder / "open").touch()
    again = pipeline.ventilator(*command)
    assert again.wait() == 0, again.err
    everything_once(pipeline, 20)
    assert sorted(executions(pipeline)) == list(range(20))


def test_a_worker_told_to_leave_returns_what_waits_and_finishes_what_runs(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    worker = pipeline.worker("gate", "--slots", "1", "--name", "leaver")
    ventilator = pipeline.ventilator("gate:wait", "--range", "4", "--batch", "1")
    wait_until(lambda: len(executions(pipeline)) == 1, "a task runs")
    worker.signal(signal.SIGTERM)
    worker.wait_for("SIGTERM: returning what has not started, finishing what runs")
    pipeline.worker("gate", "--slots", "1", "--name", "stayer")
    wait_until(lambda: len(executions(pipeline)) == 2, "a returned task runs elsewhere")
    (pipeline.folder / "open").touch()
    assert worker.wait() == 0
    sink.wait_for("worker leaver.* has left")
    assert ventilator.wait() == 0
    everything_once(pipeline, 4)
    assert sorted(executions(pipeline)) == list(range(4))


def test_a_worker_gets_its_key_through_standard_input_and_leaves_when_that_ends(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    pipeline.sink()
    key = (pipeline.folder / "keys" / "worker.key_secret").read_text()
    arguments = ["gate", "--slots", "1", "--key", "-", "--stop-with-stdin"]
    worker = pipeline.start("worker", *arguments, stdin=subprocess.PIPE)
    assert worker.popen.stdin
    worker.popen.stdin.write(key.encode() + b"\nwhat follows is not looked at\n")
    worker.popen.stdin.flush()
    worker.wait_for("joined the sink")
    pipeline.ventilator("gate:wait", "--range", "2", "--batch", "1")
    wait_until(lambda: len(executions(pipeline)) == 1, "a task runs")
    worker.popen.stdin.close()
    worker.wait_for("standard input has ended: returning what has not started, finishing what runs")
    (pipeline.folder / "open").touch()
    assert worker.wait() == 0, worker.err
    assert pipeline.query("SELECT task, value FROM results") == [(0, 0)]


def test_a_worker_leaves_when_idle_if_asked_to(pipeline: Pipeline) -> None:
    pipeline.sink()
    worker = pipeline.worker("squares", "--exit-when-idle", "0.5")
    assert worker.wait() == 0
    worker.wait_for(r"no task for 0.5 seconds: leaving")


def test_several_ventilators_share_the_crew_in_turn(pipeline: Pipeline) -> None:
    pipeline.module("sleep", SLEEP)
    pipeline.sink()
    pipeline.worker("sleep", "--slots", "2")
    long = pipeline.ventilator("sleep:sleep", "--range", "400", "--batch", "1", "--job", "long")
    wait_until(lambda: pipeline.query("SELECT 1 FROM results"), "the long job runs")
    short = pipeline.ventilator("sleep:sleep", "--range", "10", "--batch", "1", "--job", "short")
    assert short.wait() == 0
    assert long.popen.poll() is None
    assert long.wait() == 0
    assert pipeline.query("SELECT name, done FROM jobs") == [("long", 400), ("short", 10)]


def test_a_second_ventilator_for_a_running_job_is_refused(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    pipeline.sink()
    pipeline.worker("gate")
    pipeline.ventilator("gate:wait", "--range", "4", "--job", "j")
    wait_until(lambda: executions(pipeline), "a task runs")
    second = pipeline.ventilator("gate:wait", "--range", "4", "--job", "j")
    assert second.wait() == 2
    second.wait_for("job j is run by a ventilator at 127.0.0.1: wait for it, or give another --job")


def test_a_cancelled_job_ends_everywhere(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    pipeline.sink()
    pipeline.worker("gate", "--slots", "1")
    ventilator = pipeline.ventilator("gate:wait", "--range", "9", "--job", "j", "--batch", "1")
    wait_until(lambda: executions(pipeline), "a task runs")
    assert pipeline.run("sink", "cancel", "j").out == "job j is cancelled\n"
    assert ventilator.wait() == 3
    ventilator.wait_for("job j was cancelled")
    assert pipeline.query("SELECT state, done FROM jobs") == [("cancelled", 0)]
    (pipeline.folder / "open").touch()
    assert pipeline.ventilator("gate:wait", "--range", "9", "--job", "next").wait() == 0


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_job_goes_on_when_the_server_of_its_ledger_is_back(pipeline: Pipeline, postgres: Server, how: str) -> None:
    pipeline.keep_in(postgres.address() + f"&site={how}")
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:wait", "--range", "10", "--batch", "1", "--job", "j")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    if how == "killed":
        postgres.stop("immediate")
    else:
        postgres.signal(signal.SIGSTOP)
    try:
        (pipeline.folder / "open").touch()
        sink.wait_for("the ledger accepts no results: the database server .*; no receipts are sent")
        wait_until(lambda: len(executions(pipeline)) >= 4, "the crew goes on without the ledger")
    finally:
        if how == "killed":
            postgres.start()
        else:
            postgres.signal(signal.SIGCONT)
    sink.wait_for("the ledger accepts results again")
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 10)
    assert sorted(executions(pipeline)) == list(range(10))
    assert "silent" not in sink.err, "workers and ventilators were answered meanwhile"
