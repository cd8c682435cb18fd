"""The file of an SQLite ledger: its tables, its one writer, and errors in plain words.

Write-ahead log with `synchronous=FULL`: when a transaction has ended, a power cut does not take it back
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import errno
import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import OperatorError
from ..plain_text import one_line
from .store import LedgerStuck

SCHEMA_VERSION = 2
_BUSY_S = 0.1
"""How long a write waits for another program's lock. The sink reads no messages meanwhile; it retries later."""
_CHECKED_BYTES = 64 * 1024 * 1024
"""A start reads all of a ledger up to this size."""
_PAGE_BYTES = 8 * 1024
"""Smaller pages make a large value slower to write, larger pages a small commit."""
_CACHE_BYTES = 16 * 1024 * 1024
"""To insert a row, SQLite reads about ten others whole, from the file when they do not fit into its cache."""
_LOG_BYTES = 4 * 1024 * 1024
"""At this size the write-ahead log is copied into the ledger and restarted: the larger it is, the slower a sync."""
_LOG_BYTES_KEPT = 4 * _LOG_BYTES
"""A log that grew larger, because somebody read for long, is cut to this size when it is restarted."""
_PASSING = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""I/O errors that a disk quota causes too; nothing of the transaction is written."""

log = logging.getLogger(__name__)

OF_RANGE = "WHEN source LIKE 'range %' THEN CAST(substr(source, 7) AS INTEGER) + task"
"""The argument of a range's task, which is not kept: to be used inside CASE ... END, on `results` with `jobs`."""
_FAILURES = "CREATE INDEX receipts_of_failures ON receipts (job, first) WHERE failed>0"
"""Finds three failures among millions of tasks, by the receipts that have any.

An index of the failed rows would cost each row that did not fail: inserting took 9 % longer.
"""
_LARGE_VALUES = "CREATE TABLE large_values (id INTEGER PRIMARY KEY, value, exact BLOB)"
"""To find a row among those of a table without row numbers, SQLite reads others whole: large values are kept here."""
_RESULTS = """
CREATE VIEW results AS
    SELECT job, task, status,
        CASE WHEN large IS NULL THEN value
            ELSE (SELECT large_values.value FROM large_values WHERE id=large) END AS value,
        json, error, attempt, worker, seconds,
        CASE WHEN large IS NULL THEN exact
            ELSE (SELECT large_values.exact FROM large_values WHERE id=large) END AS exact,
        argument, argument_digest
    FROM task_rows
"""
_VIEW = f"""
CREATE VIEW task_results AS
    SELECT jobs.name AS job, function, task,
        CASE {OF_RANGE} ELSE argument END AS argument,
        argument_digest, status, value, json, exact, error, attempt, worker, seconds
    FROM results JOIN jobs USING (job)
"""
_SCHEMA = f"""
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
    attempts INTEGER NOT NULL DEFAULT 0,
    arguments TEXT NOT NULL DEFAULT '',
    base INTEGER
);
CREATE TABLE task_rows (
    job INTEGER NOT NULL,
    task INTEGER NOT NULL,
    status TEXT NOT NULL,
    value,
    json INTEGER,
    error TEXT,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    seconds REAL NOT NULL,
    exact BLOB,
    argument,
    argument_digest BLOB,
    large INTEGER,
    PRIMARY KEY (job, task)
) WITHOUT ROWID;
{_LARGE_VALUES};
{_RESULTS};
CREATE TABLE receipts (
    position INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    seconds REAL NOT NULL,
    failed INTEGER NOT NULL DEFAULT 1,
    at INTEGER
);
CREATE INDEX receipts_of_job ON receipts (job, position);
CREATE TABLE forgotten (job INTEGER PRIMARY KEY);
{_FAILURES};
{_VIEW}"""
_TO_VERSION_2 = [
    "ALTER TABLE results RENAME TO task_rows",
    "ALTER TABLE task_rows ADD COLUMN exact BLOB",
    "ALTER TABLE task_rows ADD COLUMN argument",
    "ALTER TABLE task_rows ADD COLUMN argument_digest BLOB",
    "ALTER TABLE task_rows ADD COLUMN large INTEGER",
    _LARGE_VALUES,
    _RESULTS,
    "ALTER TABLE jobs ADD COLUMN arguments TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN base INTEGER",
    # Of what was recorded before nobody knows: there may be failures.
    "ALTER TABLE receipts ADD COLUMN failed INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE receipts ADD COLUMN at INTEGER",
    "CREATE TABLE forgotten (job INTEGER PRIMARY KEY)",
    _FAILURES,
    _VIEW,
]
_VERSIONS: dict[str, list[str]] = {"1": _TO_VERSION_2, "2": []}
"""What brings a ledger of each version to the present one. Readers go without: they must read all versions."""


