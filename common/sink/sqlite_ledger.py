"""The ledger in SQLite, the only writer of results. The first one wins by primary key (job, task)."""

from typing import Any

from ..errors import OperatorError
from ..protocol.reading import ListedJob
from ..task_ranges import TaskRanges
from ..transport import clock
from .arguments import digest_of
from .sqlite_file import SqliteFile
from .sqlite_pages import RowReader, ValueReader
from .sqlite_writes import SqliteWrites
from .store import (
    Completion,
    DigestPage,
    Ending,
    Forgetting,
    Job,
    LedgerStuck,
    Opening,
    Page,
    Recording,
    RowPage,
    RowQuery,
    Tidying,
    ValuePage,
    Write,
    Written,
)

_JOB_COLUMNS = (
    "job, name, function, source, state, total, done, failed, mark_count, mark_digest, ticket_key, retries, attempts,"
    " arguments, base"
)


class Ledger:
    """A `Store`, whose docstrings say what each method promises. `path` may be ":memory:"."""

    def __init__(self, path: str) -> None:
        self._file = SqliteFile(path)
        self._db = self._file.db
        self.id = self._file.id
        self._writes = SqliteWrites(self._db, self._known)
        self._jobs: dict[str, Job] = {}
        self._ended: Completion | OperatorError | None = None
        self._is_tidy = False

    # -- writing ------------------------------------------------------------------------------------------------

    def submit(self, write: Write) -> None:
        """Make the write."""
        assert self._ended is None, "a write is in flight"
        try:
            self._ended = self._made(write)
        except LedgerStuck as error:
            self._ended = Completion(write, stuck=str(error))
        except OperatorError as error:
            self._ended = error

    def completed(self) -> Completion | None:
        """What has become of the write."""
        ended, self._ended = self._ended, None
        if isinstance(ended, OperatorError):
            raise ended
        return ended

    def fileno(self) -> None:
        """Each write ends within `submit`."""

    @property
    def waits_for(self) -> str:
        """Nothing."""
        return ""

    def _made(self, write: Write) -> Completion:
        if isinstance(write, Tidying):
            return Completion(write, self._tidied())
        began_at = clock.now()
        with self._file.transaction():
            result = self._writes.make(write)
        for name in _names(write):
            self._jobs.pop(name, None)
        if isinstance(write, Recording):
            assert isinstance(result, tuple)
            return Completion(write, Written(*result, clock.now() - began_at))
        if isinstance(write, Forgetting):
            self._is_tidy = False
        return Completion(write, self.job(write.name) if isinstance(write, Opening) else None)

    def _tidied(self) -> bool:
        if self._is_tidy:
            return False
        with self._file.unsynced(), self._file.transaction():
            is_more = bool(self._writes.make(Tidying()))
        self._is_tidy = not is_more
        if self._is_tidy:
            # The file shrinks when the log is copied into it.
            self._file.copy_log()
        return is_more

    # -- reading ------------------------------------------------------------------------------------------------

    def job(self, name: str) -> Job | None:
        """The job, or None."""
        if name not in self._jobs:
            row = self._db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE name=?", (name,)).fetchone()
            if row is None:
                return None
            self._jobs[name] = Job(*row)
        return self._jobs[name]

    def _known(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None
        return job

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int = 0) -> Page:
        """At most `limit` receipts after `after`, without tasks that failed at an attempt up to `skipped_attempts`."""
        job = self._known(name)
        rows = self._db.execute(
            "SELECT position, first, count, seconds FROM receipts WHERE job=? AND position>? ORDER BY position LIMIT ?",
            (job.job, after, limit),
        ).fetchall()
        runs = [(first, count) for _, first, count, _ in rows]
        return Page(
            position=rows[-1][0] if rows else after,
            runs=self._without_failed(job, runs, skipped_attempts) if skipped_attempts else runs,
            count=sum(count for _, _, count, _ in rows),
            seconds=sum(seconds for _, _, _, seconds in rows),
            more=len(rows) == limit,
        )

    def _without_failed(self, job: Job, runs: list[tuple[int, int]], attempts: int) -> list[tuple[int, int]]:
        left = TaskRanges(runs)
        for first, count in runs:
            failed = self._db.execute(
                "SELECT task FROM task_rows WHERE job=? AND task>=? AND task<? AND status='failed' AND attempt<=?",
                (job.job, first, first + count, attempts),
            )
            for (task,) in failed:
                left.discard(task, 1)
        return list(left)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows."""
        query = "SELECT max(attempt) FROM task_rows WHERE job=? AND status='failed'"
        return self._db.execute(query, (self._known(name).job,)).fetchone()[0] or 0

    def failures(self, name: str, limit: int) -> list[tuple[int, str, str | bytes | None]]:
        """The first failed tasks of a job, each with its error and its argument."""
        query = "SELECT task, error, argument FROM task_rows WHERE job=? AND status='failed' ORDER BY task LIMIT ?"
        return self._db.execute(query, (self._known(name).job, limit)).fetchall()

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        """The first jobs with a number above `after`."""
        columns = "job, name, function, state, total, done, failed, opened_at, ended_at"
        query = f"SELECT {columns} FROM jobs WHERE job>? ORDER BY job LIMIT ?"
        return [ListedJob(*row) for row in self._db.execute(query, (after, limit))]

    def size_bytes(self) -> int:
        """The size of the file and of its log."""
        return self._file.size_bytes()

    def read(self, name: str, query: RowQuery) -> RowPage:
        """Rows of the job."""
        return RowReader(self._db, self._known(name).job, query).page()

    def values(self, name: str, query: RowQuery) -> ValuePage:
        """Values of the job."""
        return ValueReader(self._db, self._known(name).job, query).page()

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of arguments before the job's base, from this task on."""
        job = self._known(name)
        rows = self._db.execute(
            "SELECT task, argument, argument_digest FROM task_rows WHERE job=? AND task>=? AND task<?"
            " ORDER BY task LIMIT ?",
            (job.job, first, job.base or 0, limit),
        ).fetchall()
        found = [digest_of(argument, seal, job.arguments) for _, argument, seal in rows]
        known = [each for each in found if each is not None]
        next_task = rows[-1][0] + 1 if rows else max(first, job.base or 0)
        return DigestPage(next_task, known, len(found) - len(known), len(rows) == limit)

    def inspect(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds, for tests."""
        return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._file.close()


def _names(write: Write) -> set[str]:
    """The jobs that the write changes."""
    match write:
        case Recording():
            return {each.results.job for each in write.row_sets} | {mark.job for mark in write.marks}
        case Opening() | Ending() | Forgetting():
            return {write.name}
        case Tidying():
            return set()
