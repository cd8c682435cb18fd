"""What the door to sockets promises beside CURVE: names that do not resolve, and ids that nobody can foresee."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import zmq

from common.errors import OperatorError
from common.transport import sockets
from common.transport.key_files import Certificate
from common.transport.monitor import NameLookup
from tests.conftest import PATIENCE_S, TOP, wait_until


def test_a_name_that_does_not_resolve_is_looked_up_again_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, resolves = Event(), Event()

    def resolve(host: str, port: None) -> list[object]:
        assert (host, answered.wait(60)) == ("sink", True)
        if not resolves.is_set():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    lookup = NameLookup("sink")
    assert lookup.found()
    assert lookup.found(), "the resolver has not answered yet"
    answered.set()
    wait_until(lambda: not lookup.found(), "the name does not resolve")
    resolves.set()
    wait_until(lookup.found, "the name resolves again")


FIRST_ID = """
import zmq
from common.transport import sockets
from common.transport.key_files import Certificate
from common.transport.zap import ADMITTED, ZapHandler
from pathlib import Path

def pair(sink_key=""):
    public, secret = zmq.curve_keypair()
    return Certificate(Path("none"), public.decode(), secret.decode(), sink_key=sink_key)

context, sink = zmq.Context(), pair()
handler = ZapHandler(context, lambda *_: ADMITTED, lambda *_: None)
server = sockets.control_server(context, sink)
port = sockets.bind(server, "127.0.0.1", 0, "--port")
client = sockets.control_client(context, pair(sink.public))
client.connect(sockets.endpoint("127.0.0.1", port))
assert handler.socket.poll(30_000)
handler.answer()
assert client.poll(30_000, zmq.POLLOUT)
client.send(b"hello")
assert server.poll(30_000)
print(server.recv_multipart()[0].hex())
client.close(); server.close(); handler.close(); context.term()
"""


def test_the_ids_of_anonymous_peers_begin_elsewhere_in_each_process() -> None:
    """An enrolled key that foresees them can claim one that is still to come, and libzmq then aborts the sink."""
    command = [sys.executable, "-c", FIRST_ID]
    ids = [subprocess.check_output(command, cwd=TOP, text=True, timeout=PATIENCE_S).strip() for _ in range(3)]
    assert all(len(each) == 10 and each.startswith("00") for each in ids)
    assert len(set(ids)) == 3


@pytest.fixture
def bound() -> Iterator["zmq.Socket[bytes]"]:
    """A socket to bind. `bind` does not look at what it is, so it may do without keys."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as made:
        made.ipv6 = True
        yield made


@pytest.mark.parametrize(
    ("host", "address", "is_loopback"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        pytest.param("::1", "::1", True, marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")),
        ("*", "::", False),
        ("0.0.0.0", "0.0.0.0", False),
    ],
)
def test_where_a_socket_listens_is_known_by_its_address(
    bound: "zmq.Socket[bytes]", host: str, address: str, is_loopback: bool
) -> None:
    sockets.bind(bound, host, 0, "--port")
    found = sockets.bound_address(bound)
    assert str(found) == address
    assert (found.is_loopback, found.is_unspecified) == (is_loopback, not is_loopback)


def test_a_name_is_bound_at_the_address_that_it_has(bound: "zmq.Socket[bytes]") -> None:
    """`localhost` is an IPv6 address on many machines, and an IPv4 address on others."""
    sockets.bind(bound, "localhost", 0, "--port")
    assert sockets.bound_address(bound).is_loopback


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5557", "tcp://[fe80::1%eth0]:5557", "tcp://Some.Host:1"])
def test_addresses_are_taken_apart_as_they_were_joined(address: str) -> None:
    assert sockets.endpoint(*sockets.host_and_port(address)) == address


def test_who_connects_before_a_socket_is_taken_over_waits_in_its_queue() -> None:
    listener = sockets.listener()
    with socket.create_connection(listener.getsockname(), PATIENCE_S) as early, zmq.Context() as context:
        public, secret = zmq.curve_keypair()
        server = sockets.control_server(context, Certificate(Path("none"), public.decode(), secret.decode()))
        port = listener.getsockname()[1]
        with server:
            assert sockets.take_over(server, listener.detach()) == port
            assert early.recv(1) == b"\xff", "the first byte of ZeroMQ's greeting"


def test_a_port_in_use_is_passed_over_only_where_others_may_be_taken() -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as first, context.socket(zmq.PUSH) as second:
        taken = sockets.bind(first, "127.0.0.1", 0, "--port")
        also_taken = sockets.bind(first, "127.0.0.1", 0, "--port")
        with pytest.raises(OperatorError, match=f"port {taken} is in use: .* give another with --port"):
            sockets.bind(second, "127.0.0.1", taken, "--port")
        # One that libzmq lets go of would be in use for a moment more.
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]
        assert sockets.bind(second, "127.0.0.1", taken, "--port", [also_taken, free]) == free
        assert sockets.bind(second, "127.0.0.1", taken, "--port", [also_taken]) not in (taken, also_taken)
