"""The thread of a ledger: its loop hears of an end once, and not before the result is there."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from common.sink.store_thread import StoreThread
from tests.conftest import wait_until


@pytest.fixture
def thread() -> Iterator[StoreThread]:
    made = StoreThread()
    yield made
    made.close(60)


class SlowBell:
    """The end that wakes the loop, when its thread is held up just before it rings."""

    def __init__(self, bell: socket.socket, thread: StoreThread) -> None:
        self._bell = bell
        self._thread = thread
        self.seen: list[bool] = []

    def send(self, ring: bytes) -> None:
        self.seen.append(self._thread.ended())
        self._bell.send(ring)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bell, name)


def test_a_loop_that_looks_before_it_is_woken_does_not_take_half_an_end(thread: StoreThread) -> None:
    slow = SlowBell(thread._writer, thread)
    thread._writer = slow  # type: ignore[assignment]
    thread.begin(lambda: 7)
    wait_until(thread.ended, "it ends")
    assert slow.seen == [False]
    assert thread.result() == 7
    assert not thread.ended()


def test_what_a_call_raises_its_loop_gets(thread: StoreThread) -> None:
    for number in (1, 0):
        thread.begin(lambda number=number: 1 // number)  # type: ignore[misc]
        wait_until(thread.ended, "it ends")
        if number:
            assert thread.result() == 1
    with pytest.raises(ZeroDivisionError):
        thread.result()
