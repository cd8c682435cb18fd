"""The attacks of `python -m benchmarks.siege`, each in a process: python -m benchmarks.attacks NAME FOLDER SECONDS.

Strangers have plain sockets, or CURVE with a key that nobody enrolled. The others have a key file: `eve` of a worker,
`mall` of a ventilator, `peep` of an observer. They speak the protocol with pyzmq and msgspec only.
"""

import itertools
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
from msgspec import msgpack

from common.protocol.messages import PROTOCOL_VERSION
from common.protocol.settings import CURVE_BYTES, FRAME_BYTES_MAX
from common.transport import sockets
from common.transport.key_files import load

MIB = 2**20
GREETING = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + b"\0" * 31


class Siege:
    """Where the farm is, and until when to attack it."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.ends_at = time.monotonic() + seconds
        found = dict(line.split("=") for line in (folder / "ports").read_text().split())
        self.ports = {link: int(port) for link, port in found.items()}
        self.sink_key = load(folder / "eve.key_secret").sink_key
        self.count = 0

    def goes_on(self) -> bool:
        """True until its time is over."""
        return time.monotonic() < self.ends_at

    def turns(self, pause_s: float = 0.0) -> Iterator[int]:
        """Numbers from 0 until its time is over; each counts as one attack."""
        for number in itertools.count():
            if not self.goes_on():
                return
            yield number
            self.count += 1
            time.sleep(pause_s)

    def connect(self, link: str) -> socket.socket | None:
        """A plain connection, or None when it is not to be had now."""
        with suppress(OSError):
            return socket.create_connection(("127.0.0.1", self.ports[link]), timeout=1)
        return None


class Peer:
    """A key's own sockets; with `routing_id` it claims one."""

    def __init__(self, siege: Siege, key: str, role: str, name: str, routing_id: bytes = b"") -> None:
        self.pair = load(siege.folder / f"{key}.key_secret")
        self.name, self.siege, self.role = name, siege, role
        self.context = zmq.Context()
        self.control = self.socket(zmq.DEALER, siege.sink_key)
        if routing_id:
            self.control.setsockopt(zmq.ROUTING_ID, routing_id)
        self.control.connect(f"tcp://127.0.0.1:{siege.ports['control']}")
        self.results = self.socket(zmq.PUSH, siege.sink_key)
        self.results.connect(f"tcp://127.0.0.1:{siege.ports['results']}")

    def socket(self, kind: int, server_key: str) -> "zmq.Socket[bytes]":
        """A client's socket with this key."""
        made: zmq.Socket[bytes] = self.context.socket(kind)
        made.curve_publickey, made.curve_secretkey = self.pair.public.encode(), (self.pair.secret or "").encode()
        made.curve_serverkey = server_key.encode()
        made.linger, made.sndhwm, made.rcvhwm, made.rcvtimeo, made.sndtimeo = 0, 0, 0, 5_000, 5_000
        return made

    def say(self, type: str, **fields: Any) -> None:
        """Send a message to the sink."""
        sockets.send(self.control, msgpack.encode({"type": type, **fields}))

    def hear(self, type: str) -> dict[str, Any]:
        """The next message of this type. Raises zmq.Again."""
        while True:
            message: dict[str, Any] = msgpack.decode(self.control.recv())
            if message["type"] == type:
                return message

    def drop(self) -> None:
        """Take what has come, and forget it."""
        while self.control.poll(0):
            self.control.recv()

    def greet(self) -> None:
        """Join the sink."""
        self.say("hello", version=PROTOCOL_VERSION, role=self.role, name=self.name)
        self.hear("welcome")

    def join(self, function: str = "work:other") -> list[dict[str, Any]]:
        """Take part as a worker; returns the places."""
        self.greet()
        self.say("offer", functions=[function])
        places: list[dict[str, Any]] = self.hear("places")["places"]
        self.beat()
        return places

    def beat(self, **fields: Any) -> None:
        """One beat."""
        sockets.send(self.control, _beat(**fields))

    def pull(self, joins: bool = True) -> "zmq.Socket[bytes]":
        """Take part as a worker that is given tasks of the farm's job; returns the link that they come by.

        Unless it `joins`, it is a worker only for long enough to learn where that link is.
        """
        (place,) = self.join("work:square")
        if not joins:
            self.say("goodbye")
        tasks = self.socket(zmq.PULL, place["key"])
        tasks.connect(f"tcp://127.0.0.1:{place['port']}")
        return tasks


