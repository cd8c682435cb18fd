"""Retries, timeouts, quarantine and limits, with real processes."""

import os
import signal

import pytest

from tests.conftest import Pipeline, is_gone, wait_until

FLAKY = """
import os
def flaky(n):
    path = f"tries{n}"
    with open(path, "a") as file:
        file.write("x")
    if n % 3 == 0 and os.path.getsize(path) < 3:
        raise ValueError(f"not yet {n}")
    return n
class Bad(Exception):
    do_not_retry = True
def hopeless(n):
    flaky(n)
    raise Bad("never")
def fixable(n):
    if not os.path.exists("fixed"):
        raise ValueError("broken")
    return n
"""


STAY = """
import os, time

def stay(n):
    open(f"started{os.getpid()}", "w").close()
    while not os.path.exists("open"):
        time.sleep(0.01)
    return n
"""
"""Tasks that run until there is a file `open`, each in a child whose process number is in the name of another."""


def test_a_failed_task_is_tried_again_and_the_attempt_is_recorded(pipeline: Pipeline) -> None:
    pipeline.module("flaky", FLAKY)
    pipeline.sink()
    pipeline.worker("flaky")
    ventilator = pipeline.ventilator("flaky:flaky", "--range", "9", "--retries", "2", "--batch", "3")
    assert ventilator.wait() == 0, ventilator.err
    rows = pipeline.query("SELECT task, value, attempt FROM results ORDER BY task")
    assert rows == [(n, n, 3 if n % 3 == 0 else 1) for n in range(9)]
    assert pipeline.query("SELECT done, failed FROM jobs") == [(9, 0)]


def test_retries_end_and_a_task_may_say_do_not_retry(pipeline: Pipeline) -> None:
    pipeline.module("flaky", FLAKY)
    pipeline.sink()
    pipeline.worker("flaky")
    assert pipeline.ventilator("flaky:flaky", "--range", "4", "--retries", "1").wait() == 1
    assert pipeline.query("SELECT task, attempt FROM results WHERE status='failed'") == [(0, 2), (3, 2)]
    assert pipeline.ventilator("flaky:hopeless", "--range", "1:3", "--retries", "5").wait() == 1
    assert pipeline.query("SELECT task, attempt, error LIKE '%Bad: never' FROM results WHERE job=2") == [
        (0, 1, 1),
        (1, 1, 1),
    ]


def test_retry_failed_replaces_the_failed_rows(pipeline: Pipeline) -> None:
    pipeline.module("flaky", FLAKY)
    pipeline.sink()
    pipeline.worker("flaky")
    command = ["flaky:fixable", "--range", "200", "--job", "j"]
    assert pipeline.ventilator(*command).wait() == 1
    assert pipeline.query("SELECT done, failed FROM jobs") == [(200, 200)]
    assert pipeline.ventilator(*command, "--retry-failed").wait() == 1
    assert pipeline.query("SELECT DISTINCT attempt FROM results") == [(2,)]
    (pipeline.folder / "fixed").touch()
    assert pipeline.ventilator(*command).wait() == 1
    again = pipeline.ventilator(*command, "--retry-failed")
    assert again.wait() == 0, again.err
    assert pipeline.query("SELECT done, failed, state FROM jobs") == [(200, 0, "done")]
    assert pipeline.query("SELECT count(*), sum(value = task), max(error) FROM results") == [(200, 200, None)]


def test_a_timeout_ends_the_task_and_its_grandchildren_for_certain(pipeline: Pipeline) -> None:
    pipeline.module(
        "slow",
        "import os, signal, subprocess, time\n"
        "def stay(n):\n"
        "    if n != 1:\n        return n\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    open('pid', 'w').write(str(child.pid))\n"
        "    time.sleep(600)\n",
    )
    pipeline.sink()
    pipeline.worker("slow", "--slots", "1")
    ventilator = pipeline.ventilator("slow:stay", "--range", "4", "--timeout", "1.5", "--batch", "4")
    assert ventilator.wait() == 1
    rows = pipeline.query("SELECT task, status, error FROM results ORDER BY task")
    assert rows[1] == (1, "failed", "the task ran longer than its timeout of 1.5 seconds")
    assert [row[1] for row in rows] == ["ok", "failed", "ok", "ok"]
    pid = int((pipeline.folder / "pid").read_text())
    wait_until(lambda: is_gone(pid), "the grandchild has ended")


