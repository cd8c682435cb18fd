"""Rows of a job in PostgreSQL, and pages of them, for the sink and for other readers."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ..protocol.reading import Cursor
from ..protocol.settings import MESSAGE_BYTES_MAX
from ..protocol.value_array import sent_value
from ..task_ranges import TaskRanges
from .arguments import of_range
from .store import Row, RowPage, RowQuery, ValuePage, weight

Ask = Callable[..., list[tuple[Any, ...]]]
"""Rows that a statement with these values finds."""

_RECEIPTS = 1_000
"""At most how many receipts one page looks at."""
_SMALL_BYTES = 9
_SMALL = frozenset("ifn")
_COLUMNS = (
    "task, kind::text, value, bin, exact, error, attempt, worker, seconds, argument, argument_bin, argument_digest"
)
_VALUE_COLUMNS = "task, kind::text, value, bin, exact, error"
_VALUE_BYTES = (
    "CASE kind WHEN 's' THEN octet_length(value) WHEN 'j' THEN octet_length(value) WHEN 'b' THEN octet_length(bin)"
    " WHEN 'z' THEN octet_length(value) / 6 WHEN 'x' THEN coalesce(octet_length(bin), octet_length(error)) ELSE 0 END"
    " + coalesce(octet_length(exact), 0)"
)
"""What a row weighs here, without being read: never more than what `weight` says, which decides where a page ends."""
_ARGUMENT_BYTES = " + coalesce(octet_length(argument_bin), octet_length(argument), 0)"


class Run(NamedTuple):
    """Tasks of which rows are taken, in this order."""

    first: int
    end: int


class JobRows:
    """Reads rows of one job."""

    def __init__(self, ask: Ask, job: int, source: str, arguments: str) -> None:
        self._ask = ask
        self._job = job
        self._source = source
        self._is_range = of_range(source, 0) is not None
        self._is_json = arguments == "json"

    def rows(self, query: RowQuery) -> RowPage:
        """A page of whole rows."""
        return _RowPage(self, query).page()

    def values(self, query: RowQuery) -> ValuePage:
        """A page of values."""
        return _ValuePage(self, query).page()

    def failures(self, limit: int) -> list[tuple[int, str, str | bytes | None, int]]:
        """The first failed tasks, each with error, argument and attempt."""
        rows = self._ask(
            "SELECT task, error, bin, argument, argument_bin, attempt FROM task_rows WHERE job=%s AND kind='x'"
            " ORDER BY task LIMIT %s",
            *(self._job, limit),
        )
        return [
            (task, _error(error, exact) or "", _argument(argument, content), attempt)
            for task, error, exact, argument, content, attempt in rows
        ]

    def arguments(self, first: int, end: int, limit: int) -> list[tuple[int, str | bytes | None, bytes | None]]:
        """The arguments of these tasks, with their digests."""
        rows = self._ask(
            "SELECT task, argument, argument_bin, argument_digest FROM task_rows WHERE job=%s AND task>=%s AND task<%s"
            " ORDER BY task LIMIT %s",
            *(self._job, first, end, limit),
        )
        return [(task, _argument(argument, content), seal) for task, argument, content, seal in rows]

    def taken(
        self, runs: Iterable[Run], limit: int, bytes_max: int, failed: bool = False, values_only: bool = False
    ) -> list[tuple[Any, ...]]:
        """Rows of these runs in their order, each after the number of its run.

        One row more than `limit` or `bytes_max` allow, if there is one, so that whoever cuts the page knows where.
        """
        firsts, ends = [run.first for run in runs], [run.end for run in runs]
        columns, size = (_VALUE_COLUMNS, _VALUE_BYTES) if values_only else (_COLUMNS, _VALUE_BYTES + _ARGUMENT_BYTES)
        only = " AND kind='x'" if failed else ""
        names = ", ".join(each.split("::")[0] for each in columns.split(", "))
        before = "sum(bytes) OVER (ORDER BY place, task ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)"
        return self._ask(
            f"SELECT place, {names} FROM (SELECT *, {before} AS before FROM"
            " unnest(%s::bigint[], %s::bigint[]) WITH ORDINALITY AS runs(low, high, place),"
            f" LATERAL (SELECT {columns}, {size} AS bytes FROM task_rows"
            f" WHERE job=%s AND task_rows.task>=low AND task_rows.task<high{only} ORDER BY task_rows.task LIMIT %s)"
            " AS found ORDER BY place, task LIMIT %s) AS page WHERE before IS NULL OR before<%s ORDER BY place, task",
            *(firsts, ends, self._job, limit + 1, limit + 1, bytes_max),
        )

    def first_task(self, at: int) -> int | None:
        """The first task from this one on that has a row."""
        found = self._ask("SELECT min(task) FROM task_rows WHERE job=%s AND task>=%s", self._job, at)
        return found[0][0] if found else None

    def receipts(self, position: int, limit: int) -> list[tuple[int, int, int]]:
        """Position, first task and count of receipts after a position."""
        found = self._ask(
            "SELECT position, first, count FROM receipts WHERE job=%s AND position>%s ORDER BY position LIMIT %s",
            *(self._job, position, limit),
        )
        return [(at, first, count) for at, first, count in found]

    def row(self, found: tuple[Any, ...]) -> Row:
        """The row from what `taken` gives, without the number of its run."""
        task, kind, value, content, exact, error, attempt, worker, seconds, argument, argument_bin, digest = found
        if kind == "x":
            value, json, error = None, None, _error(error, content)
        else:
            value, json = decoded(kind, value, content)
        kept = _argument(argument, argument_bin)
        argument_json = 1 if self._is_json and digest is None and kept is not None else None
        shown = of_range(self._source, task) if self._is_range else kept
        status = "failed" if kind == "x" else "ok"
        return Row(task, status, value, json, error, attempt, worker, seconds, exact, shown, argument_json, digest)


class _Page:
    """One page in the making."""

    def __init__(self, pages: JobRows, query: RowQuery) -> None:
        self._pages = pages
        self._query = query

    def _runs(self) -> tuple[list[Run], list[Cursor], Cursor, bool]:
        """What to look at; where each run begins as a cursor; the cursor behind all, and whether there is more."""
        after, left = self._query.after, self._query.scanned_max
        if self._query.order == "task":
            first = self._pages.first_task(after[0])
            if first is None:
                return [], [], after, False
            return [Run(first, first + left)], [(first, 0)], (first + left, 0), True
        position, skipped = after
        runs, begins = [], []
        receipts = self._pages.receipts(position, _RECEIPTS)
        for at, first, count in receipts:
            start, end = min(first + skipped, first + count), first + count
            reached = min(end, start + left)
            if start < reached:
                runs.append(Run(start, reached))
                begins.append((position, start - first))
            left -= reached - start
            if reached < end:
                return runs, begins, (position, reached - first), True
            position, skipped = at, 0
        return runs, begins, (position, skipped), len(receipts) == _RECEIPTS

    def _cursor(self, run: Run, begin: Cursor, task: int) -> Cursor:
        """The cursor before this task of the run."""
        return (task, 0) if self._query.order == "task" else (begin[0], begin[1] + task - run.first)


class _RowPage(_Page):
    def page(self) -> RowPage:
        runs, begins, position, more = self._runs()
        query = self._query
        rows: list[Row] = []
        taken = 0
        for place, *found in self._pages.taken(runs, query.rows_max, query.bytes_max, query.failed) if runs else ():
            row = self._pages.row(tuple(found))
            row_bytes = weight(row)
            if rows and (len(rows) >= query.rows_max or taken + row_bytes > query.bytes_max):
                return RowPage(rows, self._cursor(runs[place - 1], begins[place - 1], row.task), True)
            rows.append(row)
            taken += row_bytes
        return RowPage(rows, position, more)


class _ValuePage(_Page):
    def page(self) -> ValuePage:
        runs, begins, position, more = self._runs()
        query = self._query
        values: list[Any] = []
        found_runs: list[list[int]] = []
        others: list[Run] = []
        taken = 0
        last = 0, -1
        some = self._pages.taken(runs, query.rows_max, query.bytes_max, values_only=True) if runs else ()
        for place, task, kind, value, content, exact, error in some:
            is_small = kind in _SMALL and exact is None
            value, json = (None, None) if kind == "x" else decoded(kind, value, content)
            row_bytes = _SMALL_BYTES if is_small else _bytes_of(value, exact, _error(error, content), kind == "x")
            if values and (len(values) >= query.rows_max or taken + row_bytes > query.bytes_max):
                position, more = self._cursor(runs[place - 1], begins[place - 1], task), True
                break
            taken += row_bytes
            if (place, task) == last:
                found_runs[-1][1] += 1
            else:
                found_runs.append([task, 1])
            last = place, task + 1
            if kind == "x" or row_bytes > MESSAGE_BYTES_MAX:
                others.append(Run(task, task + 1))
                value = None
            elif json or exact is not None:
                value = sent_value(value, json, exact)
            values.append(value)
        return ValuePage([(first, count) for first, count in found_runs], values, self._rows(others), position, more)

    def _rows(self, tasks: list[Run]) -> list[Row]:
        if not tasks:
            return []
        return [self._pages.row(tuple(found)) for _, *found in self._pages.taken(tasks, len(tasks), 2**62)]


def decoded(kind: str, value: str | None, content: bytes | None) -> tuple[Any, int | None]:
    """The value and `json` of a row that did not fail."""
    if kind == "i":
        return int(value or 0), None
    if kind == "f":
        return float(value or 0), None
    if kind == "s":
        return value, None
    if kind == "j":
        return value, 1
    if kind == "z":
        return msgspec.json.decode(value or '""'), None
    return content if kind == "b" else None, None


def _error(shown: str | None, exact: bytes | None) -> str | None:
    return exact.decode() if exact is not None and shown is not None else shown


def _argument(text: str | None, content: bytes | None) -> str | bytes | None:
    return text if content is None else content if text is None else content.decode()


def _bytes_of(value: Any, exact: bytes | None, error: str | None, has_failed: bool) -> int:
    """About how many bytes it is when it is sent: of a failed task the whole row is."""
    texts = [text for text in (value, exact, error if has_failed else None) if isinstance(text, str | bytes)]
    own = 100 if has_failed else _SMALL_BYTES
    return own + sum(len(text.encode()) if isinstance(text, str) else len(text) for text in texts)


def without_failed(ask: Ask, job: int, runs: list[tuple[int, int]], attempts: int) -> list[tuple[int, int]]:
    """The runs without tasks that failed at an attempt up to this one."""
    left = TaskRanges(runs)
    failed = ask(
        "SELECT task FROM unnest(%s::bigint[], %s::bigint[]) AS runs(low, amount), LATERAL (SELECT task FROM task_rows"
        " WHERE job=%s AND task>=low AND task<low+amount AND kind='x' AND attempt<=%s OFFSET 0) AS failed",
        *([first for first, _ in runs], [count for _, count in runs], job, attempts),
    )
    for (task,) in failed:
        left.discard(task, 1)
    return list(left)


def iso(at: datetime) -> str:
    """The instant in UTC, as ISO 8601 writes it."""
    return at.astimezone(UTC).isoformat(timespec="seconds")
