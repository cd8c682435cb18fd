"""The smallest correct worker: one slot, no prefetch, and nothing but pyzmq and msgspec.

`docs/PROTOCOL.md` shows its rules word for word; `tests/test_smallest_worker.py` runs it through whole jobs.
Usage: python tests/smallest_worker.py KEY_FILE MODULE
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq
from msgspec import Raw, msgpack

VERSION = 2
BEAT_S, SOON_S, HELLO_S, PART_S, RESEND_S, RESEND_MAX_S, GRACE_S = 1.0, 0.25, 0.5, 0.1, 10.0, 60.0, 30.0
FRAME_BYTES_MAX = 32_768
VALUE_BYTES_MAX, TASK_BYTES, ERROR_CHARACTERS_MAX, JSON_EXT = 16_777_216, 64, 10_000, 1

# -- the rules ----------------------------------------------------------------------------------------------------


class Held:
    """A batch in the worker's care: it waits, runs, or has results without a receipt."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch, self.job = batch, batch["job"]
        self.name = [batch["first"], batch["count"], batch["attempt"]]
        self.left = list(batch["arguments"])  # of the tasks without an outcome
        self.outcomes: list[tuple[bytes, float, str]] = []  # not sent: encoded value, seconds, error or ""
        self.bytes = 0  # that these take
        self.serials: set[int] = set()  # results messages without a receipt


