"""What the sink's rules need of the ledger."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ..protocol.messages import Mark
from .rows import RowSet


class LedgerRefused(Exception):
    """A job cannot be opened as asked; the text says why."""


class LedgerStuck(Exception):
    """A commit failed for a reason that may pass (disk full, locked); nothing of it was written."""


@dataclass(slots=True)
class Job:
    """A row of `jobs`."""

    job: int
    name: str
    function: str
    source: str
    state: str
    total: int | None
    done: int
    failed: int
    mark_count: int
    mark_digest: bytes
    ticket_key: bytes
    retries: int
    attempts: int

    @property
    def attempts_max(self) -> int:
        """The attempt at which a failure is recorded."""
        return self.attempts + 1 + self.retries


@dataclass(frozen=True, slots=True)
class Page:
    """Receipts after a position, in order of commit."""

    position: int
    runs: list[tuple[int, int]]
    count: int
    seconds: float
    more: bool


class Store(Protocol):
    """The ledger; its errors are LedgerRefused and LedgerStuck."""

    id: str

    def job(self, name: str) -> Job | None: ...
    def open_job(self, name: str, function: str, source: str, retries: int, retry_failed: bool) -> Job: ...
    def end_job(self, name: str, state: str, total: int | None) -> None: ...
    def commit(self, recordings: Iterable[RowSet], marks: Iterable[Mark]) -> None: ...
    def receipts(self, name: str, after: int, limit: int, without_failed: bool) -> Page: ...
    def failures(self, name: str, limit: int) -> list[tuple[int, str]]: ...
