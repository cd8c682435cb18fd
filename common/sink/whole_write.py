"""A write that is waited for, by those that do nothing else meanwhile."""

import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .store import Job, LedgerStuck, Store, Write, Written
from .writes import LATE_S


def write_and_wait(ledger: Store, write: Write) -> Written | Job | bool | None:
    """Make the write; what came of it. Raises LedgerStuck, and OperatorError when the ledger cannot be used further."""
    ledger.submit(write)
    said = ""
    while (completion := ledger.completed()) is None:
        descriptor = ledger.fileno()
        assert descriptor is not None, "a write that does not end within `submit` has a descriptor"
        if select.select([descriptor], [], [], LATE_S)[0]:
            continue
        said = _told(ledger.waits_for, said)
    if completion.stuck is not None:
        raise LedgerStuck(completion.stuck)
    return completion.result


@contextmanager
def telling(waits_for: Callable[[], str]) -> Iterator[None]:
    """Tell people what is waited for inside, from a thread, as whoever waits there cannot."""
    is_over = threading.Event()

    def look() -> None:
        said = ""
        while not is_over.wait(LATE_S):
            said = _told(waits_for(), said)

    thread = threading.Thread(target=look, name="telling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _told(why: str, said: str) -> str:
    """Say why, unless that was the last that was said; what was said last."""
    if not why or why == said:
        return said
    print(f"sink: {why}; waiting for it", file=sys.stderr)
    return why
