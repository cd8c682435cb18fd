"""What the door to sockets promises beside CURVE: names that do not resolve, and ids that nobody can foresee."""

import socket
import subprocess
import sys
from threading import Event

import pytest

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
from common.transport.zap import REFUSED_FOR_GOOD, ZapHandler
from pathlib import Path

def pair(sink_key=""):
    public, secret = zmq.curve_keypair()
    return Certificate(Path("none"), public.decode(), secret.decode(), sink_key=sink_key)

context, sink = zmq.Context(), pair()
handler = ZapHandler(context, lambda domain, key: True, lambda *who: None, REFUSED_FOR_GOOD)
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
