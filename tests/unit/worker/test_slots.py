"""What a slot's child is given, and what it cannot be given."""

import errno
import os
import resource
import socket
import tempfile

import pytest

from common.errors import OperatorError
from common.worker.child_process import Limits, shared_page
from common.worker.command import size_bytes
from common.worker.slots import RETRY_S, Slots


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


def test_a_child_has_a_session_of_its_own_and_so_no_terminal_to_be_stopped_at() -> None:
    slots = Slots(["json:dumps"], Limits())
    slots.start(range(1))
    try:
        assert [os.getsid(pid) for pid in slots.pids] == slots.pids
        assert [os.getpgid(pid) for pid in slots.pids] == slots.pids, "a group to end"
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


def test_a_full_folder_for_temporary_files_does_not_matter_where_memory_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", _no_space)
    os.close(shared_page())


def test_a_full_folder_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    page = shared_page()
    assert os.fstat(page).st_blocks > 0, "a sparse page raises SIGBUS where it is touched first and the disk is full"
    os.close(page)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/there")
    monkeypatch.setattr(tempfile, "TemporaryFile", _no_space)
    with pytest.raises(OperatorError, match="memory in /there: No space left on device; make room, or set TMPDIR"):
        shared_page()
    monkeypatch.setattr(tempfile, "gettempdir", _no_space)
    with pytest.raises(OperatorError, match="memory in the folder for temporary files: No space left"):
        shared_page()


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_vacant_slot_whose_child_imports_for_longer_than_the_wait_is_not_due() -> None:
    slots = Slots(["json:dumps"], Limits())
    slots._vacant[0] = None
    try:
        assert list(slots.end_overdue(0.0)) == []
        assert slots.deadline() == RETRY_S
        assert list(slots.end_overdue(RETRY_S)) == []
        assert slots.pids, "a child imports"
        assert list(slots.end_overdue(3 * RETRY_S)) == []
        assert slots.deadline() is None, "the loop would turn without a pause"
    finally:
        slots.close()
