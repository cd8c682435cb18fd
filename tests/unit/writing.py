"""Writes to a ledger that a test waits for."""

from collections.abc import Iterable
from typing import Any

from common.protocol.messages import Mark
from common.sink.rows import RowSet
from common.sink.store import Ending, Forgetting, Job, Opening, Recording, Store, Tidying, Written
from common.sink.whole_write import write_and_wait


def open_job(ledger: Store, name: str, function: str, source: str, *rest: Any, **others: Any) -> Job:
    """Open a job. Raises LedgerStuck, as the others do."""
    job = write_and_wait(ledger, Opening(name, function, source, *rest, **others))
    assert isinstance(job, Job)
    return job


def end_job(ledger: Store, name: str, state: str, total: int | None) -> None:
    """End a job."""
    write_and_wait(ledger, Ending(name, state, total))


def forget(ledger: Store, name: str) -> None:
    """Forget a job."""
    write_and_wait(ledger, Forgetting(name))


def tidy(ledger: Store) -> bool:
    """Tidy a part; True while there is more."""
    is_more = write_and_wait(ledger, Tidying())
    assert isinstance(is_more, bool)
    return is_more


def commit(ledger: Store, row_sets: Iterable[RowSet], marks: Iterable[Mark] = ()) -> Written:
    """Write results and marks."""
    written = write_and_wait(ledger, Recording([*row_sets], [*marks]))
    assert isinstance(written, Written)
    return written
