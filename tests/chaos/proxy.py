"""A small TCP proxy with faults, for loopback. A process of its own, which `Proxy` starts and commands.

It listens at `host` on ports of the target at 127.0.0.1: a peer that is told to look for its sink at `host` has all its
links through the proxy, and nothing else changes for it.

    delay       what comes is passed on, but later
    stall       nothing is read; connections stay, and go on where they were after `heal`: packets that are late
    cut         what comes is swallowed, nobody new gets an answer; `heal` resets who lived through it: packets
                that are lost, and a connection that the far end has forgotten
    reset       connections end with RST
    half_close  the client sees the end of the stream; what it sends is still passed on

A fault is for all connections and those to come, or for those of one port.
"""

import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

TARGET = "127.0.0.1"
_CHUNK_BYTES = 65_536
_CHUNKS_WAITING_MAX = 64
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Weather:
    """How the connections of one port fare now."""

    mode: str = "heal"
    delay_s: float = 0.0


@dataclass
class Flow:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    waiting: "deque[tuple[float, bytes]]" = field(default_factory=deque)
    ended: bool = False
    """The end of the stream was read."""
    shut: bool = False
    """The end of the stream was passed on."""

    def may_read(self, weather: Weather) -> bool:
        """True when the source should be read once it has something."""
        return not self.ended and weather.mode != "stall" and len(self.waiting) < _CHUNKS_WAITING_MAX

    def due_at(self, weather: Weather) -> float:
        """When there is something to pass on; infinity while there is nothing."""
        return self.waiting[0][0] if self.waiting and weather.mode != "stall" else float("inf")

    def read(self, weather: Weather) -> None:
        """Take a chunk that has come, if there is one; the empty chunk is the end of the stream. Raises OSError."""
        with contextlib.suppress(BlockingIOError):
            got = self.source.recv(_CHUNK_BYTES)
            self.ended = not got
            if weather.mode != "cut" and not self.shut:
                self.waiting.append((time.monotonic() + weather.delay_s, got))

    def write(self) -> None:
        """Pass on the chunk that is due, as far as the target takes it. Raises OSError."""
        at, chunk = self.waiting.popleft()
        if not chunk:
            self.shut_target()
            return
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = self.target.send(chunk)
        if sent < len(chunk):
            self.waiting.appendleft((at, chunk[sent:]))

    def shut_target(self) -> None:
        """Let the target see the end of the stream; what still comes is read and thrown away. Raises OSError."""
        self.shut = True
        self.waiting.clear()
        self.target.shutdown(socket.SHUT_WR)


class Connection:
    """A client, its target, and a flow in each direction."""

    def __init__(self, client: socket.socket, port: int) -> None:
        self.port = port
        self.sides = [client, socket.create_connection((TARGET, port))]
        self.flows = [Flow(*self.sides), Flow(*reversed(self.sides))]
        for side in self.sides:
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pump(self, weather: Weather) -> bool:
        """Move what can be moved now; False when the connection is over, and closed."""
        try:
            for flow in self.flows:
                if flow.may_read(weather):
                    flow.read(weather)
                if flow.due_at(weather) <= time.monotonic():
                    flow.write()
        except OSError:
            # One side was reset: so is the other.
            self.close(reset=True)
            return False
        over = all(flow.shut for flow in self.flows)
        if over:
            self.close()
        return not over

    def close(self, reset: bool = False) -> None:
        """Close both sides, with RST if asked to."""
        for side in self.sides:
            if reset:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            side.close()


class Server:
    """The proxy's process: listens, pumps, takes commands from stdin."""

    def __init__(self, host: str, ports: Sequence[int]) -> None:
        self._weather = {port: Weather() for port in ports}
        self._listeners = {socket.create_server((host, port), backlog=64): port for port in ports}
        self._connections: list[Connection] = []

    def run(self) -> None:
        """Serve until stdin ends."""
        self._answer()
        commands = sys.stdin.fileno()
        while True:
            readable, writable, next_at = self._interest()
            ready = select.select([commands, *readable], writable, [], max(0.0, next_at - time.monotonic()))[0]
            for listener in self._listeners.keys() & set(ready):
                self._accept(listener)
            self._connections = [each for each in self._connections if each.pump(self._weather[each.port])]
            if commands in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self._perform(**json.loads(line))
                self._answer()

    def _interest(self) -> tuple[list[socket.socket], list[socket.socket], float]:
        """Who should be looked at when readable or writable, and until when to wait at most."""
        readable = [each for each, port in self._listeners.items() if self._weather[port].mode not in ("stall", "cut")]
        writable, next_at, now = [], time.monotonic() + 3600, time.monotonic()
        for connection in self._connections:
            weather = self._weather[connection.port]
            for flow in connection.flows:
                if flow.may_read(weather):
                    readable.append(flow.source)
                if flow.due_at(weather) <= now:
                    writable.append(flow.target)
                next_at = min(next_at, max(flow.due_at(weather), now))
        return readable, writable, next_at

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        try:
            self._connections.append(Connection(client, self._listeners[listener]))
        except OSError:
            # Nobody is at the target.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            client.close()

    def _perform(self, mode: str, seconds: float, port: int | None) -> None:
        """Do what a command says to the connections of `port`, or to all."""
        mine = [each for each in self._connections if port in (None, each.port)]
        if mode == "half_close":
            for connection in mine:
                with contextlib.suppress(OSError):
                    connection.flows[1].shut_target()
            return
        for connection in mine:
            if mode == "reset" or (self._weather[connection.port].mode == "cut" and mode != "cut"):
                connection.close(reset=True)
                self._connections.remove(connection)
        if mode != "reset":
            for each in self._weather if port is None else [port]:
                self._weather[each] = Weather(mode, seconds)

    def _answer(self) -> None:
        print(json.dumps([each.port for each in self._connections]), flush=True)


class Proxy:
    """A running proxy, and how to command it: `with Proxy("127.0.0.2", ports) as proxy`."""

    def __init__(self, host: str, ports: Sequence[int]) -> None:
        self.host = host
        command = [sys.executable, __file__, host, *map(str, ports)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._await_answer()

    def fault(self, mode: str, seconds: float = 0.0, port: int | None = None) -> list[int]:
        """Set in: `delay` (by `seconds`), `stall`, `cut`, `reset`, `half_close` or `heal`, at one port or at all.

        Returns the ports of the connections that are there afterwards.
        """
        assert self._process.stdin is not None
        print(json.dumps({"mode": mode, "seconds": seconds, "port": port}), file=self._process.stdin, flush=True)
        return self._await_answer()

    def heal(self) -> list[int]:
        """No more faults."""
        return self.fault("heal")

    def close(self) -> None:
        """End it, with all its connections."""
        self._process.communicate()

    def _await_answer(self) -> list[int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the proxy at {self.host} has ended with {self._process.wait()}")
        return [int(port) for port in json.loads(line)]


if __name__ == "__main__":
    Server(sys.argv[1], [int(port) for port in sys.argv[2:]]).run()
