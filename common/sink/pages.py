"""Pages of receipts and of arguments' digests, made of the rows that a ledger finds."""

from collections.abc import Sequence
from typing import Any

from .arguments import digest_of
from .store import DigestPage, Job, Page


def receipt_page(rows: Sequence[tuple[Any, ...]], runs: list[tuple[int, int]], after: int, limit: int) -> Page:
    """Of rows with position, first, count and seconds, of which these ranges of tasks are told."""
    return Page(
        position=rows[-1][0] if rows else after,
        runs=runs,
        count=sum(count for _, _, count, _ in rows),
        seconds=sum(seconds for _, _, _, seconds in rows),
        more=len(rows) == limit,
    )


def digest_page(rows: Sequence[tuple[Any, ...]], job: Job, first: int, limit: int) -> DigestPage:
    """Of rows with a task, its argument as it is kept, and the digest of one that was too large."""
    found = [digest_of(argument, seal, job.arguments) for _, argument, seal in rows]
    known = [each for each in found if each is not None]
    next_task = rows[-1][0] + 1 if rows else max(first, job.base or 0)
    return DigestPage(next_task, known, len(found) - len(known), len(rows) == limit)
