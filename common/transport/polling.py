"""What a role's loop waits for: sockets, descriptors, signals."""

import select
import signal
import socket
from collections.abc import Callable, Sequence
from enum import Enum
from types import FrameType
from typing import Any, Protocol

import zmq

from . import clock


class Poll:
    """Waits for sockets and descriptors, and calls the function registered for each."""

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
        timeout_ms = None if until is None else max(0.0, (until - clock.now()) * 1000)
        # Rounded up: a poll that wakes just before the instant would spin until it.
        for key, _ in self._poller.poll(None if timeout_ms is None else int(timeout_ms + 0.999)):
            if key in self._calls:
                self._calls[key]()


def _pollable(what: Any) -> Any:
    return what if isinstance(what, zmq.Socket | int) else what.fileno()


class StopSource(Protocol):
    """Says when to stop, as signals do."""

    def fileno(self) -> int: ...
    def received(self) -> Sequence[Enum]:
        """What came since the last call, by its name."""


class Signals:
    """SIGINT and SIGTERM as something to poll: no exception bursts in at the worst moment."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        theirs.setblocking(False)
        self._theirs = theirs
        self._ready = select.poll()
        self._ready.register(self._ours, select.POLLIN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def _take(self, number: int, frame: FrameType | None) -> None:
        """The wake-up descriptor carries the number; there is nothing else to do here."""

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._ours.fileno()

    def pending(self, within_s: float) -> bool:
        """True when `received` has a signal, or one comes within this many seconds."""
        return bool(self._ready.poll(within_s * 1000))

    def received(self) -> list[signal.Signals]:
        """The signals since the last call."""
        # A loop asks in each turn: an exception would say each time that there is none.
        return [signal.Signals(number) for number in self._ours.recv(64)] if self._ready.poll(0) else []
