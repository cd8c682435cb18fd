"""Reads an SQLite ledger from any process, also while a sink writes it."""

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..default_files import DEFAULT_LEDGER
from ..errors import EmptyLedger, OperatorError
from .following import followed
from .rows import RECEIPT_TASKS_MAX
from .sqlite_file import OF_RANGE, unusable
from .sqlite_pages import COLUMNS
from .store import HistoryPage, JobSummary, Row, weight

_ASK = "ask its sink with --key FILE, or its owner for a copy"


class LedgerReader:
    """A `Reader`. It reads in pages, so that it does not keep the write-ahead log from being restarted."""

    _PAGE = 5_000
    _PAGE_BYTES = 16 * 1024 * 1024
    _COLUMNS_OF_1 = (
        f"task, status, value, results.json, error, attempt, worker, seconds, NULL, CASE {OF_RANGE} END, NULL, NULL"
    )
    """Of version 1, which no sink of a later version has opened since."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise OperatorError(_no_ledger(f"there is no ledger {path}", path))
        if not os.access(path, os.R_OK):
            raise OperatorError(f"cannot read the ledger {path}: its permissions forbid it; {_ASK}")
        self._path = path
        self._file = Path(path).resolve()
        self._seen: tuple[int, ...] | None = None
        """What the file looked like, if it is read as one that nobody changes."""
        try:
            self._db = self._opened()
            exact = self._db.execute("SELECT 1 FROM pragma_table_info('results') WHERE name='exact'").fetchone()
            self._columns = COLUMNS if exact else self._COLUMNS_OF_1
            instants = self._db.execute("SELECT 1 FROM pragma_table_info('receipts') WHERE name='at'").fetchone()
            self._has_instants = instants is not None
            self.id = str(self._db.execute("SELECT value FROM meta WHERE key='ledger'").fetchone()[0])
        except sqlite3.Error as error:
            raise OperatorError(unusable(path, error)) from None

    def _opened(self) -> sqlite3.Connection:
        """SQLite makes a log and its index beside the file, which it cannot or must not do in folders of others.

        A sink that has ended leaves no log: then the file alone is the ledger.
        """
        is_ours = os.access(self._file, os.W_OK) and os.access(self._file.parent, os.W_OK)
        if not is_ours and not self._log.exists():
            return self._opened_as_it_is()
        try:
            return self._connected("mode=ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        if self._has_log():
            raise OperatorError(
                f"cannot read the ledger {self._path}: its sink runs or was killed, and {self._log.name} beside it"
                f" cannot be used; {_ASK}, or copy both files into a folder of yours and read that copy"
            )
        return self._opened_as_it_is()

    def _opened_as_it_is(self) -> sqlite3.Connection:
        self._seen = self._look()
        return self._connected("mode=ro&immutable=1")

    def _connected(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self._file.as_uri()}?{how}", uri=True)
        try:
            if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                raise EmptyLedger(_no_ledger(f"the ledger {self._path} is empty", self._path))
            db.execute("SELECT count(*) FROM jobs, meta").fetchone()
        except (sqlite3.Error, OperatorError):
            db.close()
            raise
        return db

    @property
    def _log(self) -> Path:
        return self._file.with_name(self._file.name + "-wal")

    def _has_log(self) -> bool:
        return self._log.exists() and self._log.stat().st_size > 0

    def _look(self) -> tuple[int, ...]:
        found = self._file.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _check_unchanged(self) -> None:
        """Raise OperatorError if somebody writes what is read as a file that nobody changes."""
        if self._seen is not None and (self._has_log() or self._look() != self._seen):
            raise OperatorError(f"a sink has begun to write the ledger {self._path}: run this again when it has ended")

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""
        rows = self._query(
            "SELECT name, function, state, total, done, failed, opened_at, ended_at FROM jobs ORDER BY job"
        )
        return [JobSummary(*row) for row in rows]

    def job(self, name: str | None) -> int:
        """The number of the job, the last one when `name` is None. Raises OperatorError."""
        where, values = ("WHERE name=?", (name,)) if name else ("ORDER BY job DESC LIMIT 1", ())
        rows = self._query(f"SELECT job FROM jobs {where}", *values)
        if not rows:
            what = f"no job {name}" if name else "no job yet"
            raise OperatorError(
                f"there is {what} in {self._path}: `python sink.py jobs{_option(self._path)}` lists them"
            )
        return int(rows[0][0])

    def ended(self, job: int) -> bool:
        """True when the job is done or cancelled."""
        found = self._query("SELECT state<>'open' FROM jobs WHERE job=?", job)
        if not found:
            raise OperatorError(f"the job is no longer in {self._path}: it was forgotten while it was read")
        return bool(found[0][0])

    def rows(self, job: int, failed: bool) -> Iterator[Row]:
        """The job's rows in task order; only the failed ones when `failed`."""
        yield from self._paged(job, -1, None, failed)
        self.ended(job)  # Rows of a job that was forgotten meanwhile are missing.

    def rows_after(self, job: int, position: int, failed: bool) -> Iterator[tuple[int, Row | None]]:
        """Rows in order of commit after `position`, each with the position to go on from.

        Positions without a row of the wanted kind come with None.
        """
        after = "SELECT position, first, count FROM receipts WHERE job=? AND position>? ORDER BY position"
        for at, first, count in self._query(after, job, position):
            for row in self._paged(job, first - 1, first + count, failed):
                yield at, row
            yield at, None

    def follow(self, job: int, failed: bool) -> Iterator[Row | None]:
        """Rows in order of commit as they come, until the job has ended; None now and then while none comes."""
        return followed(self, job, failed)

    def page(self, job: int, after: int, limit: int, failed: bool) -> list[Row]:
        """Some rows of the tasks after this one."""
        if not (failed and self._has_instants):
            return self._page(self._rows_sql(failed), job, after, 2**62, limit)[0]
        rows: list[Row] = []
        # Without a receipt of a failure no row is read.
        reaching = (
            "SELECT first, first + count FROM receipts WHERE job=? AND failed>0 AND first>? AND first + count>?"
            " ORDER BY first LIMIT 1"
        )
        while len(rows) < limit:
            found = self._query(reaching, job, after - RECEIPT_TASKS_MAX, after + 1)
            if not found:
                break
            [(first, end)] = found
            rows += self._page(self._rows_sql(failed), job, max(first - 1, after), end, limit - len(rows))[0]
            after = end - 1
        return rows

    def history(self, job: int | None, after: int, limit: int) -> HistoryPage:
        """When tasks of the job, or of all, were recorded, from `limit` receipts after a position."""
        if not self._has_instants:
            return HistoryPage(after, [], False)
        of_job, values = ("job=? AND ", (job,)) if job is not None else ("", ())
        found = self._query(
            "SELECT at, sum(count), max(position), count(*) FROM"
            f" (SELECT position, at, count FROM receipts WHERE {of_job}position>? ORDER BY position LIMIT ?)"
            " GROUP BY at ORDER BY at",
            *(*values, after, limit),
        )
        position = max((last for _, _, last, _ in found), default=after)
        points = [(at, count) for at, count, _, _ in found if at is not None]
        return HistoryPage(position, points, sum(receipts for *_, receipts in found) == limit)

    def position_before(self, at: int) -> int:
        """A position before everything that was recorded at this instant or later."""
        low, high = 0, self._query("SELECT coalesce(max(position), 0) FROM receipts")[0][0]
        while self._has_instants and low < high:
            middle = (low + high) // 2
            found = self._query("SELECT at FROM receipts WHERE position>? ORDER BY position LIMIT 1", middle)
            if found and (found[0][0] or 0) < at:
                low = middle + 1
            else:
                high = middle
        return int(low)

    def sample(self, job: int, count: int) -> list[float]:
        """The run times of about `count` of the job's tasks."""
        # One of the two is looked up; of both in one query all rows would be read.
        ends = "SELECT (SELECT min(task) FROM results WHERE job=?), (SELECT max(task) FROM results WHERE job=?)"
        [(first, last)] = self._query(ends, job, job)
        if first is None:
            return []
        step = max(1, (last - first + 1) // count)
        found = self._query(
            "WITH RECURSIVE places(task) AS (SELECT ? UNION ALL SELECT task + ? FROM places WHERE task + ? <= ?)"
            " SELECT DISTINCT task, seconds FROM (SELECT (SELECT near.task FROM results AS near"
            " WHERE job=? AND near.task>=places.task ORDER BY near.task LIMIT 1) AS found FROM places)"
            " JOIN results ON job=? AND task=found",
            *(first, step, step, last, job, job),
        )
        return [seconds for _, seconds in found]

    def _paged(self, job: int, after: int, end: int | None, failed: bool) -> Iterator[Row]:
        sql = self._rows_sql(failed)
        is_last = False
        while not is_last:
            rows, is_last = self._page(sql, job, after, 2**62 if end is None else end, self._PAGE)
            yield from rows
            after = rows[-1].task if rows else after

    def _rows_sql(self, failed: bool) -> str:
        only = " AND status='failed'" if failed else ""
        where = f"job=? AND task>? AND task<?{only} ORDER BY task LIMIT ?"
        return f"SELECT {self._columns} FROM results JOIN jobs USING (job) WHERE {where}"

    def _page(self, sql: str, *values: object) -> tuple[list[Row], bool]:
        """Rows until they weigh enough, and whether these were the last."""
        rows: list[Row] = []
        page_bytes = 0
        is_cut = False
        try:
            with closing(self._db.execute(sql, values)) as cursor:
                for row in cursor:
                    rows.append(Row(*row))
                    page_bytes += weight(rows[-1])
                    if is_cut := page_bytes >= self._PAGE_BYTES:
                        break
        except sqlite3.DatabaseError as error:
            self._check_unchanged()
            raise OperatorError(unusable(self._path, error)) from None
        self._check_unchanged()
        return rows, not is_cut and len(rows) < self._PAGE

    def _query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            found = self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._check_unchanged()
            raise OperatorError(unusable(self._path, error)) from None
        self._check_unchanged()
        return found

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _no_ledger(what: str, path: str) -> str:
    start = f"start the sink here (python sink.py{_option(path)})"
    return f"{what}: {start}, or name another with --ledger, or ask its sink with --key FILE"


def _option(path: str) -> str:
    """What a command needs to find this ledger."""
    return "" if path == str(DEFAULT_LEDGER) else f" --ledger {shlex.quote(path)}"
