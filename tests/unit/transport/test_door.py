"""Strangers at the door, on real CURVE sockets: a few may wait, the others are hung up on, and who is in stays in."""

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
import zmq

from common.transport import clock, polling, sockets
from common.transport.connections import address_of, hang_up
from common.transport.door import LOOK_S, Door
from common.transport.doorstep import GREETING_S, GivenIds
from common.transport.zap import ADMITTED, ZapHandler
from tests.unit.transport.test_zap import PATIENCE_S, pair

DESCRIPTORS_MAX = 1_000_000
"""More than this process has; the bound on those that wait is set by hand."""


def turn_until(condition: Callable[[], object], poll: polling.Poll, door: Door, patience_s: float = PATIENCE_S) -> None:
    gives_up_at = clock.now() + patience_s
    while not condition():
        assert clock.now() < gives_up_at, "it never happened"
        poll.wait(clock.now() + 0.005)
        door.tick()


class House:
    """A control socket with its gate and its door, in one loop."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.gate = ZapHandler(self.context, self._judge, lambda *_: None)
        self.pair = pair()
        self.server = sockets.control_server(self.context, self.pair)
        self.door = Door(DESCRIPTORS_MAX, self.server)
        self.door.rules.waiting_max, self.door.rules.address_max = 8, 4
        self.ids = GivenIds(sockets.next_routing_id(self.context, self.server))
        self.port = sockets.bind(self.server, "127.0.0.1", 0, "--port")
        self.inbox = sockets.Inbox(self.server, 100)
        self.arrived: list[sockets.Arrived] = []
        self.poll = polling.Poll()
        self.poll.register(self.gate.socket, self.gate.answer)
        self.poll.register(self.server, lambda: self.arrived.extend(self.inbox.take()))
        self.door.register(self.poll)
        self.clients: list[zmq.Socket[bytes]] = []
        self.strangers: list[socket.socket] = []

    def _judge(self, link: str, key: str, address: str, has_waited: bool) -> str:
        self.door.showed_key(address)
        self.ids.one_more()
        return ADMITTED

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(condition, self.poll, self.door)

    def client(self, routing_id: bytes = b"") -> "zmq.Socket[bytes]":
        made = sockets.control_client(self.context, replace(pair(), sink_key=self.pair.public))
        if routing_id:
            made.setsockopt(zmq.ROUTING_ID, routing_id)
        made.connect(sockets.endpoint("127.0.0.1", self.port))
        self.clients.append(made)
        return made

    def hear(self, made: "zmq.Socket[bytes]", content: bytes) -> sockets.Arrived:
        self.until(lambda: made.poll(0, zmq.POLLOUT))
        made.send(content)
        self.until(lambda: any(each.content == content for each in self.arrived))
        return next(each for each in self.arrived if each.content == content)

    def stranger(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port))
        made.setblocking(False)
        self.strangers.append(made)
        return made

    def close(self) -> None:
        self.door.close()
        for each in (*self.clients, self.server):
            each.close(0)
        for stranger in self.strangers:
            stranger.close()
        self.gate.close()
        self.context.term()


@pytest.fixture
def house(caplog: pytest.LogCaptureFixture) -> Iterator[House]:
    caplog.set_level(logging.INFO)
    made = House()
    yield made
    made.close()


def was_reset(stranger: socket.socket) -> bool:
    """Whether it was hung up on. One that libzmq has let go after its time reads an end, as from a wrong key."""
    try:
        while stranger.recv(100):
            pass
    except OSError as error:
        return error.errno == errno.ECONNRESET
    return False


def test_a_few_strangers_wait_and_who_is_in_stays_in(house: House, caplog: pytest.LogCaptureFixture) -> None:
    inside = house.client()
    house.hear(inside, b"before")
    for _ in range(30):
        house.stranger()
    reset: set[socket.socket] = set()
    house.until(lambda: reset.update(filter(was_reset, house.strangers)) or len(reset) == 26)
    house.hear(inside, b"during")
    assert [message for message in caplog.messages if "hung up" in message] == [
        "hung up on a connection: 4 others from there have not shown a key yet"
    ]
    for stranger in house.strangers:
        stranger.close()
    house.hear(house.client(), b"after")


def test_a_flood_of_connections_does_not_wake_the_loop_for_each(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, now = house.door._watches[0][0].socket, clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    house.stranger()
    house.poll.wait(now + PATIENCE_S)
    assert len(house.door._open) == 1
    assert house.door.deadline() == now + LOOK_S
    house.stranger()
    assert watch.poll(PATIENCE_S * 1000)
    house.poll.wait(now)
    house.door.tick()
    assert len(house.door._open) == 1
    now += LOOK_S
    house.door.tick()
    assert house.door.deadline() is None
    house.poll.wait(now + PATIENCE_S)
    assert len(house.door._open) == 2


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_address_is_that_of_the_other_end(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server, socket.socket(family) as client:
        client.connect(server.getsockname())
        accepted = server.accept()[0]
        descriptor = accepted.fileno()
        assert address_of(descriptor) == host
        hang_up(descriptor)
        accepted.close()
        assert address_of(descriptor) == ""
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_what_was_accepted_before_a_key_was_shown_counts_first(house: House) -> None:
    house.stranger()
    assert house.door._watches[0][0].socket.poll(PATIENCE_S * 1000)
    house.door.showed_key("127.0.0.1")
    assert not house.door.rules._waiting


def test_who_does_not_say_hello_in_time_is_hung_up_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    greeting, silent = house.client(), house.client()
    house.door.rules.greeted(sockets.descriptor(house.hear(greeting, b"hello").frame))
    house.until(lambda: silent.poll(0, zmq.POLLOUT))
    later = clock.now() + GREETING_S
    monkeypatch.setattr(clock, "now", lambda: later)
    house.door.tick()
    monkeypatch.undo()
    house.until(lambda: not silent.poll(0, zmq.POLLOUT) or len(house.door.rules._silent) == 1)
    house.hear(greeting, b"still here")


def test_a_claimed_id_is_told_from_a_given_one_and_cut_off(house: House) -> None:
    honest = [house.hear(house.client(), b"honest %d" % number) for number in range(3)]
    ahead = b"\0" + ((int.from_bytes(honest[-1].peer[1:]) + 20) % 2**32).to_bytes(4)
    claimed = [house.client(ahead), house.client(b"mine")]
    liars = [house.hear(made, b"liar %d" % number) for number, made in enumerate(claimed)]
    assert all(house.ids.include(each.peer) for each in honest)
    assert not any(house.ids.include(each.peer) for each in liars)
    for each in liars:
        hang_up(sockets.descriptor(each.frame))
    for made in claimed:
        house.until(lambda made=made: not made.poll(0, zmq.POLLOUT))
    house.hear(house.client(), b"next")


def test_all_are_hung_up_on_and_connect_anew_in_whatever_state_they_were(house: House) -> None:
    """Unbinding instead left those in their handshake, and others, with connections that were open and dead."""
    clients = [house.client() for _ in range(5)]

    def all_are_open() -> bool:
        return len(house.door._open) == len(clients) and any(each.poll(0, zmq.POLLOUT) for each in clients)

    def all_are_heard() -> bool:
        for number, each in enumerate(clients):
            with suppress(zmq.Again):
                each.send(b"%d" % number, zmq.DONTWAIT)
        return len({bytes(each.content) for each in house.arrived}) == len(clients)

    for _ in range(4):
        house.until(all_are_open)
        house.door.hang_up_on(house.server)
        house.until(lambda: len(house.door._open) < len(clients))
    house.arrived.clear()
    house.until(all_are_heard)
