"""The Guide's pipeline on bare sockets: ventilator PUSH, two workers, sink PULL; nothing stored, nothing acknowledged.

The speed of light here: what libzmq and Python's own loop allow. All four are processes of their own.
"""

import multiprocessing
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

WORKERS = 2
_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Keys:
    """One pair for those who bind, one for those who connect; without pairs the links are plain."""

    server: tuple[bytes, bytes] | None = None
    client: tuple[bytes, bytes] | None = None

    def bind(self, context: zmq.Context[Any], kind: int) -> tuple[zmq.Socket[bytes], str]:
        """A bound socket and its endpoint."""
        made: zmq.Socket[bytes] = context.socket(kind)
        made.linger = 0
        if self.server:
            made.curve_server = True
            made.curve_publickey, made.curve_secretkey = self.server
        made.bind("tcp://127.0.0.1:*")
        return made, made.last_endpoint.decode()

    def connect(self, context: zmq.Context[Any], kind: int, endpoint: str) -> zmq.Socket[bytes]:
        """A connected socket."""
        made: zmq.Socket[bytes] = context.socket(kind)
        made.linger = 0
        if self.server and self.client:
            made.curve_publickey, made.curve_secretkey = self.client
            made.curve_serverkey = self.server[0]
        made.connect(endpoint)
        return made


@dataclass(frozen=True)
class Squares:
    """n·n, with this many tasks a message."""

    count: int
    per_message: int

    def messages(self) -> Iterator[bytes]:
        """What the ventilator pushes."""
        if self.per_message == 1:
            pack = struct.Struct("q").pack
            yield from (pack(n) for n in range(self.count))
        else:
            for first in range(0, self.count, self.per_message):
                yield array("q", range(first, min(self.count, first + self.per_message))).tobytes()

    def work(self, message: bytes) -> bytes:
        """What a worker does with one."""
        if len(message) == 8:
            n = int.from_bytes(message, "little")
            return (n * n).to_bytes(8, "little")
        return array("q", [n * n for n in array("q", message)]).tobytes()

    def collect(self, receive: Callable[[], bytes]) -> None:
        """What the sink does: add up, and check the sum."""
        total = done = 0
        while done < self.count:
            message = receive()
            done += len(message) // 8
            total += int.from_bytes(message, "little") if len(message) == 8 else sum(array("q", message))
        assert total == sum(n * n for n in range(self.count))


@dataclass(frozen=True)
class Echo:
    """Payloads of this many bytes, there and back."""

    count: int
    payload: bytes

    def messages(self) -> Iterator[bytes]:
        """What the ventilator pushes."""
        for _ in range(self.count):
            yield self.payload

    def work(self, message: bytes) -> bytes:
        """What a worker does with one."""
        return message

    def collect(self, receive: Callable[[], bytes]) -> None:
        """What the sink does: compare each."""
        for _ in range(self.count):
            assert receive() == self.payload


def _ventilate(keys: Keys, pipe: Connection, load: Squares | Echo) -> None:
    with zmq.Context() as context:
        tasks, endpoint = keys.bind(context, zmq.PUSH)
        watch = tasks.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        pipe.send(endpoint)
        # Who connects first would get everything that is pushed before the other is there.
        for _ in range(WORKERS):
            parse_monitor_message(watch.recv_multipart())
        tasks.disable_monitor()
        watch.close()
        pipe.recv()
        pipe.send(time.monotonic())
        for message in load.messages():
            tasks.send(message)
        pipe.recv()
        tasks.close()


def _work(keys: Keys, tasks_endpoint: str, results_endpoint: str, load: Squares | Echo) -> None:
    with zmq.Context() as context:
        tasks = keys.connect(context, zmq.PULL, tasks_endpoint)
        results = keys.connect(context, zmq.PUSH, results_endpoint)
        results.send(b"")
        while True:
            results.send(load.work(tasks.recv()))


def _collect(keys: Keys, pipe: Connection, load: Squares | Echo) -> None:
    with zmq.Context() as context:
        results, endpoint = keys.bind(context, zmq.PULL)
        pipe.send(endpoint)
        for _ in range(WORKERS):
            results.recv()
        pipe.send(None)
        load.collect(results.recv)
        pipe.send(time.monotonic())
        results.close()


def _keys(curve: bool) -> Keys:
    return Keys(zmq.curve_keypair(), zmq.curve_keypair()) if curve else Keys()


@contextmanager
def _processes() -> Iterator[Callable[..., None]]:
    """A way to start processes, which are ended with the block."""
    started: list[Any] = []

    def start(target: Callable[..., None], *arguments: object) -> None:
        started.append(_spawn.Process(target=target, args=arguments, daemon=True))
        started[-1].start()

    try:
        yield start
    finally:
        for process in started:
            process.terminate()
            process.join()


def seconds(load: Squares | Echo, curve: bool) -> float:
    """From the first push to the last result at the sink."""
    keys = _keys(curve)
    ventilator, ventilator_end = _spawn.Pipe()
    sink, sink_end = _spawn.Pipe()
    with _processes() as start:
        start(_ventilate, keys, ventilator_end, load)
        start(_collect, keys, sink_end, load)
        endpoints = ventilator.recv(), sink.recv()
        for _ in range(WORKERS):
            start(_work, keys, *endpoints, load)
        sink.recv()
        ventilator.send(None)
        started_at = ventilator.recv()
        return float(sink.recv() - started_at)


def rate(count: int, per_message: int, curve: bool) -> float:
    """Tasks per second."""
    return count / seconds(Squares(count, per_message), curve)


def bytes_rate(count: int, payload: bytes) -> float:
    """Bytes of payload per second, each of them there and back, encrypted."""
    return count * len(payload) / seconds(Echo(count, payload), curve=True)


def _acknowledge(keys: Keys, pipe: Connection, receipts_endpoint: str) -> None:
    with zmq.Context() as context:
        results, endpoint = keys.bind(context, zmq.PULL)
        receipts = keys.connect(context, zmq.PUSH, receipts_endpoint)
        pipe.send(endpoint)
        results.recv()
        receipts.send(b"")
        while True:
            receipts.send(results.recv())


def _ask(keys: Keys, pipe: Connection, count: int) -> None:
    found = []
    with zmq.Context() as context:
        tasks, tasks_endpoint = keys.bind(context, zmq.PUSH)
        receipts, receipts_endpoint = keys.bind(context, zmq.PULL)
        pipe.send((tasks_endpoint, receipts_endpoint))
        receipts.recv()
        for n in range(count + 50):
            started = time.perf_counter()
            tasks.send(n.to_bytes(8, "little"))
            assert int.from_bytes(receipts.recv(), "little") == n * n
            found.append(time.perf_counter() - started)
        tasks.close()
        receipts.close()
    pipe.send(found[50:])


def round_trips(count: int) -> list[float]:
    """Seconds of one task on Tradewind's own way: ventilator, worker, sink, and a word back to the ventilator."""
    keys = _keys(curve=True)
    asker, asker_end = _spawn.Pipe()
    sink, sink_end = _spawn.Pipe()
    with _processes() as start:
        start(_ask, keys, asker_end, count)
        tasks_endpoint, receipts_endpoint = asker.recv()
        start(_acknowledge, keys, sink_end, receipts_endpoint)
        start(_work, keys, tasks_endpoint, sink.recv(), Squares(count, 1))
        return list(asker.recv())
