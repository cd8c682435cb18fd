"""The smallest ledger that keeps the contract: lists and dictionaries, for a reader of `store.py` and for its tests."""

import secrets
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from common.errors import OperatorError
from common.protocol.reading import Cursor, ListedJob
from common.protocol.settings import MESSAGE_BYTES_MAX
from common.protocol.value_array import sent_value
from common.sink.arguments import of_range
from common.sink.pages import digest_page
from common.sink.rows import RowSet
from common.sink.store import (
    Completion,
    DigestPage,
    Ending,
    Forgetting,
    HistoryPage,
    Job,
    JobSummary,
    Opening,
    Page,
    Recording,
    Row,
    RowPage,
    RowQuery,
    Tidying,
    ValuePage,
    Write,
    Written,
    weight,
)

TIME = "2026-01-01T00:00:00+00:00"


@dataclass
class MemoryJob:
    """What is kept of one job."""

    job: Job
    ended_at: str | None = None
    rows: dict[int, Row] = field(default_factory=dict)
    receipts: list[tuple[int, float]] = field(default_factory=list)
    """Tasks and their seconds, in order of commit; a receipt's place is its position."""
    instants: list[tuple[int, int]] = field(default_factory=list)
    """Positions in the whole ledger, and when each receipt was given."""


@dataclass
class MemoryPlace:
    """What stays when a ledger is closed."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    jobs: dict[str, MemoryJob] = field(default_factory=dict)
    forgotten: list[MemoryJob] = field(default_factory=list)
    is_made: bool = False
    is_held: bool = False
    is_stuck: bool = False


class MemoryLedger:
    """A `Store`."""

    def __init__(self, place: MemoryPlace) -> None:
        if place.is_held:
            raise OperatorError("the ledger is in use by another sink")
        place.is_made = place.is_held = True
        self._place = place
        self.id = place.id
        self._ended: Completion | None = None

    def job(self, name: str) -> Job | None:
        kept = self._place.jobs.get(name)
        return None if kept is None else kept.job

    def submit(self, write: Write) -> None:
        assert self._ended is None
        if self._place.is_stuck:
            self._ended = Completion(write, stuck="no room")
            return
        match write:
            case Recording():
                self._ended = Completion(write, self._record(write))
            case Opening():
                self._ended = Completion(write, self._open(write))
            case Ending():
                kept = self._place.jobs[write.name]
                total = kept.job.total if write.total is None else write.total
                kept.job, kept.ended_at = replace(kept.job, state=write.state, total=total), TIME
                self._ended = Completion(write)
            case Forgetting():
                self._place.forgotten.append(self._place.jobs.pop(write.name))
                self._ended = Completion(write)
            case Tidying():
                self._ended = Completion(write, False)

    def completed(self) -> Completion | None:
        ended, self._ended = self._ended, None
        return ended

    def fileno(self) -> None:
        pass

    @property
    def waits_for(self) -> str:
        return ""

    def _open(self, opening: Opening) -> Job:
        name, retries, attempts = opening.name, opening.retries, opening.attempts
        kept = self._place.jobs.get(name)
        if kept is None:
            number, key = len(self._place.jobs) + len(self._place.forgotten) + 1, secrets.token_bytes(32)
            what = opening.function, opening.source
            job = Job(number, name, *what, "open", None, 0, 0, 0, b"", key, retries, attempts, "", None)
            kept = self._place.jobs[name] = MemoryJob(job)
        kept.job, kept.ended_at = replace(kept.job, state="open", retries=retries, attempts=attempts), None
        kept.job = replace(kept.job, arguments=opening.arguments or kept.job.arguments)
        if opening.appends:
            base = kept.job.total or 0
            kept.job = replace(kept.job, base=base, mark_count=base, mark_digest=b"", total=None)
        return kept.job

    def _record(self, recording: Recording) -> Written:
        jobs = deepcopy(self._place.jobs)
        rows: list[Row] = []
        for row_set in recording.row_sets:
            kept = jobs[row_set.results.job]
            rows += _write(kept, row_set)
            given = sum(len(each.instants) for each in [*jobs.values(), *self._place.forgotten])
            new = len(kept.receipts) - len(kept.instants)
            kept.instants += [(given + 1 + number, int(time.time())) for number in range(new)]

        for mark in recording.marks:
            kept = jobs[mark.job]
            total = kept.job.total if mark.total is None else mark.total
            kept.job = replace(kept.job, mark_count=mark.count, mark_digest=mark.digest, total=total)
        self._place.jobs = jobs
        return Written(len(rows), sum(row.status == "failed" for row in rows), 0.0)

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int) -> Page:
        kept = self._place.jobs[name]
        found = kept.receipts[after : after + limit]
        failed = {task for task, row in kept.rows.items() if row.status == "failed" and row.attempt <= skipped_attempts}
        return Page(
            position=after + len(found),
            runs=[(task, 1) for task, _ in found if task not in failed],
            count=len(found),
            seconds=sum(seconds for _, seconds in found),
            more=after + len(found) < len(kept.receipts),
        )

    def failed_attempts(self, name: str) -> int:
        rows = self._place.jobs[name].rows.values()
        return max((row.attempt for row in rows if row.status == "failed"), default=0)

    def failures(self, name: str, limit: int) -> list[tuple[int, str, Any]]:
        rows = sorted(self._place.jobs[name].rows.items())
        return [(task, row.error or "", row.argument) for task, row in rows if row.status == "failed"][:limit]

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        kept = self._place.jobs[name]
        rows = [row for task, row in sorted(kept.rows.items()) if first <= task < (kept.job.base or 0)][:limit]
        arguments = [(row.task, row.argument, row.argument_digest) for row in rows]
        return digest_page(arguments, kept.job, first, limit)

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        found = [
            ListedJob(job.job, job.name, job.function, job.state, job.total, job.done, job.failed, TIME, kept.ended_at)
            for kept in self._place.jobs.values()
            for job in [kept.job]
        ]
        return [each for each in found if each.number > after][:limit]

    def size_bytes(self) -> int:
        return 1000 * sum(len(kept.rows) for kept in self._place.jobs.values())

    def read(self, name: str, query: RowQuery) -> RowPage:
        kept = self._place.jobs[name]
        at = query.after[0]
        if query.order == "task":
            found = [((task + 1, 0), kept.rows[task]) for task in sorted(kept.rows) if task >= at]
        else:
            found = [((number, 0), kept.rows[task]) for number, (task, _) in enumerate(kept.receipts, 1) if number > at]
        rows: list[Row] = []
        position: Cursor = query.after
        for after, row in found[: query.scanned_max]:
            if row.status == "failed" or not query.failed:
                is_full = len(rows) >= query.rows_max or sum(map(weight, [*rows, row])) > query.bytes_max
                if rows and is_full:
                    return RowPage(rows, position, True)
                rows.append(row)
            position = after
        return RowPage(rows, position, len(found) > query.scanned_max)

    def values(self, name: str, query: RowQuery) -> ValuePage:
        page = self.read(name, replace(query, failed=False))
        others = [row for row in page.rows if row.status == "failed" or weight(row) > MESSAGE_BYTES_MAX]
        values = [None if row in others else sent_value(row.value, row.json, row.exact) for row in page.rows]
        return ValuePage([(row.task, 1) for row in page.rows], values, others, page.position, page.more)

    def close(self) -> None:
        self._place.is_held = False


def _write(kept: MemoryJob, row_set: RowSet) -> list[Row]:
    """Write the rows that may be; returns them."""
    written = []
    results = row_set.results
    for offset in range(results.count):
        task = results.first + offset
        row = kept.rows.get(task)
        stays = row is not None and (row.status != "failed" or row.attempt > row_set.replaced_attempts)
        if stays or offset in row_set.again:
            continue
        error, seconds = row_set.errors.get(offset), row_set.seconds[offset]
        json = row_set.json[offset] if row_set.json and error is None else None
        value = row_set.stored[offset] if error is None else None
        status = "ok" if error is None else "failed"
        exact = row_set.exact.get(offset) if error is None else None
        argument, digest = (row_set.arguments or {offset: None})[offset], row_set.digests.get(offset)
        fields = (task, status, value, json, error, results.attempt, results.worker, seconds, exact)
        kept.rows[task] = Row(*fields, argument, None, digest)
        written.append(kept.rows[task])
        kept.receipts.append((task, seconds))
    failed = sum(row.status == "failed" for row in kept.rows.values())
    kept.job = replace(kept.job, done=len(kept.rows), failed=failed)
    return written


class MemoryReader:
    """A `Reader`."""

    def __init__(self, place: MemoryPlace) -> None:
        if not place.is_made:
            raise OperatorError("there is no ledger")
        self._place = place
        self.id = place.id

    def jobs(self) -> list[JobSummary]:
        return [
            JobSummary(job.name, job.function, job.state, job.total, job.done, job.failed, TIME, kept.ended_at)
            for kept in self._place.jobs.values()
            for job in [kept.job]
        ]

    def job(self, name: str | None) -> int:
        jobs = [kept.job for kept in self._place.jobs.values() if name in (None, kept.job.name)]
        if not jobs:
            raise OperatorError("there is no job yet" if name is None else f"there is no job {name}")
        return jobs[-1].job

    def ended(self, job: int) -> bool:
        if job not in [kept.job.job for kept in self._place.jobs.values()]:
            raise OperatorError("the job was forgotten")
        return self._kept(job).job.state != "open"

    def rows(self, job: int, failed: bool) -> Iterator[Row]:
        rows = [self._shown(job, row) for _, row in sorted(self._kept(job).rows.items())]
        yield from (row for row in rows if row.status == "failed" or not failed)
        self.ended(job)

    def _shown(self, job: int, row: Row) -> Row:
        kept = self._kept(job).job
        is_json = kept.arguments == "json" and row.argument is not None and row.argument_digest is None
        number = of_range(kept.source, row.task)
        argument = row.argument if number is None else number
        return structs.replace(row, argument=argument, argument_json=1 if is_json else None)

    def rows_after(self, job: int, position: int, failed: bool) -> Iterator[tuple[int, Row | None]]:
        kept = self._kept(job)
        for at, (task, _) in list(enumerate(kept.receipts, 1))[position:]:
            row = kept.rows[task]
            yield at, self._shown(job, row) if row.status == "failed" or not failed else None

    def follow(self, job: int, failed: bool) -> Iterator[Row | None]:
        position, is_over = 0, False
        while not is_over:
            is_over = self.ended(job)
            for at, row in self.rows_after(job, position, failed):
                position = at
                if row is not None:
                    yield row
            yield None

    def page(self, job: int, after: int, limit: int, failed: bool) -> list[Row]:
        return [row for row in self.rows(job, failed) if row.task > after][:limit]

    def history(self, job: int | None, after: int, limit: int) -> HistoryPage:
        jobs = self._place.jobs.values() if job is None else [self._kept(job)]
        found = sorted(each for kept in jobs for each in kept.instants if each[0] > after)[:limit]
        return HistoryPage(found[-1][0] if found else after, [(at, 1) for _, at in found], len(found) == limit)

    def position_before(self, at: int) -> int:
        instants = [each for kept in self._place.jobs.values() for each in kept.instants]
        return max((position for position, instant in instants if instant < at), default=0)

    def sample(self, job: int, count: int) -> list[float]:
        seconds = [row.seconds for row in self.rows(job, False)]
        return seconds[:: max(1, len(seconds) // count)]

    def close(self) -> None:
        pass

    def _kept(self, job: int) -> MemoryJob:
        return next(kept for kept in self._place.jobs.values() if kept.job.job == job)
