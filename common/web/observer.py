"""Asks the sink how things stand, once a second whatever the number of browsers, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OperatorError
from ..protocol.messages import Query, Report
from ..protocol.users import READERS
from ..sink.store import HistoryPage, JobSummary
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from .books import ANSWER_S, Books, FileBooks, SinkBooks
from .series import Chart, Series
from .settings import (
    JOBS_PAUSE_FACTOR,
    JOBS_PERIOD_S,
    PERIOD_S,
    READ_S,
    RECEIPTS_A_PAGE,
    SERIES_MAX,
    WATCHED_S,
    WINDOW_BUCKET_S,
    WINDOW_S,
    WORKERS_A_SECOND,
)

log = logging.getLogger(__name__)

FAR_AT = 2**40
"""An instant after all others."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stood at one moment."""

    number: int = 0
    report: Report | None = None
    heard_at: float | None = None
    """When the sink gave it, on the clock of the roles."""
    trouble: str = ""
    """Why there is no newer one, in words."""
    jobs: tuple[JobSummary, ...] = ()
    """Of the ledger, oldest first."""
    unread: str = ""
    """Why the ledger cannot be read, in words."""

    def silent_s(self, now: float) -> float:
        """For how long the sink has said nothing."""
        return float("inf") if self.heard_at is None else max(0.0, now - self.heard_at)


@dataclass(slots=True)
class _Kept:
    """The history of a job, as far as it was read."""

    series: Series = field(default_factory=Series)
    position: int = 0
    done: int | None = None
    """How many tasks were recorded at the last report, where the history is made of reports."""


