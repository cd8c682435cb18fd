"""A sink, workers and ventilators as users run them, for measurements: separate processes, CURVE, ledger on disk."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

TOP = Path(__file__).resolve().parent.parent
SQUARED = "value = task * task"


@dataclass(frozen=True)
class Measured:
    """One job. `seconds` runs from the first push to the last receipt."""

    job: str
    seconds: float
    pushes: int
    returns: int
    rss_bytes: int
    sink_rss_bytes: int


class Running:
    """A ventilator at work."""

    def __init__(self, job: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.job = job
        self.process = process
        self.pid = process.pid
        self._log = log

    def ended(self) -> bool:
        """True once the process is gone."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C, and wait until it has left."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def finish(self, sink_rss_bytes: Callable[[], int]) -> Measured:
        """Wait for the end; every task must have succeeded."""
        rss_bytes = 0
        # Not what wait4 says: that counts what this process had held when it forked.
        while not self.ended():
            rss_bytes = max(rss_bytes, memory_bytes(self.pid, "VmHWM"))
            time.sleep(0.05)
        said = self._log.read_text()
        found = re.search(r"([\d.]+) s, (\d+) pushes, (\d+) returns", said)
        if self.process.returncode or found is None:
            sys.exit(f"the ventilator of job {self.job} failed:\n{said}")
        seconds, pushes, returns = found.groups()
        return Measured(self.job, float(seconds), int(pushes), int(returns), rss_bytes, sink_rss_bytes())


