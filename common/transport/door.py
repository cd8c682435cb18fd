"""Watches the connections to the sockets that we bind, and hangs up on those that `Doorstep` does not let wait."""

import errno
import logging

import zmq

from ..log_line import LineBudget
from . import clock, polling
from .connections import address_of, hang_up
from .doorstep import Doorstep
from .monitor import SocketMonitor

log = logging.getLogger(__name__)

LOOK_S = 0.01
"""How long what happens to connections waits after a look: a flood of them must not cost a turn of the loop each."""
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED


class Door:
    """The connections to bound sockets. To be made before they are bound."""

    def __init__(self, descriptors_max: int, *bound: zmq.Socket[bytes]) -> None:
        self.rules = Doorstep(descriptors_max)
        self._watches = [(SocketMonitor(each, _EVENTS), each.type == zmq.ROUTER, each) for each in bound]
        self._open: dict[int, tuple[zmq.Socket[bytes], str]] = {}
        """By descriptor: to which socket, and from which address."""
        self._at: dict[tuple[zmq.Socket[bytes], str], set[int]] = {}
        """The same by socket and address: where thousands of workers go at once, each address is looked for."""
        self._poll: polling.Poll | None = None
        self._look_at: float | None = None
        """When to wait for them again; None while it does."""
        self._full_lines, self._silent_lines = LineBudget(1), LineBudget(1)

    def register(self, poll: polling.Poll) -> None:
        """Let `poll` drive it, and `tick`."""
        self._poll = poll
        for watch, _, _ in self._watches:
            poll.register(watch.socket, self._look_and_rest)

    def _look_and_rest(self) -> None:
        if self._poll is None or self._look_at is not None:
            return
        self._look_at = clock.now() + LOOK_S
        for watch, _, _ in self._watches:
            self._poll.unregister(watch.socket)
        self.look()

    def look(self) -> None:
        """Take what has happened, and hang up on whoever may not stay."""
        for watch, greets, bound in self._watches:
            unwanted: dict[int, str] = {}
            for event, value, _ in watch.events():
                if event == zmq.EVENT_ACCEPT_FAILED:
                    limit = self.rules.limit if value == errno.EMFILE else ""
                    self._full_lines.warn(
                        log, clock.now(), f"libzmq cannot accept connections: {zmq.strerror(value)}{limit}"
                    )
                    continue
                unwanted.pop(value, None)
                if event == zmq.EVENT_DISCONNECTED:
                    # Of another socket it may stand for a connection that came since.
                    if value in self._open and self._open[value][0] is bound:
                        self._forget(value)
                        self.rules.gone(value)
                    continue
                address = address_of(value)
                if value in self._open:
                    self._forget(value)
                self._open[value] = bound, address
                self._at.setdefault((bound, address), set()).add(value)
                why = self.rules.accepted(clock.now(), value, address, greets)
                if why is not None:
                    unwanted[value] = why
            # Last, because a descriptor may stand for another connection by now.
            for descriptor, why in unwanted.items():
                hang_up(descriptor)
                self._full_lines.warn(log, clock.now(), f"hung up on a connection: {why}")

    def showed_key(self, address: str) -> None:
        """A connection from this address has shown its key."""
        # What libzmq has accepted before it asked for the key counts first.
        self.look()
        self.rules.showed_key(address)

    def tick(self) -> None:
        """Hang up on connections that say nothing; wait for new ones again."""
        if self._poll is not None and self._look_at is not None and clock.now() >= self._look_at:
            self._look_at = None
            self.register(self._poll)
        for descriptor in self.rules.overdue(clock.now()):
            hang_up(descriptor)
            self._silent_lines.warn(log, clock.now(), "hung up on a connection that did not say hello")

    def deadline(self) -> float | None:
        """When to call `tick`, at the latest; connections that say nothing have time until somebody else wakes us."""
        return self._look_at

    def known_count(self, bound: zmq.Socket[bytes], address: str | None = None) -> int:
        """How many connections this socket has now that have shown a key; or how many of them are from there."""
        self.look()
        return sum(not self.rules.waits(descriptor) for descriptor in self._connections(bound, address))

    def cut_off(self, bound: zmq.Socket[bytes], living: int, address: str | None = None) -> None:
        """End all connections of this socket, or those from there, if more than `living` of them have shown a key."""
        if self.known_count(bound, address) > living:
            self.hang_up_on(bound, address)

    def hang_up_on(self, bound: zmq.Socket[bytes], address: str | None = None) -> None:
        """End all connections of this socket, or those from there: whoever may connects again.

        Not by unbinding: libzmq 4.3.5 then leaves peers in their handshake with connections that are open and dead, and
        the port may still be in use when it is bound again.
        """
        self.look()
        for descriptor in self._connections(bound, address):
            hang_up(descriptor)

    def _connections(self, bound: zmq.Socket[bytes], address: str | None) -> list[int]:
        if address is not None:
            return list(self._at.get((bound, address), ()))
        return [descriptor for descriptor, (made, _) in self._open.items() if made is bound]

    def _forget(self, descriptor: int) -> None:
        place = self._open.pop(descriptor)
        self._at[place].discard(descriptor)
        if not self._at[place]:
            del self._at[place]

    def close(self) -> None:
        """To be called before the sockets are closed."""
        for watch, _, _ in self._watches:
            watch.close()