def _beat(**fields: Any) -> bytes:
    beat = {"type": "beat", "serial": 1, "slots": 1, "prefetch": 0, "held": {}, "started": {}}
    return msgpack.encode(beat | fields)


def eve(siege: Siege) -> Peer:
    """An enrolled worker, which has not joined yet."""
    return Peer(siege, "eve", "worker", "eve.1")


def worker(siege: Siege, function: str = "work:other") -> Peer:
    """Eve, who has joined and gets no tasks."""
    peer = eve(siege)
    peer.join(function)
    return peer


# -- strangers ----------------------------------------------------------------------------------------------------


def _crowd(siege: Siege, link: str, first: bytes, count: int = 2_000) -> None:
    """Hold as many connections as may be; each sends `first`, and is made again once it is cut."""
    found: list[socket.socket] = []
    while siege.goes_on():
        while len(found) < count and siege.goes_on() and (made := siege.connect(link)) is not None:
            siege.count += 1
            with suppress(OSError):
                made.sendall(first)
                made.setblocking(False)
                found.append(made)
        found = [each for each in found if _is_open(each)]
        time.sleep(0.02)


def _is_open(connection: socket.socket) -> bool:
    try:
        if connection.recv(4_096):
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.close()
    return False


def silent(siege: Siege, link: str) -> None:
    """2,000 connections that say nothing"""
    _crowd(siege, link, b"")


def greeted(siege: Siege, link: str) -> None:
    """2,000 connections that greet and say nothing more"""
    _crowd(siege, link, GREETING)


def large(siege: Siege, link: str) -> None:
    """2,000 connections, each with the largest frame that is taken, but for its last byte"""
    size = FRAME_BYTES_MAX + CURVE_BYTES
    _crowd(siege, link, GREETING + b"\x06" + size.to_bytes(8) + b"\x05HELLO" + bytes(size - 7))


def giant(siege: Siege, link: str) -> None:
    """200 connections, each with a frame of 16 MiB"""
    _crowd(siege, link, GREETING + b"\x06" + (16 * MIB).to_bytes(8) + b"\x05HELLO" + bytes(16 * MIB - 7), 200)


def dripping(siege: Siege, link: str) -> None:
    """500 connections that send a handshake byte by byte"""
    text = GREETING + b"\x04\xc8\x05HELLO\x01\x00" + bytes(190)
    found: dict[socket.socket, int] = {}
    while siege.goes_on():
        while len(found) < 500 and siege.goes_on() and (made := siege.connect(link)) is not None:
            made.setblocking(False)
            found[made] = 0
            siege.count += 1
        for each, at in list(found.items()):
            with suppress(OSError):
                each.send(text[at : at + 1])
            found[each] = (at + 1) % len(text)
            if not _is_open(each):
                del found[each]
        time.sleep(0.05)


def garbage(siege: Siege, link: str) -> None:
    """connections with HTTP, TLS, noise and impossible lengths, one after the other"""
    lengths = [GREETING + b"\x06" + size.to_bytes(8) + b"\x05HELLO" for size in (2**63 - 1, 2**64 - 1, 2**40, 2**31)]
    noise = [os.urandom(65_536), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, b"\x16\x03\x01" + os.urandom(500)]
    for _ in siege.turns():
        made = siege.connect(link)
        if made is not None:
            with suppress(OSError):
                made.sendall(random.choice(lengths + noise))
            made.close()


def _knock(siege: Siege, link: str, fresh: bool, server_key: str) -> None:
    kind = {"control": zmq.DEALER, "results": zmq.PUSH, "tasks": zmq.PULL}[link]
    failed = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
    context, pair = zmq.Context(), zmq.curve_keypair()
    while siege.goes_on():
        group = []
        for _ in range(50):
            made = context.socket(kind)
            made.linger, made.reconnect_ivl = 0, -1
            made.curve_publickey, made.curve_secretkey = zmq.curve_keypair() if fresh else pair
            made.curve_serverkey = server_key.encode()
            watch = made.get_monitor_socket(failed)
            made.connect(f"tcp://127.0.0.1:{siege.ports[link]}")
            group.append((made, watch))
            siege.count += 1
        for made, watch in group:
            watch.poll(200)
            made.disable_monitor()
            watch.close()
            made.close()


