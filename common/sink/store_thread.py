"""A thread in which a ledger makes one write after the other, so that the sink's loop never waits for one."""

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any


class StoreThread:
    """Runs one call at a time."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        # It does not hold the process up when a server never answers.
        self._thread = threading.Thread(target=self._run, daemon=True, name="ledger")
        self._thread.start()

    def begin(self, call: Callable[[], Any]) -> None:
        """Have the thread call this. There must be no other call in it."""
        self._calls.put(call)

    def ended(self) -> bool:
        """True once, when the call has ended; `result` is to be called then. Never waits."""
        # A loop asks in each turn: an exception would say each time that it has not.
        if self._ends.empty():
            return False
        try:
            return bool(self._reader.recv(1))
        except BlockingIOError:
            return False

    def result(self) -> Any:
        """What the call has returned. Raises what it has raised."""
        found, error = self._ends.get()
        if error is not None:
            raise error
        return found

    def fileno(self) -> int:
        """Readable from the end of a call until `ended` has said so."""
        return self._reader.fileno()

    def close(self, within_s: float) -> bool:
        """End the thread, or leave it alone when its call takes longer; False then."""
        self._calls.put(None)
        self._thread.join(within_s)
        if self._thread.is_alive():
            return False
        self._reader.close()
        self._writer.close()
        return True

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                end: tuple[Any, BaseException | None] = call(), None
            except BaseException as error:
                end = None, error
            self._ends.put(end)
            self._writer.send(b"x")