def test_a_task_that_takes_worker_after_worker_down_is_quarantined(pipeline: Pipeline) -> None:
    pipeline.module(
        "poison",
        "import os, signal\n"
        "def take(n):\n"
        "    if n == 7:\n        os.kill(os.getppid(), signal.SIGKILL)\n        os._exit(1)\n"
        "    return n\n",
    )
    sink = pipeline.sink()
    ventilator = pipeline.ventilator("poison:take", "--range", "12", "--quarantine-after", "2", "--batch", "3")
    workers = [pipeline.worker("poison", "--slots", "1")]

    def is_over() -> bool:
        if ventilator.popen.poll() is not None:
            return True
        if workers[-1].popen.poll() is not None:
            workers.append(pipeline.worker("poison", "--slots", "1"))
        return False

    wait_until(is_over, "the job ends")
    assert ventilator.wait() == 1, ventilator.err
    rows = pipeline.query("SELECT task, status FROM results ORDER BY task")
    assert rows == [(n, "failed" if n == 7 else "ok") for n in range(12)]
    [(error,)] = pipeline.query("SELECT error FROM results WHERE task=7")
    assert error.startswith("argument: 7\nquarantined: 2 workers died while running it, the last of them ")
    sink.wait_for("task 7 of job .* is quarantined")
    assert len(workers) <= 5


def test_what_a_task_prints_goes_to_the_workers_log_with_its_task(pipeline: Pipeline) -> None:
    pipeline.module(
        "loud",
        "import os\n"
        "def speak(n):\n    print('hello', n)\n    os.system('echo from a shell') if n == 2 else None\n"
        "    print('x' * 1_000_000) if n == 3 else None\n    return n\n",
    )
    pipeline.sink()
    worker = pipeline.worker("loud", "--slots", "1")
    assert pipeline.ventilator("loud:speak", "--range", "5", "--job", "j").wait() == 0
    for n in range(5):
        worker.wait_for(rf"worker: job j task {n}: hello {n}\n")
    worker.wait_for("from a shell")
    worker.wait_for(r"job j task 3: x{8000,} \[cut\]")
    assert worker.out == ""


def test_children_are_replaced_after_so_many_tasks_and_have_a_memory_limit(pipeline: Pipeline) -> None:
    pipeline.module(
        "pid", "import os\ndef pid(n):\n    return os.getpid()\ndef eat(n):\n    return len(bytearray(n))\n"
    )
    pipeline.sink()
    limits = ["--slots", "1", "--max-tasks-per-child", "4", "--memory-limit", "400M"]
    pipeline.worker("pid", *limits)
    assert pipeline.ventilator("pid:pid", "--range", "20", "--batch", "7").wait() == 0
    counts = pipeline.query("SELECT count(*) FROM results GROUP BY value")
    assert counts == [(4,)] * 5
    (pipeline.folder / "sizes.jsonl").write_text("1000\n4000000000\n2000\n")
    ventilator = pipeline.ventilator("pid:eat", "sizes.jsonl")
    assert ventilator.wait() == 1
    ventilator.wait_for(r"task 1 \(4000000000\) failed: MemoryError: the child's memory is limited to 419430400 bytes")
    assert pipeline.query("SELECT value FROM results WHERE job=2 AND status='ok'") == [(1000,), (2000,)]


def test_a_task_that_runs_beyond_the_grace_is_returned_and_run_elsewhere(pipeline: Pipeline) -> None:
    pipeline.module("stay", STAY)
    pipeline.sink()
    worker = pipeline.worker("stay", "--slots", "1", "--grace", "0.5")
    ventilator = pipeline.ventilator("stay:stay", "--range", "1")
    wait_until(lambda: list(pipeline.folder.glob("started*")), "the task runs")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    (pipeline.folder / "open").touch()
    pipeline.worker("stay", "--slots", "1")
    assert ventilator.wait() == 0
    assert pipeline.query("SELECT attempt, status FROM results") == [(1, "ok")]


@pytest.mark.parametrize("worker_first", [False, True])
def test_a_walltime_that_ends_the_whole_process_group_burns_no_retry(pipeline: Pipeline, worker_first: bool) -> None:
    """As Slurm and systemd do: SIGTERM for the worker and for each child, in any order."""
    pipeline.module("stay", STAY)
    pipeline.sink()
    worker = pipeline.worker("stay", "--slots", "2")
    ventilator = pipeline.ventilator("stay:stay", "--range", "2")
    wait_until(lambda: len(list(pipeline.folder.glob("started*"))) == 2, "both tasks run")
    if worker_first:
        worker.signal(signal.SIGTERM)
        worker.wait_for("SIGTERM: returning")
    for path in pipeline.folder.glob("started*"):
        os.kill(int(path.name.removeprefix("started")), signal.SIGTERM)
    if not worker_first:
        worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    (pipeline.folder / "open").touch()
    pipeline.worker("stay", "--slots", "1")
    assert ventilator.wait() == 0
    assert pipeline.query("SELECT task, attempt, status FROM results") == [(0, 1, "ok"), (1, 1, "ok")]


