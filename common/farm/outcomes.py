"""A job's outcomes, read through the sink page by page, as fast as somebody takes them."""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from ..errors import OperatorError
from ..protocol import values
from ..protocol.reading import ResultRow, Rows
from ..transport import clock
from ..transport.sink_talk import SinkTalk
from ..ventilator.wait_voice import WaitVoice
from .bell import Bell
from .errors import Cancelled, JobRefused, SinkAway
from .job_run import JobRun
from .row_order import AsCommitted, InTaskOrder, PlacedRows

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


class RowStream:
    """The rows of one job. To be closed; `interrupt` may be called from any thread."""

    def __init__(
        self,
        open_talk: Callable[[float], SinkTalk],
        job: str,
        run: JobRun | None,
        order: Callable[[], AsCommitted | InTaskOrder],
    ) -> None:
        self._open_talk = open_talk
        self._job = job
        self._run = run
        """The ventilator of the job, when it is in this process."""
        self._make_order = order
        self._bell = Bell()
        self._is_interrupted = False
        if run is not None:
            run.ring_at_end(self._bell)

    def pages(self) -> Generator[PlacedRows, None, None]:
        """Rows as they come, until the job has ended. Raises TradewindError, or what the arguments raised."""
        if self._run is not None:
            self._run.wait_until_open()
            if not self._run.is_open and self._run.error is not None:
                raise self._run.error
        order = self._make_order()
        voice = WaitVoice(_VOICE_S)
        talk = self._open_talk(AWAY_MAX_S)
        try:
            talk.watch(self._bell, self._rung)
            is_last = False
            while not is_last:
                answer = self._answer(talk, order)
                if answer is None:
                    return
                rows, is_last = answer
                if page := order.take(rows):
                    voice.is_due(clock.now(), False)
                    yield page
                elif voice.is_due(clock.now(), True):
                    log.warning("job %s: no new result for a while; still waiting", self._job)
                is_last = is_last and order.follows
            if rows.state == "cancelled":
                raise Cancelled(f"job {self._job} was cancelled; its recorded results stay in the ledger")
            self._raise_why_ended(rows.state)
        finally:
            talk.close()

    def interrupt(self) -> None:
        """Let `pages` end now."""
        self._is_interrupted = True
        self._bell.ring()

    def close(self) -> None:
        """Let go of it."""
        if self._run is not None:
            self._run.forget(self._bell)
        self._bell.close()

    def _answer(self, talk: SinkTalk, order: AsCommitted | InTaskOrder) -> tuple[Rows, bool] | None:
        """The answer to the next request, and whether nothing is committed after it; None when interrupted."""
        question = order.request()
        asked_by = clock.now() + AWAY_MAX_S
        while True:
            had_ended = self._run is not None and self._run.has_ended
            if self._is_interrupted:
                return None
            try:
                rows = talk.ask(
                    question, Rows, lambda rows: (rows.job, rows.after) == (question.job, question.after), asked_by
                )
            except _Rung:
                continue
            except OperatorError as error:
                if clock.now() < asked_by:
                    raise JobRefused(str(error)) from None
                raise SinkAway(str(error)) from None
            return rows, not rows.more and (rows.state != "open" or had_ended) and order.follows

    def _rung(self) -> None:
        self._bell.silence()
        raise _Rung

    def _raise_why_ended(self, state: str) -> None:
        """The job has ended in this process, but not in the ledger: it has a reason."""
        if self._run is None:
            return
        # Its ventilator hears of it a moment after us.
        self._run.wait(_CLOSING_S if state == "done" else None)
        if self._run.error is not None and state != "done":
            raise self._run.error


def outcome_of(row: ResultRow, position: int) -> Outcome:
    """The outcome that the row records."""
    ok = row.error is None and not row.is_cut
    error = row.error
    if row.is_cut and error is None:
        error = "the result is too large for a message to this program; it is whole in the ledger"
    value = value_of(row) if ok else None
    return Outcome(row.task, ok, value, error, row.attempt, row.worker, row.seconds, position)


def value_of(row: ResultRow) -> Any:
    """What the function returned."""
    return values.value_of(row.value, row.json, row.exact)
