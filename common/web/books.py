"""What the page reads of a ledger: from the ledger itself, which costs the sink nothing, or through the sink."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ..errors import EmptyLedger
from ..protocol.reading import Rows
from ..protocol.row_reading import RowReading
from ..protocol.users import READERS
from ..sink.ledgers import open_reader, shown
from ..sink.remote_reader import RemoteReader, shown_row
from ..sink.store import HistoryPage, JobSummary, LedgerAway, Reader, Row
from ..transport import clock
from ..transport.sink_talk import SinkTalk

_PAGES_MAX = 20
"""How many pages are asked for through the sink, to find the failures of one page of ours."""
_PLACES = 4
"""From how many places of a job rows are read through the sink, for a sample."""
ANSWER_S = 3.0


def check_named(ledger: str) -> None:
    """Raise OperatorError for a ledger that cannot be read, such as a file or a site that is not there.

    Not so where its server is away, or no sink has made any tables there yet.
    """
    with suppress(EmptyLedger, LedgerAway):
        open_reader(ledger).close()


class Books(Protocol):
    """A ledger as the page needs it. All methods raise OperatorError when it cannot be read, or has no such job."""

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""

    def failures(self, job: str, after: int, limit: int) -> list[Row]:
        """Failed rows of tasks after this one, in task order."""

    def row(self, job: str, task: int) -> Row | None:
        """The row of a task, if it has one."""

    def sample(self, job: str, done: int, count: int) -> list[float]:
        """Run times of about `count` tasks, from all over the job, of which `done` are recorded."""


class FileBooks:
    """The ledger itself, opened for each look: a look that is over holds nothing up.

    It also has the history, which is not worth a turn of the sink.
    """

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger

    @contextmanager
    def _opened(self) -> Iterator[Reader]:
        with closing(open_reader(self._ledger)) as reader:
            yield reader

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""
        with self._opened() as reader:
            return reader.jobs()

    def stranger(self, ledger: str) -> str | None:
        """Why this is not the ledger with this id; None when it is."""
        with self._opened() as reader:
            if not ledger or reader.id == ledger:
                return None
        name = shown(self._ledger)
        return f"{name} is another sink's: give this sink's own with --ledger, or --key FILE to ask the sink"

    def failures(self, job: str, after: int, limit: int) -> list[Row]:
        """Failed rows of tasks after this one."""
        with self._opened() as reader:
            return reader.page(reader.job(job), after, limit, failed=True)

    def row(self, job: str, task: int) -> Row | None:
        """The row of a task, if it has one."""
        with self._opened() as reader:
            found = reader.page(reader.job(job), task - 1, 1, failed=False)
        return found[0] if found and found[0].task == task else None

    def sample(self, job: str, done: int, count: int) -> list[float]:
        """Run times from all over the job."""
        with self._opened() as reader:
            return reader.sample(reader.job(job), count)

    def history(self, job: str | None, after: int, limit: int) -> HistoryPage:
        """When tasks were recorded: of one job, or of all."""
        with self._opened() as reader:
            return reader.history(None if job is None else reader.job(job), after, limit)

    def position_before(self, at: int) -> int:
        """Where to begin to read the history of all jobs."""
        with self._opened() as reader:
            return reader.position_before(at)


class SinkBooks:
    """The ledger through its sink, one question at a time whatever the number of browsers."""

    def __init__(self, key: Path, sink: str | None) -> None:
        self._key = key
        self._sink = sink
        self._talk: SinkTalk | None = None
        self._lock = threading.Lock()

    @contextmanager
    def _asked(self) -> Iterator[SinkTalk]:
        with self._lock:
            if self._talk is None:
                self._talk = SinkTalk(self._key, READERS, self._sink)
            try:
                yield self._talk
            except BaseException:
                self._talk.close()
                self._talk = None
                raise

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""
        with self._asked() as talk:
            return RemoteReader(talk).jobs(ANSWER_S)

    def failures(self, job: str, after: int, limit: int) -> list[Row]:
        """Failed rows of tasks after this one, as far as they are found soon."""
        return self._rows(RowReading(job, "task", True, after=(after + 1, 0)), lambda rows: len(rows) >= limit)[:limit]

    def row(self, job: str, task: int) -> Row | None:
        """The row of a task, if it has one."""
        found = self._rows(RowReading(job, "task", False, after=(task, 0)), lambda _: True)
        return found[0] if found and found[0].task == task else None

    def sample(self, job: str, done: int, count: int) -> list[float]:
        """Run times from some places of the job."""
        places = {number * done // _PLACES for number in range(_PLACES)}
        rows: dict[int, float] = {}
        for place in sorted(places):
            found = self._rows(RowReading(job, "task", False, after=(place, 0)), lambda _: True)
            rows |= {row.task: row.seconds for row in found[: count // _PLACES]}
        return [*rows.values()]

    def _rows(self, reading: RowReading, is_enough: Callable[[list[Row]], bool]) -> list[Row]:
        rows: list[Row] = []
        with self._asked() as talk:
            for _ in range(_PAGES_MAX):
                by = clock.now() + ANSWER_S
                rows += map(shown_row, reading.take(talk.ask(reading.request(), Rows, reading.is_answer, by)))
                if reading.over or is_enough(rows):
                    break
        return rows
