"""The one door to sockets and the clock. It cannot make a socket without CURVE.

Each option is spelled out with its reason; `docs/PROTOCOL.md` repeats what a peer in another language must set.
No socket sets ZMTP heartbeats: libzmq 4.3.5 can abort when one meets a full receive queue (libzmq #3937, #4767).
"""

import errno
import os
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import zmq

from common.errors import OperatorError
from common.keys import Certificate
from common.settings import ENVELOPE_BYTES, MESSAGE_BYTES_MAX

now: Callable[[], float] = time.monotonic
"""The clock of all machines, in seconds."""

_FREE_PORTS = range(20_000, 32_000)
"""Below the range that systems take for outgoing connections: a client that retries a dead port there may connect to
itself and keep the port from its owner."""


def _socket(ctx: zmq.Context[Any], kind: int, pair: Certificate) -> zmq.Socket[bytes]:
    made: zmq.Socket[bytes] = ctx.socket(kind)
    assert pair.secret is not None
    made.curve_publickey = pair.public.encode()
    made.curve_secretkey = pair.secret.encode()
    # A stranger must not make us allocate: the limit is enforced before authentication.
    made.maxmsgsize = MESSAGE_BYTES_MAX + ENVELOPE_BYTES
    # A peer that connects and says nothing is cut off.
    made.handshake_ivl = 5_000
    made.ipv6 = True
    # Peers that vanish without a FIN are noticed by the kernel; liveness itself is the beats' work.
    made.tcp_keepalive, made.tcp_keepalive_idle = 1, 30
    made.tcp_keepalive_intvl, made.tcp_keepalive_cnt = 10, 3
    return made


def _serve(made: zmq.Socket[bytes], domain: str) -> zmq.Socket[bytes]:
    made.curve_server = True
    made.zap_domain = domain.encode()
    made.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    # No bound socket may stop reading: a heartbeat of a foreign peer would then abort this process.
    made.rcvhwm = 0
    # A crew of a thousand joins at once.
    made.backlog = 1_024
    return made


def _call(made: zmq.Socket[bytes], sink_key: str) -> zmq.Socket[bytes]:
    made.curve_serverkey = sink_key.encode()
    # What is received is taken off at once; the window bounds how much that is.
    made.rcvhwm = 0
    # After a cut the link is back within about two seconds of the network. A connection that lived through it would
    # take as long again as the cut: the sink always reads, so what it does not acknowledge is lost.
    made.setsockopt(zmq.TCP_MAXRT, 5_000)
    made.connect_timeout = 2_000
    made.reconnect_ivl, made.reconnect_ivl_max = 100, 800
    return made


def control_server(ctx: zmq.Context[Any], pair: Certificate) -> zmq.Socket[bytes]:
    """The sink's end of the control link."""
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


def connect_tasks(made: zmq.Socket[bytes], endpoint: str, ventilator_key: str) -> None:
    """Connect to one more ventilator. The server key counts for the connections that are made after it is set."""
    made.curve_serverkey = ventilator_key.encode()
    made.connect(endpoint)


def endpoint(host: str, port: int) -> str:
    """The ZeroMQ address of a host and port; IPv6 addresses get their brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class NameLookup:
    """Whether a host's name has an address, asked in a thread: a resolver may take many seconds."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._found = True
        self._thread: threading.Thread | None = None

    def found(self) -> bool:
        """What the last finished look-up said, True before the first; begins the next one."""
        if self._thread is None or not self._thread.is_alive():
            # A daemon, or a resolver that hangs would keep the process from leaving.
            self._thread = threading.Thread(target=self._look_up, daemon=True)
            self._thread.start()
        return self._found

    def _look_up(self) -> None:
        try:
            socket.getaddrinfo(self._host, None)
        except (OSError, UnicodeError):
            self._found = False
        else:
            self._found = True


