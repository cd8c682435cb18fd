"""How long it takes until work goes on after a SIGKILL: of a worker, and of the sink.

    python -m benchmarks.recovery [ROUNDS]

worker: from the SIGKILL of one of two workers until a task that it was running begins at the other one.
sink: from the start of a killed sink's successor to its first commit for the job that runs meanwhile.
"""

import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.farm import TOP, wait_for

TASKS = """
import os, time
def work(n):
    with open("begun", "a") as file:
        file.write(f"{time.monotonic()} {os.getppid()} {n}\\n")
    time.sleep(0.1)
    return n
"""


class Stage:
    """A sink, two workers of two slots, and a job of tasks of 0.1 s that does not end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._sink_options = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
        (folder / "recovery_tasks.py").write_text(TASKS)
        self.sink = self.start_sink()
        self.workers = [self.start_worker() for _ in range(2)]
        self.start("ventilator", "recovery_tasks:work", "--range", "1000000", "--batch", "1", "--port", "0")
        wait_for(lambda: len({worker for _, worker, _ in self.begun()}) == 2, "both workers")

    def start(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; it is ended with the stage."""
        log = self._stack.enter_context((self._folder / f"{script}.log").open("ab"))
        command = [sys.executable, str(TOP / f"{script}.py"), *arguments]
        process = subprocess.Popen(command, cwd=self._folder, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def start_sink(self) -> subprocess.Popen[bytes]:
        """A sink; from the second one on at the same ports."""
        process = self.start("sink", *self._sink_options)
        log = self._folder / "sink.log"
        wait_for(lambda: log.exists() and "ports" in log.read_text(), "the sink")
        ports = re.search(r"ports (\d+) and (\d+)", log.read_text())
        assert ports
        self._sink_options[3::2] = ports[1], ports[2]
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker of two slots."""
        return self.start("worker", "recovery_tasks", "--slots", "2")

    def begun(self) -> list[tuple[float, int, int]]:
        """(instant, worker's process, task) of each task that has begun."""
        path = self._folder / "begun"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rows = [line.split() for line in lines if line.endswith("\n")]
        return [(float(at), int(worker), int(task)) for at, worker, task in rows]

    def recorded_count(self) -> int:
        """Rows of the ledger."""
        with closing(sqlite3.connect(self._folder / "results.db", timeout=30)) as db:
            return int(db.execute("SELECT coalesce(sum(done), 0) FROM jobs").fetchone()[0])

    def recorded(self) -> set[int]:
        """Tasks with a row."""
        with closing(sqlite3.connect(self._folder / "results.db", timeout=30)) as db:
            return {task for (task,) in db.execute("SELECT task FROM results")}

    def worker_recovery_s(self) -> float:
        """Kill a worker; seconds until the last of the tasks that it was running has begun elsewhere."""
        victim = self.workers.pop(0)
        victim.kill()
        victim.wait()
        killed_at = time.monotonic()
        lost = {task for _, worker, task in self.begun() if worker == victim.pid} - self.recorded()
        ends: dict[int, float] = {}

        def are_elsewhere() -> bool:
            # Its last words may still be on their way into the ledger.
            done = self.recorded()
            ends.update({task: at for at, _, task in self.begun() if task in lost and at > killed_at})
            return lost <= ends.keys() | done

        wait_for(are_elsewhere, "its batches at another worker")
        self.workers.append(self.start_worker())
        wait_for(lambda: self.workers[-1].pid in {worker for _, worker, _ in self.begun()}, "the worker that is back")
        return max(ends.values(), default=killed_at) - killed_at

    def sink_recovery_s(self) -> float:
        """Kill the sink and start it again; seconds from that start to its first commit."""
        self.sink.kill()
        self.sink.wait()
        before = self.recorded_count()
        started_at = time.monotonic()
        self.sink = self.start("sink", *self._sink_options)
        while self.recorded_count() == before:
            time.sleep(0.005)
        return time.monotonic() - started_at


@contextmanager
def stage() -> Iterator[Stage]:
    """A running stage."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-bench-"))
        yield Stage(Path(folder), stack)


def main() -> None:
    """Medians of the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with stage() as running:
        for name, measure in (
            ("SIGKILL of a worker -> its tasks run elsewhere", running.worker_recovery_s),
            ("start of a killed sink's successor -> its first commit", running.sink_recovery_s),
        ):
            seconds = [measure() for _ in range(rounds)]
            each = ", ".join(f"{one:.2f}" for one in sorted(seconds))
            print(f"{name}: median {statistics.median(seconds):.2f} s of {rounds} ({each})", flush=True)


if __name__ == "__main__":
    main()
