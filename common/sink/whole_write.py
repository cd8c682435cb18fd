"""A write that is waited for, by those that do nothing else meanwhile."""

import select

from .store import Job, LedgerStuck, Store, Write, Written


def write_and_wait(ledger: Store, write: Write) -> Written | Job | bool | None:
    """Make the write; what came of it. Raises LedgerStuck, and OperatorError when the ledger cannot be used further."""
    ledger.submit(write)
    while (completion := ledger.completed()) is None:
        descriptor = ledger.fileno()
        assert descriptor is not None, "a write that does not end within `submit` has a descriptor"
        select.select([descriptor], [], [])
    if completion.stuck is not None:
        raise LedgerStuck(completion.stuck)
    return completion.result
