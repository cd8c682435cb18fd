"""A process in virtual time, and a client of the sink: what workers and ventilators have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.log_line import LogLine
from common.protocol.codec import decode_from_sink, encode
from common.protocol.handshake import Fail, Handshake, LinkEvent, Redial
from common.protocol.messages import FromSink, Message
from common.protocol.users import WORKER, User
from tests.simulation.world import Channel

if TYPE_CHECKING:
    from tests.simulation.farm import Farm
    from tests.simulation.sink_role import Sink

POLL_S = 1e-6
"""How long after its deadline a poll ends."""
INFINITY = float("inf")
SPINS_MAX = 20
"""Wakes within a millisecond that may come to nothing."""
WORKERS = User(WORKER, "workers", "w" * 40)
"""The key that all workers share."""
STRUCK = User(WORKER, "struck", "s" * 40)
"""But some have this one where a key is to be revoked."""

KEEPER = User(WORKER, "keeper", "k" * 40)
"""And this one is a thief's, who takes batches and keeps them."""


class Role:
    """A process: it may be stalled (SIGSTOP), and it may be killed."""

    def __init__(self, farm: Farm, name: str) -> None:
        self.farm, self.world, self.name = farm, farm.world, name
        self.dice = farm.world.dice(name)
        self.alive = True
        self.stalled_until = 0.0
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.sent_count = 0
        self.wake_count = 0
        self._wake_at: float | None = None
        self._looks_at = INFINITY
        """When the world calls `_wake` next: at `_wake_at` or before."""
        self._spins = 0
        self._spun_at = -1.0

    def happen(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something comes from outside: take it now, or when the process goes on."""
        if self.world.now < self.stalled_until:
            self._inbox.append((action, arguments))
        elif self.alive:
            self.take(action, *arguments)

    def take(self, action: Callable[..., None], *arguments: Any) -> None:
        """One event and one turn of the loop."""
        action(*arguments)
        if self.alive:
            self.turn()
            self.arm()

    def stall(self, until: float) -> None:
        """SIGSTOP until then: what comes meanwhile waits in the order in which it came."""
        self.stalled_until = until
        self.world.at(until, self.go_on)

    def go_on(self) -> None:
        """SIGCONT."""
        if self.world.now < self.stalled_until:
            return
        inbox, self._inbox = self._inbox, []
        for action, arguments in inbox:
            self.happen(action, *arguments)
        self.arm()

    def turn(self) -> None:
        """One turn of the shell's loop after its poll."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """Until when the shell's poll may wait."""
        raise NotImplementedError

    def arm(self, at_least: float = 0.0) -> None:
        """Wake at the deadline."""
        deadline = self.deadline() if self.alive else None
        if deadline is None:
            self._wake_at = None
            return
        now = self.world.now
        when = (deadline if deadline > now else now) + POLL_S
        self._wake_at = when = when if when > at_least else at_least + POLL_S
        if when < self._looks_at:
            self._looks_at = when
            self.world.at(when, self._wake, when)

    def _wake(self, when: float) -> None:
        if when != self._looks_at:
            return
        self._looks_at = INFINITY
        if self._wake_at is None or not self.alive:
            return
        if self._wake_at > when:
            self._looks_at = self._wake_at
            self.world.at(self._wake_at, self._wake, self._wake_at)
            return
        self._wake_at = None
        now = self.world.now
        if now < self.stalled_until:
            self.arm(self.stalled_until)
            return
        self.wake_count += 1
        sent = self.sent_count
        self.turn()
        if self.sent_count != sent or now > self._spun_at + 0.001:
            self._spins, self._spun_at = 0, now
        self._spins += 1
        if self._spins > self.farm.spins_max:
            self.world.require(False, f"{self.name} spins: its deadline stays", self.deadline())
        self.arm()


@dataclass(slots=True)
class Connection:
    """A control connection, as the ROUTER knows it."""

    peer: bytes
    client: Client
    sink: Sink
    up: Channel
    down: Channel


class Client(Role):
    """A worker or a ventilator: whoever joins the sink."""

    role = ""

    def __init__(self, farm: Farm, name: str) -> None:
        super().__init__(farm, name)
        addresses = ["tcp://sink:5559", "tcp://sink2:5559"] if farm.plan.has_standby else ["tcp://sink:5559"]
        self.joining = Handshake(farm.timing, self.role, name, addresses, "key")
        self.place = 0
        """Which of them it dials."""
        self._dial_count = 0
        self.connection: Connection | None = None
        self._connected_count = 0
        self.dark_until = 0.0
        """The link to the sink is dark until then."""
        self.user = WORKERS

    def call(self) -> None:
        """Connect to the sink when it is there."""
        if not self.farm.plan.has_standby:
            self.world.after(self.dice.uniform(0.002, 0.5), self._connect)
            return
        self._dial_count += 1
        self.world.after(self.dice.uniform(0.002, 0.1), self._dial, self._dial_count)

    def _dial(self, dial: int) -> None:
        """Try the address whose turn it is, again and again, as libzmq does."""
        if dial != self._dial_count or not self.alive or self.connection is not None:
            return
        sink = self.farm.sink_at(self.place)
        if sink is None and self.world.now >= self.dark_until:
            self.happen(self._event, LinkEvent.NOBODY)
        elif sink is not None and self.world.now >= max(self.dark_until, sink.stalled_until):
            self._connect()
        self.world.after(self.dice.uniform(0.1, 0.8), self._dial, dial)

    def _redial(self, place: int) -> None:
        """Dial an address with a new socket."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.up.close(False)
            connection.down.close(True)
            connection.sink.connections.pop(connection.peer, None)
        self.place = place
        self.call()

    def _connect(self) -> None:
        sink = self.farm.sink_at(self.place)
        if not self.alive or self.connection is not None or sink is None:
            return
        if self.world.now < self.dark_until:
            self.world.at(self.dark_until, self.call)
            return
        if self.user.key not in self.farm.roster:
            self.failed("the key was revoked")
            return
        self._connected_count += 1
        peer = f"{self.name}#{self._connected_count}".encode()
        self.connection = Connection(
            peer,
            self,
            sink,
            Channel(
                self.world, f"{peer!r} up", lambda frame, label: sink.happen(sink.control, peer, frame, label), False
            ),
            Channel(self.world, f"{peer!r} down", lambda frame, label: self.happen(self._take, frame, label), False),
        )
        sink.connections[peer] = self.connection
        self.happen(self._event, LinkEvent.CONNECTED)

    def cut(self, lose: bool) -> None:
        """The connection breaks; the client sees it and calls again."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        connection.up.close(lose)
        connection.down.close(True)
        connection.sink.connections.pop(connection.peer, None)
        if self.alive:
            self.happen(self._event, LinkEvent.CUT)
            self.call()

    def darken(self, until: float) -> None:
        """Nothing comes through to the sink until then, and nothing is lost."""
        self.dark_until = until
        if self.connection is not None:
            self.connection.up.block(until)
            self.connection.down.block(until)

    def send(self, message: Message, label: Any = None) -> None:
        """Send to the sink if it is there now."""
        self.sent_count += 1
        if self.connection is not None:
            self.world.note(self.name, "-> sink", message)
            self.connection.up.send(encode(message), label)
            self.joining.said(self.world.now)

    def receive(self, message: FromSink, label: Any) -> None:
        """Take what is not about joining only."""
        raise NotImplementedError

    def failed(self, text: str) -> None:
        """The sink refuses this process, which ends."""
        self.world.require(False, f"{self.name} is refused:", text)

    def _event(self, event: LinkEvent) -> None:
        self._perform_joining(self.joining.event(self.world.now, event))

    def _take(self, frame: bytes, label: Any) -> None:
        message = decode_from_sink(frame)
        self.world.note(self.name, "<- sink", message)
        self._perform_joining(self.joining.receive(self.world.now, message))
        if self.alive:
            self.receive(message, label)

    def _perform_joining(self, outputs: list[Any]) -> None:
        for output in outputs:
            if isinstance(output, Fail):
                self.failed(output.text)
            elif isinstance(output, Redial) and self.farm.plan.has_standby:
                self._redial(output.place)
            elif not isinstance(output, LogLine | Redial):
                self.send(output)

    def kill(self) -> None:
        """SIGKILL."""
        self.world.note(self.name, "is killed")
        self.alive = False
        self.cut(lose=self.dice.random() < 0.5)
