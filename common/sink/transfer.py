"""What a copy of a ledger to another kind has. No file, no socket."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .store import Job


class MovedRow(NamedTuple):
    """The row of a task, with its argument as the ledger keeps it."""

    task: int
    attempt: int
    worker: str
    seconds: float
    value: Any
    json: int | None
    exact: bytes | None
    error: str | None
    argument: str | bytes | None
    argument_digest: bytes | None
    failed: bool


class MovedReceipt(NamedTuple):
    """A receipt. `at` is in seconds since 1970."""

    position: int
    job: int
    first: int
    task_count: int
    seconds: float
    failed: int
    at: int | None


@dataclass(frozen=True, slots=True)
class MovedJob(Job):
    """A job with its instants, in UTC as ISO 8601 writes them."""

    opened_at: str = ""
    ended_at: str | None = None


class Origin(Protocol):
    """A ledger as it is at one moment. Whatever it reads raises OperatorError."""

    id: str
    position: int
    """That of its last receipt."""
    jobs: list[MovedJob]

    def rows(self, job: int) -> Iterator[MovedRow]:
        """All rows of a job, in order of tasks."""

    def receipts(self) -> Iterator[MovedReceipt]:
        """All receipts of these jobs, in order of positions."""

    def close(self) -> None:
        """Stop reading."""


def next_id(ledger: str) -> str:
    """The id of a copy of the ledger with this id.

    A ventilator that goes on with another ledger would miss what was recorded since; this one tells it. The first half
    stays, because the spools of streams are named by it.
    """
    return ledger[:8] + secrets.token_hex(4)
