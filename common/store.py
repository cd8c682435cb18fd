"""What the sink's rules need of the ledger."""

from collections.abc import Iterable
from typing import Protocol

from common.ledger import Job, Page
from common.messages import Mark
from common.recording import Recording


class Store(Protocol):
    """The ledger; its errors are LedgerRefused and LedgerStuck."""

    id: str

    def job(self, name: str) -> Job | None: ...
    def open_job(self, name: str, function: str, source: str, retries: int, retry_failed: bool) -> Job: ...
    def end_job(self, name: str, state: str, total: int | None) -> None: ...
    def commit(self, recordings: Iterable[Recording], marks: Iterable[Mark]) -> None: ...
    def receipts(self, name: str, after: int, limit: int, without_failed: bool) -> Page: ...
    def failures(self, name: str, limit: int) -> list[tuple[int, str]]: ...
