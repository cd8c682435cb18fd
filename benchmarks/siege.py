"""Attacks on a farm at work, and what they cost it: python -m benchmarks.siege [ATTACK...] [--write].

A sink, a worker and a ventilator are started, whose job never ends, and once more where an attack has left its mark on
them. What is measured: tasks per second before, during and after, the memory and descriptors of sink and ventilator,
the lines that all three log, and the longest time that the sink left another peer's question without an answer.
Attackers run on the same machine: what they compute themselves is missing to the farm, too.
"""

import argparse
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from msgspec import msgpack

from benchmarks import attacks, machine
from benchmarks.farm import TOP, Farm, Running, farm, memory_bytes, wait_for
from benchmarks.measuring import say, spelled
from common.protocol.messages import PROTOCOL_VERSION
from common.protocol.settings import Timing
from common.transport.key_files import load

JOB = "siege"
PAGE = TOP / "docs" / "SECURITY.md"
TABLE = re.compile(r"(<!-- siege -->\n).*?(<!-- end of siege -->)", re.DOTALL)
HEAD = (
    "attacker and attack",
    "attacks",
    "tasks/s before, during, after",
    "sink MB, ventilator MB more",
    "descriptors more",
    "lines logged",
    "longest silence, s",
    "ended",
)


class Questioner(threading.Thread):
    """Asks the sink how things stand, again and again, with an observer's key of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._over = threading.Event()
        pair = load(folder / "keys" / "observer.key_secret")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_publickey, self._socket.curve_secretkey = pair.public.encode(), (pair.secret or "").encode()
        self._socket.curve_serverkey = pair.sink_key.encode()
        self._socket.linger = 0
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._ask("hello", version=PROTOCOL_VERSION, role="observer", name="questioner")

    def run(self) -> None:
        """Until `end`."""
        while not self._over.is_set():
            asked_at = time.monotonic()
            self._ask("query")
            while not self._socket.poll(50) and not self._over.is_set():
                self.longest_s = max(self.longest_s, time.monotonic() - asked_at)
            with suppress(zmq.Again):
                while self._socket.recv(zmq.DONTWAIT):
                    pass
            self.longest_s = max(self.longest_s, time.monotonic() - asked_at)
            self._over.wait(0.02)

    def end(self) -> float:
        """The longest time without an answer."""
        self._over.set()
        self.join()
        self._context.destroy(linger=0)
        return self.longest_s

    def _ask(self, type: str, **fields: object) -> None:
        self._socket.send(msgpack.encode({"type": type, **fields}))


@dataclass
class Cost:
    """What an attack has cost."""

    title: str
    count: int = 0
    rates: list[float] = field(default_factory=list)
    memory_mb: tuple[float, float] = (0.0, 0.0)
    descriptors: int = 0
    lines: int = 0
    silence_s: float = 0.0
    ended: list[str] = field(default_factory=list)

    def row(self) -> str:
        """A line of the table."""
        cells = (
            self.title,
            f"{self.count:,}",
            ", ".join(spelled(rate) for rate in self.rates),
            ", ".join(f"{each:.0f}" for each in self.memory_mb),
            str(self.descriptors),
            str(self.lines),
            f"{self.silence_s:.2f}",
            ", ".join(self.ended) or "nobody",
        )
        return "| " + " | ".join(cells) + " |"


class Watched:
    """The farm under attack."""

    def __init__(self, running: Farm) -> None:
        self.farm = running
        control, results = running.ports()
        self.control = int(control)
        for role, name in (("worker", "eve"), ("ventilator", "mall"), ("observer", "peep")):
            command = [sys.executable, str(TOP / "sink.py"), "enrol", role, name]
            command += ["--address", f"tcp://127.0.0.1:{control}"]
            subprocess.run(command, cwd=running.folder, check=True, capture_output=True)
        self.ventilator: Running = running.start("work:square", "--range", "1000000000000", job=JOB)
        wait_for(lambda: running.has_job(JOB) and running.done_count(JOB) > 0, "the job")
        wait_for(lambda: self._tasks_port() is not None, "the tasks link")
        ports = f"control={control}\nresults={results}\ntasks={self._tasks_port()}\n"
        (running.folder / "ports").write_text(ports)

    def _tasks_port(self) -> str | None:
        said = (self.farm.folder / "worker.log").read_text()
        found = re.search(r"pulling the tasks of job \S+ from \S*:(\d+)", said)
        return found and found[1]

    def rate(self, seconds: float) -> float:
        """Tasks per second in the time to come."""
        before, began = self.farm.done_count(JOB), time.monotonic()
        time.sleep(seconds)
        return (self.farm.done_count(JOB) - before) / (time.monotonic() - began)

    def pids(self) -> tuple[int, int]:
        """Sink and ventilator."""
        return self.farm.sink.pid, self.ventilator.pid

    def descriptors(self) -> int:
        """Of sink and ventilator together; 0 for who may not look: on Linux their `/proc` files belong to root."""
        with suppress(OSError):
            return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())
        return 0

    def lines(self) -> int:
        """What sink, worker and ventilator have logged; the ventilator's level is debug here, and is not by default."""
        texts = [path.read_text(errors="replace") for path in self.farm.folder.glob("*.log")]
        return sum(" DEBUG " not in line for text in texts for line in text.splitlines())

    def ended(self) -> list[str]:
        """Who is gone, and how."""
        found = {"sink": self.farm.sink, "worker": self.farm.workers[0], "ventilator": self.ventilator.process}
        return [f"{role} ({process.returncode})" for role, process in found.items() if process.poll() is not None]


