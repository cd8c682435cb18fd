"""A job while everything that runs it is killed, stopped and started again, by a schedule that a seed makes.

`CHAOS_KILLS` and `CHAOS_TASKS` set the long form (`make soak`); the seed is `CHAOS_SEED`.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from tests.conftest import Pipeline, Process, wait_until

KILLS = int(os.environ.get("CHAOS_KILLS", "16"))
TASKS = int(os.environ.get("CHAOS_TASKS", "6000"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
WORKERS = 3
PAUSE_S = (0.1, 0.8)

TASK = """
import os, time
def work(n):
    with open(f"executions/{os.getpid()}", "a") as file:
        file.write(f"{n}\\n")
    time.sleep(0.002 if n % 50 else 0.05)
    return n * 7
"""


class Scene:
    """The pipeline under chaos: who is killed is started again, as its operator would."""

    def __init__(self, pipeline: Pipeline, dice: random.Random) -> None:
        self._pipeline = pipeline
        self._dice = dice
        self._command = ["chaos_task:work", "--range", str(TASKS), "--job", "chaos", "--quarantine-after", "1000"]
        self.done = Counter[str]()
        self.sink = pipeline.sink()
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.ventilator = pipeline.ventilator(*self._command)

    def _worker(self) -> Process:
        return self._pipeline.worker("chaos_task", "--slots", "2")

    def strike(self) -> None:
        """One fault, and what an operator does about it."""
        kind = self._dice.choices(
            ["worker", "child", "sink", "ventilator", "stop", "leave"], weights=[4, 4, 2, 2, 2, 1]
        )[0]
        self.done[kind] += 1
        at = self._dice.randrange(WORKERS)
        if kind == "worker":
            self.workers[at].kill()
            self.workers[at] = self._worker()
        elif kind == "child":
            self._kill_child(self.workers[at])
        elif kind == "sink":
            self.sink.kill()
            self.sink = self._pipeline.sink()
        elif kind == "ventilator":
            if self.ventilator.popen.poll() is None:
                self.ventilator.kill()
            self.ventilator = self._pipeline.ventilator(*self._command)
        elif kind == "stop":
            self._pause(self._dice.choice([self.sink, self.ventilator, *self.workers]))
        else:
            self.workers[at].signal(signal.SIGTERM)
            self.workers[at] = self._worker()

    def _pause(self, process: Process) -> None:
        if process.popen.poll() is None:
            process.signal(signal.SIGSTOP)
            time.sleep(self._dice.uniform(0.5, 8))
            process.signal(signal.SIGCONT)

    def _kill_child(self, worker: Process) -> None:
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        if pids:
            os.kill(self._dice.choice(pids), signal.SIGKILL)

    def finish(self) -> None:
        """No more faults: the job must end by itself."""
        while self.ventilator.wait() != 0:
            # A killed child's task is recorded as failed: that is the promise, and the tasks are run again by name.
            assert self.ventilator.popen.returncode == 1, self.ventilator.err
            self.ventilator = self._pipeline.ventilator(*self._command, "--retry-failed")


def test_nothing_is_lost_and_nothing_recorded_twice_whatever_is_killed(pipeline: Pipeline) -> None:
    dice = random.Random(SEED)
    pipeline.module("chaos_task", TASK)
    (pipeline.folder / "executions").mkdir()
    scene = Scene(pipeline, dice)
    wait_until(lambda: pipeline.query("SELECT 1 FROM results LIMIT 1"), "the first result")
    for _ in range(KILLS):
        time.sleep(dice.uniform(*PAUSE_S))
        scene.strike()
    scene.finish()
    rows = pipeline.query("SELECT task, status, value FROM results ORDER BY task")
    assert rows == [(n, "ok", n * 7) for n in range(TASKS)]
    assert pipeline.query("PRAGMA integrity_check") == [("ok",)]
    assert pipeline.query("SELECT state, done, failed, total FROM jobs") == [("done", TASKS, 0, TASKS)]
    ran = sum(len(path.read_bytes().splitlines()) for path in (pipeline.folder / "executions").iterdir())
    assert ran >= TASKS
    print(f"seed {SEED}: {dict(scene.done)}; {ran} executions of {TASKS} tasks, {ran / TASKS - 1:.2%} beyond one each")
