"""A job's outcomes, read through the sink page by page, as fast as somebody takes them."""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ..errors import OperatorError
from ..protocol import values
from ..protocol.reading import Read, ResultRow, Rows, Values
from ..protocol.row_reading import is_answer, numbered, same_job
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from ..ventilator.wait_voice import WaitVoice
from .bell import Bell
from .errors import Cancelled, Halted, no_answer
from .job_run import JobRun
from .talk_pool import TalkPool

log = logging.getLogger(__name__)

_VOICE_S = 30.0
_CLOSING_S = 2.0
AWAY_MAX_S = 60.0
"""How long to wait for a sink that is away."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task."""

    task: int
    """Its place in the arguments, from 0."""
    ok: bool
    value: Any
    """What the function returned; None for a failed task."""
    error: str | None
    """The traceback or another reason, when it failed."""
    attempt: int
    """At which attempt, from 1."""
    worker: str
    seconds: float
    """How long the function ran."""
    position: int
    """Where to go on: `outcomes(after=position)` gives what comes behind this one."""


class _Rung(Exception):
    """Somebody wants the wait to end."""


Page = TypeVar("Page", covariant=True)


class Order(Protocol[Page]):
    """In which order what is asked for and given, as `row_order` and `value_order` have it."""

    @property
    def kind(self) -> type[Rows | Values]: ...
    @property
    def follows(self) -> bool: ...
    def request(self) -> Read: ...
    def take(self, answer: Any, /) -> Page: ...


class RowStream(Generic[Page]):
    """The rows of one job, or their values. To be closed; `interrupt` may be called from any thread."""

    def __init__(
        self,
        talks: TalkPool,
        job: str,
        run: JobRun | None,
        order: Callable[[], Order[Page]],
    ) -> None:
        self._talks = talks
        self._job = job
        self._run = run
        """The ventilator of the job, when it is in this process."""
        self._make_order = order
        self._bell = Bell()
        self._is_interrupted = False
        self._had_ended = False
        """The job had ended before the request was sent."""
        self._number: int | None = None
        if run is not None:
            run.ring_at_end(self._bell)

    def pages(self) -> Generator[Page, None, None]:
        """Rows as they come, until the job has ended. Raises TradewindError, or what the arguments raised."""
        if self._run is not None:
            self._run.wait_until_open()
            if not self._run.is_open and self._run.error is not None:
                raise self._run.error
        with self._talks.talk(AWAY_MAX_S) as talk:
            talk.watch(self._bell, self._rung)
            try:
                yield from self._read(talk, self._make_order())
            finally:
                talk.unwatch(self._bell)

    def _read(self, talk: SinkTalk, order: Order[Page]) -> Generator[Page, None, None]:
        voice = WaitVoice(_VOICE_S)
        question = self._begin(talk, order)
        while True:
            had_ended = self._had_ended
            rows = self._answer(talk, question, order.kind)
            if rows is None:
                return
            follows = order.follows
            try:
                self._number = same_job(self._job, self._number, rows.number)
            except OperatorError as error:
                raise no_answer(error) from None
            page = order.take(rows)
            may_end = rows.state != "open" or had_ended
            is_last = may_end and not rows.more and follows and order.follows
            if not is_last:
                # The sink reads it while this page is used.
                question = self._begin(talk, order)
            if page:
                voice.is_due(clock.now(), False)
                yield page
            elif voice.is_due(clock.now(), True):
                log.warning("job %s: no new result for a while; still waiting", self._job)
            if is_last:
                self._raise_why_ended(rows.state)
                return

    def _begin(self, talk: SinkTalk, order: Order[Page]) -> Read:
        """Send the next request, and return it. Only what is asked for after the end can be the last answer."""
        self._had_ended = self._run is not None and self._run.has_ended
        question = numbered(order.request())
        talk.begin(question)
        return question

    def interrupt(self) -> None:
        """Let `pages` end now."""
        self._is_interrupted = True
        self._bell.ring()

    def close(self) -> None:
        """Let go of it."""
        if self._run is not None:
            self._run.forget(self._bell)
        self._bell.close()

    def _answer(self, talk: SinkTalk, question: Read, kind: type[Rows | Values]) -> Rows | Values | None:
        """The answer to the request, None when interrupted."""
        asked_by = clock.now() + AWAY_MAX_S
        while not self._is_interrupted:
            try:
                return talk.ask(question, kind, partial(is_answer, question), asked_by)
            except _Rung:
                continue
            except OperatorError as error:
                raise no_answer(error) from None
        return None

    def _rung(self) -> None:
        self._bell.silence()
        raise _Rung

    def _raise_why_ended(self, state: str) -> None:
        """The job has ended: if not in the ledger, there is a reason."""
        error = None
        if self._run is not None:
            # Its ventilator hears of it a moment after us.
            self._run.wait(None if state == "open" else _CLOSING_S)
            error = self._run.error
        # A job that has failed while it was empty, its ventilator cancels.
        if state == "cancelled" and (error is None or isinstance(error, Halted)):
            raise Cancelled(f"job {self._job} was cancelled; its recorded results stay in the ledger")
        if error is not None and state != "done":
            raise error


def outcome_of(row: ResultRow, position: int) -> Outcome:
    """The outcome that the row records."""
    error = error_of(row)
    value = value_of(row) if error is None else None
    return Outcome(row.task, error is None, value, error, row.attempt, row.worker, row.seconds, position)


def error_of(row: ResultRow) -> str | None:
    """Why the row has no value for this program; None when it has one."""
    if row.is_cut and row.error is None:
        return "the result is too large for a message to this program; it is whole in the ledger"
    return row.error


def value_of(row: ResultRow) -> Any:
    """What the function returned."""
    return values.value_of(row.value, row.json, row.exact)