class Farm:
    """A running sink and its crew."""

    def __init__(self, folder: Path, stack: ExitStack, database: str = "") -> None:
        self.folder = folder
        self.ledger = folder / "results.db"
        self._database = database
        self.workers: list[subprocess.Popen[bytes]] = []
        self._stack = stack
        self.probes = 0
        self._job_count = 0
        self.sink = self.start_sink("0", "0")

    def start_sink(self, control_port: str, results_port: str) -> subprocess.Popen[bytes]:
        """Start the sink, for the first time or again."""
        ports = ["--control-port", control_port, "--results-port", results_port]
        ledger = ["--ledger", self._database] if self._database else []
        self.sink = self._start("sink", "--listen", "127.0.0.1", *ports, *ledger)
        wait_for(lambda: (self.folder / "keys" / "observer.key_secret").exists(), "the sink")
        return self.sink

    def ports(self) -> tuple[str, str]:
        """Where the sink listens: control and results."""
        found = re.search(r"ports (\d+) and (\d+)", self.said())
        assert found is not None
        return found[1], found[2]

    def start_worker(self, slots: int, *arguments: str, **env: str) -> None:
        """Start one more worker, which serves `benchmarks/work.py`."""
        self.workers.append(self._start("worker", "work", "--slots", str(slots), *arguments, **env))

    def wait_for_crew(self, count: int, within_s: float = 30) -> None:
        """Wait until this many workers have joined since the farm began."""
        wait_for(lambda: self.said().count(" joined with ") >= count, "the crew", within_s)

    def said(self) -> str:
        """What the sink has said."""
        return (self.folder / "sink.log").read_text()

    def start(self, *arguments: str, job: str | None = None, stdin: IO[bytes] | int | None = None) -> Running:
        """Start a ventilator; `arguments` are its function, input and options."""
        self._job_count += 1
        job = job or f"bench-{self._job_count}"
        port = () if "always" in arguments else ("--port", "0")
        command = [sys.executable, str(TOP / "ventilator.py"), *arguments, *port, "--job", job]
        path = self.folder / f"ventilator-{self._job_count}.log"
        env = os.environ | {"TRADEWIND_LOG_LEVEL": "debug"}
        with path.open("wb") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdin=stdin, stderr=log)
        self._stack.callback(_end, process)
        return Running(job, process, path)

    def run(self, *arguments: str) -> Measured:
        """Run a ventilator to its end."""
        return self.start(*arguments).finish(self.sink_rss_bytes)

    def squares(self, count: int, *options: str) -> Measured:
        """Run n·n for a range of integers, and check every value."""
        measured = self.run("work:square", "--range", str(count), *options)
        self.check(measured.job, count, SQUARED)
        return measured

    def check(self, job: str, count: int, condition: str) -> None:
        """Look at every row of the job: all tasks are there, and `condition` (SQL) holds for each value."""
        query = (
            f"SELECT count(*), min(task), max(task), total(status = 'ok' AND ({condition}))"
            " FROM results JOIN jobs USING (job) WHERE name = ?"
        )
        if self._database:
            rows, low, high, right = self._checked_there(job)
        else:
            with closing(self.read()) as db:
                rows, low, high, right = db.execute(query, (job,)).fetchone()
        if not (rows == right == count and low == 0 and high == count - 1):
            sys.exit(f"job {job} is wrong: {rows} rows, tasks {low} to {high}, {right:.0f} right values")

    def _checked_there(self, job: str) -> tuple[int, int, int, int]:
        """The same of squares in a database."""
        import psycopg

        query = (
            "SELECT count(*), min(task), max(task), sum((kind = 'i' AND value::numeric = task * task)::int)"
            " FROM tradewind.task_rows JOIN tradewind.jobs USING (job) WHERE name = %s"
        )
        with psycopg.connect(self._database) as db:
            found = db.execute(query, (job,)).fetchone()
        assert found is not None
        rows, low, high, right = found
        return rows, low, high, right

    def check_values(self, job: str, values: Iterable[Any]) -> None:
        """Compare the job's values, in order of tasks, with these; all must be there."""
        query = "SELECT status, value FROM results JOIN jobs USING (job) WHERE name = ? ORDER BY task"
        with closing(self.read()) as db:
            rows = db.execute(query, (job,))
            for task, (row, value) in enumerate(zip_longest(rows, values)):
                if row != ("ok", value):
                    sys.exit(f"job {job} is wrong from task {task} on")

    def values(self, job: str) -> list[Any]:
        """What is recorded of the job now, in order of tasks."""
        query = "SELECT value FROM results JOIN jobs USING (job) WHERE name = ? ORDER BY task"
        with closing(self.read()) as db:
            return [value for (value,) in db.execute(query, (job,))]

    def read(self) -> sqlite3.Connection:
        """The ledger, for reading."""
        return sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)

    def done_count(self, job: str) -> int:
        """How many tasks of the job are recorded now."""
        return self._done(job) or 0

    def has_job(self, job: str) -> bool:
        """True once the ledger knows the job."""
        return self._done(job) is not None

    def sink_rss_bytes(self) -> int:
        """The most memory that the sink has held."""
        return memory_bytes(self.sink.pid, "VmHWM")

    def _done(self, job: str) -> int | None:
        with closing(self.read()) as db:
            row = db.execute("SELECT done FROM jobs WHERE name = ?", (job,)).fetchone()
        return int(row[0]) if row else None

    def _start(self, role: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TOP / f"{role}.py"), *arguments]
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=os.environ | env, stderr=log)
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def farm(
    slots: int, workers: Sequence[dict[str, str]] = ({},), database: str = "", inside: str | None = None
) -> Iterator[Farm]:
    """Start a sink and one worker for each environment in `workers`; with a database its ledger is there.

    Its folder is `inside` another one, or where the system has temporary ones.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-bench-", dir=inside)))
        shutil.copy(TOP / "benchmarks" / "work.py", folder)
        running = Farm(folder, stack, database)
        for env in workers:
            running.start_worker(slots, **env)
        running.wait_for_crew(len(workers))
        yield running


def memory_bytes(pid: int, what: str = "VmRSS") -> int:
    """What a process holds (VmRSS) or has held at most (VmHWM); 0 where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(rf"{what}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 30, look_s: float = 0.02) -> None:
    """Wait until the condition holds."""
    ends_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends_at:
            sys.exit(f"{what} did not come up within {within_s:g} seconds")
        time.sleep(look_s)