def unknown(siege: Siege, link: str) -> None:
    """handshakes with a new key each time"""
    key = siege.sink_key if link != "tasks" else load(siege.folder / "keys" / "ventilator.key_secret").public
    _knock(siege, link, True, key)


def same(siege: Siege, link: str) -> None:
    """handshakes with one key that is not enrolled"""
    _knock(siege, link, False, siege.sink_key)


def astray(siege: Siege, link: str) -> None:
    """handshakes with a wrong server key"""
    _knock(siege, link, True, zmq.curve_keypair()[0].decode())


# -- an enrolled worker's key -------------------------------------------------------------------------------------


def _claims(siege: Siege, key: str, role: str) -> None:
    held = []
    for number in siege.turns():
        claimed = b"\0" + os.urandom(4)
        made = Peer(siege, key, role, f"{key}.{number}", claimed)
        made.say("hello", version=PROTOCOL_VERSION, role=role, name=f"{key}.{number}")
        held.append(made)
        if len(held) > 200:
            held.pop(0).context.destroy(linger=0)


def claims(siege: Siege) -> None:
    """connections that claim routing ids"""
    _claims(siege, "eve", "worker")


def storm(siege: Siege) -> None:
    """connections with its key, one after the other"""
    for number in siege.turns():
        peer = Peer(siege, "eve", "worker", f"eve.{number}")
        with suppress(zmq.Again):
            peer.greet()
        peer.context.destroy(linger=0)


def names(siege: Siege) -> None:
    """hellos and offers under a new name each time"""
    peer = worker(siege)
    for number in siege.turns():
        peer.say("hello", version=PROTOCOL_VERSION, role="worker", name=f"eve.{number}")
        peer.say("offer", functions=[f"work:f{number}"])
        peer.beat()
        peer.drop()


def parts(siege: Siege) -> None:
    """messages of a million frames of one byte"""
    peer = worker(siege)
    for _ in siege.turns(1):
        for _ in range(1_000_000):
            peer.control.send(b"x", zmq.SNDMORE)
        peer.control.send(b"")
        peer.drop()


def large_parts(siege: Siege) -> None:
    """messages of 1,000 frames of 32 KiB"""
    peer, part = worker(siege), bytes(FRAME_BYTES_MAX)
    for _ in siege.turns(0.2):
        for _ in range(1_000):
            peer.results.send(part, zmq.SNDMORE, copy=False)
        peer.results.send(b"")


def _flood(siege: Siege, link: str, content: bytes, pause_s: float) -> None:
    peer = worker(siege)
    for number in siege.turns(pause_s):
        sockets.send(peer.results if link == "results" else peer.control, content)
        if number % 100 == 0:
            peer.beat()
            peer.drop()


def noise(siege: Siege) -> None:
    """messages of 16 MiB that are not MessagePack, on the results link"""
    _flood(siege, "results", b"\xc1" * (16 * MIB), 0.02)


def noise_control(siege: Siege) -> None:
    """messages of 16 MiB that are not MessagePack, on the control link"""
    _flood(siege, "control", b"\xc1" * (16 * MIB), 0.02)


def bombs(siege: Siege) -> None:
    """short messages that say they are long, deep or of millions of items"""
    peer = worker(siege)
    found = [b"\xdd" + b"\xff" * 4, b"\xdf" + b"\xff" * 4, b"\xdb" + b"\xff" * 4, b"\x91" * MIB, b"\x81\xa1a" * 300_000]
    found += [b"\xdd\x00\xf0\x00\x00" + b"\x90" * 0xF00000, b"\xdf\x00\x50\x00\x00" + b"\xa1a\x01" * 0x500000]
    for number in siege.turns(0.05):
        sockets.send(peer.control, found[number % len(found)])
        sockets.send(peer.results, found[number % len(found)])
        peer.drop()


def tagged_bombs(siege: Siege) -> None:
    """beats and results that hold an array of 15 million empty arrays"""
    peer, million = worker(siege), b"\xdd\x00\xf0\x00\x00" + b"\x90" * 0xF00000
    beat = b"\x82\xa4type\xa4beat\xa4held" + million
    results = b"\x91\x82\xa4type\xa7results\xa8outcomes" + million
    for _ in siege.turns(0.1):
        sockets.send(peer.control, beat)
        sockets.send(peer.results, results)
        peer.drop()


