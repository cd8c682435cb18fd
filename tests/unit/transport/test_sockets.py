"""What of the door to sockets can be tried without one."""

import socket
from threading import Event

import pytest

from common.transport.monitor import NameLookup
from tests.conftest import wait_until


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
