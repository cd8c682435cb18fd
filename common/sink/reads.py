"""Rows, values and jobs for those that read the ledger through the sink. No socket, no clock."""

from dataclasses import dataclass

from msgspec.structs import replace

from ..protocol.reading import Cursor, List, Listing, Read, ResultRow, Rows, Values
from ..protocol.settings import MESSAGE_BYTES_MAX
from ..protocol.value_array import packed
from .job_rules import no_job
from .outputs import Output, Send, refusal
from .settings import CollectorSettings
from .store import Job, LedgerStuck, Row, RowPage, RowQuery, Store, ValuePage, weight

_CUT = 10_000
"""How many characters of a value are sent of a row that does not fit into a message."""

_UNANSWERED: list[Output] = []
"""While the ledger cannot be read. Whoever gets no answer asks again."""


@dataclass(slots=True)
class _Reader:
    """A request without an answer yet."""

    message: Read
    asked_at: float
    read_to: Cursor
    """Up to there nothing was found for it."""
    seen: tuple[int, int, str] | None = None
    """How the job stood when it was last looked at."""


class Reads:
    """The requests for rows, one a peer. One is answered when there is something, or after a second.

    One page is read in a turn: what workers and ventilators send goes first.
    """

    def __init__(self, settings: CollectorSettings, ledger: Store) -> None:
        self._settings = settings
        self._ledger = ledger
        self._readers: dict[bytes, _Reader] = {}

    def listing(self, peer: bytes, message: List) -> list[Output]:
        """Answer with the jobs after a number."""
        try:
            jobs = self._ledger.listed(message.after, self._settings.jobs_page)
        except LedgerStuck:
            return _UNANSWERED
        return [Send(peer, Listing(message.after, jobs, len(jobs) == self._settings.jobs_page))]

    def read(self, now: float, peer: bytes, message: Read) -> list[Output]:
        """Take a request, which replaces an earlier one of this peer."""
        self._readers.pop(peer, None)
        try:
            job = self._ledger.job(message.job)
        except LedgerStuck:
            return _UNANSWERED
        if job is None:
            return [Send(peer, refusal(no_job(message.job)))]
        self._readers[peer] = _Reader(message, now, message.after)
        return []

    def forgotten(self, name: str) -> list[Output]:
        """Answer those that wait for rows of a job that is no longer there."""
        gone = [peer for peer, reader in self._readers.items() if reader.message.job == name]
        for peer in gone:
            del self._readers[peer]
        return [Send(peer, refusal(no_job(name))) for peer in gone]

    def tick(self, now: float) -> list[Output]:
        """Look for the one that has waited longest, if there may be something for it."""
        peer = next((peer for peer, reader in self._readers.items() if self._is_due(now, reader)), None)
        if peer is None:
            return []
        reader = self._readers.pop(peer)
        job = self._ledger.job(reader.message.job)
        assert job is not None
        read = self._ledger.values if reader.message.values else self._ledger.read
        try:
            page: RowPage | ValuePage = read(job.name, self._query(reader))
        except LedgerStuck:
            return _UNANSWERED
        waits = reader.message.order == "commit" and job.state == "open"
        if waits and not page.count and not page.more and now < reader.asked_at + self._settings.timing.ask_s:
            reader.read_to, reader.seen = page.position, _standing(job)
            self._readers[peer] = reader
            return []
        return [Send(peer, _answer(reader.message, job, page))]

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = [
            reader.asked_at + self._settings.timing.ask_s if self._has_seen_all(reader) else float("-inf")
            for reader in self._readers.values()
        ]
        return min(instants, default=None)

    def _is_due(self, now: float, reader: _Reader) -> bool:
        return not self._has_seen_all(reader) or now >= reader.asked_at + self._settings.timing.ask_s

    def _has_seen_all(self, reader: _Reader) -> bool:
        job = self._ledger.job(reader.message.job)
        assert job is not None
        return reader.seen == _standing(job)

    def _query(self, reader: _Reader) -> RowQuery:
        settings = self._settings
        return RowQuery(
            order=reader.message.order,
            after=reader.read_to,
            failed=reader.message.failed,
            rows_max=settings.values_page if reader.message.values else settings.rows_page,
            bytes_max=settings.rows_page_bytes,
            scanned_max=settings.rows_scanned,
        )


def _standing(job: Job) -> tuple[int, int, str]:
    return job.done, job.failed, job.state


def _answer(message: Read, job: Job, page: RowPage | ValuePage) -> Rows | Values:
    where = message.job, message.after, page.position
    number, request = job.job, message.request
    if isinstance(page, RowPage):
        return Rows(*where, [_sent(row) for row in page.rows], page.more, job.state, number, request)
    others = [_sent(row) for row in page.others]
    return Values(*where, page.runs, packed(page.values), others, page.more, job.state, number, request)


def _sent(row: Row) -> ResultRow:
    error = row.error if row.status == "ok" else row.error or ""
    result = row.task, row.value, bool(row.json), row.exact, error, row.attempt, row.worker, row.seconds, False
    found = ResultRow(*result, row.argument, bool(row.argument_json), row.argument_digest)
    if weight(row) <= MESSAGE_BYTES_MAX:
        return found
    value = row.value[:_CUT] if isinstance(row.value, str | bytes) else row.value
    return replace(found, value=value, json=False, exact=None, error=error and error[:_CUT], is_cut=True)