def beats(siege: Siege) -> None:
    """beats, as many as it can send"""
    _flood(siege, "control", _beat(), 0)


def large_beats(siege: Siege) -> None:
    """beats that name 200,000 batches of each of four jobs"""
    many = [[2**40 + number, 99_999, 999_999] for number in range(200_000)]
    _flood(siege, "control", _beat(held={f"x{number}": many for number in range(4)}), 0.2)


def claimed_batches(siege: Siege) -> None:
    """beats that name every batch of the job, and returns of all of them"""
    peer = worker(siege, "work:square")
    for number in siege.turns(0.25):
        first = 10_000 * (number % 1_000)
        held = [[each, count, 1] for each in range(first, first + 20_000, 200) for count in (1, 10, 100, 200)]
        peer.beat(held={"siege": held})
        peer.say("returned", job="siege", worker="eve.1", batches=held, copies=[])
        peer.drop()


def pulls(siege: Siege) -> None:
    """pulls tasks, and is no worker"""
    tasks = eve(siege).pull(joins=False)
    for _ in siege.turns(0.25):
        while tasks.poll(0):
            tasks.recv()


def keeps(siege: Siege) -> None:
    """joins, pulls tasks, and keeps them without a word"""
    peer = eve(siege)
    tasks = peer.pull()
    for _ in siege.turns(0.25):
        peer.beat()
        while tasks.poll(0):
            tasks.recv()


def _hoard(siege: Siege, slots: int, prefetch: int) -> None:
    peer = eve(siege)
    tasks = peer.pull()
    held: list[list[int]] = []
    most = 64 * (slots + prefetch)
    for _ in siege.turns(0.25):
        peer.beat(slots=slots, prefetch=prefetch, held={"siege": held[:most]}, started={"siege": held[:slots]})
        peer.drop()
        while tasks.poll(0):
            batch = msgpack.decode(tasks.recv())
            held.append([batch["first"], batch["count"], batch["attempt"]])


def hoards(siege: Siege) -> None:
    """joins, pulls tasks, and keeps them in its beats, all of them"""
    _hoard(siege, 1, 100)


def hoards_large(siege: Siege) -> None:
    """joins with 1,000 slots and as much prefetch, pulls tasks, and keeps all of them in its beats"""
    _hoard(siege, 1_000, 1_000)


def bad_results(siege: Siege) -> None:
    """pulls tasks, and answers with values that nobody can decode"""
    peer = eve(siege)
    tasks = peer.pull()
    serials = itertools.count(1)
    for number in siege.turns(0.02):
        while tasks.poll(0):
            batch = msgpack.decode(tasks.recv())
            values = [b"\xa1\xff", b"\x91" * 5_000 + b"\x01", b"\x81\x80\x01"][number % 3]
            sockets.send(peer.results, answer(peer, batch, values, next(serials)))
        if number % 10 == 0:
            peer.beat()
            peer.drop()


def heavy_results(siege: Siege) -> None:
    """pulls tasks, and answers with a value of 15 million empty arrays"""
    peer = eve(siege)
    tasks = peer.pull()
    serials = itertools.count(1)
    for _ in siege.turns(0.25):
        if tasks.poll(0):
            batch = msgpack.decode(tasks.recv())
            sockets.send(peer.results, answer(peer, batch, b"\xdd\x00\xf0\x00\x00" + b"\x90" * 0xF00000, next(serials)))
        peer.beat()
        peer.drop()


def answer(peer: Peer, batch: dict[str, Any], value: bytes, serial: int) -> bytes:
    """Results for a batch that was really pulled: `value` for its first task, null for the others."""
    count = batch["count"]
    outcomes = b"\x83\xa6values\xdd" + count.to_bytes(4) + value + b"\xc0" * (count - 1)
    outcomes += b"\xa7seconds" + msgpack.encode([0.0] * count) + b"\xa6errors\x90"
    head = {"type": "results", "job": batch["job"], "worker": peer.name, "serial": serial, "first": batch["first"]}
    head |= {"count": count, "batch": [batch["first"], count, batch["attempt"]], "ticket": batch["ticket"]}
    return msgpack.encode([head | {"outcomes": outcomes}])


