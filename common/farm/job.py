"""A job as the user's program sees it: values, outcomes, how it stands."""

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from ..protocol.reading import ResultRow
from ..ventilator.session import DRAIN_S
from .aio import Step, pages_async
from .errors import TaskFailed
from .job_run import JobRun
from .map_options import Errors
from .outcomes import Order, Outcome, Page, RowStream, error_of, outcome_of
from .row_order import AsCommitted, InTaskOrder
from .talk_pool import TalkPool
from .value_order import ValuesAsCommitted, ValuesInTaskOrder


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands. Counts are tasks."""

    state: str
    """`open`, `done` or `cancelled`."""
    total: int | None
    """None while the end of the arguments was not read."""
    done: int
    """How many are recorded, the failed ones among them."""
    failed: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How a job has ended. Counts are tasks."""

    job: str
    total: int
    done: int
    """How many are recorded, the failed ones among them."""
    failed: int


@dataclass(frozen=True, slots=True)
class JobLinks:
    """What a job needs of its farm."""

    talks: TalkPool
    look_up: Callable[[str], JobState]
    cancel: Callable[[str], None]


class Job:
    """A job of a farm: the view of it that this process has. The job itself is in the ledger of the sink.

    Iterate over it for the values that the function returned. It can be iterated several times, also while it runs, and
    also after the process that began it was killed: `farm.job(name)`.

    >>> job = farm.map("squares:square", [1, 2, 3])
    >>> list(job)
    [1, 4, 9]
    """

    def __init__(
        self,
        name: str,
        links: JobLinks,
        run: JobRun | None,
        *,
        ordered: bool,
        errors: Errors,
        buffer: int,
        may_repeat: bool,
        lives_with_us: bool,
    ) -> None:
        self.name = name
        """The name under which the sink has it."""
        self._links = links
        self._run = run
        self._ordered = ordered
        self._errors = errors
        self._buffer = buffer
        self._may_repeat = may_repeat
        if run is not None and lives_with_us:
            # Nobody can take its results here any more.
            weakref.finalize(self, run.halt).atexit = False

    def __iter__(self) -> Iterator[Any]:
        """The values, in the order of the tasks (`ordered=True`), or in that in which they were recorded.

        Raises TaskFailed for a failed task (`errors="raise"`), or gives it in place of the value (`"return"`). Raises
        NoWorker, Cancelled, Halted, SinkAway, OtherInput or JobRefused when the job cannot go on, and what the
        arguments raised, if they did.
        """
        with self._halted_by_ctrl_c():
            for page in self._pages(self._value_order):
                for given in page:
                    yield from self._failed_one(given) if isinstance(given, ResultRow) else given

    def outcomes(self, after: int = 0) -> Iterator[Outcome]:
        """The outcomes, failed ones too, in the same order as the values.

        `after` is the position of the last outcome that was seen, in this process or in another one, by a job with the
        same `ordered`.

        >>> job = farm.map("squares:square", [1, 2, 3])
        >>> seen = next(job.outcomes())
        >>> seen.task, seen.ok, seen.value
        (0, True, 1)
        >>> [outcome.value for outcome in job.outcomes(after=seen.position)]
        [4, 9]
        """
        with self._halted_by_ctrl_c():
            for page in self._pages(lambda: self._row_order(after)):
                for row, position in page:
                    yield outcome_of(row, position)

    def wait(self, timeout: float | None = None) -> Summary:
        """Wait until the job has ended, without taking its values; raises as iterating does, but not for failed tasks.

        Raises TimeoutError when it has not ended within `timeout` seconds.

        >>> farm.start("squares:square", range(100)).wait()
        Summary(job='...', total=100, done=100, failed=0)
        """
        if self._run is None:
            with self._halted_by_ctrl_c():
                for _ in self._pages(self._value_order):
                    pass
        elif not self._run.wait(timeout):
            raise TimeoutError(f"job {self.name} has not ended within {timeout:g} seconds")
        elif self._run.error is not None:
            raise self._run.error
        found = self._standing()
        return Summary(self.name, found.total or 0, found.done, found.failed)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The values as `__iter__` gives them, without blocking the event loop. A task that is cancelled halts the job.

        async for value in farm.map("squares:square", numbers):
            ...
        """
        async with aclosing(self._pages_async(self._value_order)) as pages:
            async for page in pages:
                for given in page:
                    for value in self._failed_one(given) if isinstance(given, ResultRow) else given:
                        yield value

    async def outcomes_async(self, after: int = 0) -> AsyncIterator[Outcome]:
        """The outcomes as `outcomes` gives them, without blocking the event loop."""
        async with aclosing(self._pages_async(lambda: self._row_order(after))) as pages:
            async for page in pages:
                for row, position in page:
                    yield outcome_of(row, position)

    async def wait_async(self, timeout: float | None = None) -> Summary:
        """The same as `wait`, without blocking the event loop. A task that is cancelled halts the job."""
        step = Step(lambda: self.wait(timeout))
        try:
            return cast(Summary, await step.result())
        except BaseException:
            if step.is_running:
                self.halt()
            raise

    def halt(self) -> None:
        """Stop the job: what runs is recorded, the rest is not begun. `map(..., job=name)` goes on with it."""
        if self._run is not None:
            self._run.halt()

    def cancel(self) -> None:
        """Cancel the job: its tasks are dropped, running ones too. Recorded results stay."""
        if self._run is not None:
            # Before that the sink does not know it.
            self._run.wait_until_open()
        self._links.cancel(self.name)

    @property
    def state(self) -> str:
        """`open`, `done` or `cancelled`, as the sink has it."""
        return self._links.look_up(self.name).state

    @property
    def total(self) -> int | None:
        """How many tasks it has; None while that is not known."""
        return self._standing().total

    @property
    def done(self) -> int:
        """How many tasks are recorded, the failed ones among them."""
        return self._standing().done

    @property
    def failed(self) -> int:
        """How many tasks are recorded as failed."""
        return self._standing().failed

    def __repr__(self) -> str:
        return f"<tradewind.Job {self.name}>"

    def _standing(self) -> JobState:
        if self._run is None:
            return self._links.look_up(self.name)
        standing = self._run.standing
        return JobState("open", standing.total, standing.done, standing.failed)

    def _pages(self, order: Callable[[], Order[Page]]) -> Iterator[Page]:
        stream = RowStream(self._links.talks, self.name, self._run, order)
        with closing(stream), closing(stream.pages()) as pages:
            yield from pages

    def _pages_async(self, order: Callable[[], Order[Page]]) -> AsyncGenerator[Page, None]:
        return pages_async(RowStream(self._links.talks, self.name, self._run, order), self.halt)

    @contextmanager
    def _halted_by_ctrl_c(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if self._run is not None:
                self._run.halt(DRAIN_S)
            raise

    def _failed_one(self, row: ResultRow) -> Iterator[TaskFailed]:
        """What stands among the values for a task that has none. Raises TaskFailed."""
        if self._errors != "skip":
            failure = TaskFailed(row.task, error_of(row) or "", row.worker, row.attempt, self.name)
            if self._errors == "raise":
                self.halt()
                raise failure
            yield failure

    def _value_order(self) -> ValuesAsCommitted | ValuesInTaskOrder:
        if self._ordered:
            return ValuesInTaskOrder(self.name, self._buffer, self._ignored_attempts())
        return ValuesAsCommitted(self.name, self._may_repeat, self._ignored_attempts())

    def _row_order(self, after: int) -> AsCommitted | InTaskOrder:
        if self._ordered:
            return InTaskOrder(self.name, after, self._buffer, self._ignored_attempts())
        return AsCommitted(self.name, after, self._may_repeat, self._ignored_attempts())

    def _ignored_attempts(self) -> int:
        return 0 if self._run is None else self._run.earlier_attempts
