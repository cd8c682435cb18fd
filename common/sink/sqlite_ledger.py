"""The ledger: the sink's durable table of results, in SQLite. Nobody else writes results.

Write-ahead log with `synchronous=FULL`: when `commit` returns, a power cut does not take the rows back
(https://www.sqlite.org/pragma.html#pragma_synchronous). First result wins by primary key (job, task).
"""

import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..errors import OperatorError
from ..protocol.messages import Mark
from ..task_ranges import TaskRanges
from .rows import RowSet
from .store import Job, LedgerStuck, Page

SCHEMA_VERSION = 1
_BUSY_S = 0.1
"""So long another program's lock is waited for; the sink hears nobody meanwhile, and tries again."""
_TOGETHER_MIN = 4
"""So many recordings are worth a statement for all of them."""
_CHECK_SAID_BYTES = 100 * 1024 * 1024
_PAGE_BYTES = 8 * 1024
"""A large value is written page by page, and so is a small commit: smaller pages make that slower, larger ones this."""
_CACHE_BYTES = 16 * 1024 * 1024
"""To place a row, SQLite reads about ten others whole: large values that are not cached are read from the file."""
_LOG_BYTES = 4 * 1024 * 1024
"""At this size the write-ahead log is copied into the ledger and begun anew: a sync takes longer while it grows."""
_PASSING = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""I/O errors that a quota gives too; nothing of the transaction is written."""

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'cancelled')),
    total INTEGER,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    opened_at TEXT NOT NULL,
    ended_at TEXT,
    mark_count INTEGER NOT NULL DEFAULT 0,
    mark_digest BLOB NOT NULL DEFAULT x'',
    ticket_key BLOB NOT NULL,
    retries INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE results (
    job INTEGER NOT NULL,
    task INTEGER NOT NULL,
    status TEXT NOT NULL,
    value,
    json INTEGER,
    error TEXT,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (job, task)
) WITHOUT ROWID;
CREATE TABLE receipts (
    position INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX receipts_of_job ON receipts (job, position);
"""


