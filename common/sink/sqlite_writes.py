"""The statements of each write to an SQLite ledger. The first result of a task wins by primary key (job, task).

The caller has begun a transaction, and ends it.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

from ..transport import clock
from .rows import RECEIPT_TASKS_MAX, RowSet
from .store import Ending, Forgetting, Job, Opening, Recording, Tidying, Write

LARGE_BYTES = 1_800
"""A larger value is kept apart from its row, which then fits into a page (SQLite gives it a quarter of one)."""
_TEXTS = frozenset((str, bytes))
_TOGETHER_MIN = 4
"""From how many row sets on a shared statement is faster."""
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


class SqliteWrites:
    """Makes writes in a database, each inside a transaction. `job` gives a job as it was before."""

    def __init__(self, db: sqlite3.Connection, job: Callable[[str], Job]) -> None:
        self._db = db
        self._job = job

    def make(self, write: Write) -> "tuple[int, int] | bool | None":
        """Make the write. Returns of a Recording how many rows and failures it was, of Tidying whether more is left."""
        match write:
            case Recording():
                return self._record(write)
            case Opening():
                self._open(write)
                return None
            case Ending():
                values = write.state, write.total, _now(), write.name
                self._db.execute("UPDATE jobs SET state=?, total=coalesce(?, total), ended_at=? WHERE name=?", values)
                return None
            case Forgetting():
                number = self._job(write.name).job
                self._db.execute("DELETE FROM jobs WHERE job=?", (number,))
                self._db.execute("INSERT INTO forgotten VALUES (?)", (number,))
                return None
            case Tidying():
                return self._tidy()

    def _open(self, opening: Opening) -> None:
        self._db.execute(
            "INSERT INTO jobs (job, name, function, source, opened_at, ticket_key, retries, attempts, arguments)"
            f" VALUES ({_NEXT_JOB}, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET state='open', ended_at=NULL, retries=excluded.retries, attempts=excluded.attempts,"
            " arguments=coalesce(nullif(excluded.arguments, ''), arguments)",
            (
                *(opening.name, opening.function, opening.source, _now(), secrets.token_bytes(32)),
                *(opening.retries, opening.attempts, opening.arguments),
            ),
        )
        if opening.appends:
            change = "base=total, mark_count=total, mark_digest=x'', total=NULL"
            self._db.execute(f"UPDATE jobs SET {change} WHERE name=?", (opening.name,))

    def _record(self, recording: Recording) -> tuple[int, int]:
        recorded: dict[str, list[tuple[int, int, float, int]]] = {}
        for alike in _alike(list(recording.row_sets)):
            name = alike[0].results.job
            runs = recorded.setdefault(name, [])
            runs += self._insert_together(self._job(name), alike)
        at = int(time.time())
        for name, runs in recorded.items():
            self._write_receipts(self._job(name), runs, at)
        for mark in recording.marks:
            self._db.execute(
                "UPDATE jobs SET mark_count=?, mark_digest=?, total=coalesce(?, total) WHERE name=?",
                (mark.count, mark.digest, mark.total, mark.job),
            )
        rows = [(count, failed) for runs in recorded.values() for _, count, _, failed in runs]
        return sum(count for count, _ in rows), sum(failed for _, failed in rows)

    # -- tidying ------------------------------------------------------------------------------------------------

    def _tidy(self) -> bool:
        """Remove some rows of forgotten jobs, then give free pages back; True while there is more."""
        ends_at = clock.now() + _TIDIED_S
        count = 1
        while (is_more := self._removed(count) or self._freed_page()) and clock.now() < ends_at:
            count = min(2 * count, _TIDIED_ROWS_MAX)
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

    # -- inserting -----------------------------------------------------------------------------------------------

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
    if len(row_set.results.outcomes) <= LARGE_BYTES:
        return set()
    large = {at for at, exact in row_set.exact.items() if low <= at < high and len(exact) > LARGE_BYTES}
    # Without forms they are all of one type.
    if row_set.has_forms or type(row_set.stored[0]) in _TEXTS:
        texts = ((at, row_set.stored[at]) for at in range(low, high))
        large |= {at for at, text in texts if type(text) in _TEXTS and len(text) > LARGE_BYTES}
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
