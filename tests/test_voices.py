"""Every wait has a voice: who waits says for what after some seconds. Of waits that cannot end see test_errors.py.

The waits of these tests go on at the same time, for they take their seconds.
"""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pipeline, Process, typed, wait_until

GATE = (
    "import os, time\n"
    "def wait(job):\n"
    "    open(f'runs-{job}', 'w').close()\n"
    "    while not os.path.exists('open'):\n        time.sleep(.01)\n"
)
IMPORT = GATE + "wait('import')\n"


class Waits:
    """Pipelines whose processes wait, each for something else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pipelines: list[Pipeline] = []

    def pipeline(self, name: str) -> Pipeline:
        folder = self._folder / name
        folder.mkdir()
        made = Pipeline(folder)
        for module in ("gate", "left", "leaving"):
            made.module(module, GATE)
        made.module("slow", IMPORT)
        self.pipelines.append(made)
        return made


@pytest.fixture
def waits(tmp_path: Path) -> Iterator[Waits]:
    made = Waits(tmp_path)
    try:
        yield made
    finally:
        for pipeline in made.pipelines:
            pipeline.close()


def run(pipeline: Pipeline, module: str, job: str) -> Process:
    """A job of one task, which waits until the file `open` is there."""
    (pipeline.folder / f"{job}.txt").write_text(f"{job}\n")
    return pipeline.ventilator(f"{module}:wait", f"{job}.txt", "--job", job)


def processor_s(process: Process) -> float:
    """Processor time that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def task_runs(pipeline: Pipeline, job: str) -> None:
    wait_until((pipeline.folder / f"runs-{job}").exists, f"the task of job {job} runs")


def test_every_wait_has_a_voice(waits: Waits) -> None:
    here, away, locked = waits.pipeline("here"), waits.pipeline("away"), waits.pipeline("locked")
    here.sink()
    importing = here.worker("slow")
    here.worker("gate", "--slots", "3")
    left, leaving = here.worker("left", "--slots", "1"), here.worker("leaving", "--slots", "1", "--grace", "600")
    abandoned, finishing, long = run(here, "left", "a"), run(here, "leaving", "f"), run(here, "gate", "long")
    interrupted = run(here, "gate", "i")
    piped = here.ventilator("gate:wait", "-", "--job", "piped", stdin=subprocess.PIPE)
    sink_away = away.sink()
    kept, asked = away.worker("gate", "--slots", "1"), run(away, "gate", "k")
    sink_locked = locked.sink()

    for job in ("a", "f", "long", "i"):
        task_runs(here, job)
    task_runs(away, "k")
    used_s = processor_s(long)
    left.kill()
    leaving.signal(signal.SIGTERM)
    interrupted.signal(signal.SIGINT)
    sink_away.kill()
    follower = here.start("sink", "results", "long", "--follow")
    with sqlite3.connect(locked.folder / "results.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        unopened = run(locked, "gate", "u")
        sink_locked.wait_for("the ledger accepts no job: database is locked")
        unopened.wait_for("waiting for the sink to open job u|does not answer|no sink answers")
        other.execute("ROLLBACK")
    other.close()

    importing.wait_for("still importing slow")
    others = r"workers here \(\d\) expose other functions: check the name, or"
    abandoned.wait_for(f"no worker exposes left:wait; {others} start one with `{typed('worker')} left`; waiting")
    leaving.wait_for("still finishing running tasks, or waiting for their receipts; a second signal leaves at once")
    long.wait_for("job long: 0/1, 0%, 0/s, 0 failed, 1 worker with 3 slots, 1 batch outstanding")
    assert processor_s(long) - used_s < 0.5, "waiting costs nothing"
    piped.wait_for("the input has no new line: waiting for the next one, or for its end")
    follower.wait_for("no new result; waiting for more, because the job has not ended")
    for process in (kept, asked):
        process.wait_for("the sink at .* does not answer: results are kept until it is back; still trying")
    assert interrupted.wait() == 130
    interrupted.wait_for("job i stopped: 0 of 1 tasks are recorded")

    (here.folder / "open").touch()
    (away.folder / "open").touch()
    (locked.folder / "open").touch()
    sink_away = away.sink()
    locked.worker("gate")
    here.worker("left")
    assert piped.popen.stdin is not None
    piped.popen.stdin.write(b"piped\n")
    piped.popen.stdin.close()
    for process in (abandoned, finishing, long, piped, asked, unopened, follower, leaving):
        assert process.wait() == 0, process.err
    importing.wait_for("exposing slow:wait")
