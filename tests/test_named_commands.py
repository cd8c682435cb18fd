"""Commands that a worker's operator has named: a job over them, and that nothing of one is left when it is ended."""

import os
import signal
import sqlite3

import msgspec

from tests.conftest import Pipeline, is_gone, wait_until

STUBBORN = "bash -c 'trap \"\" TERM; echo $$ >> pids; sleep 600 & echo $! >> pids; wait; sleep 600' _ {}"
"""It ignores SIGTERM, and so does what it has started."""


def rows(pipeline: Pipeline, job: str, *options: str) -> list[dict]:
    out = pipeline.run("sink", "results", job, *options).out
    return [msgspec.json.decode(line) for line in out.splitlines()]


def pids(pipeline: Pipeline, count: int) -> list[int]:
    path = pipeline.folder / "pids"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == count, f"{count} processes have started")
    return [int(pid) for pid in path.read_text().split()]


def are_gone(found: list[int]) -> None:
    wait_until(lambda: all(map(is_gone, found)), f"{found} are gone")


def test_a_job_over_a_command(pipeline: Pipeline) -> None:
    pipeline.sink()
    worker = pipeline.worker(
        *("squares", "--slots", "2", "--memory-limit", "1G", "--output-dir", "out"),
        *("--command", 'sum=bash -c \'if test "$1" = bad; then echo no >&2; exit 3; fi; printf "%s\\n" "$1"\' -- {}'),
        *("--command", "limits=bash -c 'ulimit -Sv; env | grep TRADEWIND | sort' _ {}"),
        SECRET_FREE="1",
        TRADEWIND_SINK="127.0.0.1",
    )
    worker.wait_for(r"command:sum runs /\S+/bash\n")
    worker.wait_for("exposing command:limits, command:sum, squares:square in 2 slots")
    lines = ["a b", "-rf /", "$(touch ran)`touch ran`;touch ran", "bad", "*", "'\"\\"]
    (pipeline.folder / "lines.txt").write_text("\n".join(lines) + "\n\xe9\n", encoding="latin-1")
    ventilator = pipeline.ventilator("command:sum", "lines.txt", "--job", "sum", "--retries", "1")
    assert ventilator.wait() == 1, ventilator.err
    ventilator.wait_for(r"task 3 \(bad\) failed: exit code 3: no\n")
    found = rows(pipeline, "sum")
    assert [row["value"] and row["value"]["stdout"] for row in found] == [
        *(line + "\n" if line != "bad" else None for line in lines),
        None,
    ]
    assert (found[3]["attempt"], found[3]["error"]) == (2, "exit code 3: no")
    assert "UTF-8" in found[6]["error"]
    printed = pipeline.run("sink", "results", "sum", "--format", "text")
    assert printed.out == "".join(f"{line}\n" for line in lines if line != "bad")
    assert "2 failed tasks left out" in printed.err
    assert (pipeline.folder / "out" / "sum" / "3.exit_code").read_text() == "3\n"
    assert (pipeline.folder / "out" / "sum" / "0.stdout").read_text() == "a b\n"
    assert not (pipeline.folder / "ran").exists()
    assert pipeline.ventilator("command:limits", "--range", "1", "--job", "limits").wait() == 0
    limit, *names = rows(pipeline, "limits")[0]["value"]["stdout"].splitlines()
    assert int(limit) == 1024 * 1024
    assert [name.partition("=")[0] for name in names] == ["TRADEWIND_JOB", "TRADEWIND_SLOT", "TRADEWIND_TASK"]
    assert pipeline.ventilator("squares:square", "--range", "3").wait() == 0


def test_a_time_out_a_cancel_and_a_kill_end_all_of_a_command(pipeline: Pipeline) -> None:
    pipeline.sink()
    options = ["--slots", "1", "--command", f"stubborn={STUBBORN}", "--grace", "0.1"]
    worker = pipeline.worker(*options)
    job = pipeline.ventilator("command:stubborn", "--range", "1", "--timeout", "1", "--job", "overdue")
    assert job.wait() == 1
    assert rows(pipeline, "overdue")[0]["error"] == "the task ran longer than its timeout of 1 seconds"
    are_gone(pids(pipeline, 2))

    job = pipeline.ventilator("command:stubborn", "--range", "1", "--job", "cancelled")
    found = pids(pipeline, 4)
    assert pipeline.run("sink", "cancel", "cancelled").wait() == 0
    are_gone(found)
    assert job.wait() == 3

    pipeline.ventilator("command:stubborn", "--range", "1", "--job", "left")
    found = pids(pipeline, 6)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    are_gone(found)

    worker = pipeline.worker(*options)
    found = pids(pipeline, 8)
    worker.kill()
    are_gone(found)
    assert not pipeline.query("SELECT 1 FROM task_results WHERE job = 'left'"), "no attempt is used up"


def test_a_sigterm_for_all_processes_is_no_failure_of_the_command(pipeline: Pipeline) -> None:
    """As when a batch system ends a worker."""
    pipeline.sink()
    command = ["--slots", "1", "--command", "wait=bash -c 'echo $$ >> pids; exec sleep 600' _ {}"]
    worker = pipeline.worker(*command)
    ventilator = pipeline.ventilator("command:wait", "--range", "1", "--job", "j")
    [program] = pids(pipeline, 1)
    group = os.getpgid(program)
    assert group not in (program, os.getpgrp())
    os.kill(program, signal.SIGTERM)
    os.killpg(group, signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not pipeline.query("SELECT 1 FROM results")
    assert ventilator.popen.poll() is None


def test_local_brings_the_command_along(pipeline: Pipeline) -> None:
    (pipeline.folder / "names").write_text("a\nb\n")
    command = ["command:up", "names", "--local", "1", "--job", "j"]
    job = pipeline.run("ventilator", *command, "--command", 'up=bash -c \'printf "%s" "$1" | tr a-z A-Z\' _ {}')
    assert job.wait() == 0, job.err
    assert pipeline.run("sink", "results", "j", "--format", "text").out == "AB"
    with sqlite3.connect(pipeline.folder / "results.db") as ledger:
        assert ledger.execute("SELECT function FROM jobs").fetchall() == [("command:up",)]


def test_a_command_that_is_not_there_is_said_in_one_line_at_the_start(pipeline: Pipeline) -> None:
    worker = pipeline.run("worker", "squares", "--command", "x=nonesuch {}")
    assert worker.wait() == 2
    assert worker.err.startswith("worker: --command x: nonesuch is not found in any folder of PATH (/")
    assert worker.err.count("\n") == 1