def measure(watched: Watched, name: str, title: str, seconds: float) -> Cost:
    """One attack."""
    cost = Cost(title, rates=[watched.rate(seconds / 2)])
    before = [memory_bytes(pid) for pid in watched.pids()]
    peaks, descriptors, lines = before, watched.descriptors(), watched.lines()
    questioner = Questioner(watched.farm.folder, watched.control)
    questioner.start()
    command = [sys.executable, "-m", "benchmarks.attacks", name, str(watched.farm.folder), str(seconds)]
    began, done = time.monotonic(), watched.farm.done_count(JOB)
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) as attacker:
        while attacker.poll() is None:
            cost.descriptors = max(cost.descriptors, watched.descriptors() - descriptors)
            peaks = [max(peak, memory_bytes(pid)) for peak, pid in zip(peaks, watched.pids(), strict=True)]
            time.sleep(0.02)
            if time.monotonic() > began + 6 * seconds:
                attacker.kill()
        cost.count = int((attacker.stdout.read() if attacker.stdout else "") or 0)
    cost.rates.append((watched.farm.done_count(JOB) - done) / (time.monotonic() - began))
    time.sleep(1)
    cost.ended = watched.ended()
    cost.rates.append(0 if cost.ended else watched.rate(seconds / 2))
    cost.memory_mb = ((peaks[0] - before[0]) / 1e6, (peaks[1] - before[1]) / 1e6)
    cost.silence_s, cost.lines = questioner.end(), watched.lines() - lines
    return cost


def measured(names: Iterable[str], seconds: float) -> Iterator[Cost]:
    """The attacks, one after the other, on one farm while nobody in it has ended and its sink is not much larger."""
    known, left = titles(), list(names)
    while left:
        with farm(1) as running:
            watched = Watched(running)
            time.sleep(1)
            size = memory_bytes(running.sink.pid)
            while left and not watched.ended() and memory_bytes(running.sink.pid) < 2 * size:
                name = left.pop(0)
                yield measure(watched, name, known[name], seconds)
                if name in attacks.SENTENCED:
                    # Its key gets no tasks for a while.
                    watched.ventilator.kill()
                    break
                if name not in attacks.STRANGERS:
                    # Until the sink has forgotten the peers of this attack.
                    time.sleep(Timing().gone_s + 1)
            if not watched.ended():
                watched.ventilator.kill()


def titles() -> dict[str, str]:
    """What each attack is, and who does it, by its name."""
    found = {"none": "none"}
    found |= {name: f"stranger, {link}: {attack.__doc__}" for name, (attack, link) in attacks.STRANGERS.items()}
    return found | {
        name: f"{who}: {attack.__doc__}" for who, group in attacks.ENROLLED.items() for name, attack in group.items()
    }


def main() -> None:
    """Run the attacks that are named, or all; print the table, and write it into the page if asked to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = titles()
    listed = "\n".join(f"  {name:18} {title}" for name, title in known.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.siege",
        description=f"{(__doc__ or '').strip()}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("attack", nargs="*", choices=[[], *known], help="which attacks (default: all)")
    parser.add_argument("--seconds", type=float, default=6, help="how long each attack goes on (default: 6)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/SECURITY.md")
    options = parser.parse_args()
    rows = []
    for cost in measured(options.attack or known, options.seconds):
        rows.append(cost.row())
        say(rows[-1])
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}", *rows]
    described = machine.described()
    where = ", ".join(f"{name} {described[name]}" for name in ("cores", "memory", "kernel", "libzmq", "pyzmq", "load"))
    table = "\n".join([*lines, "", f"Each attack took {options.seconds:g} s, on this machine: {where}.", ""])
    print(table)
    if options.write:
        PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
