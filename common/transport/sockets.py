"""Makes the sockets of the three links, none of them without CURVE, and moves whole messages through them.

Each option is spelled out with its reason; `docs/PROTOCOL.md` repeats what a peer in another language must set.
No socket sets ZMTP heartbeats: libzmq 4.3.5 can abort when one meets a full receive queue (libzmq #3937, #4767).
"""

import ctypes
import errno
import ipaddress
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from ..errors import OperatorError
from ..plain_text import host_port
from ..protocol.settings import CURVE_BYTES, ENVELOPE_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from .doorstep import HANDSHAKE_S
from .key_files import Certificate

_FREE_PORTS = range(20_000, 32_000)
"""Below the range that systems take for outgoing connections: a client that retries a dead port there may connect to
itself and keep the port from its owner."""
_BACKLOG = 1_024
"""A crew of a thousand joins at once."""
LOOPBACK = "127.0.0.1"
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
"""As plain integers: operations on enumerations take longer than the call itself."""


def _socket(ctx: zmq.Context[Any], kind: int, pair: Certificate) -> zmq.Socket[bytes]:
    made: zmq.Socket[bytes] = ctx.socket(kind)
    assert pair.secret is not None
    made.curve_publickey = pair.public.encode()
    made.curve_secretkey = pair.secret.encode()
    made.ipv6 = True
    # Peers that vanish without a FIN are noticed by the kernel; liveness itself is the beats' work.
    made.tcp_keepalive, made.tcp_keepalive_idle = 1, 30
    made.tcp_keepalive_intvl, made.tcp_keepalive_cnt = 10, 3
    return made


def _serve(made: zmq.Socket[bytes], domain: str) -> zmq.Socket[bytes]:
    made.curve_server = True
    made.zap_domain = domain.encode()
    made.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    # libzmq buffers a frame of this size for each stranger, before it knows who that is. `send` cuts what is larger.
    made.maxmsgsize = FRAME_BYTES_MAX + CURVE_BYTES
    # A peer that does not shake hands is cut off. The handshake takes three round trips: with one lost packet that
    # is less than this even over a satellite.
    made.handshake_ivl = int(HANDSHAKE_S * 1000)
    # No bound socket may stop reading: a heartbeat of a foreign peer would then abort this process.
    made.rcvhwm = 0
    made.backlog = _BACKLOG
    return made


def _call(made: zmq.Socket[bytes], sink_key: str) -> zmq.Socket[bytes]:
    made.curve_serverkey = sink_key.encode()
    # Whoever was called is known by its key before it can send a frame.
    made.maxmsgsize = MESSAGE_BYTES_MAX + ENVELOPE_BYTES
    # A server that says nothing is called again.
    made.handshake_ivl = 5_000
    # What is received is taken off at once; the window bounds how much that is.
    made.rcvhwm = 0
    # After a cut the link is back within about two seconds of the network. A connection that lived through it would
    # take as long again as the cut: the sink always reads, so what it does not acknowledge is lost.
    made.setsockopt(zmq.TCP_MAXRT, 5_000)
    made.connect_timeout = 2_000
    made.reconnect_ivl, made.reconnect_ivl_max = 100, 800
    return made


def _seed_routing_ids() -> None:
    """Let the ids that the next ROUTER gives to anonymous peers begin at a number that nobody can know.

    libzmq takes that number from C's `rand`, which it does not seed, and aborts the process when a peer has claimed the
    id that is next: with the same start in every process, any enrolled key could end the sink (libzmq 4.3.5,
    src/socket_base.cpp:2113).
    """
    ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4))))


