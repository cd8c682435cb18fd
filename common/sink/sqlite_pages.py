"""A page of a job's rows from an SQLite ledger, for those that read it through the sink."""

import sqlite3
from contextlib import closing

from .sqlite_file import OF_RANGE
from .store import Row, RowPage, RowQuery, weight

COLUMNS = (
    "task, status, value, results.json, error, attempt, worker, seconds, exact,"
    f" CASE {OF_RANGE} ELSE argument END,"
    " CASE WHEN arguments='json' AND argument_digest IS NULL AND argument IS NOT NULL THEN 1 END, argument_digest"
)
"""Of `Row`, from `results` with `jobs`."""
_RECEIPTS = 1_000
"""At most how many receipts one page looks at."""


class PageReader:
    """Reads one page."""

    def __init__(self, db: sqlite3.Connection, job: int, query: RowQuery) -> None:
        self._db = db
        self._job = job
        self._query = query
        self._rows: list[Row] = []
        self._bytes = 0

    def page(self) -> RowPage:
        """The rows after the cursor."""
        return self._by_task() if self._query.order == "task" else self._by_commit()

    def _by_task(self) -> RowPage:
        first = "SELECT task FROM results WHERE job=? AND task>=? ORDER BY task LIMIT 1"
        found = self._db.execute(first, (self._job, self._query.after[0])).fetchone()
        if found is None:
            return RowPage([], self._query.after, False)
        reached = self._take(found[0], found[0] + self._query.scanned_max)
        return RowPage(self._rows, (reached, 0), True)

    def _by_commit(self) -> RowPage:
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
                return RowPage(self._rows, (position, reached - first), True)
            position, skipped = at, 0
        return RowPage(self._rows, (position, skipped), len(receipts) == _RECEIPTS)

    def _take(self, start: int, end: int) -> int:
        """Take rows of these tasks; returns the first task that was not looked at."""
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