class Worker:
    def __init__(self, name: str, link: "Link", slot: "Slot") -> None:
        self.name, self.link, self.slot = name, link, slot
        self.joined, self.run = False, ""
        self.resend_all = False
        self.jobs: dict[str, bytes] = {}  # that `places` has named and that were not dropped, with their origin
        self.held: dict[tuple[str, int], Held] = {}  # by job and first task
        self.waiting: list[Held] = []
        self.running: Held | None = None
        self.starts_at_serial: int | None = None  # the beat that announces a suspect batch
        self.unacked: dict[int, list[Any]] = {}  # by serial: batch, frame, when to send it again, the wait after that
        self.serial = self.beat_serial = 0
        self.hello_at = self.beat_at = 0.0
        self.leave_by: float | None = None

    def tick(self, now: float) -> None:  # after every event, and at least every 50 ms
        if not self.joined and now >= self.hello_at:
            self.hello_at = now + HELLO_S
            self.link.say({"type": "hello", "version": VERSION, "role": "worker", "name": self.name})
        if self.leave_by is not None and now >= self.leave_by:  # receipts are waited for no longer
            self.give_back([held for held in self.held.values() if held.left])
            self.held.clear()
        if self.running is None and self.waiting:
            self.running = self.waiting.pop(0)
            if self.running.batch["suspect"]:
                self.beat(now)
                self.starts_at_serial = self.beat_serial
            else:
                self.slot.start(now, self.running)
        if self.running and self.running.outcomes and now >= self.slot.began_at + PART_S:
            self.send_outcomes(now, self.running)  # what is done does not wait for a slow task
        for sent in self.unacked.values() if self.run else ():
            _, frame, resend_at, wait_s = sent
            if now >= resend_at:
                self.link.send_results(frame)  # the same frame, so the same serial
                sent[2:] = now + wait_s, min(2 * wait_s, RESEND_MAX_S)
        if self.joined and now >= self.beat_at:
            self.beat(now)

    def beat(self, now: float) -> None:
        self.beat_at, self.beat_serial = now + BEAT_S, self.beat_serial + 1
        held: dict[str, list[list[int]]] = {}
        for each in self.held.values():
            held.setdefault(each.job, []).append(each.name)
        started = {self.running.job: [self.running.name]} if self.running else {}
        beat = {"type": "beat", "serial": self.beat_serial, "slots": 1, "prefetch": 0}
        self.link.say(beat | {"held": held, "started": started})

    def receive(self, now: float, message: dict[str, Any]) -> None:  # from the sink
        kind, job = message["type"], message.get("job", "")
        if kind == "welcome":
            self.joined = True
            self.link.say({"type": "offer", "functions": self.slot.functions})
            self.beat(now)
            if message["run"] != self.run:  # the sink was started again; it knows nothing of our results
                self.run, self.resend_all = message["run"], True
                self.link.connect_results(message["results_port"])
        elif kind == "again":
            self.joined, self.hello_at = False, now
        elif kind == "refused":
            sys.exit(message["reason"])
        elif kind == "heard":
            if self.resend_all:  # not before: only a worker that the sink knows gets receipts
                self.resend_all = False
                for sent in self.unacked.values():
                    sent[2:] = now, RESEND_S
            if self.running and self.starts_at_serial and message["serial"] >= self.starts_at_serial:
                self.starts_at_serial = None
                self.slot.start(now, self.running)
        elif kind == "places":
            self.link.connect_tasks(message["places"])
            self.jobs |= {place["job"]: place["origin"] for place in message["places"]}  # others are kept
        elif kind == "recorded":
            for serial in message["serials"] + message["refused"]:
                if serial in self.unacked:
                    held = self.unacked.pop(serial)[0]
                    held.serials.remove(serial)
                    if not held.left and not held.serials:
                        self.forget(now, held)
        elif kind == "recall":
            self.give_back([held for held in self.waiting if held.job == job])
        elif kind == "dropped":
            self.jobs.pop(job, None)
            self.unacked = {serial: sent for serial, sent in self.unacked.items() if sent[0].job != job}
            for held in [held for held in self.held.values() if held.job == job]:
                self.forget(now, held)

    def take(self, now: float, batch: dict[str, Any]) -> None:  # from a ventilator
        held, known = Held(batch), self.held.get((batch["job"], batch["first"]))
        busy = any(each.job == held.job for each in [*self.waiting, self.running] if each)
        if self.jobs.get(held.job) != batch["origin"]:
            return  # dropped, or of another ventilator: nobody wants it back
        if known and known.batch["ticket"] == batch["ticket"] and not batch["copy"]:
            return  # pushed twice
        if known or busy or self.leave_by is not None or batch["function"] not in self.slot.functions:
            self.say_returned(held, copy=batch["copy"])
        else:
            self.held[held.job, batch["first"]] = held
            self.waiting.append(held)
            self.beat_at = min(self.beat_at, now + SOON_S)

    def outcome(self, now: float, value: bytes, seconds: float, error: str) -> None:  # of the first task that is left
        held = self.running
        if held is None:
            return
        size = len(value) + len(error.encode()) + TASK_BYTES
        if held.outcomes and held.bytes + size > VALUE_BYTES_MAX:
            self.send_outcomes(now, held)
        held.outcomes.append((value, seconds, error))
        held.bytes += size
        held.left.pop(0)
        if not held.left:
            self.send_outcomes(now, held)
            self.running = None

    def send_outcomes(self, now: float, held: Held) -> None:
        batch, outcomes = held.batch, held.outcomes
        held.outcomes, held.bytes, self.serial = [], 0, self.serial + 1
        message = {"type": "results", "job": held.job, "worker": self.name, "serial": self.serial}
        message |= {"first": batch["first"] + batch["count"] - len(held.left) - len(outcomes), "count": len(outcomes)}
        message |= {"batch": held.name, "ticket": batch["ticket"]}
        made = {
            "values": [Raw(value) for value, _, _ in outcomes],
            "seconds": [seconds for _, seconds, _ in outcomes],
            "errors": [(offset, error, False) for offset, (_, _, error) in enumerate(outcomes) if error],
        }
        message["outcomes"] = msgpack.encode(made)
        offset = message["first"] - batch["first"]
        arguments = msgpack.encode(batch["arguments"][offset : offset + len(outcomes)]) if batch["keep"] else b""
        if arguments and len(arguments) + len(message["outcomes"]) <= VALUE_BYTES_MAX:  # else the ledger goes without
            message["arguments"] = arguments
        held.serials.add(self.serial)
        self.unacked[self.serial] = [held, msgpack.encode([message]), now, RESEND_S]  # `tick` sends it

    def leave(self, now: float) -> None:  # it is over when `held` is empty: then say `goodbye`
        self.leave_by = now + GRACE_S
        self.give_back(self.waiting)

    def give_back(self, helds: list[Held]) -> None:
        for held in list(helds):
            self.forget(time.monotonic(), held)
            self.say_returned(held, copy=False)

    def say_returned(self, held: Held, copy: bool) -> None:  # of a copy that was not taken we may have the original
        batches, copies = ([], [held.name]) if copy else ([held.name], [])
        message = {"type": "returned", "job": held.job, "worker": self.name}
        self.link.say(message | {"batches": batches, "copies": copies})

    def forget(self, now: float, held: Held) -> None:
        if self.held.get((held.job, held.batch["first"])) is held:
            del self.held[held.job, held.batch["first"]]
            self.beat_at = min(self.beat_at, now + SOON_S)
        if held in self.waiting:
            self.waiting.remove(held)
        if held is self.running:
            self.running = self.starts_at_serial = None
            self.slot.end()


