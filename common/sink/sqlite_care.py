"""A copy of an SQLite ledger, and a check of all that is in it, while a sink writes it or not."""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .. import folders
from ..errors import OperatorError
from .sqlite_file import unusable

_FAULTS_MAX = 20
_STRAYS = "there are results of a job that does not exist (number {0})"
_LOST = "{1} results of job {0} have lost their value"
_CHECKS = {
    "job {0} says that {1} of its tasks are recorded, and has {2} results": (
        "SELECT name, done, found FROM (SELECT name, done, (SELECT count(*) FROM results WHERE results.job=jobs.job)"
        " AS found FROM jobs) WHERE done<>found"
    ),
    "job {0} says that {1} of its tasks failed, and has {2} failed results": (
        "SELECT name, failed, found FROM (SELECT name, failed, (SELECT count(*) FROM results"
        " WHERE results.job=jobs.job AND status='failed') AS found FROM jobs) WHERE failed<>found"
    ),
    "job {0} has receipts for fewer tasks ({1}) than it has results ({2})": (
        "SELECT name, found, done FROM (SELECT name, done, (SELECT coalesce(sum(count), 0) FROM receipts"
        " WHERE receipts.job=jobs.job) AS found FROM jobs) WHERE found<done"
    ),
    _LOST: (
        "SELECT name, count(*) FROM task_rows JOIN jobs USING (job) WHERE large IS NOT NULL"
        " AND large NOT IN (SELECT id FROM large_values) GROUP BY name"
    ),
    _STRAYS: (
        "SELECT DISTINCT job FROM results WHERE job NOT IN (SELECT job FROM jobs UNION ALL SELECT job FROM forgotten)"
    ),
}
"""Faults in words, with the query that finds them. A failed task that was run again has two receipts."""


class SqliteCare:
    """A `Care`."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise OperatorError(f"there is no ledger {path}: name it with --ledger")
        self._path = path

    def back_up(self, target: Path) -> int:
        """Copy it into a new file; returns the size of that in bytes.

        A sink that goes on writing does not wait; its write-ahead log grows meanwhile.
        """
        part = target.with_name(f".{target.name}.part")
        try:
            with _unfinished(part, target) as file:
                self._copy_to(part)
                os.fsync(file)
                part.rename(target)
            folders.sync(target.parent)
            return target.stat().st_size
        except sqlite3.Error as error:
            text = f"cannot copy the ledger {self._path} to {target}: {error}; give a place with room"
            raise OperatorError(text) from None
        except OSError as error:
            raise OperatorError(f"cannot write {target}: {error.strerror}; give another place") from None

    def _copy_to(self, part: Path) -> None:
        with closing(self._opened()) as source, closing(sqlite3.connect(part, isolation_level=None)) as copy:
            try:
                # In one read transaction, so that the copy is never begun again because a sink writes.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM meta").fetchone()
            except sqlite3.Error as error:
                raise OperatorError(unusable(self._path, error)) from None
            # It is whole or removed, and synced at the end.
            copy.execute("PRAGMA journal_mode=OFF")
            copy.execute("PRAGMA synchronous=OFF")
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            # A ventilator that goes on with another ledger would miss what was recorded since; this one tells it. The
            # first half stays, because the spools of streams are named by it.
            (ledger,) = copy.execute("SELECT value FROM meta WHERE key='ledger'").fetchone()
            copy.execute("UPDATE meta SET value=? WHERE key='ledger'", (ledger[:8] + secrets.token_hex(4),))

    def faults(self) -> list[str]:
        """Read all of it; what is wrong with it, in words."""
        try:
            with closing(self._opened()) as db:
                found = [text for (text,) in db.execute(f"PRAGMA integrity_check({_FAULTS_MAX})") if text != "ok"]
                return found or _contradictions(db)
        except sqlite3.DatabaseError as error:
            raise OperatorError(unusable(self._path, error)) from None

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{Path(self._path).resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _contradictions(db: sqlite3.Connection) -> list[str]:
    db.execute("BEGIN")
    checks = dict(_CHECKS)
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name='forgotten'").fetchone():
        # Of version 1.
        del checks[_STRAYS], checks[_LOST]
    found = [(words, row) for words, query in checks.items() for row in db.execute(f"{query} LIMIT {_FAULTS_MAX}")]
    return [words.format(*row) for words, row in found]


@contextmanager
def _unfinished(part: Path, target: Path) -> Iterator[int]:
    """The file that is to become `target`, new, and locked against another copy. It does not stay unfinished."""
    if (file := _locked(part)) is not None:
        # A copy that was killed has left it.
        part.unlink()
        os.close(file)
    # The ledger holds the jobs' ticket keys.
    file = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not os.fstat(file).st_nlink:
            # Before it was locked another copy took it for one that was left.
            raise _busy(part)
        try:
            if target.exists() or target.is_symlink():
                raise OperatorError(f"{target} exists already: give another name, or remove it first")
            yield file
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    finally:
        os.close(file)


def _locked(part: Path) -> int | None:
    """The file that another copy has left, locked; None if there is none. Raises OperatorError while it is written."""
    try:
        file = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise _busy(part) from None
    return file


def _busy(part: Path) -> OperatorError:
    return OperatorError(f"another command writes {part}: wait for its end, or give another name")
