"""A page of a job's rows, or of their values, from an SQLite ledger, for those that read it through the sink."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Generic, TypeVar

from ..protocol.reading import Cursor
from ..protocol.settings import MESSAGE_BYTES_MAX
from ..protocol.value_array import sent_value
from .sqlite_file import OF_RANGE
from .store import Row, RowPage, RowQuery, ValuePage, weight

COLUMNS = (
    "task, status, value, results.json, error, attempt, worker, seconds, exact,"
    f" CASE {OF_RANGE} ELSE argument END,"
    " CASE WHEN arguments='json' AND argument_digest IS NULL AND argument IS NOT NULL THEN 1 END, argument_digest"
)
"""Of `Row`, from `results` with `jobs`."""
_RECEIPTS = 1_000
"""At most how many receipts one page looks at."""


_VALUE_COLUMNS = "task, value, json, exact, CASE status WHEN 'ok' THEN NULL ELSE coalesce(error, '') END"
_NUMBERS = (
    "SELECT value FROM task_rows WHERE job=? AND task>=? AND task<? AND status='ok' AND json IS NULL AND exact IS NULL"
    " AND typeof(value) IN ('integer', 'real') ORDER BY task"
)
_SMALL = frozenset((int, float, type(None)))
_SMALL_BYTES = 9
_AT_ONCE = 500
"""How many tasks one statement names."""


P = TypeVar("P", RowPage, ValuePage)


class PageReader(Generic[P]):
    """Reads one page."""

    def __init__(self, db: sqlite3.Connection, job: int, query: RowQuery) -> None:
        self._db = db
        self._job = job
        self._query = query
        self._bytes = 0

    def page(self) -> P:
        """What is after the cursor."""
        return self._by_task() if self._query.order == "task" else self._by_commit()

    def _by_task(self) -> P:
        first = "SELECT task FROM task_rows WHERE job=? AND task>=? ORDER BY task LIMIT 1"
        found = self._db.execute(first, (self._job, self._query.after[0])).fetchone()
        if found is None:
            return self._made(self._query.after, False)
        reached = self._take(found[0], found[0] + self._query.scanned_max)
        return self._made((reached, 0), True)

    def _by_commit(self) -> P:
        position, skipped = self._query.after
        left = self._query.scanned_max
        receipts = self._db.execute(
            "SELECT position, first, count FROM receipts WHERE job=? AND position>? ORDER BY position LIMIT ?",
            (self._job, position, _RECEIPTS),
        ).fetchall()
        for at, first, count in receipts:
            start, end = min(first + skipped, first + count), first + count
            reached = self._take(start, min(end, start + left))
            left -= reached - start
            if reached < end:
                return self._made((position, reached - first), True)
            position, skipped = at, 0
        return self._made((position, skipped), len(receipts) == _RECEIPTS)

    def _take(self, start: int, end: int) -> int:
        """Take rows of these tasks; returns the first task that was not looked at."""
        raise NotImplementedError

    def _made(self, position: Cursor, more: bool) -> P:
        raise NotImplementedError


class RowReader(PageReader[RowPage]):
    """Whole rows."""

    def __init__(self, db: sqlite3.Connection, job: int, query: RowQuery) -> None:
        super().__init__(db, job, query)
        self._rows: list[Row] = []

    def _made(self, position: Cursor, more: bool) -> RowPage:
        return RowPage(self._rows, position, more)

    def _take(self, start: int, end: int) -> int:
        rows = self._rows
        only = " AND status='failed'" if self._query.failed else ""
        where = f"job=? AND task>=? AND task<?{only} ORDER BY task"
        sql = f"SELECT {COLUMNS} FROM results JOIN jobs USING (job) WHERE {where}"
        with closing(self._db.execute(sql, (self._job, start, end))) as cursor:
            for found in cursor:
                row = Row(*found)
                row_bytes = weight(row)
                is_full = len(rows) >= self._query.rows_max or self._bytes + row_bytes > self._query.bytes_max
                if rows and is_full:
                    return row.task
                rows.append(row)
                self._bytes += row_bytes
        return end


class ValueReader(PageReader[ValuePage]):
    """Values, and whole rows only where there are none."""

    def __init__(self, db: sqlite3.Connection, job: int, query: RowQuery) -> None:
        super().__init__(db, job, query)
        self._values: list[Any] = []
        self._runs: list[tuple[int, int]] = []
        self._others: list[int] = []

    def _made(self, position: Cursor, more: bool) -> ValuePage:
        rows = {row.task: row for row in self._rows_of(self._others)}
        return ValuePage(self._runs, self._values, [rows[task] for task in self._others], position, more)

    def _take(self, start: int, end: int) -> int:
        end = min(end, start + self._query.rows_max - len(self._values))
        return end if self._take_numbers(start, end) else self._take_any(start, end)

    def _take_numbers(self, start: int, end: int) -> bool:
        """Take the values of these tasks, if all are numbers, at half of the price; False if they are not."""
        if self._bytes + _SMALL_BYTES * (end - start) > self._query.bytes_max:
            return False
        found = self._db.execute(_NUMBERS, (self._job, start, end)).fetchall()
        if len(found) < end - start:
            return False
        self._values += [value for (value,) in found]
        self._bytes += _SMALL_BYTES * len(found)
        self._add_run(start, end)
        return True

    def _take_any(self, start: int, end: int) -> int:
        values, taken = self._values, self._bytes
        first = next_task = start
        reached = end
        sql = f"SELECT {_VALUE_COLUMNS} FROM results WHERE job=? AND task>=? AND task<? ORDER BY task"
        with closing(self._db.execute(sql, (self._job, start, end))) as cursor:
            for task, value, json, exact, error in cursor:
                is_small = exact is None and error is None and type(value) in _SMALL
                row_bytes = _SMALL_BYTES if is_small else _bytes_of(value, exact, error)
                if values and taken + row_bytes > self._query.bytes_max:
                    reached = task
                    break
                taken += row_bytes
                if task != next_task:
                    self._add_run(first, next_task)
                    first = task
                next_task = task + 1
                if error is not None or row_bytes > MESSAGE_BYTES_MAX:
                    self._others.append(task)
                    value = None
                elif json or exact is not None:
                    value = sent_value(value, json, exact)
                values.append(value)
        self._add_run(first, next_task)
        self._bytes = taken
        return reached

    def _add_run(self, first: int, end: int) -> None:
        if first < end:
            self._runs.append((first, end - first))

    def _rows_of(self, tasks: list[int]) -> Iterator[Row]:
        for at in range(0, len(tasks), _AT_ONCE):
            named = ", ".join(map(str, tasks[at : at + _AT_ONCE]))
            sql = f"SELECT {COLUMNS} FROM results JOIN jobs USING (job) WHERE job=? AND task IN ({named})"
            for found in self._db.execute(sql, (self._job,)):
                yield Row(*found)


def _bytes_of(value: Any, exact: bytes | None, error: str | None) -> int:
    """About how many bytes it is when it is sent: of a failed task the whole row is."""
    texts = [text for text in (value, exact, error) if isinstance(text, str | bytes)]
    own = _SMALL_BYTES if error is None else 100
    return own + sum(len(text.encode()) if isinstance(text, str) else len(text) for text in texts)
