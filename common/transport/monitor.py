"""What happens to a socket's connections, and whether a name has an address."""

import socket
import threading

import zmq


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
