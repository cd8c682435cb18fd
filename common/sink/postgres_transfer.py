"""What a copy of a ledger to another kind reads from PostgreSQL, or writes into an empty site there."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from ..errors import OperatorError
from .postgres_copy import ALL_COLUMNS, line
from .postgres_pages import JobRows, Run, iso
from .postgres_place import parsed
from .postgres_session import Session, in_words
from .postgres_site import Site, SiteWrite, site_of
from .postgres_writer import KEPT_JOBS
from .store import LedgerStuck
from .transfer import MovedJob, MovedReceipt, MovedRow, Origin, next_id
from .whole_write import telling

_ANSWER_S = 24 * 3600.0
_AT_ONCE = 5_000
_BYTES_AT_ONCE = 16 * 1024 * 1024
_PIECE_LINES = 1_000
_UNLIMITED = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
"""The other ledger may be slow."""


class PostgresOrigin:
    """An `Origin`."""

    def __init__(self, ledger: str) -> None:
        self._place = place = parsed(ledger)
        with in_words(place):
            self._session = Session(place, "copy-ledger", False, _ANSWER_S)
            try:
                rows = self._begin()
            except BaseException:
                self.close()
                raise
        self.jobs = []
        for row in rows:
            values: list[Any] = [iso(each) if isinstance(each, datetime) else each for each in row]
            self.jobs.append(MovedJob(*values))

    def _begin(self) -> list[tuple[Any, ...]]:
        """Look at the site as it is now; the rows of its jobs."""
        session = self._session
        session.ask(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_UNLIMITED}")
        self._site, self.id, self.position = site_of(session, self._place)
        return session.ask(f"{KEPT_JOBS} ORDER BY job", self._site)

    def rows(self, job: int) -> Iterator[MovedRow]:
        """All rows of a job."""
        # Neither a range nor JSON: arguments come as they are kept.
        pages = JobRows(self._ask, job, "", "")
        first = 0
        while found := pages.taken([Run(first, 2**62)], _AT_ONCE, _BYTES_AT_ONCE):
            for _, *columns in found:
                row = pages.row(tuple(columns))
                value = row.value, row.json, row.exact, row.error
                assert not isinstance(row.argument, int)
                argument = row.argument, row.argument_digest, row.status == "failed"
                yield MovedRow(row.task, row.attempt, row.worker, row.seconds, *value, *argument)
                first = row.task + 1

    def receipts(self) -> Iterator[MovedReceipt]:
        """All receipts."""
        position = 0
        failed = (
            "(SELECT count(*) FROM task_rows WHERE task_rows.job=r.job AND task>=first AND task<first+count"
            " AND kind='x')"
        )
        while found := self._ask(
            f"SELECT position, job, first, count, seconds, {failed}, extract(epoch FROM at)::bigint FROM receipts AS r"
            " WHERE site=%s AND position>%s AND job IN (SELECT job FROM jobs) ORDER BY position LIMIT %s",
            *(self._site, position, _AT_ONCE),
        ):
            yield from map(MovedReceipt._make, found)
            position = found[-1][0]

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with in_words(self._place):
            return self._session.ask(sql, *values)

    def close(self) -> None:
        """End the session."""
        self._session.close()


def fill_site(target: str, source: Origin) -> None:
    """Write all that the source has into an empty site. Raises OperatorError."""
    place = parsed(target)
    with closing(Site(place)) as site:

        def write(site_write: SiteWrite) -> None:
            session = site_write.session
            session.ask(_UNLIMITED)
            if site_write.position or session.ask("SELECT 1 FROM jobs WHERE site=%s LIMIT 1", site.number):
                raise OperatorError(
                    f"the ledger {place.shown} has jobs already: give another --site in its address, ?site=NAME"
                )
            numbers = {job.job: _job(session, site.number, job) for job in source.jobs}
            for job in source.jobs:
                number = numbers[job.job]
                lines = (_line(number, row) for row in source.rows(job.job))
                session.copy(f"COPY task_rows ({ALL_COLUMNS}) FROM STDIN", _pieces(lines))
            columns = "site, position, job, first, count, seconds, at"
            receipts = (_receipt(site.number, numbers[each.job], each) for each in source.receipts())
            session.copy(f"COPY receipts ({columns}) FROM STDIN", _pieces(receipts))
            site_write.position = source.position
            site_write.last.append(f"UPDATE sites SET ledger='{next_id(source.id)}' WHERE site={site.number}")

        try:
            with telling(lambda: site.waiting):
                site.write(write)
        except LedgerStuck as error:
            raise OperatorError(f"cannot write the ledger {place.shown}: {error}; nothing was written") from None


def _job(session: Session, site: int, job: MovedJob) -> int:
    (number,) = session.one(
        "INSERT INTO jobs (site, name, function, source, state, total, done, failed, opened_at, ended_at, mark_count,"
        " mark_digest, retries, attempts, arguments, base)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING job",
        *(site, job.name, job.function, job.source, job.state, job.total, job.done, job.failed, job.opened_at),
        *(job.ended_at, job.mark_count, job.mark_digest, job.retries, job.attempts, job.arguments, job.base),
    )
    session.change("INSERT INTO ticket_keys VALUES (%s, %s)", number, job.ticket_key)
    return int(number)


def _line(job: int, row: MovedRow) -> str:
    # A ledger of version 1 has NaN without quotation marks.
    value = '"NaN"' if row.json and row.value == "NaN" else row.value
    error = (row.error or "") if row.failed else None
    given = job, row.task, row.attempt, row.worker, row.seconds
    return line(*given, value, row.json, row.exact, error, row.argument, row.argument_digest)


def _receipt(site: int, job: int, receipt: MovedReceipt) -> str:
    at = r"\N" if receipt.at is None else datetime.fromtimestamp(receipt.at, UTC).isoformat()
    return f"{site}\t{receipt.position}\t{job}\t{receipt.first}\t{receipt.task_count}\t{receipt.seconds!r}\t{at}\n"


def _pieces(lines: Iterator[str]) -> Iterator[bytes]:
    piece: list[str] = []
    for each in lines:
        piece.append(each)
        if len(piece) >= _PIECE_LINES:
            yield "".join(piece).encode()
            piece = []
    yield "".join(piece).encode()
