"""What a copy of a ledger to another kind reads from an SQLite file, or writes into a new one."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, fields
from itertools import islice
from typing import TypeVar

from .. import folders
from ..default_files import ledger_file
from ..errors import OperatorError
from .sqlite_file import SCHEMA_VERSION, SqliteFile, unusable
from .sqlite_writes import LARGE_BYTES
from .transfer import MovedJob, MovedReceipt, MovedRow, Origin, next_id

T = TypeVar("T")
_AT_ONCE = 5_000
_JOB_COLUMNS = [each.name for each in fields(MovedJob)]


class SqliteOrigin:
    """An `Origin`."""

    def __init__(self, ledger: str) -> None:
        self._path = path = ledger_file(ledger, "FROM")
        if not path.is_file():
            raise OperatorError(f"there is no ledger {path}: name the one to copy")
        try:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            try:
                self._begin()
            except BaseException:
                self.close()
                raise
        except sqlite3.Error as error:
            raise OperatorError(unusable(str(path), error)) from None

    def _begin(self) -> None:
        """Look at all of it as it is now, while a sink writes or not."""
        self._db.execute("BEGIN")
        meta = dict(self._db.execute("SELECT key, value FROM meta"))
        if meta["version"] != str(SCHEMA_VERSION):
            raise OperatorError(f"the ledger {self._path} is of version {meta['version']}: start a sink with it once")
        self.id = str(meta["ledger"])
        jobs = f"SELECT {', '.join(_JOB_COLUMNS)} FROM jobs ORDER BY job"
        self.jobs = [MovedJob(*row) for row in self._db.execute(jobs)]
        (self.position,) = self._db.execute("SELECT coalesce(max(position), 0) FROM receipts").fetchone()

    def rows(self, job: int) -> Iterator[MovedRow]:
        """All rows of a job."""
        columns = "task, attempt, worker, seconds, value, json, exact, error, argument, argument_digest"
        return map(
            MovedRow._make, self._read(f"SELECT {columns}, status='failed' FROM results WHERE job={job} ORDER BY task")
        )

    def receipts(self) -> Iterator[MovedReceipt]:
        """All receipts."""
        columns = "position, job, first, count, seconds, failed, at"
        known = "job IN (SELECT job FROM jobs)"
        return map(MovedReceipt._make, self._read(f"SELECT {columns} FROM receipts WHERE {known} ORDER BY position"))

    def _read(self, sql: str) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._db.execute(sql)
        except sqlite3.Error as error:
            raise OperatorError(unusable(str(self._path), error)) from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def fill_file(target: str, source: Origin) -> None:
    """Make a new file with all that the source has. Raises OperatorError."""
    path = ledger_file(target, "TO")
    if path.exists() or path.is_symlink():
        raise OperatorError(f"{path} exists already: give another name, or remove it first")
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(SqliteFile(str(part))) as file:
            # It gets its name when it is whole.
            file.db.execute("PRAGMA synchronous=OFF")
            _fill(file.db, source)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.rename(path)
        folders.sync(path.parent)
    except sqlite3.Error as error:
        raise OperatorError(f"cannot write {path}: {error}; give a place with room") from None
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {error.strerror}; give another place") from None
    finally:
        for end in ("", "-wal", "-shm", ".lock"):
            part.with_name(part.name + end).unlink(missing_ok=True)


def _fill(db: sqlite3.Connection, source: Origin) -> None:
    db.execute("UPDATE meta SET value=? WHERE key='ledger'", (next_id(source.id),))
    marks = ", ".join("?" * len(_JOB_COLUMNS))
    for job in source.jobs:
        db.execute(f"INSERT INTO jobs ({', '.join(_JOB_COLUMNS)}) VALUES ({marks})", astuple(job))
        for rows in _parts(source.rows(job.job)):
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO task_rows (job, task, attempt, worker, seconds, value, json, exact, error, argument,"
                " argument_digest, status, large) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(job.job, *_columns(db, row)) for row in rows],
            )
            db.execute("COMMIT")
    for receipts in _parts(source.receipts()):
        db.execute("BEGIN")
        columns = "position, job, first, count, seconds, failed, at"
        db.executemany(f"INSERT INTO receipts ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", receipts)
        db.execute("COMMIT")


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, _AT_ONCE)):
        yield part


def _columns(db: sqlite3.Connection, row: MovedRow) -> tuple[object, ...]:
    """The columns of a row; a large value stands apart."""
    *others, failed = row
    status = "failed" if failed else "ok"
    is_large = any(isinstance(each, str | bytes) and len(each) > LARGE_BYTES for each in (row.value, row.exact))
    if not is_large:
        return *others, status, None
    insertion = "INSERT INTO large_values (value, exact) VALUES (?, ?)"
    large = db.execute(insertion, (row.value, row.exact)).lastrowid
    task, attempt, worker, seconds, _, json, _, error, argument, seal = others
    return task, attempt, worker, seconds, None, json, None, error, argument, seal, status, large
