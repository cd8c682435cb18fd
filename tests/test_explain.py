"""`explain` in front of a job that does not move, for one reason after another: each is named first."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from common.protocol.messages import Explain, Explanation
from common.sink.explained import lines
from common.transport.sink_talk import ask_sink
from tests.conftest import PATIENCE_S, Pipeline, wait_until

GATE = """
import os, time
def wait(line):
    open(f"runs-{line}", "w").close()
    while not os.path.exists("open"):
        time.sleep(0.01)
def quick(line):
    return line
"""


class Asking:
    """Asks the sink of a pipeline, as `explain` does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._key = pipeline.folder / "keys" / "observer.key_secret"

    def said(self, job: str, task: int | None = None) -> list[str]:
        return lines(ask_sink(self._key, ("observer",), None, Explain(job, task), Explanation))

    def until(self, words: str, job: str, task: int | None = None) -> list[str]:
        """What is said once these words come first."""
        ends_at = time.monotonic() + PATIENCE_S
        while words not in (found := self.said(job, task))[0]:
            if time.monotonic() > ends_at:
                pytest.fail(f"never said {words!r} first, but {found}")
        return found


def test_a_job_that_does_not_move(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    pipeline.sink()
    ask = Asking(pipeline)
    piped = pipeline.ventilator(
        "gate:wait", "-", "--job", "piped", "--batch", "1", "--retries", "1", stdin=subprocess.PIPE
    )
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs"), "the job is open")
    assert ask.until("no worker is here", "piped")[1].startswith("-> start one with `python worker.py")

    wrong = pipeline.worker("gate:quick", "--slots", "1")
    assert ask.until("no worker exposes gate:wait", "piped")[1].startswith("-> check the name, or start one")
    worker = pipeline.worker("gate:wait", "--slots", "1", "--prefetch", "1")
    ask.until("the input has no new line", "piped")

    assert piped.popen.stdin
    piped.popen.stdin.write(b"".join(b"%d\n" % number for number in range(10)))
    piped.popen.stdin.flush()
    wait_until((pipeline.folder / "runs-0").exists, "the first task runs")
    ask.until("the crew has all the batches that it takes (2; 1 of 1 slots run)", "piped")
    assert re.match(r"task 0 is with \S+, which began .* ago", ask.until("task 0 is with", "piped", 0)[0])
    assert "waits at" in ask.until("task 1 waits at", "piped", 1)[0]
    assert re.search("task 9 (is not read yet|waits at the ventilator)", ask.said("piped", 9)[0])

    (pipeline.folder / "other.txt").write_text("a\n")
    other = pipeline.ventilator("gate:wait", "other.txt", "--job", "other")
    wait_until(lambda: pipeline.query("SELECT 1 FROM jobs WHERE name='other'"), "the other job is open")
    ask.until("all 1 slots that could run it run other jobs (piped)", "other")
    other.kill()

    os.kill(piped.pid, signal.SIGSTOP)
    assert "does not answer" in ask.said("piped")[0]
    os.kill(piped.pid, signal.SIGCONT)
    (pipeline.folder / "open").touch()
    ask.until("task 0 is recorded: ok", "piped", 0)
    piped.signal(signal.SIGTERM)
    piped.wait()
    ask.until("no ventilator runs job piped", "piped")
    for process in (wrong, worker):
        process.kill()


def test_the_command(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares", "--slots", "1")
    assert pipeline.ventilator("squares:square", "--range", "10", "--job", "done").wait() == 0
    found = pipeline.run("sink", "explain", "done", "3", "--json")
    assert found.wait() == 0, found.err
    said = json.loads(found.out)
    assert said["cause"] is None
    assert said["recorded"]["status"] == "ok"
    assert said["lines"][0].startswith("task 3 is recorded: ok, attempt 1")
    missing = pipeline.run("sink", "explain", "nothing")
    assert (missing.wait(), "no job nothing" in missing.err) == (2, True)
