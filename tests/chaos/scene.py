"""The pipeline under chaos: who is killed is started again, as its operator would; who is stopped or cut off heals."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from pathlib import Path

import pytest

from tests.chaos.roads import WORKERS, Roads
from tests.chaos.schedule import KILLS, Strike
from tests.conftest import PATIENCE_S, Pipeline, Process, wait_until

TASK = """
import os, time
def work(n):
    with open(f"executions/{os.getpid()}", "a") as file:
        file.write(f"{n}\\n")
    time.sleep(0.009 if n % 50 else 0.1)
    while n == LAST and not os.path.exists("open"):
        time.sleep(0.01)
    return n * 7
"""
"""The last task waits until the strikes are over: none of them hits a job that is done."""
MODULE = "chaos_task"


class Scene:
    """One job, everybody who runs it, and what was done to them."""

    def __init__(self, pipeline: Pipeline, roads: Roads, tasks: int) -> None:
        pipeline.module(MODULE, f"LAST = {tasks - 1}{TASK}")
        (pipeline.folder / "executions").mkdir()
        self.done = Counter[str]()
        self.journal: list[str] = []
        self._pipeline = pipeline
        self._roads = roads
        self._command = [f"{MODULE}:work", "--range", str(tasks), "--job", "chaos", "--quarantine-after", "1000"]
        self._command += ["--retries", "5"]
        self._undo: list[tuple[float, int, Callable[[], object]]] = []
        self._ailing: set[str] = set()
        self._started_at = time.monotonic()
        self._processes: dict[str, Process] = {}
        self._start("sink").wait_for("listening at")
        for host in WORKERS:
            self._start(host)
        self._start("ventilator")
        wait_until(lambda: self.recorded_count(), "the first result")

    @property
    def kill_count(self) -> int:
        """SIGKILLs that hit somebody."""
        return sum(self.done[kind] for kind in KILLS)

    def recorded_count(self) -> int:
        """Tasks with a row."""
        return int(self._pipeline.query("SELECT coalesce(sum(done), 0) FROM jobs")[0][0])

    def run(self, strikes: Iterable[Strike], kills: int) -> None:
        """Strike until this many were killed."""
        for strike in strikes:
            self._wait(strike.after_s)
            self._look_after_everybody()
            self._strike(strike)
            if self.kill_count >= kills:
                return

    def finish(self) -> None:
        """No more faults: the job must end by itself."""
        while self._undo:
            heappop(self._undo)[2]()
        (self._pipeline.folder / "open").touch()
        self._wait_for_ventilator()
        while self._processes["ventilator"].popen.returncode != 0:
            # A killed child's task is recorded as failed: that is the promise, and the tasks are run again by name.
            assert self._is_refused_or_failed(), self._processes["ventilator"].err
            self._start("ventilator", "--retry-failed")
            self._wait_for_ventilator()

    # -- strikes ------------------------------------------------------------------------------------------------

    def _strike(self, strike: Strike) -> None:
        hit = {
            "child": self._kill_child,
            "worker": lambda strike: self._kill(str(strike.pick(WORKERS))),
            "sink": lambda strike: self._kill("sink"),
            "ventilator": lambda strike: self._kill("ventilator"),
            "stop": self._stop,
            "leave": self._leave,
            "network": self._cut,
        }[strike.kind](strike)
        if hit:
            self.done[strike.kind] += 1
        self._note(f"{strike} -> {hit or 'nobody'}")

    def _kill(self, host: str) -> str:
        self._processes[host].kill()
        self._start(host)
        return host

    def _kill_child(self, strike: Strike) -> str | None:
        worker = self._processes[str(strike.pick(WORKERS))]
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        if not pids:
            return None
        try:
            os.kill(pids[strike.dice // 10 % len(pids)], signal.SIGKILL)
        except ProcessLookupError:
            return None
        return f"a child of {worker.tag}"

    def _stop(self, strike: Strike) -> str | None:
        process = self._processes[str(strike.pick(list(self._processes)))]
        process.signal(signal.SIGSTOP)
        self._later(strike.seconds, lambda: process.signal(signal.SIGCONT))
        return process.tag

    def _leave(self, strike: Strike) -> str:
        host = str(strike.pick(WORKERS))
        self._processes[host].signal(signal.SIGTERM)
        self._start(host)
        return host

    def _cut(self, strike: Strike) -> str | None:
        host = str(strike.pick(self._roads.hosts()))
        if host in self._ailing:
            return None
        self.done[strike.fault.partition("@")[0]] += 1
        if self._roads.strike(host, strike.fault):
            self._ailing.add(host)
            self._later(strike.seconds, lambda: self._heal(host))
        return host

    def _heal(self, host: str) -> None:
        self._roads.heal(host)
        self._ailing.discard(host)
        self._note(f"{host} is healed")

    # -- looking after ------------------------------------------------------------------------------------------

    def _start(self, host: str, *more: str) -> Process:
        arguments = {"sink": [], "ventilator": self._command}.get(host, [MODULE, "--slots", "2", "--name", host])
        self._processes[host] = self._roads.start(host, *arguments, *more)
        return self._processes[host]

    def _look_after_everybody(self) -> None:
        """Nobody ends by itself, but for a ventilator that finds its predecessor's last words still under way."""
        for host, process in self._processes.items():
            if process.popen.poll() is None:
                continue
            assert host == "ventilator" and process.popen.returncode == 2 and self._is_refused_or_failed(), (
                f"{process.tag} ended by itself with {process.popen.returncode}:\n{process.err}"
            )
            self.done["refused"] += 1
            self._start("ventilator")

    def _is_refused_or_failed(self) -> bool:
        ventilator = self._processes["ventilator"]
        return ventilator.popen.returncode == 1 or "is run by a ventilator at" in ventilator.err

    def _wait_for_ventilator(self) -> None:
        """Wait for its end; the ledger must grow meanwhile."""
        seen, seen_at = -1, time.monotonic()
        while self._processes["ventilator"].popen.poll() is None:
            recorded = self.recorded_count()
            if recorded != seen:
                seen, seen_at = recorded, time.monotonic()
            if time.monotonic() > seen_at + PATIENCE_S:
                pytest.fail(f"nothing was recorded for {PATIENCE_S:g} s:\n{self._processes['ventilator'].err}")
            time.sleep(0.05)

    def _wait(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while True:
            while self._undo and self._undo[0][0] <= time.monotonic():
                heappop(self._undo)[2]()
            next_at = min(self._undo[0][0], ends_at) if self._undo else ends_at
            time.sleep(max(0.0, next_at - time.monotonic()))
            if time.monotonic() >= ends_at:
                return

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        heappush(self._undo, (time.monotonic() + seconds, len(self.journal), call))

    def _note(self, text: str) -> None:
        self.journal.append(f"{time.monotonic() - self._started_at:6.1f} s  {text}")
