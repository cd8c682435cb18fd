"""What a beat costs a real sink, sockets and all: some hundred CURVE connections, at a rate that a large crew has."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from benchmarks.farm import Farm, farm
from common.protocol.codec import encode
from common.protocol.messages import PROTOCOL_VERSION, Ask, BatchName, Beat, Hello, Message, Offer, Open
from common.transport import sink_link as link
from common.transport import sockets
from common.transport.key_files import load_pair

CONNECTIONS = 300
SECONDS = 4.0


@dataclass(frozen=True)
class Wire:
    """What was seen at one rate."""

    jobs: int
    beats_per_s: float
    rules_micros: float
    """Processor time of the thread that has the rules, for a beat and all that it causes."""
    io_micros: float
    """The same of the threads that encrypt, send and receive."""
    heard_count: int
    crew_count: int
    """Messages to ventilators, all jobs together."""
    beat_count: int


def thread_s(pid: int) -> tuple[float, float]:
    """Processor time of a process's first thread, and of all others."""
    first = others = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if int(task.name) == pid:
            first += seconds
        else:
            others += seconds
    return first, others


class Load:
    """Connections of workers, and of the ventilators whose jobs they serve."""

    def __init__(self, running: Farm, jobs: int) -> None:
        self._context = zmq.Context()
        self._context.max_sockets = CONNECTIONS + 100
        self._frames = 0
        self._poller = zmq.Poller()
        self.ventilators = [self._connect(running, "ventilator") for _ in range(jobs)]
        for number, each in enumerate(self.ventilators):
            self._say(each, Hello(PROTOCOL_VERSION, "ventilator", f"v{number}"))
            self._say(each, Open(f"job-{number}", "work:square", "range 0:1", 5600, 0, False, False))
        self.workers = [self._connect(running, "worker") for _ in range(CONNECTIONS)]
        for number, each in enumerate(self.workers):
            self._say(each, Hello(PROTOCOL_VERSION, "worker", f"node{number:05}.123456-abcd"))
            self._say(each, Offer(["work:square"]))
            self._say(each, Beat(1, 1, 1, {}, {}))
        self.serial = 1
        self.heard_count = self.crew_count = 0

    def _connect(self, running: Farm, role: str) -> "zmq.Socket[bytes]":
        pair = load_pair(running.folder / "keys" / f"{role}.key_secret", role)
        made = sockets.control_client(self._context, pair)
        made.connect(sockets.endpoint(*link.sink_addresses(pair, None)[0]))
        return made

    def _say(self, made: "zmq.Socket[bytes]", message: Message) -> None:
        made.send(encode(message))

    def settle(self) -> None:
        """Wait until nothing comes any more."""
        while self.drain():
            time.sleep(0.2)

    def drain(self) -> int:
        """Take what has come, and ask anew."""
        count = 0
        for each in self.workers:
            while True:
                try:
                    each.recv(zmq.DONTWAIT)
                except zmq.Again:
                    break
                count += 1
                self.heard_count += 1
        for number, each in enumerate(self.ventilators):
            while True:
                try:
                    content = each.recv(zmq.DONTWAIT)
                except zmq.Again:
                    break
                count += 1
                self.crew_count += 1
                if b"opened" in content[:20] or b"receipts" in content[:20]:
                    # It is asked without a pause, as by a ventilator: else the job would be over after 5 s.
                    self._say(each, Ask(f"job-{number}", 0, False))
                    count -= 1
        return count

    def run(self, beats_per_s: float) -> int:
        """Beat at this rate, all in turn; returns how often."""
        names: list[BatchName] = [(123_456, 1, 1), (234_567, 1, 1)]
        frame = encode(Beat(9, 1, 1, {f"job-{number}": names for number in range(len(self.ventilators))}, {}))
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < SECONDS:
            wanted = int(passed * beats_per_s)
            while sent < wanted:
                self.workers[sent % CONNECTIONS].send(frame)
                sent += 1
            self.drain()
            time.sleep(0.001)
        while self.heard_count < sent and time.monotonic() < began + 10 * SECONDS:
            self.drain()
            time.sleep(0.001)
        return sent

    def close(self) -> None:
        self._context.destroy(linger=0)


def measure(jobs: int, rates: list[float]) -> list[Wire]:
    """One line a rate."""
    found = []
    with farm(1, ()) as running:
        load = Load(running, jobs)
        load.settle()
        for rate in rates:
            load.heard_count = load.crew_count = 0
            before = thread_s(running.sink.pid)
            count = load.run(rate)
            after = thread_s(running.sink.pid)
            rules, io = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
            found.append(Wire(jobs, rate, rules, io, load.heard_count, load.crew_count, count))
        load.close()
    return found
