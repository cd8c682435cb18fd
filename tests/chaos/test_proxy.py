"""Each fault of the proxy, seen from both ends of a plain TCP connection. Nothing of the pipeline runs here."""

import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import TARGET, Proxy

QUIET_S = 0.3
"""How long nothing must come. It only has to be longer than a hop on loopback takes."""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without being asked")


class Ends:
    """A listener at the target, a proxy before it, and a connection through both."""

    def __init__(self) -> None:
        self.listener = socket.create_server((TARGET, 0))
        self.port = self.listener.getsockname()[1]
        self.proxy = Proxy("127.0.0.2", [self.port])
        self.client, self.server = self.connect()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection((self.proxy.host, self.port))
        server, _ = self.listener.accept()
        for side in (client, server):
            side.settimeout(30)
        return client, server

    def close(self) -> None:
        self.proxy.close()
        for each in (self.listener, self.client, self.server):
            each.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    try:
        yield made
    finally:
        made.close()


def is_quiet(side: socket.socket) -> bool:
    return not select.select([side], [], [], QUIET_S)[0]


def passes(source: socket.socket, target: socket.socket) -> bool:
    source.sendall(b"word")
    return target.recv(100) == b"word"


def test_it_passes_on_both_ways_and_the_end_of_the_stream(ends: Ends) -> None:
    assert passes(ends.client, ends.server)
    assert passes(ends.server, ends.client)
    ends.client.shutdown(socket.SHUT_WR)
    assert ends.server.recv(100) == b""
    assert passes(ends.server, ends.client)


def test_much_passes_whole(ends: Ends) -> None:
    sent = bytes(range(256)) * 40_000
    ends.client.settimeout(0)
    got, at = bytearray(), 0
    while len(got) < len(sent):
        readable, writable, _ = select.select([ends.server], [ends.client] if at < len(sent) else [], [], 30)
        assert readable or writable
        at += ends.client.send(sent[at:]) if writable else 0
        got += ends.server.recv(1 << 20) if readable else b""
    assert got == sent


def test_delay_is_late_and_in_order(ends: Ends) -> None:
    ends.proxy.fault("delay", 0.5)
    started = time.monotonic()
    ends.client.sendall(b"first")
    assert is_quiet(ends.server)
    ends.proxy.heal()
    ends.client.sendall(b"second")
    got = b""
    while len(got) < len(b"firstsecond"):
        got += ends.server.recv(100)
    assert got == b"firstsecond"
    assert time.monotonic() >= started + 0.5


def test_stall_keeps_the_connection_and_what_was_sent(ends: Ends) -> None:
    ends.proxy.fault("stall")
    ends.client.sendall(b"late")
    assert is_quiet(ends.server)
    assert is_quiet(ends.client)
    ends.proxy.heal()
    assert ends.server.recv(100) == b"late"
    assert passes(ends.server, ends.client)


def test_cut_swallows_and_answers_nobody_and_heals_with_a_reset(ends: Ends) -> None:
    ends.proxy.fault("cut")
    ends.client.sendall(b"lost")
    with socket.create_connection((ends.proxy.host, ends.port)) as newcomer:
        assert is_quiet(ends.server)
        assert is_quiet(ends.client)
        assert is_quiet(ends.listener)
        ends.proxy.heal()
        with pytest.raises(ConnectionResetError):
            ends.client.recv(100)
        with pytest.raises(ConnectionResetError):
            ends.server.recv(100)
        server, _ = ends.listener.accept()
        assert passes(newcomer, server)
        server.close()


def test_reset_ends_both_sides_with_rst_and_new_connections_are_fine(ends: Ends) -> None:
    assert ends.proxy.fault("reset") == []
    for side in (ends.client, ends.server):
        with pytest.raises(ConnectionResetError):
            side.recv(100)
    client, server = ends.connect()
    assert passes(client, server)
    client.close()
    server.close()


def test_half_close_ends_one_direction_only(ends: Ends) -> None:
    ends.proxy.fault("half_close")
    assert ends.client.recv(100) == b""
    assert passes(ends.client, ends.server)


def test_a_fault_at_one_port_leaves_the_other_alone() -> None:
    with socket.create_server((TARGET, 0)) as one, socket.create_server((TARGET, 0)) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        proxy = Proxy("127.0.0.2", ports)
        clients = [socket.create_connection((proxy.host, port)) for port in ports]
        servers = [each.accept()[0] for each in (one, other)]
        assert proxy.fault("reset", port=ports[0]) == [ports[1]]
        with pytest.raises(ConnectionResetError):
            clients[0].recv(100)
        assert passes(clients[1], servers[1])
        proxy.close()
        for each in (*clients, *servers):
            each.close()


def test_nobody_at_the_target_is_a_reset(ends: Ends) -> None:
    ends.listener.close()
    with socket.socket() as taken:
        # So nobody else listens there meanwhile.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((TARGET, ends.port))
        client = socket.create_connection((ends.proxy.host, ends.port), timeout=30)
        with client, pytest.raises(ConnectionResetError):
            client.recv(100)
