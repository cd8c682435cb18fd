"""A write that is waited for, by those that do nothing else meanwhile."""

import select
import sys

from .store import Job, LedgerStuck, Store, Write, Written

_LATE_S = 1.0
"""From when on people are told what a write waits for."""


def write_and_wait(ledger: Store, write: Write) -> Written | Job | bool | None:
    """Make the write; what came of it. Raises LedgerStuck, and OperatorError when the ledger cannot be used further."""
    ledger.submit(write)
    said = ""
    while (completion := ledger.completed()) is None:
        descriptor = ledger.fileno()
        assert descriptor is not None, "a write that does not end within `submit` has a descriptor"
        if select.select([descriptor], [], [], _LATE_S)[0]:
            continue
        why = ledger.waits_for
        if why and why != said:
            print(f"sink: {why}; waiting for it", file=sys.stderr)
            said = why
    if completion.stuck is not None:
        raise LedgerStuck(completion.stuck)
    return completion.result