class SqliteFile:
    """A ledger's file, locked against other sinks while it is open. `path` may be ":memory:"."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = None if path == ":memory:" else _lock(path)
        try:
            if path != ":memory:" and not Path(path).exists():
                # It holds the jobs' ticket keys.
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self.db = _connected(path)
            self.id = self._prepare()
        except sqlite3.Error as error:
            self._unlock()
            raise OperatorError(unusable(path, error)) from None
        except OperatorError:
            self._unlock()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is executed inside is written by the next `commit`, or undone by an error. Raises LedgerStuck."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
        except sqlite3.DatabaseError as error:
            raise self._undone(error) from None
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def commit(self) -> None:
        """Write what the transaction has executed, and wait until it is on the disk. Raises LedgerStuck.

        While another thread does this, nobody uses `db`.
        """
        try:
            self.db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._undone(error) from None

    def wait_for_disk(self, waits: bool) -> None:
        """Have `commit` wait until it is on the disk, or not: then a power cut may take it back until another does."""
        self.db.execute(f"PRAGMA synchronous={'FULL' if waits else 'NORMAL'}")

    def second_connection(self) -> sqlite3.Connection:
        """To read with while `commit` uses `db`: it sees whole commits only."""
        connection = _connected(self._path)
        connection.execute("PRAGMA query_only=1")
        # The first read opens the write-ahead log: later there may be no descriptor for it.
        connection.execute("SELECT count(*) FROM meta").fetchone()
        return connection

    def size_bytes(self) -> int:
        """The size of the file and of its log."""
        files = [Path(self._path), Path(f"{self._path}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def copy_log(self) -> None:
        """Copy into the file what its log has, as far as readers let it; when there is no room that is done later."""
        with suppress(sqlite3.OperationalError):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file, and free it for another sink."""
        self.db.close()
        self._unlock()

    def _prepare(self) -> str:
        """Make the tables, or check them; returns the ledger's id."""
        tables = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        if tables and not tables >= {"meta", "jobs", "results", "receipts"}:
            raise OperatorError(f"{self._path} is another program's database: give another file with --ledger")
        # Has an effect on a new file only.
        self.db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        self.db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        page_bytes = self.db.execute("PRAGMA page_size").fetchone()[0]
        self.db.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // page_bytes}")
        self.db.execute(f"PRAGMA journal_size_limit={_LOG_BYTES_KEPT}")
        self.db.execute(f"PRAGMA cache_size=-{_CACHE_BYTES // 1024}")
        # Some systems have SQLite overwrite what is deleted, which takes as long as writing it.
        self.db.execute("PRAGMA secure_delete=FAST")
        if not tables:
            self.db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                self.db.execute(statement)
            self.db.execute("INSERT INTO meta VALUES ('ledger', ?)", (secrets.token_hex(8),))
            self.db.execute("INSERT INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))
            self.db.execute("COMMIT")
        meta = dict(self.db.execute("SELECT key, value FROM meta"))
        if meta.get("version") not in _VERSIONS:
            raise OperatorError(
                f"the ledger {self._path} is of version {one_line(str(meta.get('version')))}, and this Tradewind knows"
                f" versions up to {SCHEMA_VERSION}: install the release that wrote it, or give another --ledger"
            )
        self._check()
        self._migrate(meta["version"])
        # One that was made between two releases may say the version and lack a column.
        self.db.execute(
            "SELECT arguments, base, receipts.failed, at, large FROM jobs, receipts, task_results, task_rows LIMIT 0"
        )
        return str(meta["ledger"])

    def _check(self) -> None:
        """Look for damage: in all of a small ledger, of a large one in what every start reads. `verify` reads all."""
        is_small = self._path == ":memory:" or Path(self._path).stat().st_size <= _CHECKED_BYTES
        for what in ("1",) if is_small else ("meta", "jobs"):
            damage = self.db.execute(f"PRAGMA integrity_check({what})").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(f"it is damaged ({damage.splitlines()[0]})")

    def _migrate(self, version: str) -> None:
        """Bring a ledger of an earlier version to this one, in one transaction."""
        later = _VERSIONS[version]
        if later:
            self.db.execute("BEGIN IMMEDIATE")
            for statement in later:
                self.db.execute(statement)
            self.db.execute("UPDATE meta SET value=? WHERE key='version'", (str(SCHEMA_VERSION),))
            self.db.execute("COMMIT")
            log.info(
                "the ledger %s is now of version %d; version %s was that of older releases",
                self._path,
                SCHEMA_VERSION,
                version,
            )

    def _undone(self, error: sqlite3.DatabaseError) -> Exception:
        """Undo the transaction; what its error means."""
        # SQLite has rolled back by itself after some errors (disk full, I/O) and not after others.
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        return self.judged(error)

    def judged(self, error: sqlite3.DatabaseError) -> Exception:
        """LedgerStuck for an error that may pass.

        A damaged file or an I/O error is an OperatorError: after a failed fsync nobody knows what the disk holds, and
        the sink must be started again (https://www.sqlite.org/atomiccommit.html).
        """
        passes = isinstance(error, sqlite3.OperationalError)
        code = getattr(error, "sqlite_errorcode", 0)
        if passes and (code & 0xFF != sqlite3.SQLITE_IOERR or code in _PASSING):
            return LedgerStuck(str(error))
        return OperatorError(unusable(self._path, error))

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _connected(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, cached_statements=512, check_same_thread=False)


def _lock(path: str) -> IO[bytes]:
    """Hold the ledger's lock file as long as this process lives, so that two sinks never write one ledger.

    The lock is beside the file that links lead to: SQLite keeps its write-ahead log there too.
    """
    file = Path(path).resolve()
    lock_path = file.with_name(file.name + ".lock")
    try:
        if file.is_file() and file.stat().st_nlink > 1:
            raise OperatorError(f"the ledger {path} has several names (hard links), which damages it: copy it with cp")
        # Neither followed, if it is a link, nor emptied: it may be somebody's file.
        lock = os.fdopen(os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600), "rb", 0)
    except OSError as error:
        if error.errno == errno.ELOOP and lock_path.is_symlink():
            raise OperatorError(f"the lock {lock_path} is a link: remove it, or give another --ledger") from None
        text = f"cannot write the ledger {path}: {error.strerror}; give another path with --ledger"
        raise OperatorError(text) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise OperatorError(f"the ledger {path} is in use by another sink: stop it, or give another --ledger") from None
    return lock


_ADVICE = {
    sqlite3.SQLITE_READONLY: "it or its folder cannot be written; give another path with --ledger",
    sqlite3.SQLITE_CANTOPEN: "its permissions, or those of its folder, forbid it; use a copy of it",
    sqlite3.SQLITE_PERM: "its permissions forbid it; use a copy of it",
    sqlite3.SQLITE_BUSY: "end the program that has it locked, or use a copy of it",
    sqlite3.SQLITE_LOCKED: "end the program that has it locked, or use a copy of it",
    sqlite3.SQLITE_FULL: "make room there",
    sqlite3.SQLITE_ERROR: "it is no ledger, or one of another version; give another file with --ledger",
}
"""What helps, by SQLite's primary result code; with all others the file may be damaged."""


def unusable(path: str, error: sqlite3.Error) -> str:
    """One line for a file that SQLite cannot use as a ledger."""
    if Path(path).is_dir():
        return f"cannot use the ledger {path}: it is a folder; give a file with --ledger"
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF
    advice = _ADVICE.get(code, "restore it from a copy, or give another file with --ledger")
    return f"cannot use the ledger {path}: {error}; {advice}"