def test_a_walltime_that_ends_children_while_they_import_leaves_the_others_their_grace(pipeline: Pipeline) -> None:
    slow = 'if os.path.exists("first"):\n    open(f"imports{os.getpid()}", "w").close()\n    time.sleep(600)\n'
    pipeline.module("slow", f"{STAY}{slow}open('first', 'w').close()\n")
    pipeline.sink()
    worker = pipeline.worker("slow", "--slots", "7")
    ventilator = pipeline.ventilator("slow:stay", "--range", "1")
    wait_until(lambda: len(list(pipeline.folder.glob("imports*"))) == 6, "all but the first child import")
    wait_until(lambda: list(pipeline.folder.glob("started*")), "the task runs in the first one")
    worker.signal(signal.SIGTERM)
    for path in pipeline.folder.glob("imports*"):
        os.kill(int(path.name.removeprefix("imports")), signal.SIGTERM)
    worker.wait_for("importing slow killed its process by signal 15")
    (pipeline.folder / "open").touch()
    assert worker.wait() == 0, worker.err
    assert ventilator.wait() == 0


def test_a_worker_stops_by_the_clock(pipeline: Pipeline) -> None:
    pipeline.sink()
    worker = pipeline.worker("squares", "--stop-after", "0.5")
    assert worker.wait() == 0
    worker.wait_for("the time is over: returning what has not started")


def test_a_function_that_nobody_exposes_ends_with_an_error(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    ventilator = pipeline.ventilator("squares:nosuch", "--range", "3")
    assert ventilator.wait() == 2
    ventilator.wait_for("no worker exposes squares:nosuch; workers here .1. expose other functions: fix the name")


def test_a_job_is_cancelled_from_another_terminal(pipeline: Pipeline) -> None:
    pipeline.module("sleep", "import time\ndef long(n):\n    open('runs', 'w').close()\n    time.sleep(600)\n")
    pipeline.sink()
    pipeline.worker("sleep")
    ventilator = pipeline.ventilator("sleep:long", "--range", "9", "--job", "j")
    wait_until(lambda: (pipeline.folder / "runs").exists(), "a task runs")
    assert pipeline.run("ventilator", "--cancel", "j").out == "job j is cancelled\n"
    assert ventilator.wait() == 3
    nothing = pipeline.run("ventilator", "--cancel", "nosuch")
    assert (nothing.wait(), "there is no job nosuch" in nothing.err) == (2, True)


def test_a_job_is_halted_by_its_failures_and_goes_on(pipeline: Pipeline) -> None:
    pipeline.module(
        "work",
        "import os\ndef odd(n):\n    if n % 2 and not os.path.exists('fixed'):\n        1 / 0\n    return n\n",
    )
    pipeline.sink()
    pipeline.worker("work", "--slots", "2")
    command = ["work:odd", "--range", "200", "--batch", "1", "--job", "j", "--max-fails", "3"]
    halted = pipeline.ventilator(*command)
    assert halted.wait() == 1
    assert "tasks failed, and --max-fails is 3" in halted.err
    halted.wait_for(r"job j is halted by --max-fails: \d+ of 200 tasks are recorded, \d+ of them failed\n")
    [[failed, done]] = pipeline.query("SELECT sum(status = 'failed'), count(*) FROM results")
    assert 3 <= failed < 20
    assert done < 200
    killed = pipeline.ventilator(*command[:-2], "--max-fails", str(failed + 20))
    wait_until(lambda: pipeline.query("SELECT count(*) FROM results")[0][0] > done, "it goes on")
    killed.kill()
    again = pipeline.ventilator(*command[:-1], "1", "--retry-failed")
    assert again.wait() == 1
    [[before]] = pipeline.query("SELECT count(*) FROM results")
    assert before < 200, "it has stopped"
    (pipeline.folder / "fixed").touch()
    last = pipeline.ventilator(*command[:-1], "1", "--retry-failed")
    assert last.wait() == 0, last.err
    assert pipeline.query("SELECT status, count(*) FROM results GROUP BY 1") == [("ok", 200)]
