"""A thread for what may take long in a ledger: the sync of a disk, an answer of a server."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any


class StoreThread:
    """Makes one call at a time in a thread of its own, and wakes the loop that polls its descriptor when that ends.

    It ends with its process, whatever it waits for.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._result: Any = None
        self._error: BaseException | None = None
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def begin(self, call: Callable[[], Any]) -> None:
        """Make this call. The one before must have ended, and its result be taken."""
        self._calls.put(call)

    def ended(self) -> bool:
        """True once when the call has ended; then `result` tells how. It does not wait."""
        try:
            return bool(self._ours.recv(1))
        except BlockingIOError:
            return False

    def result(self) -> Any:
        """What the call has returned. Raises what it has raised."""
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result

    def fileno(self) -> int:
        """A descriptor that is readable when a call has ended, until `ended` has said so."""
        return self._ours.fileno()

    def close(self, within_s: float) -> bool:
        """End the thread when its call has ended; False if that takes longer than `within_s` seconds."""
        self._calls.put(None)
        self._thread.join(within_s)
        if self._thread.is_alive():
            return False
        self._ours.close()
        self._theirs.close()
        return True

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._result = call()
            except BaseException as error:
                self._error = error
            # Nobody listens to a thread that was left behind.
            with suppress(OSError):
                self._theirs.send(b"\0")
