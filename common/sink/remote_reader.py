"""Reads a ledger through its sink, from any machine that has a ventilator's or an observer's key."""

import logging
from collections.abc import Iterator

from ..errors import OperatorError
from ..protocol.reading import List, Listing, ResultRow, Rows
from ..protocol.row_reading import RowReading
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from .store import JobSummary, Row

log = logging.getLogger(__name__)


class RemoteReader:
    """What the commands need of a `Reader`."""

    def __init__(self, talk: SinkTalk) -> None:
        self._talk = talk
        self._names: dict[int, str] = {}

    def jobs(self, answer_s: float | None = None) -> list[JobSummary]:
        """All jobs, oldest first. Raises SinkGone when an answer takes longer than `answer_s` seconds, if given."""
        found: list[JobSummary] = []
        more, last = True, 0
        while more:
            page = self._page(last, answer_s)
            for job in page.jobs:
                last = job.number
                self._names[job.number] = job.job
                counts = job.total, job.done, job.failed
                found.append(JobSummary(job.job, job.function, job.state, *counts, job.opened_at, job.ended_at))
            more = page.more
        return found

    def _page(self, after: int, answer_s: float | None) -> Listing:
        by = None if answer_s is None else clock.now() + answer_s
        return self._talk.ask(List(after), Listing, lambda listing: listing.after == after, by)

    def job(self, name: str | None) -> int:
        """The number of the job, of the newest when `name` is None. Raises OperatorError when there is none."""
        self.jobs()
        numbers = [number for number, known in self._names.items() if name in (None, known)]
        if not numbers:
            what = f"no job {name}" if name else "no job yet"
            raise OperatorError(
                f"there is {what} in this ledger: `python sink.py jobs {self._talk.options}` lists them"
            )
        return max(numbers)

    def rows(self, job: int, failed: bool) -> Iterator[Row]:
        """The job's rows in task order; only the failed ones when `failed`."""
        return (row for row in self._read(RowReading(self._names[job], "task", failed)) if row is not None)

    def follow(self, job: int, failed: bool) -> Iterator[Row | None]:
        """Rows in order of commit as they come, until the job has ended; None now and then while none comes."""
        return self._read(RowReading(self._names[job], "commit", failed, follow=True))

    def _read(self, reading: RowReading) -> Iterator[Row | None]:
        while not reading.over:
            page = reading.take(self._talk.ask(reading.request(), Rows, reading.is_answer))
            yield from map(shown_row, page)
            yield None

    def close(self) -> None:
        """Stop reading."""
        self._talk.close()


def shown_row(sent: ResultRow) -> Row:
    """The row as readers of the file see it."""
    if sent.is_cut:
        log.warning("task %d is too large for a message and cut here; it is whole in the ledger", sent.task)
    status, json = "ok" if sent.error is None else "failed", 1 if sent.json else None
    rest = sent.error, sent.attempt, sent.worker, sent.seconds, sent.exact
    argument = sent.argument, 1 if sent.argument_json else None, sent.argument_digest
    return Row(sent.task, status, sent.value, json, *rest, *argument)