# -- sockets, the child, the loop ---------------------------------------------------------------------------------


class Link:
    """The three sockets, with the options that are required and no others."""

    def __init__(self, key_file: Path) -> None:
        fields = dict(re.findall(r'^\s*([a-z-]+) = "(.*)"$', key_file.read_text(), re.MULTILINE))
        self.pair = fields["public-key"].encode(), fields["secret-key"].encode()
        self.sink_key = fields["sink-key"].encode()
        found = re.fullmatch(r"tcp://(.*):(\d+)", fields["sink"].partition(",")[0])
        assert found
        self.host = found[1].strip("[]")
        self.context = zmq.Context()
        self.control = self.socket(zmq.DEALER)
        self.control.immediate = True
        self.tasks = self.socket(zmq.PULL)
        self.results: zmq.Socket[bytes] | None = None
        self.places: set[tuple[str, str]] = set()
        self.control.connect(self.endpoint(self.host, int(found[2])))

    def socket(self, kind: int) -> "zmq.Socket[bytes]":
        made: zmq.Socket[bytes] = self.context.socket(kind)
        made.curve_publickey, made.curve_secretkey = self.pair
        made.curve_serverkey = self.sink_key
        made.ipv6 = True
        made.linger = 500
        return made

    def endpoint(self, host: str, port: int) -> str:
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def connect_results(self, port: int) -> None:
        if self.results is not None:
            self.results.close(0)
        self.results = self.socket(zmq.PUSH)
        self.results.sndhwm = 0
        self.results.connect(self.endpoint(self.host, port))

    def connect_tasks(self, places: list[dict[str, Any]]) -> None:
        wanted = {(self.endpoint(place["host"] or self.host, place["port"]), place["key"]) for place in places}
        for endpoint, _ in self.places - wanted:
            self.tasks.disconnect(endpoint)
        for endpoint, key in wanted - self.places:
            self.tasks.curve_serverkey = key.encode()
            self.tasks.connect(endpoint)
        self.places = wanted

    def say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(zmq.Again):  # the sink is away: what matters is sent again
            self.control.send_multipart(in_frames(msgpack.encode(message)), zmq.DONTWAIT)

    def send_results(self, content: bytes) -> None:
        assert self.results is not None
        self.results.send_multipart(in_frames(content))


def in_frames(content: bytes) -> list[bytes]:
    """A message to the sink, cut into the frames that it takes."""
    return [content[at : at + FRAME_BYTES_MAX] for at in range(0, len(content), FRAME_BYTES_MAX)]


