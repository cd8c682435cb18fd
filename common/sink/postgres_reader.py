"""Reads a ledger in PostgreSQL from any process, also while a sink writes it."""

from collections.abc import Iterator
from typing import Any

from ..errors import OperatorError
from .following import followed
from .postgres_pages import JobRows, Run, iso
from .postgres_place import DEFAULT_SITE, parsed
from .postgres_session import Session, in_words
from .postgres_site import site_of
from .store import HistoryPage, JobSummary, Row

_ANSWER_S = 60.0


class PostgresReader:
    """A `Reader`. It reads in pages, so that no transaction is open for long, which would hold up the vacuum."""

    _PAGE = 5_000
    _PAGE_BYTES = 16 * 1024 * 1024

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger
        self._place = place = parsed(ledger)
        with in_words(place):
            self._session = Session(place, "reader", False, _ANSWER_S)
        try:
            with in_words(place):
                self._site, self.id, _ = site_of(self._session, place)
        except BaseException:
            self._session.close()
            raise

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""
        rows = self._query(
            "SELECT name, function, state, total, done, failed, opened_at, ended_at FROM jobs WHERE site=%s"
            " ORDER BY job",
            self._site,
        )
        return [
            JobSummary(name, function, state, total, done, failed, iso(opened), None if ended is None else iso(ended))
            for name, function, state, total, done, failed, opened, ended in rows
        ]

    def job(self, name: str | None) -> int:
        """The number of the job, of the newest when `name` is None. Raises OperatorError."""
        where, values = ("AND name=%s", (name,)) if name else ("ORDER BY job DESC LIMIT 1", ())
        rows = self._query(f"SELECT job FROM jobs WHERE site=%s {where}", self._site, *values)
        if not rows:
            what = f"no job {name}" if name else "no job yet"
            site = "" if self._place.site == DEFAULT_SITE else f" --site {self._place.site}"
            raise OperatorError(
                f"there is {what} in {self._place.shown}: `python sink.py jobs --ledger ADDRESS{site}` lists them"
            )
        return int(rows[0][0])

    def ended(self, job: int) -> bool:
        """True when the job is done or cancelled."""
        found = self._query("SELECT state<>'open' FROM jobs WHERE job=%s", job)
        if not found:
            raise OperatorError(f"the job is no longer in {self._place.shown}: it was forgotten while it was read")
        return bool(found[0][0])

    def rows(self, job: int, failed: bool) -> Iterator[Row]:
        """The job's rows in task order; only the failed ones when `failed`."""
        yield from self._paged(job, Run(0, 2**62), failed)
        self.ended(job)  # Rows of a job that was forgotten meanwhile are missing.

    def rows_after(self, job: int, position: int, failed: bool) -> Iterator[tuple[int, Row | None]]:
        """Rows in order of commit after `position`, each with the position to go on from.

        Positions without a row of the wanted kind come with None.
        """
        pages = self._pages(job)
        while receipts := pages.receipts(position, self._PAGE):
            for at, first, count in receipts:
                for row in self._paged(job, Run(first, first + count), failed):
                    yield at, row
                yield at, None
                position = at

    def follow(self, job: int, failed: bool) -> Iterator[Row | None]:
        """Rows in order of commit as they come, until the job has ended; None now and then while none comes."""
        return followed(self, job, failed)

    def page(self, job: int, after: int, limit: int, failed: bool) -> list[Row]:
        """Some rows of the tasks after this one."""
        pages = self._pages(job)
        found = pages.taken([Run(after + 1, 2**62)], limit, self._PAGE_BYTES, failed)
        return [pages.row(tuple(row)) for _, *row in found[:limit]]

    def history(self, job: int | None, after: int, limit: int) -> HistoryPage:
        """When tasks of the job, or of all, were recorded, from `limit` receipts after a position."""
        where, value = ("site=%s", self._site) if job is None else ("job=%s", job)
        found = self._query(
            "SELECT extract(epoch FROM at)::bigint, sum(count)::bigint, max(position), count(*) FROM"
            f" (SELECT position, at, count FROM receipts WHERE {where} AND position>%s ORDER BY position LIMIT %s) AS s"
            " GROUP BY at ORDER BY at",
            *(value, after, limit),
        )
        position = max((last for _, _, last, _ in found), default=after)
        points = [(at, count) for at, count, _, _ in found if at is not None]
        return HistoryPage(position, points, sum(receipts for *_, receipts in found) == limit)

    def position_before(self, at: int) -> int:
        """A position before everything that was recorded at this instant or later."""
        low, high = 0, self._query("SELECT position FROM sites WHERE site=%s", self._site)[0][0]
        while low < high:
            middle = (low + high) // 2
            found = self._query(
                "SELECT extract(epoch FROM at)::bigint FROM receipts WHERE site=%s AND position>%s"
                " ORDER BY position LIMIT 1",
                *(self._site, middle),
            )
            if found and (found[0][0] or 0) < at:
                low = middle + 1
            else:
                high = middle
        return int(low)

    def sample(self, job: int, count: int) -> list[float]:
        """The run times of about `count` of the job's tasks."""
        [(first, last)] = self._query("SELECT min(task), max(task) FROM task_rows WHERE job=%s", job)
        if first is None:
            return []
        step = max(1, (last - first + 1) // count)
        found = self._query(
            "SELECT DISTINCT task, seconds FROM generate_series(%s::bigint, %s::bigint, %s::bigint) AS place,"
            " LATERAL (SELECT task, seconds FROM task_rows WHERE job=%s AND task>=place ORDER BY task LIMIT 1) AS near",
            *(first, last, step, job),
        )
        return [seconds for _, seconds in found]

    def _pages(self, job: int) -> JobRows:
        found = self._query("SELECT source, arguments FROM jobs WHERE job=%s", job)
        source, arguments = found[0] if found else ("", "")
        return JobRows(self._query, job, source, arguments)

    def _paged(self, job: int, run: Run, failed: bool) -> Iterator[Row]:
        pages = self._pages(job)
        first = run.first
        while first < run.end:
            found = pages.taken([Run(first, run.end)], self._PAGE, self._PAGE_BYTES, failed)
            for _, *row in found:
                yield pages.row(tuple(row))
            if not found:
                return
            first = found[-1][1] + 1

    def _query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with in_words(self._place):
            return self._session.ask(sql, *values)

    def close(self) -> None:
        """End the session."""
        self._session.close()
