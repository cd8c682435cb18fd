"""Wakes a loop from another thread."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto


class Bell:
    """Something to poll that any thread can ring."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def ring(self) -> None:
        """Make it readable, until it is silenced. Nothing happens when it is closed."""
        # When it cannot take more it rings already.
        with suppress(OSError):
            self._theirs.send(b"!")

    def silence(self) -> None:
        """Take note that it has rung."""
        with suppress(OSError):
            while self._ours.recv(4096):
                pass

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._ours.fileno()

    def close(self) -> None:
        """Let go of its descriptors."""
        self._ours.close()
        self._theirs.close()


class Stop(Enum):
    """What stops a loop in a thread; the log names it."""

    halt = auto()


class StopBell(Bell):
    """A `StopSource` for a loop in a thread, where no signal arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._stops: list[Stop] = []

    def stop(self) -> None:
        """Stop the loop, which waits for what runs; the second time it does not wait."""
        self._stops.append(Stop.halt)
        self.ring()

    def received(self) -> Sequence[Stop]:
        """What came since the last call."""
        if not self._stops:
            return ()
        self.silence()
        stops, self._stops = self._stops, []
        return stops
