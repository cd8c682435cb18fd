"""The gate on real CURVE sockets: enrolled keys come in with their name, and from nobody else does anything arrive."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from common.transport import clock, monitor, polling, sockets
from common.transport.key_files import Certificate
from common.transport.zap import ADMITTED, REFUSED_FOR_GOOD, REFUSED_FOR_NOW, ZapHandler

PATIENCE_S = 10.0
PATIENCE_MS = 10_000
EVENTS = {
    "came in": zmq.EVENT_HANDSHAKE_SUCCEEDED,
    "refused": zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    "no detail": zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    "protocol": zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    "cut": zmq.EVENT_DISCONNECTED,
}


def pair(sink_key: str = "") -> Certificate:
    public, secret = zmq.curve_keypair()
    return Certificate(Path("none"), public.decode(), secret.decode(), sink_key=sink_key)


class Door:
    """A server socket behind a gate, clients that knock, and one loop for all of them."""

    def __init__(self, refusal: str = REFUSED_FOR_GOOD) -> None:
        self.context = zmq.Context()
        self.admitted: set[str] = set()
        self.refused: list[tuple[str, str, str]] = []
        self.arrived: list[tuple[str | None, bytes]] = []
        self.gate = ZapHandler(
            self.context,
            lambda domain, key, *_: ADMITTED if domain == "results" and key in self.admitted else refusal,
            lambda *who: self.refused.append(who),
        )
        self.pair = pair()
        self.server = sockets.results_server(self.context, self.pair)
        self.port = sockets.bind(self.server, "127.0.0.1", 0, "--port")
        self.inbox = sockets.Inbox(self.server, 100)
        self.poll = polling.Poll()
        self.poll.register(self.gate.socket, self.gate.answer)
        self.poll.register(self.server, self._take)
        self.clients: list[Client] = []

    def _take(self) -> None:
        self.arrived += [(sockets.user_id(each.frame), bytes(each.content)) for each in self.inbox.take()]

    def until(self, condition: Callable[[], object]) -> None:
        gives_up_at = clock.now() + PATIENCE_S
        while not condition():
            assert clock.now() < gives_up_at, "it never happened"
            self.poll.wait(gives_up_at)

    def knock(self, made: zmq.Socket[bytes]) -> "Client":
        self.clients.append(Client(self, made))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.watch.close()
            client.socket.close()
        self.server.close()
        self.gate.close()
        self.context.term()


class Client:
    """Connects, sends its message at once, and remembers what became of it."""

    def __init__(self, door: Door, made: zmq.Socket[bytes]) -> None:
        self.socket = made
        self.seen: list[str] = []
        self.watch = monitor.SocketMonitor(made, sum(EVENTS.values()))
        door.poll.register(self.watch.socket, self._look)
        made.connect(sockets.endpoint("127.0.0.1", door.port))
        made.send(b"hello")

    def _look(self) -> None:
        names = {int(number): name for name, number in EVENTS.items()}
        self.seen += [names[event] for event, _, _ in self.watch.events()]


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def enrolled(door: Door) -> tuple[zmq.Socket[bytes], Certificate]:
    certificate = pair(door.pair.public)
    door.admitted.add(certificate.public)
    return sockets.results_client(door.context, certificate), certificate


def unknown_key(door: Door) -> zmq.Socket[bytes]:
    return sockets.results_client(door.context, pair(door.pair.public))


def wrong_server_key(door: Door) -> zmq.Socket[bytes]:
    certificate = pair(pair().public)
    door.admitted.add(certificate.public)
    return sockets.results_client(door.context, certificate)


def stolen_public_key(door: Door) -> zmq.Socket[bytes]:
    """Somebody who saw an enrolled public key, but has another secret."""
    _, certificate = enrolled(door)
    assert certificate.secret is not None
    other = Certificate(Path("none"), certificate.public, pair().secret, sink_key=door.pair.public)
    return sockets.results_client(door.context, other)


def no_curve(door: Door) -> zmq.Socket[bytes]:
    made: zmq.Socket[bytes] = door.context.socket(zmq.PUSH)
    made.linger = 0
    return made


def password(door: Door) -> zmq.Socket[bytes]:
    made = no_curve(door)
    made.plain_username, made.plain_password = b"admin", b"admin"
    return made


def test_an_enrolled_key_comes_in_and_each_message_carries_it(door: Door) -> None:
    made, certificate = enrolled(door)
    client = door.knock(made)
    door.until(lambda: door.arrived)
    assert door.arrived == [(certificate.public, b"hello")]
    door.until(lambda: client.seen)
    assert client.seen == ["came in"]
    assert door.refused == []


@pytest.mark.parametrize(
    ("stranger", "sign"),
    [
        (unknown_key, "refused"),
        (wrong_server_key, "no detail"),
        (stolen_public_key, "no detail"),
        (no_curve, "protocol"),
        (password, "protocol"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_from_a_stranger_nothing_arrives(door: Door, stranger: Callable[[Door], zmq.Socket[bytes]], sign: str) -> None:
    client = door.knock(stranger(door))
    door.until(lambda: sign in client.seen or "cut" in client.seen)
    assert "came in" not in client.seen
    assert sign in client.seen or sign == "protocol"
    # What an enrolled client sends now arrives first and alone.
    made, certificate = enrolled(door)
    door.knock(made)
    door.until(lambda: door.arrived)
    assert door.arrived == [(certificate.public, b"hello")]


def test_an_unknown_key_is_reported_with_its_domain_and_address(door: Door) -> None:
    certificate = pair(door.pair.public)
    door.knock(sockets.results_client(door.context, certificate))
    door.until(lambda: door.refused)
    assert door.refused == [("results", certificate.public, "127.0.0.1")]


def test_who_is_refused_for_now_comes_in_once_enrolled() -> None:
    door = Door(REFUSED_FOR_NOW)
    try:
        certificate = pair(door.pair.public)
        made = sockets.results_client(door.context, certificate)
        made.handshake_ivl = 100
        door.knock(made)
        door.until(lambda: door.refused)
        door.admitted.add(certificate.public)
        door.until(lambda: door.arrived)
        assert door.arrived == [(certificate.public, b"hello")]
    finally:
        door.close()


def test_who_waits_comes_in_at_once_when_it_may_or_is_refused_in_the_end(door: Door) -> None:
    door.gate._judge = lambda domain, key, address, last: ADMITTED if key in door.admitted else "400" if last else None
    made, certificate = enrolled(door)
    other, client = pair(door.pair.public), door.knock(made)
    door.admitted.clear()
    refused = door.knock(sockets.results_client(door.context, other))
    door.until(lambda: len(door.gate._waiting) == 2)
    door.gate.ask_again()
    assert len(door.gate._waiting) == 2
    door.admitted.add(certificate.public)
    door.gate.ask_again()
    door.until(lambda: door.arrived)
    assert client.seen == ["came in"] and refused.seen == []
    door.gate.answer_waiting()
    assert not door.gate.waiting
    door.until(lambda: refused.seen)
    assert refused.seen[0] == "refused"


def test_without_an_answer_from_the_gate_nobody_comes_in(door: Door) -> None:
    """Fail closed: the domain is enforced, so libzmq asks, and waits."""
    door.poll.unregister(door.gate.socket)
    made, _ = enrolled(door)
    client = door.knock(made)
    assert door.gate.socket.poll(PATIENCE_MS)
    assert client.watch.events() == []
    assert list(door.inbox.take()) == []
    door.gate.answer()
    door.until(lambda: door.arrived)


def test_a_key_that_is_struck_out_cannot_come_back(door: Door) -> None:
    made, certificate = enrolled(door)
    door.knock(made)
    door.until(lambda: door.arrived)
    door.admitted.clear()
    again = door.knock(sockets.results_client(door.context, certificate))
    door.until(lambda: again.seen)
    assert again.seen[0] == "refused"
    assert len(door.arrived) == 1


@pytest.mark.parametrize(
    ("mechanism", "credentials"),
    [
        (b"NULL", []),
        (b"PLAIN", [b"admin", b"admin"]),
        (b"CURVE", []),
        (b"CURVE", [b"k" * 31]),
        (b"CURVE", [b"k" * 33]),
        (b"CURVE", [b"k" * 32, b"more"]),
        (b"GSSAPI", [b"k" * 32]),
    ],
    ids=repr,
)
def test_what_is_no_curve_key_is_refused_whoever_would_be_admitted(mechanism: bytes, credentials: list[bytes]) -> None:
    context = zmq.Context()
    gate = ZapHandler(context, lambda *_: ADMITTED, lambda *_: None)
    asker = context.socket(zmq.REQ)
    asker.linger = 0
    try:
        asker.connect("inproc://zeromq.zap.01")
        asker.send_multipart([b"1.0", b"7", b"results", b"127.0.0.1", b"", mechanism, *credentials])
        assert gate.socket.poll(PATIENCE_MS)
        gate.answer()
        assert asker.poll(PATIENCE_MS)
        version, request, status, *_, user, _ = asker.recv_multipart()
        assert (version, request, status, user) == (b"1.0", b"7", b"400", b"")
    finally:
        asker.close()
        gate.close()
        context.term()
