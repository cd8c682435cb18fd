"""The ledger in PostgreSQL as the sink has it: one writer, and reads beside it."""

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress

from ..errors import OperatorError
from ..protocol.reading import ListedJob
from ..transport import clock
from .pages import digest_page, receipt_page
from .postgres_pages import JobRows, without_failed
from .postgres_place import parsed
from .postgres_reads import PostgresReads
from .postgres_session import in_words
from .postgres_site import pooled
from .postgres_writer import KeptJob, Made, PostgresWriter
from .store import Completion, DigestPage, Job, LedgerLost, LedgerStuck, Page, RowPage, RowQuery, ValuePage, Write
from .store_thread import StoreThread
from .writes import LATE_S

log = logging.getLogger(__name__)

_PING_S = 1.0
"""How long the server may hear nothing of a sink that serves. A standby ends the session of one that is silent."""
_LEAVES_S = 10.0
"""How long a sink that has a standby waits for the server."""
_WRITTEN_S, _END_S = 2.0, 1.0
"""How long the end waits for a write, and for the thread."""


class PostgresLedger:
    """A `Store`."""

    def __init__(self, ledger: str, sink_key: Callable[[], str] | None = None) -> None:
        """`sink_key` gives the public key of the sink that is to serve; None for a command. Raises OperatorError."""
        place = parsed(ledger)
        self._writer = PostgresWriter(place, sink_key)
        self.id = self._writer.id
        self._write: Write | None = None
        self._is_pinging = False
        self._ping_at = clock.now()
        self._begun_at = clock.now()
        self._has_standby = False
        """A standby was there when the server answered last."""
        self._is_said = False
        """The log says that the server is away."""
        with in_words(place), ExitStack() as failing:
            failing.callback(self._writer.close)
            self._reads = PostgresReads(place)
            failing.callback(self._reads.close)
            if self._reads.server_pid() == self._writer.pid:
                raise OperatorError(pooled(place))
            failing.pop_all()
        self._thread = StoreThread()

    def submit(self, write: Write) -> None:
        """Begin the write in the thread."""
        assert self._write is None, "a write is in flight"
        self._write = write
        if not self._is_pinging:
            self._begin(lambda: self._writer.make(write))

    def _begin(self, call: Callable[[], object]) -> None:
        self._begun_at = clock.now()
        self._thread.begin(call)

    def _ping(self) -> None:
        """Have the server hear of this sink, which may have nothing to write, and look whether the site is its own."""
        if clock.now() >= self._ping_at:
            self._is_pinging = True
            self._begin(self._writer.ping)

    def completed(self) -> Completion | None:
        """What has become of the write. Raises OperatorError."""
        write = self._write
        if write is None and not self._is_pinging:
            self._ping()
        if not self._thread.ended():
            self._say_if_away()
            self._leave_to_standby()
            return None
        self._ping_at = clock.now() + _PING_S
        if self._is_pinging or write is None:
            self._is_pinging = False
            with suppress(LedgerStuck):
                self._has_standby = self._thread.result()
                if self._is_said:
                    self._is_said = False
                    log.info("the database server answers again")
            if write is not None:
                self._begin(lambda: self._writer.make(write))
            return None
        self._write = None
        try:
            made = self._thread.result()
        except LedgerStuck as error:
            return Completion(write, stuck=str(error))
        assert isinstance(made, Made)
        self._writer.take(made)
        return Completion(write, made.result)

    def _say_if_away(self) -> None:
        is_idle = self._is_pinging and self._write is None
        if is_idle and not self._is_said and self._writer.waits_for and clock.now() > self._begun_at + LATE_S:
            self._is_said = True
            log.warning("%s; nothing can be recorded", self._writer.waits_for)

    def _leave_to_standby(self) -> None:
        """Whoever cannot reach the server cannot record; peers that reach this sink would stay with it all the same."""
        waits = self._write is not None or self._is_pinging
        if waits and self._has_standby and self._writer.waits_for and clock.now() > self._begun_at + _LEAVES_S:
            raise LedgerLost(
                f"{self._writer.waits_for} for {_LEAVES_S:g} s, and the site has a standby, which may have taken over"
            )

    def fileno(self) -> int:
        """Readable when a write has ended, until it is taken."""
        return self._thread.fileno()

    @property
    def waits_for(self) -> str:
        """What the write in flight waits for, in words."""
        return self._writer.waits_for if self._write is not None else ""

    def job(self, name: str) -> Job | None:
        """The job, or None. From memory."""
        kept = self._writer.jobs.get(name)
        return None if kept is None else kept.job

    def _known(self, name: str) -> Job:
        return self._writer.jobs[name].job

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int = 0) -> Page:
        """At most `limit` receipts after `after`, without tasks that failed at an attempt up to `skipped_attempts`."""
        job = self._known(name).job
        rows = self._reads.ask(
            "SELECT position, first, count, seconds FROM receipts WHERE job=%s AND position>%s AND position<=%s"
            " ORDER BY position LIMIT %s",
            *(job, after, self._writer.position, limit),
        )
        runs = [(first, count) for _, first, count, _ in rows]
        if skipped_attempts:
            runs = without_failed(self._reads.ask, job, runs, skipped_attempts)
        return receipt_page(rows, runs, after, limit)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows."""
        query = "SELECT max(attempt) FROM task_rows WHERE job=%s AND kind='x'"
        return int(self._reads.ask(query, self._known(name).job)[0][0] or 0)

    def failures(self, name: str, limit: int) -> list[tuple[int, str, str | bytes | None]]:
        """The first failed tasks of a job, each with its error and its argument."""
        job = self._known(name)
        rows = JobRows(self._reads.ask, job.job, job.source, job.arguments).failures(limit)
        return [(task, error, argument) for task, error, argument, _ in rows]

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of arguments before the job's base, from this task on."""
        job = self._known(name)
        rows = JobRows(self._reads.ask, job.job, job.source, job.arguments).arguments(first, job.base or 0, limit)
        return digest_page(rows, job, first, limit)

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        """The first jobs with a number above `after`. From memory."""
        found = sorted((each.job.job, each) for each in self._writer.jobs.values() if each.job.job > after)
        return [_listed(each) for _, each in found[:limit]]

    def size_bytes(self) -> int:
        """The size of the tables, as it was a moment ago."""
        return self._writer.size_bytes

    def read(self, name: str, query: RowQuery) -> RowPage:
        """Rows of the job."""
        job = self._known(name)
        return JobRows(self._reads.ask, job.job, job.source, job.arguments).rows(query)

    def values(self, name: str, query: RowQuery) -> ValuePage:
        """Values of the job."""
        job = self._known(name)
        return JobRows(self._reads.ask, job.job, job.source, job.arguments).values(query)

    def close(self) -> None:
        """Close the sessions; what was committed stays. A write that is in flight has a moment to end."""
        if self._write is None and not self._is_pinging:
            self._thread.close(_END_S)
        else:
            self._thread.close(_WRITTEN_S)
            self._writer.interrupt()
            self._thread.close(_END_S)
        self._writer.close()
        self._reads.close()


def _listed(kept: KeptJob) -> ListedJob:
    job = kept.job
    numbers = job.total, job.done, job.failed
    return ListedJob(job.job, job.name, job.function, job.state, *numbers, kept.opened_at, kept.ended_at)