_JOB_COLUMNS = (
    "job, name, function, source, state, total, done, failed, mark_count, mark_digest, ticket_key, retries, attempts"
)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ledger:
    """A `Store`: what each method promises stands there. `path` may be ":memory:"."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = None if path == ":memory:" else _lock(Path(path))
        try:
            if path != ":memory:" and not Path(path).exists():
                # It holds the jobs' ticket keys.
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, cached_statements=512)
            self._prepare(path)
        except sqlite3.Error as error:
            self._unlock()
            raise OperatorError(unusable(path, error)) from None
        self._jobs: dict[str, Job] = {}

    def _prepare(self, path: str) -> None:
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if tables and not tables >= {"meta", "jobs", "results", "receipts"}:
            self._unlock()
            raise OperatorError(f"{path} is another program's database: give another file with --ledger")
        # Counts for a new file only.
        self._db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        page_bytes = self._db.execute("PRAGMA page_size").fetchone()[0]
        self._db.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // page_bytes}")
        self._db.execute(f"PRAGMA cache_size=-{_CACHE_BYTES // 1024}")
        if not tables:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('ledger', ?)", (secrets.token_hex(8),))
            self._db.execute("INSERT INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))
            self._db.execute("COMMIT")
        meta = {}
        if not tables or "meta" in tables:
            meta = dict(self._db.execute("SELECT key, value FROM meta"))
        if meta.get("version") != str(SCHEMA_VERSION):
            self._unlock()
            raise OperatorError(f"{path} is not a ledger of this Tradewind: give another file with --ledger")
        self.id = str(meta["ledger"])
        if path != ":memory:" and Path(path).stat().st_size > _CHECK_SAID_BYTES:
            log.info("checking the ledger %s, which is large", path)
        damage = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({damage.splitlines()[0]})")

    def job(self, name: str) -> Job | None:
        """The job, or None."""
        if name not in self._jobs:
            row = self._db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE name=?", (name,)).fetchone()
            if row is None:
                return None
            self._jobs[name] = Job(*row)
        return self._jobs[name]

    def open_job(self, name: str, function: str, source: str, retries: int = 0, attempts: int = 0) -> Job:
        """Make the job, or open it again. Raises LedgerStuck."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO jobs (name, function, source, opened_at, ticket_key, retries, attempts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET state='open', ended_at=NULL, retries=excluded.retries, attempts=excluded.attempts",
                (name, function, source, _now(), secrets.token_bytes(32), retries, attempts),
            )
        return self._written(name)

    def end_job(self, name: str, state: str, total: int | None) -> None:
        """Set the job's state, and its total unless it is None. Raises LedgerStuck."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state=?, total=coalesce(?, total), ended_at=? WHERE name=?",
                (state, total, _now(), name),
            )
        self._written(name)

    def commit(self, row_sets: Iterable[RowSet], marks: Iterable[Mark]) -> None:
        """Write results and marks in one transaction. Raises LedgerStuck, and then nothing is written."""
        recorded: dict[str, list[tuple[int, int, float, int]]] = {}
        marks = list(marks)
        with self._transaction():
            for alike in _alike(list(row_sets)):
                name = alike[0].results.job
                runs = recorded.setdefault(name, [])
                runs += self._insert_together(self._known(name), alike)
            for name, runs in recorded.items():
                self._write_receipts(self._known(name), runs)
            for mark in marks:
                self._db.execute(
                    "UPDATE jobs SET mark_count=?, mark_digest=?, total=coalesce(?, total) WHERE name=?",
                    (mark.count, mark.digest, mark.count if mark.ended else None, mark.job),
                )
        for name in recorded.keys() | {mark.job for mark in marks}:
            self._written(name)

    def _known(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None
        return job

    def _written(self, name: str) -> Job:
        """The job, read anew."""
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
                "SELECT task FROM results WHERE job=? AND task>=? AND task<? AND status='failed' AND attempt<=?",
                (job.job, first, first + count, attempts),
            )
            for (task,) in failed:
                left.discard(task, 1)
        return list(left)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows."""
        query = "SELECT max(attempt) FROM results WHERE job=? AND status='failed'"
        return self._db.execute(query, (self._known(name).job,)).fetchone()[0] or 0

    def failures(self, name: str, limit: int) -> list[tuple[int, str]]:
        """The first failed tasks of a job, each with its error."""
        query = "SELECT task, error FROM results WHERE job=? AND status='failed' ORDER BY task LIMIT ?"
        return self._db.execute(query, (self._known(name).job, limit)).fetchall()

    def inspect(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds, for tests."""
        return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close()
        self._unlock()

    # -- writing ------------------------------------------------------------------------------------------------

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db, self._path)

    def _insert_together(self, job: Job, alike: list[RowSet]) -> list[tuple[int, int, float, int]]:
        """Insert the rows of recordings that share job, attempt and worker; returns the runs of the new ones.

        Many small ones are tried with one statement, as if none of their tasks had a row.
        """
        plain = [each for each in alike if not each.errors and not each.again and each.json is None]
        if len(plain) < _TOGETHER_MIN:
            plain = []
        runs: list[tuple[int, int, float, int]] = []
        if plain:
            self._db.execute("SAVEPOINT together")
            rows = (row for each in plain for row in each.rows(0, each.results.count))
            inserted = self._db.executemany(_insertion(job, plain[0], "INSERT OR IGNORE", "NULL"), rows).rowcount
            if inserted == sum(each.results.count for each in plain):
                runs = [(each.results.first, each.results.count, sum(each.seconds), 0) for each in plain]
            else:
                self._db.execute("ROLLBACK TO together")
            self._db.execute("RELEASE together")
        done = set(map(id, plain)) if runs else set()
        for recording in alike:
            if id(recording) not in done:
                runs += self._insert(job, recording)
        return runs

    def _insert(self, job: Job, recording: RowSet) -> list[tuple[int, int, float, int]]:
        """Insert the rows that are new; returns their runs as (first, count, seconds, failed)."""
        results = recording.results
        first, end = results.first, results.first + results.count
        known = self._db.execute(
            "SELECT task, status, attempt FROM results WHERE job=? AND task>=? AND task<?", (job.job, first, end)
        ).fetchall()
        kept = {first + offset for offset in recording.again}
        for task, status, attempt in known:
            if status == "failed" and attempt <= recording.replaced_attempts and task not in kept:
                self._db.execute("DELETE FROM results WHERE job=? AND task=?", (job.job, task))
                self._db.execute("UPDATE jobs SET done=done-1, failed=failed-1 WHERE job=?", (job.job,))
            else:
                kept.add(task)
        if not kept:
            return [self._insert_run(job, recording, first, end)]
        runs = []
        start = first
        for task in range(first, end + 1):
            if task == end or task in kept:
                if start < task:
                    runs.append(self._insert_run(job, recording, start, task))
                start = task + 1
        return runs

    def _insert_run(self, job: Job, recording: RowSet, first: int, end: int) -> tuple[int, int, float, int]:
        results = recording.results
        low, high = first - results.first, end - results.first
        fixed = _fixed(job, recording)
        errors = {at: error for at, error in recording.errors.items() if low <= at < high}
        fine: Iterable[int] = range(low, high)
        if errors:
            fine = [at for at in fine if at not in errors]
            self._db.executemany(
                "INSERT INTO results (job, attempt, worker, task, status, error, seconds)"
                f" VALUES ({fixed}, ?, 'failed', ?, ?)",
                [(results.first + at, error, recording.seconds[at]) for at, error in errors.items()],
            )
        rows = recording.rows(low, high) if not errors else recording.picked(fine)
        self._db.executemany(_insertion(job, recording, "INSERT", "?" if recording.json else "NULL"), rows)
        seconds = recording.seconds[low:high]
        return first, end - first, sum(seconds), len(errors)

    def _write_receipts(self, job: Job, runs: list[tuple[int, int, float, int]]) -> None:
        merged: list[tuple[int, int, float]] = []
        for first, count, seconds, _ in sorted(runs):
            if merged and merged[-1][0] + merged[-1][1] == first:
                before, before_count, before_seconds = merged[-1]
                merged[-1] = (before, before_count + count, before_seconds + seconds)
            else:
                merged.append((first, count, seconds))
        self._db.executemany(f"INSERT INTO receipts (job, first, count, seconds) VALUES ({job.job}, ?, ?, ?)", merged)
        self._db.execute(
            "UPDATE jobs SET done=done+?, failed=failed+? WHERE job=?",
            (sum(count for _, count, _, _ in runs), sum(failed for _, _, _, failed in runs), job.job),
        )

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


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


def _fixed(job: Job, recording: RowSet) -> str:
    """What all rows share stands in the statement: binding it for each row would take twice the time."""
    worker = recording.results.worker.replace("'", "''")
    return f"{job.job}, {recording.results.attempt}, '{worker}'"


def _insertion(job: Job, recording: RowSet, how: str, json: str) -> str:
    columns = "job, attempt, worker, task, status, value, seconds, json"
    return f"{how} INTO results ({columns}) VALUES ({_fixed(job, recording)}, ?, 'ok', ?, ?, {json})"


class _Transaction:
    """`with` it: commits, or rolls back and turns errors that may pass into LedgerStuck.

    A damaged file or an I/O error raises OperatorError: after a failed fsync nobody knows what the disk holds, and the
    sink must be started again (https://www.sqlite.org/atomiccommit.html).
    """

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._path = path

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            raise self._judged(error) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        except sqlite3.DatabaseError as refused:
            error = refused
        if error is None:
            return
        # SQLite has rolled back by itself after some errors (disk full, I/O) and not after others.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.DatabaseError):
            raise self._judged(error) from None

    def _judged(self, error: sqlite3.DatabaseError) -> Exception:
        passes = isinstance(error, sqlite3.OperationalError)
        code = getattr(error, "sqlite_errorcode", 0)
        if passes and (code & 0xFF != sqlite3.SQLITE_IOERR or code in _PASSING):
            return LedgerStuck(str(error))
        return OperatorError(unusable(self._path, error))


def _lock(path: Path) -> IO[str]:
    """Hold `path`.lock as long as this process lives, so that two sinks never write one ledger."""
    try:
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        text = f"cannot write the ledger {path}: {error.strerror}; give another place with --ledger"
        raise OperatorError(text) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise OperatorError(f"the ledger {path} is in use by another sink: stop it, or give another --ledger") from None
    return lock


def unusable(path: str, error: sqlite3.Error) -> str:
    """One line for a file that SQLite cannot use as a ledger."""
    if Path(path).is_dir():
        return f"cannot use the ledger {path}: it is a folder; give a file with --ledger"
    return f"cannot use the ledger {path}: {error}; restore it from a copy, or give another file with --ledger"