# -- a ventilator's and an observer's key -------------------------------------------------------------------------


def jobs(siege: Siege) -> None:
    """opens jobs, as many as it can"""
    peer = Peer(siege, "mall", "ventilator", "mall.1")
    peer.greet()
    for number in siege.turns():
        job = {"function": f"work:f{number}", "source": "x" * 200, "port": 20_000, "retries": 0}
        peer.say("open", job=f"j{number}", retry_failed=False, reopens=False, **job)
        if number % 20 == 0:
            peer.drop()


def foreign(siege: Siege) -> None:
    """pushes batches in the name of another ventilator's job"""
    peer = Peer(siege, "mall", "ventilator", "mall.1")
    tasks: zmq.Socket[bytes] = peer.context.socket(zmq.PUSH)
    tasks.curve_publickey, tasks.curve_secretkey = peer.pair.public.encode(), (peer.pair.secret or "").encode()
    tasks.curve_server, tasks.linger = True, 0
    port = tasks.bind_to_random_port("tcp://127.0.0.1", 20_000, 32_000)
    peer.greet()
    job = {"function": "work:square", "source": "range", "port": port, "retries": 0}
    peer.say("open", job="evil", retry_failed=False, reopens=False, **job)
    for number in siege.turns(0.001):
        batch = {"type": "batch", "job": "siege", "function": "work:square", "first": 1_000 * number, "count": 1_000}
        batch |= {"attempt": 1, "ticket": bytes(16), "timeout_s": None, "suspect": False, "copy": False}
        with suppress(zmq.Again):
            tasks.send(msgpack.encode(batch | {"arguments": [1] * 1_000}), zmq.DONTWAIT)
        if number % 200 == 0:
            peer.say("ask", job="evil", after=0, scarce=False)
            peer.drop()


def queries(siege: Siege) -> None:
    """queries, as many as it can send"""
    peer = Peer(siege, "peep", "observer", "peep.1")
    peer.greet()
    for number in siege.turns():
        peer.say("query")
        if number % 20 == 0:
            peer.drop()


def queries_unread(siege: Siege) -> None:
    """queries whose answers it never reads"""
    peer = Peer(siege, "peep", "observer", "peep.1")
    peer.greet()
    for _ in siege.turns():
        peer.say("query")


def observers_claims(siege: Siege) -> None:
    """connections that claim routing ids"""
    _claims(siege, "peep", "observer")


STRANGERS: dict[str, tuple[Callable[[Siege, str], None], str]] = {
    f"{attack.__name__}-{link}": (attack, link)
    for attack, links in (
        (silent, ("control", "results", "tasks")),
        (greeted, ("control",)),
        (large, ("control", "results", "tasks")),
        (giant, ("control", "results", "tasks")),
        (dripping, ("control",)),
        (garbage, ("control", "tasks")),
        (unknown, ("control", "tasks")),
        (same, ("results",)),
        (astray, ("control",)),
    )
    for link in links
}
ENROLLED: dict[str, dict[str, Callable[[Siege], None]]] = {
    "worker's key": {
        each.__name__: each
        for each in (
            *(claims, storm, names, parts, large_parts, noise, noise_control, bombs, tagged_bombs, beats, large_beats),
            *(claimed_batches, pulls, keeps, hoards, hoards_large, bad_results, heavy_results),
        )
    },
    "ventilator's key": {each.__name__: each for each in (jobs, foreign)},
    "observer's key": {each.__name__: each for each in (queries, queries_unread, observers_claims)},
}
SENTENCED = ("keeps", "hoards", "hoards_large")
"""After these the sink gives the attacker's key no tasks."""


def main() -> None:
    """Attack, and print how often."""
    name, folder, seconds = sys.argv[1:]
    siege = Siege(Path(folder), float(seconds))
    try:
        if name == "none":
            time.sleep(siege.ends_at - time.monotonic())
        elif name in STRANGERS:
            attack, link = STRANGERS[name]
            attack(siege, link)
        else:
            next(found[name] for found in ENROLLED.values() if name in found)(siege)
    except zmq.ZMQError as error:
        print(f"{name}: {error}", file=sys.stderr)
    print(siege.count)
    # Contexts and connections go with the process.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