class Slot:
    """One child process that runs the user's functions: the worker beats while they compute."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.held: Held | None = None
        self.began_at = 0.0
        self.start_child()

    def start_child(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=run_tasks, args=(theirs, self.module), daemon=True)
        self.process.start()
        theirs.close()
        self.functions: list[str] = msgpack.decode(self.pipe.recv_bytes())

    def start(self, now: float, held: Held) -> None:
        self.held, self.began_at = held, now
        self.pipe.send_bytes(msgpack.encode([held.batch["function"], held.left]))

    def end(self) -> None:
        """End what runs; another child takes its place."""
        if self.held is not None:
            self.held = None
            self.process.kill()
            self.process.join()
            self.start_child()

    def events(self, now: float, worker: Worker) -> None:
        """Take what the child has said; one that has died or runs for too long is replaced."""
        error, timeout_s = "", self.held.batch["timeout_s"] if self.held else None
        try:
            while self.pipe.poll():
                seconds, text, value = msgpack.decode(self.pipe.recv_bytes())
                self.began_at = now
                worker.outcome(now, value, seconds, text)
        except (EOFError, ConnectionError):
            error = "the task ended its process"
        if timeout_s is not None and worker.running is self.held and now >= self.began_at + timeout_s:
            error = f"the task ran longer than its timeout of {timeout_s:g} seconds"
        if worker.running is not self.held:
            self.held = None
        if error:
            held, seconds = worker.running, now - self.began_at
            self.end()
            if held is not None:
                worker.outcome(now, msgpack.encode(None), seconds, error)
                if worker.running is held:  # its batch mates are run
                    self.start(now, held)


def run_tasks(pipe: Connection, module: str) -> None:
    """The child: the functions that are exposed, then an outcome for each argument."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, str(Path.cwd()))
    found = vars(importlib.import_module(module)).items()
    functions = {f"{module}:{name}": each for name, each in found if callable(each) and not name.startswith("_")}
    pipe.send_bytes(msgpack.encode(list(functions)))
    with contextlib.suppress(EOFError, ConnectionError):  # the worker is gone
        while True:
            for argument in (order := msgpack.decode(pipe.recv_bytes()))[1]:
                pipe.send_bytes(msgpack.encode(called(functions[order[0]], argument)))


def called(function: Any, argument: Any) -> tuple[float, str, bytes]:
    """Run time, error or "", and the encoded value of one task."""
    began, value, error = time.monotonic(), msgpack.encode(None), ""
    try:
        if isinstance(argument, msgpack.Ext):  # the ventilator's reason why the input gave no argument
            raise ValueError(argument.data.decode("utf-8", "replace"))
        result = function(argument)
        if not isinstance(result, bool | int | float | str | bytes | None):
            text = json.dumps(result, allow_nan=False)
            result = msgpack.Ext(JSON_EXT, text.encode())
        value = msgpack.encode(result)
        if len(value) > VALUE_BYTES_MAX:
            raise ValueError(f"the result has {len(value)} bytes, a message holds {VALUE_BYTES_MAX}")
    except BaseException:
        text = traceback.format_exc()[-ERROR_CHARACTERS_MAX:]
        value, error = msgpack.encode(None), text.encode("utf-8", "replace").decode()
    return time.monotonic() - began, error, value


def main() -> None:
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    key_file, module = sys.argv[1:]
    slot, link = Slot(module), Link(Path(key_file))
    worker = Worker(f"smallest.{os.getpid()}-{time.time_ns():x}", link, slot)
    while worker.leave_by is None or worker.held:
        readable = zmq.Poller()
        for each in (link.control, link.tasks, slot.pipe):
            readable.register(each, zmq.POLLIN)
        readable.poll(50)
        now = time.monotonic()
        slot.events(now, worker)
        for socket, taken in ((link.control, worker.receive), (link.tasks, worker.take)):
            while socket.poll(0):
                taken(now, msgpack.decode(socket.recv()))
        worker.tick(now)
        if told and worker.leave_by is None:
            worker.leave(now)
    link.say({"type": "goodbye"})
    slot.process.kill()
    link.context.destroy(linger=500)


if __name__ == "__main__":
    main()
