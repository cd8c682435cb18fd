"""The ledger in SQLite as the sink has it: one writer, and reads beside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from sqlite3 import Connection, DatabaseError
from typing import Any

from ..errors import OperatorError
from ..protocol.reading import ListedJob
from ..task_ranges import TaskRanges
from ..transport import clock
from .disk_speed import DiskSpeed
from .pages import digest_page, receipt_page
from .sqlite_file import SqliteFile
from .sqlite_pages import RowReader, ValueReader
from .sqlite_writes import SqliteWrites
from .store import (
    Completion,
    DigestPage,
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
    jobs_of,
)
from .store_thread import StoreThread

_JOB_COLUMNS = (
    "job, name, function, source, state, total, done, failed, mark_count, mark_digest, ticket_key, retries, attempts,"
    " arguments, base"
)

_NO_BOUND = 2**63 - 1
_CLOSING_S = 5.0
"""How long closing waits for a disk."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A write that is executed, and not committed."""

    write: Write
    began_at: float
    result: Any
    jobs: dict[str, Job | None]
    """Those that it changes, as they are after it."""


class Ledger:
    """A `Store`, whose docstrings say what each method promises. `path` may be ":memory:".

    The statements of a write are executed at once; with a thread only the commit, which waits for the disk, is made
    there. (Executed in the thread, they would fight with the loop for the interpreter at each row.) Meanwhile a second
    connection reads. A commit of few rows is made at once where the disk is quick.
    """

    def __init__(self, path: str, thread: StoreThread | None = None) -> None:
        self._file = SqliteFile(path)
        self._db = self._file.db
        self.id = self._file.id
        self._writes = SqliteWrites(self._db, self._known)
        self._thread = thread
        self._speed = DiskSpeed()
        self._second = None if thread is None else self._file.second_connection()
        self._jobs: dict[str, Job | None] = {}
        """Those that were told of, without the write in flight. All that it changes are here, None if they are new."""
        self._committing: _Begun | None = None
        """What the thread commits."""
        self._position_max = _NO_BOUND
        """Receipts behind it are those of the write in flight, which may be on the disk already."""
        self._ended: Completion | OperatorError | None = None
        self._is_tidy = False

    # -- writing ------------------------------------------------------------------------------------------------

    def submit(self, write: Write) -> None:
        """Execute the write, and commit it or have it committed."""
        assert self._ended is None and self._committing is None, "a write is in flight"
        if isinstance(write, Tidying) and self._is_tidy:
            self._ended = Completion(write, False)
            return
        began_at = clock.now()
        try:
            for name in jobs_of(write):
                self._jobs[name] = self.job(name)
            if isinstance(write, Tidying):
                self._file.wait_for_disk(False)
            with self._file.transaction():
                if self._thread is not None:
                    ((self._position_max,),) = self._db.execute("SELECT coalesce(max(position), 0) FROM receipts")
                result = self._writes.make(write)
                after = {name: _stored(self._db, name) for name in jobs_of(write)}
                begun = _Begun(write, began_at, result, after)
        except (LedgerStuck, OperatorError) as error:
            self._end(write, error)
            return
        if self._thread is None or self._may_wait(begun):
            self._end_of(begun, lambda: self._commit(begun))
        else:
            self._committing = begun
            self._thread.begin(lambda: self._commit(begun))

    def _may_wait(self, begun: "_Begun") -> bool:
        if not isinstance(begun.write, Recording):
            return False
        row_sets = begun.write.row_sets
        return self._speed.may_wait(begun.result[0], (each.results.content_bytes for each in row_sets))

    def completed(self) -> Completion | None:
        """What has become of the write."""
        if self._committing is not None and self._thread is not None and self._thread.ended():
            begun, self._committing = self._committing, None
            self._end_of(begun, self._thread.result)
        ended, self._ended = self._ended, None
        if isinstance(ended, OperatorError):
            raise ended
        return ended

    def fileno(self) -> int | None:
        """The thread's."""
        return None if self._thread is None else self._thread.fileno()

    @property
    def waits_for(self) -> str:
        """The disk."""
        return "" if self._committing is None else "the disk takes longer than a second to write"

    def _commit(self, begun: "_Begun") -> float:
        """Commit it; returns when it was done. Raises LedgerStuck."""
        began_at = clock.now()
        self._file.commit()
        if isinstance(begun.write, Recording):
            # Tidying waits for no disk.
            self._speed.note(clock.now() - began_at)
        if begun.write == Tidying() and not begun.result:
            # The file shrinks when the log is copied into it.
            self._file.copy_log()
        return clock.now()

    def _end_of(self, begun: "_Begun", commit: Callable[[], float]) -> None:
        try:
            done_at = commit()
        except (LedgerStuck, OperatorError) as error:
            self._end(begun.write, error)
            return
        write, result = begun.write, begun.result
        self._jobs |= begun.jobs
        if isinstance(write, Recording):
            rows, failed = result
            result = Written(rows, failed, done_at - begun.began_at)
        elif isinstance(write, Opening):
            result = begun.jobs[write.name]
        elif isinstance(write, Tidying):
            self._is_tidy = not result
        elif isinstance(write, Forgetting):
            self._is_tidy = False
        self._end(write, Completion(write, result))

    def _end(self, write: Write, ended: Completion | LedgerStuck | OperatorError) -> None:
        self._position_max = _NO_BOUND
        if not isinstance(ended, Completion):
            self._speed.note(inf)
        if isinstance(write, Tidying):
            self._file.wait_for_disk(True)
        for name in jobs_of(write):
            if self._jobs.get(name, ...) is None:
                # Only while it may be made or removed in this very moment is a job known to be none.
                del self._jobs[name]
        self._ended = Completion(write, stuck=str(ended)) if isinstance(ended, LedgerStuck) else ended

    # -- reading ------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """The connection to read with. The first one has in its memory what it has just written. Raises LedgerStuck."""
        try:
            yield self._db if self._committing is None or self._second is None else self._second
        except DatabaseError as error:
            raise self._file.judged(error) from None

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reading() as db:
            return db.execute(sql, values).fetchall()

    def job(self, name: str) -> Job | None:
        """The job, or None."""
        if name not in self._jobs:
            with self._reading() as db:
                job = _stored(db, name)
            if job is None:
                return None
            self._jobs[name] = job
        return self._jobs[name]

    def _known(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None
        return job

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int = 0) -> Page:
        """At most `limit` receipts after `after`, without tasks that failed at an attempt up to `skipped_attempts`."""
        job = self._known(name)
        rows = self._ask(
            "SELECT position, first, count, seconds FROM receipts WHERE job=? AND position>? AND position<=?"
            " ORDER BY position LIMIT ?",
            *(job.job, after, self._position_max, limit),
        )
        runs = [(first, count) for _, first, count, _ in rows]
        if skipped_attempts:
            runs = self._without_failed(job, runs, skipped_attempts)
        return receipt_page(rows, runs, after, limit)

    def _without_failed(self, job: Job, runs: list[tuple[int, int]], attempts: int) -> list[tuple[int, int]]:
        left = TaskRanges(runs)
        for first, count in runs:
            failed = self._ask(
                "SELECT task FROM task_rows WHERE job=? AND task>=? AND task<? AND status='failed' AND attempt<=?",
                *(job.job, first, first + count, attempts),
            )
            for (task,) in failed:
                left.discard(task, 1)
        return list(left)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows."""
        query = "SELECT max(attempt) FROM task_rows WHERE job=? AND status='failed'"
        return self._ask(query, self._known(name).job)[0][0] or 0

    def failures(self, name: str, limit: int) -> list[tuple[int, str, str | bytes | None]]:
        """The first failed tasks of a job, each with its error and its argument."""
        query = "SELECT task, error, argument FROM task_rows WHERE job=? AND status='failed' ORDER BY task LIMIT ?"
        return self._ask(query, self._known(name).job, limit)

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        """The first jobs with a number above `after`."""
        columns = "job, name, function, state, total, done, failed, opened_at, ended_at"
        query = f"SELECT {columns} FROM jobs WHERE job>? ORDER BY job LIMIT ?"
        return [ListedJob(*row) for row in self._ask(query, after, limit)]

    def size_bytes(self) -> int:
        """The size of the file and of its log."""
        return self._file.size_bytes()

    def read(self, name: str, query: RowQuery) -> RowPage:
        """Rows of the job."""
        with self._reading() as db:
            return RowReader(db, self._known(name).job, query).page()

    def values(self, name: str, query: RowQuery) -> ValuePage:
        """Values of the job."""
        with self._reading() as db:
            return ValueReader(db, self._known(name).job, query).page()

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of arguments before the job's base, from this task on."""
        job = self._known(name)
        rows = self._ask(
            "SELECT task, argument, argument_digest FROM task_rows WHERE job=? AND task>=? AND task<?"
            " ORDER BY task LIMIT ?",
            *(job.job, first, job.base or 0, limit),
        )
        return digest_page(rows, job, first, limit)

    def inspect(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds, for tests."""
        return self._ask(query, *values)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        if self._thread is not None and not self._thread.close(_CLOSING_S):
            # The file is closed, and free, when the process has ended.
            return
        if self._second is not None:
            self._second.close()
        self._file.close()


def _stored(db: Connection, name: str) -> Job | None:
    row = db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE name=?", (name,)).fetchone()
    return None if row is None else Job(*row)
