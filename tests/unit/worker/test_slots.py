"""What a slot's child is given, and what it cannot be given."""

import os
import resource
import socket

import pytest

from common.errors import OperatorError
from common.worker.child_process import Limits
from common.worker.command import size_bytes
from common.worker.slots import Slots


def test_the_link_of_a_child_holds_more_than_a_socket_pair_does_by_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        usual = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    slots = Slots(["json:dumps"], Limits())
    slots.start(range(1))
    try:
        wire = slots._children[0].wire
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > usual
    finally:
        slots.close()


def test_more_slots_than_the_machine_allows_are_said_in_words() -> None:
    slots = Slots(["json:dumps"], Limits())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(2)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, limits[1]))
    try:
        with pytest.raises(OperatorError, match=r"slot 0: Too many open files; give fewer --slots, or raise .* ulimit"):
            slots.start(range(1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        slots.close()


def test_a_memory_limit_beyond_what_processes_may_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**30, 2**30))
    assert size_bytes("1G") == 2**30
    with pytest.raises(OperatorError, match=r"--memory-limit 2G: .* may have 1073741824 bytes \(ulimit -v\)"):
        size_bytes("2G")
