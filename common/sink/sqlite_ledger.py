"""The ledger in SQLite, the only writer of results. The first one wins by primary key (job, task)."""

import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from ..protocol.messages import Mark
from ..protocol.reading import ListedJob
from ..task_ranges import TaskRanges
from ..transport import clock
from .arguments import digest_of
from .rows import RowSet
from .sqlite_file import RECEIPT_TASKS_MAX, SqliteFile
from .sqlite_pages import RowReader, ValueReader
from .store import DigestPage, Job, Page, RowPage, RowQuery, ValuePage, Written

_LARGE_BYTES = 1_800
"""A larger value is kept apart from its row, which then fits into a page (SQLite gives it a quarter of one)."""
_TEXTS = frozenset((str, bytes))
_TOGETHER_MIN = 4
"""From how many row sets on a shared statement is faster."""
_JOB_COLUMNS = (
    "job, name, function, source, state, total, done, failed, mark_count, mark_digest, ticket_key, retries, attempts,"
    " arguments, base"
)


_NEXT_JOB = "(SELECT coalesce(max(job), 0) + 1 FROM (SELECT job FROM jobs UNION ALL SELECT job FROM forgotten))"
"""Never one that rows of a forgotten job still have."""
_INCREMENTAL = 2
"""Ledgers of version 1 were made without: there the room is used again, and the file does not shrink."""
_TIDIED_S = 0.005
"""After this long a part of tidying ends. It begins with one row, because a row may take thousands of pages."""
_TIDIED_ROWS_MAX = 1_000
_STAYING_MAX = 2
_REMOVAL = (
    "DELETE FROM large_values WHERE id IN (SELECT large FROM task_rows WHERE job=:job ORDER BY task LIMIT :count)",
    "DELETE FROM task_rows WHERE job=:job AND task IN"
    " (SELECT task FROM task_rows WHERE job=:job ORDER BY task LIMIT :count)",
    "DELETE FROM receipts WHERE position IN (SELECT position FROM receipts"
    " WHERE job=:job AND position<(SELECT max(position) FROM receipts) LIMIT :count)",
    "DELETE FROM forgotten WHERE job=:job AND job<(SELECT max(job) FROM (SELECT job FROM jobs UNION ALL"
    " SELECT job FROM forgotten)) AND NOT EXISTS (SELECT 1 FROM receipts WHERE receipts.job=:job)",
)
"""What removes a forgotten job, one after the other."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ledger:
    """A `Store`, whose docstrings say what each method promises. `path` may be ":memory:"."""

    def __init__(self, path: str) -> None:
        self._file = SqliteFile(path)
        self._db = self._file.db
        self.id = self._file.id
        self._jobs: dict[str, Job] = {}
        self._is_tidy = False

    def job(self, name: str) -> Job | None:
        """The job, or None."""
        if name not in self._jobs:
            row = self._db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE name=?", (name,)).fetchone()
            if row is None:
                return None
            self._jobs[name] = Job(*row)
        return self._jobs[name]

    def open_job(
        self,
        name: str,
        function: str,
        source: str,
        retries: int = 0,
        attempts: int = 0,
        arguments: str = "",
        appends: bool = False,
    ) -> Job:
        """Make the job, or open it again, to append to it or not. Raises LedgerStuck."""
        with self._file.transaction():
            self._db.execute(
                "INSERT INTO jobs (job, name, function, source, opened_at, ticket_key, retries, attempts, arguments)"
                f" VALUES ({_NEXT_JOB}, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET state='open', ended_at=NULL, retries=excluded.retries, attempts=excluded.attempts,"
                " arguments=coalesce(nullif(excluded.arguments, ''), arguments)",
                (name, function, source, _now(), secrets.token_bytes(32), retries, attempts, arguments),
            )
            if appends:
                change = "base=total, mark_count=total, mark_digest=x'', total=NULL"
                self._db.execute(f"UPDATE jobs SET {change} WHERE name=?", (name,))
        return self._written(name)

    def end_job(self, name: str, state: str, total: int | None) -> None:
        """Set the job's state, and its total unless it is None. Raises LedgerStuck."""
        with self._file.transaction():
            self._db.execute(
                "UPDATE jobs SET state=?, total=coalesce(?, total), ended_at=? WHERE name=?",
                (state, total, _now(), name),
            )
        self._written(name)

    def forget(self, name: str) -> None:
        """Remove the job; `tidy` removes its rows. Raises LedgerStuck."""
        number = self._known(name).job
        with self._file.transaction():
            self._db.execute("DELETE FROM jobs WHERE job=?", (number,))
            self._db.execute("INSERT INTO forgotten VALUES (?)", (number,))
        del self._jobs[name]
        self._is_tidy = False

    def tidy(self) -> bool:
        """Remove some rows of forgotten jobs, then give free pages back. Raises LedgerStuck."""
        if self._is_tidy:
            return False
        ends_at = clock.now() + _TIDIED_S
        count = 1
        with self._file.unsynced(), self._file.transaction():
            while (is_more := self._removed(count) or self._freed_page()) and clock.now() < ends_at:
                count = min(2 * count, _TIDIED_ROWS_MAX)
        self._is_tidy = not is_more
        if self._is_tidy:
            # The file shrinks when the log is copied into it.
            self._file.copy_log()
        return is_more

    def _removed(self, count: int) -> bool:
        """Remove this many rows or receipts of a forgotten job, or its number; False when nothing is left to remove.

        Two numbers may stay: the last one, so that no job gets it again, and that of the last receipt, which stays
        until there is another one, so that no position is given twice.
        """
        forgotten = self._db.execute(f"SELECT job FROM forgotten ORDER BY job LIMIT {_STAYING_MAX + 1}").fetchall()
        return any(
            self._db.execute(sql, {"job": job, "count": count}).rowcount for (job,) in forgotten for sql in _REMOVAL
        )

    def _freed_page(self) -> bool:
        if self._db.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
            return False
        if not self._db.execute("PRAGMA freelist_count").fetchone()[0]:
            return False
        # Whatever number it is given, this frees one page each time that it is executed by Python.
        self._db.execute("PRAGMA incremental_vacuum(1)")
        return True

    def commit(self, row_sets: Iterable[RowSet], marks: Iterable[Mark]) -> Written:
        """Write results and marks in one transaction. Raises LedgerStuck, and then nothing is written."""
        recorded: dict[str, list[tuple[int, int, float, int]]] = {}
        marks = list(marks)
        began_at = clock.now()
        with self._file.transaction():
            for alike in _alike(list(row_sets)):
                name = alike[0].results.job
                runs = recorded.setdefault(name, [])
                runs += self._insert_together(self._known(name), alike)
            at = int(time.time())
            for name, runs in recorded.items():
                self._write_receipts(self._known(name), runs, at)
            for mark in marks:
                self._db.execute(
                    "UPDATE jobs SET mark_count=?, mark_digest=?, total=coalesce(?, total) WHERE name=?",
                    (mark.count, mark.digest, mark.total, mark.job),
                )
        for name in recorded.keys() | {mark.job for mark in marks}:
            self._written(name)
        rows = [(count, failed) for runs in recorded.values() for _, count, _, failed in runs]
        return Written(sum(count for count, _ in rows), sum(failed for _, failed in rows), clock.now() - began_at)

    def _known(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None
        return job

    def _written(self, name: str) -> Job:
        """The job, read from the file after a write."""
        self._jobs.pop(name, None)
        return self._known(name)

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int = 0) -> Page:
        """At most `limit` receipts after `after`, without tasks that failed at an attempt up to `skipped_attempts`."""
        job = self._known(name)
        rows = self._db.execute(
            "SELECT position, first, count, seconds FROM receipts WHERE job=? AND position>? ORDER BY position LIMIT ?",
            (job.job, after, limit),
        ).fetchall()
        runs = [(first, count) for _, first, count, _ in rows]
        return Page(
            position=rows[-1][0] if rows else after,
            runs=self._without_failed(job, runs, skipped_attempts) if skipped_attempts else runs,
            count=sum(count for _, _, count, _ in rows),
            seconds=sum(seconds for _, _, _, seconds in rows),
            more=len(rows) == limit,
        )

    def _without_failed(self, job: Job, runs: list[tuple[int, int]], attempts: int) -> list[tuple[int, int]]:
        left = TaskRanges(runs)
        for first, count in runs:
            failed = self._db.execute(
                "SELECT task FROM task_rows WHERE job=? AND task>=? AND task<? AND status='failed' AND attempt<=?",
                (job.job, first, first + count, attempts),
            )
            for (task,) in failed:
                left.discard(task, 1)
        return list(left)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows."""
        query = "SELECT max(attempt) FROM task_rows WHERE job=? AND status='failed'"
        return self._db.execute(query, (self._known(name).job,)).fetchone()[0] or 0

    def failures(self, name: str, limit: int) -> list[tuple[int, str, str | bytes | None]]:
        """The first failed tasks of a job, each with its error and its argument."""
        query = "SELECT task, error, argument FROM task_rows WHERE job=? AND status='failed' ORDER BY task LIMIT ?"
        return self._db.execute(query, (self._known(name).job, limit)).fetchall()

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        """The first jobs with a number above `after`."""
        columns = "job, name, function, state, total, done, failed, opened_at, ended_at"
        query = f"SELECT {columns} FROM jobs WHERE job>? ORDER BY job LIMIT ?"
        return [ListedJob(*row) for row in self._db.execute(query, (after, limit))]

    def size_bytes(self) -> int:
        """The size of the file and of its log."""
        return self._file.size_bytes()

    def read(self, name: str, query: RowQuery) -> RowPage:
        """Rows of the job."""
        return RowReader(self._db, self._known(name).job, query).page()

    def values(self, name: str, query: RowQuery) -> ValuePage:
        """Values of the job."""
        return ValueReader(self._db, self._known(name).job, query).page()

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of arguments before the job's base, from this task on."""
        job = self._known(name)
        rows = self._db.execute(
            "SELECT task, argument, argument_digest FROM task_rows WHERE job=? AND task>=? AND task<?"
            " ORDER BY task LIMIT ?",
            (job.job, first, job.base or 0, limit),
        ).fetchall()
        found = [digest_of(argument, seal, job.arguments) for _, argument, seal in rows]
        known = [each for each in found if each is not None]
        next_task = rows[-1][0] + 1 if rows else max(first, job.base or 0)
        return DigestPage(next_task, known, len(found) - len(known), len(rows) == limit)

    def inspect(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds, for tests."""
        return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._file.close()

    # -- writing ------------------------------------------------------------------------------------------------

    def _insert_together(self, job: Job, alike: list[RowSet]) -> list[tuple[int, int, float, int]]:
        """Insert the rows of row sets that share job, attempt and worker; returns the runs of the new ones.

        Many small ones are tried with one statement, as if none of their tasks had a row.
        """
        fine = [
            each
            for each in alike
            if not (each.errors or each.again or each.digests or each.has_forms or _large(each, 0, each.results.count))
        ]
        plain = [each for each in fine if each.has_arguments == fine[0].has_arguments]
        if len(plain) < _TOGETHER_MIN:
            plain = []
        runs: list[tuple[int, int, float, int]] = []
        if plain:
            self._db.execute("SAVEPOINT together")
            rows = (row for each in plain for row in each.rows(0, each.results.count))
            inserted = self._db.executemany(_insertion(job, plain[0], "INSERT OR IGNORE"), rows).rowcount
            if inserted == sum(each.results.count for each in plain):
                runs = [(each.results.first, each.results.count, sum(each.seconds), 0) for each in plain]
            else:
                self._db.execute("ROLLBACK TO together")
            self._db.execute("RELEASE together")
        done = set(map(id, plain)) if runs else set()
        for row_set in alike:
            if id(row_set) not in done:
                runs += self._insert(job, row_set)
        return runs

    def _insert(self, job: Job, row_set: RowSet) -> list[tuple[int, int, float, int]]:
        """Insert the rows that are new; returns their runs as (first, count, seconds, failed)."""
        results = row_set.results
        first, end = results.first, results.first + results.count
        known = self._db.execute(
            "SELECT task, status, attempt FROM task_rows WHERE job=? AND task>=? AND task<?", (job.job, first, end)
        ).fetchall()
        kept = {first + offset for offset in row_set.again}
        for task, status, attempt in known:
            if status == "failed" and attempt <= row_set.replaced_attempts and task not in kept:
                self._db.execute("DELETE FROM task_rows WHERE job=? AND task=?", (job.job, task))
                self._db.execute("UPDATE jobs SET done=done-1, failed=failed-1 WHERE job=?", (job.job,))
            else:
                kept.add(task)
        if not kept:
            return [self._insert_run(job, row_set, first, end)]
        runs = []
        start = first
        for task in range(first, end + 1):
            if task == end or task in kept:
                if start < task:
                    runs.append(self._insert_run(job, row_set, start, task))
                start = task + 1
        return runs

    def _insert_run(self, job: Job, row_set: RowSet, first: int, end: int) -> tuple[int, int, float, int]:
        results = row_set.results
        low, high = first - results.first, end - results.first
        fixed = _fixed(job, row_set)
        errors = {at: error for at, error in row_set.errors.items() if low <= at < high}
        large = _large(row_set, low, high) - errors.keys()
        apart = large | errors.keys()
        if errors:
            self._db.executemany(
                "INSERT INTO task_rows (job, attempt, worker, task, status, error, seconds, argument)"
                f" VALUES ({fixed}, ?, 'failed', ?, ?, ?)",
                [
                    (results.first + at, error, row_set.seconds[at], row_set.arguments and row_set.arguments[at])
                    for at, error in errors.items()
                ],
            )
        for at in large:
            self._insert_large(job, row_set, at)
        rows = row_set.picked(at for at in range(low, high) if at not in apart) if apart else row_set.rows(low, high)
        self._db.executemany(_insertion(job, row_set, "INSERT"), rows)
        left = ((at, digest) for at, digest in row_set.digests.items() if low <= at < high and at not in large)
        digests = [(digest, job.job, results.first + at) for at, digest in left]
        if digests:
            self._db.executemany("UPDATE task_rows SET argument_digest=? WHERE job=? AND task=?", digests)
        seconds = row_set.seconds[low:high]
        return first, end - first, sum(seconds), len(errors)

    def _insert_large(self, job: Job, row_set: RowSet, at: int) -> None:
        """Insert a row whose value stands in a table of its own."""
        insertion = "INSERT INTO large_values (value, exact) VALUES (?, ?)"
        large = self._db.execute(insertion, (row_set.stored[at], row_set.exact.get(at))).lastrowid
        self._db.execute(
            "INSERT INTO task_rows"
            " (job, attempt, worker, task, status, seconds, json, argument, argument_digest, large)"
            f" VALUES ({_fixed(job, row_set)}, ?, 'ok', ?, ?, ?, ?, ?)",
            (
                row_set.results.first + at,
                row_set.seconds[at],
                row_set.json and row_set.json[at],
                row_set.arguments and row_set.arguments[at],
                row_set.digests.get(at),
                large,
            ),
        )

    def _write_receipts(self, job: Job, runs: list[tuple[int, int, float, int]], at: int) -> None:
        merged: list[tuple[int, int, float, int]] = []
        for first, count, seconds, failed in sorted(runs):
            if merged and merged[-1][0] + merged[-1][1] == first and merged[-1][1] + count <= RECEIPT_TASKS_MAX:
                before, before_count, before_seconds, before_failed = merged[-1]
                merged[-1] = (before, before_count + count, before_seconds + seconds, before_failed + failed)
            else:
                merged.append((first, count, seconds, failed))
        insertion = f"INSERT INTO receipts (job, first, count, seconds, failed, at) VALUES ({job.job}, ?, ?, ?, ?, ?)"
        self._db.executemany(insertion, [(*each, at) for each in merged])
        self._db.execute(
            "UPDATE jobs SET done=done+?, failed=failed+? WHERE job=?",
            (sum(count for _, count, _, _ in runs), sum(failed for _, _, _, failed in runs), job.job),
        )


def _large(row_set: RowSet, low: int, high: int) -> set[int]:
    """The offsets of the values that get no place among the rows."""
    if len(row_set.results.outcomes) <= _LARGE_BYTES:
        return set()
    large = {at for at, exact in row_set.exact.items() if low <= at < high and len(exact) > _LARGE_BYTES}
    # Without forms they are all of one type.
    if row_set.has_forms or type(row_set.stored[0]) in _TEXTS:
        texts = ((at, row_set.stored[at]) for at in range(low, high))
        large |= {at for at, text in texts if type(text) in _TEXTS and len(text) > _LARGE_BYTES}
    return large


def _alike(row_sets: list[RowSet]) -> list[list[RowSet]]:
    """Row sets of one job, attempt and worker together, which may be inserted in any order as no two share a task."""
    if _overlap(row_sets):
        return [[row_set] for row_set in row_sets]
    found: dict[tuple[str, int, str], list[RowSet]] = {}
    for row_set in row_sets:
        results = row_set.results
        found.setdefault((results.job, results.attempt, results.worker), []).append(row_set)
    return list(found.values())


def _overlap(row_sets: list[RowSet]) -> bool:
    """True when two of them have a task in common: then the first in order wins."""
    ranges = sorted((each.results.job, each.results.first, each.results.count) for each in row_sets)
    return any(
        job == other and first + count > next_first for (job, first, count), (other, next_first, _) in pairwise(ranges)
    )


def _fixed(job: Job, row_set: RowSet) -> str:
    """What all rows share is part of the statement: binding it for each row would take twice as long."""
    worker = row_set.results.worker.replace("'", "''")
    return f"{job.job}, {row_set.results.attempt}, '{worker}'"


def _insertion(job: Job, row_set: RowSet, how: str) -> str:
    columns, values = "job, attempt, worker, task, status, value, seconds", f"{_fixed(job, row_set)}, ?, 'ok', ?, ?"
    if row_set.has_forms:
        columns, values = columns + ", json, exact", values + ", ?, ?"
    if row_set.has_arguments:
        columns, values = columns + ", argument", values + ", ?"
    return f"{how} INTO task_rows ({columns}) VALUES ({values})"
