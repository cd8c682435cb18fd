"""A real sink, and as many workers as one machine can play: they join, do a job, and join again."""

import json
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

from benchmarks.farm import TOP, Farm, cpu_s, farm, memory_bytes

PROCESS_WORKERS = 100
"""How many workers share a process."""


@dataclass
class Crew:
    """The processes of a crew, and what they have said last."""

    workers: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    heard: list[dict[str, int]] = field(default_factory=list)
    silence_s: float = 0.0

    def start(self, running: Farm, slots: int, task_s: float) -> None:
        """Start all of its processes."""
        left = self.workers
        while left > 0:
            here = min(PROCESS_WORKERS, left)
            left -= here
            key = running.folder / "keys" / "worker.key_secret"
            command = [sys.executable, "-m", "benchmarks.scale.crew", str(key), str(here), str(slots), str(task_s)]
            command.append(f"crew{len(self.processes)}")
            self.processes.append(subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True))
            self.heard.append({})

    def wait_until_heard(self, run: int, within_s: float) -> float:
        """Wait until the sink has heard each worker in its run of this number; when the last one was heard."""
        ends_at, last_at = time.monotonic() + within_s, 0.0
        while True:
            runs: dict[str, int] = {}
            for heard in self.heard:
                for name, count in heard.items():
                    runs[name] = runs.get(name, 0) + count
            if len(self.runs(runs)) > run and runs[self.runs(runs)[run]] == self.workers:
                return last_at
            if time.monotonic() > ends_at:
                sys.exit(f"not all workers have joined within {within_s:g} seconds: {runs}")
            last_at = max(last_at, self._read(0.1))

    _order: list[str] = field(default_factory=list)

    def runs(self, found: dict[str, int]) -> list[str]:
        """The runs of the sink in the order in which they were seen first."""
        self._order += [name for name in found if name not in self._order]
        return self._order

    def _read(self, within_s: float) -> float:
        streams: dict[IO[str], int] = {
            process.stdout: place for place, process in enumerate(self.processes) if process.stdout is not None
        }
        last_at = 0.0
        for stream in select.select(list(streams), [], [], within_s)[0]:
            line = stream.readline()
            if not line:
                sys.exit("a process of the crew has ended")
            said = json.loads(line)
            self.heard[streams[stream]] = said["heard"]
            self.silence_s = max(self.silence_s, said["silence_s"])
            last_at = max(last_at, said["at"])
        return last_at

    def kill(self) -> None:
        """End whatever still runs."""
        for process in self.processes:
            process.kill()

    def longest_silence(self) -> float:
        """The longest silence of the sink that one of them has seen until now."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR1)
        for process in self.processes:
            assert process.stdout is not None
            self.silence_s = max(self.silence_s, json.loads(process.stdout.readline())["silence_s"])
        return self.silence_s

    def end(self) -> None:
        """Let all leave."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=60)


@dataclass(frozen=True)
class Joined:
    """What a crew that joins, works and joins again has shown."""

    workers: int
    joined_s: float
    """From the start of the first process to the last worker's first beat that the sink has heard."""
    join_cpu_s: float
    """Processor time of the sink until then."""
    worker_bytes: float
    """Memory of the sink for each of them."""
    idle_cpu: float
    """Cores that the sink uses while the crew does nothing."""
    tasks: int
    job_s: float
    returns: int
    job_cpu_s: float
    """Processor time of the sink during the job."""
    rejoined_s: float
    """From the start of the sink that was killed to the last worker's first beat that it has heard."""
    rejoin_cpu_s: float
    silence_s: float
    """The longest time without a word of the sink, of any worker, while no sink was killed."""


def measure(workers: int, task_s: float, idle_s: float) -> Joined:
    """Let them join, do a job of ten tasks each, and join again when the sink was killed."""
    with ExitStack() as stack:
        running = stack.enter_context(farm(1, ()))
        crew = Crew(workers)
        stack.callback(crew.kill)
        sink = running.sink
        before = memory_bytes(sink.pid)
        began = time.monotonic()
        crew.start(running, 1, task_s)
        joined_s = crew.wait_until_heard(0, 120) - began
        join_cpu_s = cpu_s(sink.pid)
        worker_bytes = (memory_bytes(sink.pid) - before) / workers
        at, used = time.monotonic(), cpu_s(sink.pid)
        time.sleep(idle_s)
        idle_cpu = (cpu_s(sink.pid) - used) / (time.monotonic() - at)
        used, tasks = cpu_s(sink.pid), 10 * workers
        job = running.squares(tasks, "--batch", "1")
        job_cpu_s = cpu_s(sink.pid) - used
        silence_s = crew.longest_silence()
        ports = running.ports()
        sink.kill()
        sink.wait()
        began = time.monotonic()
        sink = running.start_sink(*ports)
        rejoined_s = crew.wait_until_heard(1, 120) - began
        rejoin_cpu_s = cpu_s(sink.pid)
        crew.end()
    return Joined(
        workers, joined_s, join_cpu_s, worker_bytes, idle_cpu, tasks, job.seconds, job.returns, job_cpu_s,
        rejoined_s, rejoin_cpu_s, silence_s,
    )  # fmt: skip
