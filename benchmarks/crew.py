"""How long it takes until a crew is up through ssh, and until it has left.

    python -m benchmarks.crew [WORKERS]

Each worker has a host of its own in ssh's eyes, a connection, an sshd and a slot. All of them are this machine, so that
its cores also do what the hosts of a real crew do themselves. It needs sshd (openssh-server) and what the tests need.
"""

import os
import re
import signal
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

from tests.conftest import TOP, Pipeline, Process
from tests.sshd import PROGRAM, sshd_in

TASKS = 100_000


def cpu_s() -> float:
    """The CPU time that all that this process has started has taken so far, in seconds."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            # Its own time, and that of children that have ended.
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def seen(process: Process, pattern: str, count: int) -> None:
    """Wait until this many lines match."""
    while len(re.findall(pattern, process.err)) < count:
        if process.popen.poll() is not None:
            sys.exit(process.err)
        time.sleep(0.02)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    hosts = [f"host{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as made, closing(Pipeline(Path(made))) as pipeline:
        folder = pipeline.folder
        pipeline.module("squares", "def square(n):\n    return n * n\n")
        with sshd_in(folder / "there", *hosts) as there:
            sink = pipeline.sink()
            port = sink.wait_for(r"ports (\d+) and")[1]
            ways = ["--ssh", there.ssh, "--program", PROGRAM, "--cwd", str(folder)]
            words = [*hosts, *ways, "--", "squares", "--slots", "1", "--sink", f"127.0.0.1:{port}"]
            load, before, began = os.getloadavg()[0], cpu_s(), time.monotonic()
            env = pipeline.env | {"PYTHONPATH": str(TOP)}
            crew = Process([sys.executable, "-m", "common", "crew", "ssh", *words], folder, "crew", env, None)
            pipeline.processes.append(crew)
            seen(sink, " joined with ", count)
            up_s, up_cpu_s = time.monotonic() - began, cpu_s() - before
            job = pipeline.run("ventilator", "squares:square", "--range", str(TASKS))
            [(rows,)] = pipeline.query("SELECT COUNT(*) FROM results")
            began = time.monotonic()
            crew.signal(signal.SIGINT)
            code = crew.wait()
            left_s = time.monotonic() - began
        print(
            f"{count} workers are up after {up_s:.1f} s, and have left {left_s:.1f} s after Ctrl-C (exit code {code})"
        )
        print(f"a job of {TASKS:,} tasks between them: exit code {job.wait()}, {rows:,} rows")
        print(f"until they were up {up_cpu_s:.1f} s of CPU, on {os.cpu_count()} cores; load before: {load:.1f}")


if __name__ == "__main__":
    main()
