"""What happens to a socket's connections, and whether a name has an address."""

import errno
import ipaddress
import socket
import struct
import threading

import zmq

from ..protocol.handshake import LinkEvent
from .sockets import host_and_port

_LINK_EVENTS = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkEvent.CONNECTED,
    zmq.EVENT_CONNECT_RETRIED: LinkEvent.NOBODY,
    zmq.EVENT_DISCONNECTED: LinkEvent.CUT,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkEvent.KEY_REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: LinkEvent.BAD_HANDSHAKE,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: LinkEvent.NO_TRADEWIND,
}
_HEAD = struct.Struct("=HI")
"""Event and value. pyzmq's own reader imports asyncio, and takes three times as long."""


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


class SocketMonitor:
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
        """(event, value, endpoint) of what happened since the last call; a thousand at most, which bounds a turn."""
        found: list[tuple[int, int, str]] = []
        while len(found) < 1_000:
            try:
                head = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            # Both frames come at once. Not recv_multipart: asking for more takes longer than all the rest.
            endpoint = self.socket.recv()
            event, value = _HEAD.unpack(head)
            found.append((event, value, endpoint.decode()))
        return found

    def close(self) -> None:
        """Stop watching; to be called before the watched socket is closed."""
        self._watched.disable_monitor()
        self.socket.close()


class LinkMonitor:
    """The same for a socket that connects, in the words of the rules."""

    def __init__(self, watched: zmq.Socket[bytes], lookups: dict[str, NameLookup] | None = None) -> None:
        self._monitor = SocketMonitor(watched, sum(_LINK_EVENTS))
        self.socket = self._monitor.socket
        self._lookups = {} if lookups is None else lookups
        """By host. Whoever dials anew with another socket keeps them."""

    def events(self) -> list[tuple[LinkEvent, str, int]]:
        """(event, host, port) of all that happened since the last call."""
        return [self._seen(*event) for event in self._monitor.events()]

    def _seen(self, event: int, value: int, endpoint: str) -> tuple[LinkEvent, str, int]:
        host, port = host_and_port(endpoint)
        # After a connection was cut, libzmq names the peer by the address that it found.
        host = host.removeprefix("::ffff:")
        seen = _LINK_EVENTS[zmq.Event(event)]
        if seen is LinkEvent.BAD_HANDSHAKE and value != errno.EPIPE:
            # A peer with another key hangs up. A reset, or no answer, says nothing about keys.
            seen = LinkEvent.NOBODY
        if seen is LinkEvent.NOBODY and not self._has_address(host):
            seen = LinkEvent.NO_SUCH_NAME
        return seen, host, port

    def _has_address(self, host: str) -> bool:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return self._lookups.setdefault(host, NameLookup(host)).found()
        return True

    def close(self) -> None:
        """Stop watching; to be called before the watched socket is closed."""
        self._monitor.close()