class Observer(threading.Thread):
    """Keeps a snapshot that all requests are answered from."""

    def __init__(self, key: Path, sink: str | None, ledger: str | None) -> None:
        super().__init__(name="observer", daemon=True)
        self._key = key
        self._sink = sink
        self._file = None if ledger is None else FileBooks(ledger)
        self.books: Books = self._file or SinkBooks(key, sink)
        self.snapshot = Snapshot()
        self._ended = threading.Event()
        self._watched_at = clock.now()
        self._jobs_read_at = self._jobs_due_at = float("-inf")
        self._open_jobs: set[str] = set()
        self._stranger: str | None = None
        self._compared = ""
        """The id of the sink's ledger that the file was compared with."""
        self._all = Series(WINDOW_BUCKET_S, WINDOW_S)
        self._position: int | None = None
        self._recorded: int | None = None
        self._of_jobs: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        """Of `_all`."""
        self._jobs_lock = threading.Lock()
        """Of `_of_jobs`, which may be read from a file for a while."""

    # -- for requests -------------------------------------------------------------------------------------------

    def look(self) -> Snapshot:
        """The newest snapshot; what only pages need is read while somebody looks."""
        self._watched_at = clock.now()
        return self.snapshot

    def chart(self) -> Chart:
        """All tasks recorded in the last hour."""
        with self._lock:
            return self._all.chart(time.time(), least_s=300)

    def chart_of(self, job: str, opened_at: str | None, is_live: bool) -> Chart:
        """The job's tasks over its life, as far as they could be read in time."""
        with self._jobs_lock:
            # One that was forgotten may come again under its name.
            key = job if self._file is None else f"{job} {opened_at}"
            kept = self._of_jobs.get(key) or _Kept()
            if self._file is not None:
                self._keep(key, kept)
                for page in self._pages(self._file, job, kept.position):
                    kept.position = page.position
                    kept.series.add(page.points)
            return kept.series.chart(time.time() if is_live else kept.series.last_at(), is_live=is_live)

    def chart_of_nothing(self) -> Chart:
        """Where nothing could be read."""
        return Series().chart(time.time())

    def end(self) -> None:
        """Let the thread end."""
        self._ended.set()

    # -- the thread ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Ask until the end."""
        talk: SinkTalk | None = None
        while not self._ended.is_set():
            began_at = clock.now()
            try:
                talk = talk or SinkTalk(self._key, READERS, self._sink)
                report = talk.ask(Query(), Report, by=began_at + ANSWER_S)
                self._take(report)
                period_s = max(PERIOD_S, len(report.workers) / WORKERS_A_SECOND)
            except OperatorError as error:
                self._say(str(error))
                if talk is not None:
                    talk.close()
                talk, period_s = None, PERIOD_S
            self._read_ledger()
            self._ended.wait(max(0.0, began_at + period_s - clock.now()))
        if talk is not None:
            talk.close()

    def _say(self, trouble: str) -> None:
        old = self.snapshot
        if trouble != old.trouble:
            log.warning("%s", trouble)
        self.snapshot = Snapshot(old.number + 1, old.report, old.heard_at, trouble, old.jobs, old.unread)

    def _take(self, report: Report) -> None:
        old = self.snapshot
        if old.trouble:
            log.info("the sink answers again")
        open_jobs = {job.job for job in report.jobs}
        if open_jobs != self._open_jobs:
            # How a job has ended is in the ledger.
            self._open_jobs, self._jobs_due_at = open_jobs, self._jobs_read_at
        if self._file is None:
            self._count(report)
        self.snapshot = Snapshot(old.number + 1, report, clock.now(), "", old.jobs, old.unread)

    def _count(self, report: Report) -> None:
        """Make the history of what reports say, where there is no ledger to read."""
        now, recorded = int(time.time()), report.counters.ok + report.counters.failed
        with self._lock:
            if self._recorded is not None:
                # A sink that was started again counts from 0.
                self._all.add([(now, recorded - self._recorded if recorded >= self._recorded else recorded)])
            self._recorded = recorded
            self._all.forget(now)
        with self._jobs_lock:
            for job in report.jobs:
                kept = self._of_jobs.get(job.job) or _Kept()
                self._keep(job.job, kept)
                if kept.done is not None:
                    kept.series.add([(now, max(0, job.done - kept.done))])
                kept.done = job.done

    def _read_ledger(self) -> None:
        """What only a page needs, while somebody looks at one."""
        now = clock.now()
        if now > self._watched_at + WATCHED_S:
            return
        old, unread, jobs = self.snapshot, "", self.snapshot.jobs
        try:
            if now >= max(self._jobs_due_at, self._jobs_read_at + JOBS_PERIOD_S):
                jobs = tuple(self.books.jobs())
                self._jobs_read_at = clock.now()
                # Of a long list the sink has ten pages to read.
                self._jobs_due_at = now + JOBS_PAUSE_FACTOR * (self._jobs_read_at - now)
            if self._file is not None:
                if old.report is not None and old.report.ledger != self._compared:
                    self._stranger, self._compared = self._file.stranger(old.report.ledger), old.report.ledger
                self._read_all(self._file)
        except OperatorError as error:
            unread = str(error)
        unread = unread or self._stranger or ""
        self.snapshot = Snapshot(old.number + 1, old.report, old.heard_at, old.trouble, jobs, unread)

    def _read_all(self, file: FileBooks) -> None:
        now = int(time.time())
        if self._position is None:
            self._position = file.position_before(now - WINDOW_S)
        # After the last jobs were forgotten positions begin lower again.
        self._position = min(self._position, file.position_before(FAR_AT))
        for page in self._pages(file, None, self._position):
            self._position = page.position
            with self._lock:
                self._all.add(page.points)
        with self._lock:
            self._all.forget(now)

    def _keep(self, job: str, kept: _Kept) -> None:
        self._of_jobs.pop(job, None)
        self._of_jobs[job] = kept
        while len(self._of_jobs) > SERIES_MAX:
            del self._of_jobs[next(iter(self._of_jobs))]

    def _pages(self, file: FileBooks, job: str | None, position: int) -> Iterator[HistoryPage]:
        """The history from this position, as far as it is read in time."""
        more, by = True, clock.now() + READ_S
        while more and clock.now() < by:
            page = file.history(job, position, RECEIPTS_A_PAGE)
            position, more = page.position, page.more
            yield page