def bind(made: zmq.Socket[bytes], host: str, port: int, what: str) -> int:
    """Bind to a port, or to a free one when it is 0; returns the port. Raises OperatorError naming `what` option."""
    ports = [port] if port else random.sample(_FREE_PORTS, 100)
    for each in ports:
        try:
            made.bind(endpoint(host, each))
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE and not port:
                continue
            if error.errno == zmq.EADDRINUSE:
                raise OperatorError(f"port {port} is in use: stop who has it, or give another with {what}") from None
            reason = os.strerror(error.errno or 0)
            if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
                reason = "it is no address of this machine; give one with --listen"
            raise OperatorError(f"cannot listen at {host} port {each}: {reason}") from None
        return each
    raise OperatorError(f"no free port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}")


class Watch:
    """What happens to a socket's connections. It must be drained always: a full monitor freezes the I/O thread."""

    def __init__(self, watched: zmq.Socket[bytes], events: int) -> None:
        address = f"inproc://watch-{id(watched)}"
        watched.monitor(address, events)
        self._watched = watched
        self.socket: zmq.Socket[bytes] = watched.context.socket(zmq.PAIR)
        self.socket.rcvhwm = 0
        self.socket.linger = 0
        self.socket.connect(address)

    def events(self) -> list[tuple[int, int, str]]:
        """(event, value, endpoint) of all that happened since the last call."""
        # Here, and not above: it imports asyncio, for which --help should not have to wait.
        from zmq.utils.monitor import parse_monitor_message

        found: list[tuple[int, int, str]] = []
        while True:
            try:
                parsed = parse_monitor_message(self.socket.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return found
            found.append((int(parsed["event"]), int(parsed["value"]), parsed["endpoint"].decode()))

    def close(self) -> None:
        """Stop watching; to be called before the watched socket is closed."""
        self._watched.disable_monitor()
        self.socket.close()


class Poll:
    """Waits for sockets and descriptors and calls who is responsible."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._calls: dict[Any, Callable[[], object]] = {}

    def register(self, what: Any, call: Callable[[], object], events: int = zmq.POLLIN) -> None:
        """Call `call` when `what`, a socket or something with a `fileno`, is ready, from now on."""
        key = _pollable(what)
        self._poller.register(key, events)
        self._calls[key] = call

    def unregister(self, what: Any) -> None:
        """No longer wait for `what`."""
        key = _pollable(what)
        if key in self._calls:
            self._poller.unregister(key)
            del self._calls[key]

    def wait(self, until: float | None) -> None:
        """Wait for the first thing to be ready, but no longer than until the instant `until`; make the calls."""
        timeout_ms = None if until is None else max(0.0, (until - now()) * 1000)
        # Rounded up: a poll that wakes just before the instant would spin until it.
        for key, _ in self._poller.poll(None if timeout_ms is None else int(timeout_ms + 0.999)):
            if key in self._calls:
                self._calls[key]()


def _pollable(what: Any) -> Any:
    return what if isinstance(what, zmq.Socket | int) else what.fileno()


class Signals:
    """SIGINT and SIGTERM as something to poll: no exception bursts in at the worst moment."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        theirs.setblocking(False)
        self._theirs = theirs
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def _take(self, number: int, frame: FrameType | None) -> None:
        """The wake-up descriptor carries the number; there is nothing else to do here."""

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._ours.fileno()

    def pending(self, within_s: float) -> bool:
        """True when there is one that `received` will give, or comes within so many seconds."""
        return bool(select.select([self._ours], [], [], within_s)[0])

    def received(self) -> list[signal.Signals]:
        """The signals since the last call."""
        try:
            return [signal.Signals(number) for number in self._ours.recv(64)]
        except BlockingIOError:
            return []


def drain(made: zmq.Socket[bytes], most: int = 10_000) -> list[tuple[zmq.Frame, memoryview]]:
    """The messages that have come, `most` at most, each as its last frame and its content.

    A message of several frames is none of this protocol: its content is given as empty, which is malformed.
    """
    found: list[tuple[zmq.Frame, memoryview]] = []
    while len(found) < most:
        try:
            frame = made.recv(zmq.DONTWAIT, copy=False)
            alone = not frame.more
            while frame.more:
                frame = made.recv(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            break
        found.append((frame, frame.buffer if alone else memoryview(b"")))
    return found


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
