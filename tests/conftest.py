"""A pipeline of real processes for the tests: real CURVE sockets on loopback, a real SQLite file, real signals."""

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import harmed as harmed
from tests.postgres import postgres as postgres
from tests.postgres import server as server

hypothesis.settings.register_profile(
    "noisy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("noisy machine")

TOP = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
"""How long a test waits for something that must come; only a failure takes this long."""


def typed(script: str) -> str:
    """How messages name a command in these tests, as a regular expression: as this Python's and this checkout's."""
    return re.escape(shlex.join([sys.executable, str(TOP / f"{script}.py")]))


class Process:
    """A started command. Its outputs go to files, so that waiting for a line cannot block it."""

    def __init__(self, command: list[str], folder: Path, tag: str, env: dict[str, str], stdin: object) -> None:
        self.tag = tag
        self._out = folder / f"{tag}.out"
        self._err = folder / f"{tag}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(
                command, cwd=folder, stdin=stdin, stdout=out, stderr=err, env=env, start_new_session=True
            )  # type: ignore[call-overload]

    @property
    def pid(self) -> int:
        return int(self.popen.pid)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until stderr matches; fail when the process ends before, or never does."""
        ends_at = time.monotonic() + PATIENCE_S
        while True:
            ended = self.popen.poll() is not None
            if match := re.search(pattern, self.err):
                return match
            if ended or time.monotonic() > ends_at:
                pytest.fail(f"{self.tag} never said {pattern!r} (exit code {self.popen.poll()}); it said:\n{self.err}")
            time.sleep(0.01)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return int(self.popen.wait(PATIENCE_S))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.tag} does not end; it said:\n{self.err}")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


class Pipeline:
    """Commands in one folder, as a user would type them there. Everything that is started is ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("TRADEWIND_")}
        self._sink_options = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
        self.ledger = str(folder / "results.db")

    def start(
        self, script: str, *arguments: str, stdin: object = subprocess.DEVNULL, inside: Sequence[str] = (), **env: str
    ) -> Process:
        """Start `python SCRIPT.py ARGUMENTS` in the folder; `inside` is what has to stand before it."""
        tag = f"{script}-{len(self.processes)}"
        command = [*inside, sys.executable, str(TOP / f"{script}.py"), *arguments]
        process = Process(command, self.folder, tag, self.env | env, stdin)
        self.processes.append(process)
        return process

    def sink(self, *arguments: str, inside: Sequence[str] = (), **env: str) -> Process:
        """A sink at free ports of the loopback interface, ready; started again it has the same ports."""
        process = self.start("sink", *self._sink_options, *arguments, inside=inside, **env)
        ports = process.wait_for(r"ports (\d+) and (\d+)")
        self._sink_options[3:6:2] = ports[1], ports[2]
        return process

    def keep_in(self, ledger: str) -> None:
        """Have the sink write another ledger than the file in the folder."""
        self.ledger = ledger
        self._sink_options += ["--ledger", ledger]

    def worker(self, *arguments: str, **env: str) -> Process:
        return self.start("worker", *arguments, **env)

    def ventilator(self, *arguments: str, stdin: object = subprocess.DEVNULL, **env: str) -> Process:
        return self.start("ventilator", *arguments, "--port", "0", stdin=stdin, **env)

    def piped(self, content: bytes, *arguments: str) -> Process:
        """A ventilator that reads this from a pipe, which then ends."""
        process = self.ventilator(*arguments, stdin=subprocess.PIPE)
        assert process.popen.stdin
        process.popen.stdin.write(content)
        process.popen.stdin.close()
        return process

    def run(self, script: str, *arguments: str, stdin: object = subprocess.DEVNULL, **env: str) -> Process:
        """Run a command to its end."""
        process = self.start(script, *arguments, stdin=stdin, **env)
        process.wait()
        return process

    def module(self, name: str, text: str) -> None:
        """Write a module of the user's."""
        path = self.folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def query(self, sql: str, *values: object) -> list[tuple]:
        """Read the ledger as a user would, with plain sqlite3."""
        with sqlite3.connect(self.folder / "results.db", timeout=30) as db:
            return db.execute(sql, values).fetchall()

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
            process.popen.wait()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it never does."""
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ends_at:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """True once this process has ended, also while nobody has waited for it. It may end between the two looks."""
    try:
        os.kill(pid, 0)
        # Where there is no /proc only a process that was waited for is gone.
        stat = Path(f"/proc/{pid}/stat") if Path("/proc/self/stat").exists() else None
        return stat is not None and stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """With the parameter `database` its ledger is one of PostgreSQL."""
    with closing(Pipeline(tmp_path)) as made:
        if getattr(request, "param", "file") == "database":
            made.keep_in(request.getfixturevalue("postgres").address() + f"&site={tmp_path.name}")
        made.module("squares", "def square(n):\n    return n * n\n")
        yield made


@pytest.fixture
def programs(pipeline: Pipeline) -> Pipeline:
    """Programs that import tradewind from this checkout."""
    (pipeline.folder / "path").mkdir()
    (pipeline.folder / "path" / "tradewind").symlink_to(TOP / "common")
    pipeline.env["PYTHONPATH"] = str(pipeline.folder / "path")
    return pipeline


def start(pipeline: Pipeline, name: str, text: str) -> Process:
    """Start a program."""
    pipeline.module(name, textwrap.dedent(text))
    command = [sys.executable, str(pipeline.folder / f"{name}.py")]
    process = Process(command, pipeline.folder, name, pipeline.env, None)
    pipeline.processes.append(process)
    return process