def control_server(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """The sink's end of the control link."""
    _seed_routing_ids()
    made = _serve(_socket(ctx, zmq.ROUTER, pair), "control")
    # A peer that does not read loses messages, not the sink its memory; all of them can be asked for again.
    made.sndhwm = 10_000
    # Last answers are given a moment to leave.
    made.linger = 500
    return made


def results_server(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """The sink's end of the results link."""
    made = _serve(_socket(ctx, zmq.PULL, pair), "results")
    made.linger = 0
    return made


def tasks_server(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """The ventilator's end of the tasks link."""
    made = _serve(_socket(ctx, zmq.PUSH, pair), "tasks")
    # A worker that has stopped reading swallows some batches, never more than the window. With less room the link waits
    # for the I/O thread at each message: with 1 and 4 KiB small batches are three times slower, large ones eight times.
    made.sndhwm = 64
    made.sndbuf = 256 * 1024
    # One that was unplugged must swallow none for long: it always reads, so what is not acknowledged is lost.
    made.setsockopt(zmq.TCP_MAXRT, 5_000)
    # The leases bring back what was queued.
    made.linger = 0
    return made


def relay_server(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """The relay's end of the link to ventilators. Its other end is a tasks link, as a ventilator has it."""
    made = _serve(_socket(ctx, zmq.PULL, pair), "relay")
    made.linger = 0
    return made


def control_client(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """A worker's, ventilator's or observer's end of the control link."""
    made = _call(_socket(ctx, zmq.DEALER, pair), pair.sink_key)
    # Nothing is queued for a sink that is away: beats would be stale when it is back.
    made.immediate = True
    made.sndhwm = 10_000
    made.linger = 500
    return made


def results_client(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """A worker's end of the results link."""
    made = _call(_socket(ctx, zmq.PUSH, pair), pair.sink_key)
    # Results wait here while the sink is away. Not IMMEDIATE: that would drop them at a disconnect.
    made.sndhwm = 0
    made.linger = 0
    return made


def tasks_client(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """A worker's end of the tasks link; `connect_tasks` connects it to a ventilator."""
    made = _call(_socket(ctx, zmq.PULL, pair), pair.sink_key)
    made.linger = 0
    return made


def relay_client(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """A ventilator's end of the link to the sink's relay."""
    made = _call(_socket(ctx, zmq.PUSH, pair), pair.sink_key)
    # As on the tasks link: what cannot be sent now is not pushed, and stays with the rules.
    made.immediate = True
    made.sndhwm = 64
    made.linger = 0
    return made


def connect_tasks(made: zmq.Socket[bytes], endpoint: str, ventilator_key: str) -> None:
    """Connect to one more ventilator. The server key counts for the connections that are made after it is set."""
    made.curve_serverkey = ventilator_key.encode()
    made.connect(endpoint)


def endpoint(host: str, port: int) -> str:
    """The ZeroMQ address of a host and port; IPv6 addresses get their brackets."""
    return f"tcp://{host_port(host, port)}"


def bound_address(made: zmq.Socket[bytes]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where the socket listens, whatever name was bound."""
    host = host_and_port(made.getsockopt_string(zmq.LAST_ENDPOINT))[0]
    return ipaddress.ip_address(host.removeprefix("::ffff:").partition("%")[0])


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a ZeroMQ address, as `endpoint` joins them."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind(made: zmq.Socket[bytes], host: str, port: int, what: str, others: Sequence[int] = ()) -> int:
    """Bind to a port, or to a free one when it is 0; returns the port. Raises OperatorError naming `what` option.

    When the port is in use, the first of `others` that is free is taken, or another free one when none is.
    """
    free = _some_ports()
    ports = [port, *others, *(free if others else ())] if port else free
    for each in ports:
        try:
            made.bind(endpoint(host, each))
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE and len(ports) > 1:
                continue
            if error.errno == zmq.EADDRINUSE:
                raise OperatorError(f"port {port} is in use: stop that program, or give another with {what}") from None
            reason = os.strerror(error.errno or 0)
            if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
                reason = "it is not an address of this machine; give one with --listen"
            raise OperatorError(f"cannot listen at {host} port {each}: {reason}") from None
        return each
    raise _no_free_port()


def listener() -> socket.socket:
    """Listens at a free port of this machine, for a process that is to take it over. Raises OperatorError.

    Whoever connects before that waits in its queue, and need not try again.
    """
    for port in _some_ports():
        made = socket.socket()
        try:
            made.bind((LOOPBACK, port))
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            continue
        made.setblocking(False)
        return made
    raise _no_free_port()


def take_over(made: zmq.Socket[bytes], descriptor: int) -> int:
    """Listen with what `listener` has made, in the process that started this one; returns the port."""
    made.setsockopt(zmq.USE_FD, descriptor)
    # Where it listens it does already.
    made.bind(endpoint(LOOPBACK, 0))
    return host_and_port(made.getsockopt_string(zmq.LAST_ENDPOINT))[1]


def _some_ports() -> list[int]:
    return random.sample(_FREE_PORTS, 100)


def _no_free_port() -> OperatorError:
    return OperatorError(f"no free port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}")


def send(made: zmq.Socket[bytes], content: bytes, flags: int = 0) -> None:
    """Send a message to whoever binds: in several frames when it is larger than one may be."""
    if len(content) <= FRAME_BYTES_MAX:
        made.send(content, flags)
        return
    whole = memoryview(content)
    made.send_multipart([whole[at : at + FRAME_BYTES_MAX] for at in range(0, len(whole), FRAME_BYTES_MAX)], flags)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message, whole. `peer` is its routing id where the socket has them; `frame` its last frame."""

    peer: bytes
    frame: zmq.Frame
    content: bytes | memoryview


class Inbox:
    """The messages that come to a socket, each joined from its frames.

    A message that is too large, or in too many frames, is given as an empty one, which is malformed. A turn reads a
    bounded number of frames and bytes. What is too large is skipped with a larger bound: until its last frame libzmq
    gives nothing else, so all others wait for it.

    Most of what a frame costs is the object that says whether another one follows. A ROUTER's messages begin with their
    peer's routing id. Where `is_id` knows one from what peers can send, frames are skipped without that object, three
    times as fast: the message ends before the next id, or with the last frame that has come, since libzmq gives only
    whole messages.
    """

    FRAMES_MAX = 1_024
    """At most how many frames a message may have: twice what the largest one needs."""
    TURN_BYTES = 1024 * 1024
    SKIPPED_MAX = 100_000
    """At most how many frames are skipped in a turn: they take about 0.1 s."""

    def __init__(self, made: zmq.Socket[bytes], turn_frames: int, is_id: Callable[[bytes], bool] | None = None) -> None:
        self._socket = made
        self._turn_frames = turn_frames
        self._is_id = is_id
        self._is_routed = made.type == zmq.ROUTER
        self._peer: bytes | None = None
        self._begun: list[zmq.Frame] = []
        """The frames of the message that is being read, while it is not too large."""
        self._begun_bytes = 0
        self._begun_count = 0
        self._last: zmq.Frame | None = None
        """The last frame that was looked at of a message that is too large."""

    def take(self) -> Iterator[Arrived]:
        """What has come, as far as it is read in one turn."""
        frame_count = byte_count = message_count = 0
        if self._is_too_large():
            yield from self._skip()
            return
        while frame_count < self._turn_frames and byte_count < self.TURN_BYTES:
            try:
                frame = self._socket.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            frame_count += 1
            if self._is_routed and self._peer is None:
                self._peer = frame.bytes
                continue
            byte_count += len(frame)
            if not frame.more and not self._begun_count:
                peer, self._peer = self._peer or b"", None
                yield Arrived(peer, frame, frame.buffer)
            else:
                self._add(frame)
                if frame.more:
                    if self._is_too_large():
                        yield from self._skip()
                        return
                    continue
                yield self._end(frame)
            message_count += 1
            if message_count == 1 and not _has_message(self._socket):
                return

    def _add(self, frame: zmq.Frame) -> None:
        self._begun_count += 1
        self._begun_bytes += len(frame)
        if self._is_too_large():
            self._begun.clear()
            self._last = frame
        else:
            self._begun.append(frame)

    def _skip(self) -> Iterator[Arrived]:
        """Read on in a message that is too large, as fast as can be."""
        recv, is_id = self._socket.recv, self._is_id
        if is_id is not None:
            yield from self._skip_to_id(is_id)
            return
        for _ in range(self.SKIPPED_MAX):
            try:
                frame = recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            if not frame.more:
                yield self._end(frame)
                return

    def _skip_to_id(self, is_id: Callable[[bytes], bool]) -> Iterator[Arrived]:
        recv, begins = self._socket.recv, None
        for _ in range(self.SKIPPED_MAX):
            try:
                content = recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if len(content) == 5 and is_id(content):
                begins = content
                break
        else:
            return
        assert self._last is not None
        arrived = self._end(self._last)
        self._peer = begins
        yield arrived

    def _is_too_large(self) -> bool:
        return self._begun_count > self.FRAMES_MAX or self._begun_bytes > MESSAGE_BYTES_MAX + ENVELOPE_BYTES

    def _end(self, frame: zmq.Frame) -> Arrived:
        content = b"" if self._is_too_large() else b"".join([each.buffer for each in self._begun])
        peer, self._peer = self._peer or b"", None
        self._begun.clear()
        self._last = None
        self._begun_bytes = self._begun_count = 0
        return Arrived(peer, frame, content)


def drain(made: zmq.Socket[bytes]) -> list[tuple[zmq.Frame, memoryview]]:
    """The messages that have come from whoever binds, 10,000 at most, each as its last frame and its content.

    They are single frames; the content of others is given as empty, which is malformed.
    """
    found: list[tuple[zmq.Frame, memoryview]] = []
    while len(found) < 10_000:
        try:
            frame = made.recv(zmq.DONTWAIT, copy=False)
            alone = not frame.more
            while frame.more:
                frame = made.recv(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            break
        found.append((frame, frame.buffer if alone else memoryview(b"")))
        if len(found) == 1 and not _has_message(made):
            break
    return found


def _has_message(made: zmq.Socket[bytes]) -> bool:
    """Whether `recv` would give one. It takes less than half as long as the exception that says that there is none."""
    return bool(int(made.getsockopt(_EVENTS)) & _POLLIN)


def next_routing_id(ctx: zmq.Context[Any], router: zmq.Socket[bytes]) -> bytes:
    """The id that this ROUTER gives to its next peer, who takes it: a socket of our own, inside this process."""
    address = f"inproc://next-id-{id(router)}"
    router.bind(address)
    with ctx.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(address)
        peer.send(b"")
        found = router.recv_multipart()[0]
    router.unbind(address)
    return found


def descriptor(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a frame came over."""
    return int(frame.get(zmq.SRCFD))


def user_id(frame: zmq.Frame) -> str | None:
    """The key that the ZAP handler admitted on the connection that this frame came over; None means hostile."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None


def peer_address(frame: zmq.Frame) -> str:
    """The host that a frame came from, IPv4 in its own notation."""
    return str(frame.get("Peer-Address")).removeprefix("::ffff:")


def process_tag() -> str:
    """A few letters that tell this process from all others."""
    return f"{os.getpid()}-{random.randrange(16**4):04x}"
