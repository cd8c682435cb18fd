"""One run of the ventilator without sockets: it decides what to read, push and say, and when the job is over."""

from dataclasses import dataclass
from typing import Literal

from msgspec import Raw

from .. import causes
from ..causes import Cause
from ..errors import OperatorError
from ..log_line import LogLine
from ..plain_text import counted
from ..protocol.messages import Account, Batch, Cancel, Explain, FromSink, Message, Opened, Unreachable
from . import summary
from .admission import CutLinks
from .dialog import Dialog
from .dispatch import Dispatch, Skip, Take
from .request import JobRequest
from .route import Route
from .settings import DispatchSettings
from .summary import JobEnd, Standing
from .wait_voice import WaitVoice

DRAIN_S = 10.0
"""How long an interrupted job waits for what runs."""


@dataclass(frozen=True, slots=True)
class InputState:
    """How far the input was read."""

    count: int
    """Tasks that were taken or skipped."""
    digest: bytes
    """Of these tasks."""
    ended: bool
    expected: int | None
    """Tasks of the whole input, as far as that is known."""
    is_estimate: bool = False
    """They were estimated from a part of it."""
    fresh: bool = False
    """What comes next was never read before, and will never come again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: this many tasks, and how far the input is read now."""

    count: int
    arguments: Raw | None
    """None where the tasks were skipped."""
    state: InputState


@dataclass(frozen=True, slots=True)
class WantInput:
    """Order to the shell: wait for the input too, or no longer."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class InputVerified:
    """Order to the shell: the input is the one of the earlier run, or there was none; it need not be kept."""


@dataclass(frozen=True, slots=True)
class UseRelay:
    """Order to the shell: push to the sink's relay from now on."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What tests and the simulator look at, and nobody else."""

    rules: Dispatch
    opened: Opened | None
    is_closed: bool
    """The sink has closed the job."""


SessionOutput = Message | WantInput | InputVerified | UseRelay | LogLine | JobEnd
"""Messages are for the sink. A `JobEnd` is the last output."""


class VentilatorSession:
    """One run of one job.

    In each turn the shell passes on what has come (`welcome`, `receive`, `interrupt`), reads what `next_read` asks
    for, calls `tick`, pushes what `next_push` gives, and then performs what `tick` has returned: a slot may wait for
    what is pushed, nobody for the next question.
    """

    def __init__(self, now: float, settings: DispatchSettings, request: JobRequest) -> None:
        self._request = request
        self._rules = Dispatch(settings, request.job, request.function)
        self._talk = Dialog(settings, self._rules, request)
        self.admission = self._rules.admission
        self._outputs: list[SessionOutput] = []
        """For the end of this turn."""
        self._expected: tuple[int | None, bool] = None, False
        self._wants_input = False
        self._input_error: OperatorError | None = None
        self._worker_error: OperatorError | None = None
        self._is_verified = False
        self._open_voice = WaitVoice(settings.timing.voice_s)
        self._crew_voice = WaitVoice(settings.timing.voice_s)
        self._input_voice = WaitVoice(settings.timing.voice_s)
        self.route = Route(request.relay, settings.timing.voice_s)
        self._leaves_at: float | None = None
        """Set once the job is interrupted or halted: then it ends, whatever still runs."""
        self._is_halted = False
        """As many tasks have failed as may fail."""
        self._started_at = now
        self._gives_up_at: float | None = None
        """Set while the sink is away, if the job does not wait for it without end."""
        self._first_push_at: float | None = None
        self._end: JobEnd | None = None

    # -- what comes ---------------------------------------------------------------------------------------------

    def welcome(self, now: float, port: int, relay_port: int) -> None:
        """The sink welcomes us, for the first time or after it was away.

        Workers connect to us at `port`; it is 0 where all goes through the relay, which listens at the other one.
        """
        self.route.welcome(port, relay_port)
        self._outputs += self._talk.welcome(now, self.route.port, self.route.relayed)

    def receive(self, now: float, message: FromSink) -> list[CutLinks]:
        """Take a message of the sink; the answer is what to do before anything is pushed."""
        if isinstance(message, Unreachable):
            self.route.unreachable(now, message)
            return []
        if isinstance(message, Explain):
            self._outputs += self._account(now, message)
            return []
        outputs = self._talk.receive(now, message)
        self._outputs += [output for output in outputs if not isinstance(output, CutLinks)]
        return [output for output in outputs if isinstance(output, CutLinks)]

    def interrupt(self, now: float, signal: str) -> None:
        """Stop: wait for what runs, but not for ever; the second time do not wait."""
        if self._leaves_at is not None:
            self._leaves_at = now
            self._log("info", f"{signal}{'' if self._is_halted else ' again'}: leaving at once")
            return
        self._leaves_at = now + DRAIN_S
        self._log("info", f"{signal}: pushing no more tasks, waiting for running ones; again to leave at once")
        self._outputs += self._talk.halt()

    def _halt_if_enough_failed(self, now: float) -> None:
        most, rules = self._request.max_fails, self._rules
        if most is None or rules.failed_in_run < most or self._leaves_at is not None or rules.finished or rules.dropped:
            return
        self._is_halted, self._leaves_at = True, now + DRAIN_S
        self._log("warning", summary.enough_failed(rules.failed_in_run, most))
        self._outputs += self._talk.halt()

    def worker_ended(self, error: OperatorError) -> None:
        """The only worker that there is for this job has ended. Once the sink has answered, the job ends too."""
        self._worker_error = error

    def _account(self, now: float, question: Explain) -> list[Message]:
        """How the job stands here, for whoever asks."""
        rules = self._rules
        if question.job != self._request.job:
            return []
        ends = rules.finished or rules.dropped or self._leaves_at is not None or self._input_error is not None
        begun: Literal["verifying", "running"] = "verifying" if rules.verifying else "running"
        return [
            Account(
                job=question.job,
                task=question.task,
                phase="ending" if ends else begun if rules.caught_up else "opening",
                input="dry" if self._is_dry else "open" if rules.total is None else "ended",
                read=rules.next_task,
                outstanding=rules.outstanding,
                in_flight=rules.in_flight_count,
                window=max(0, rules.window),
                place=None if question.task is None else rules.place_of(now, question.task),
            )
        ]

    # -- the input ----------------------------------------------------------------------------------------------

    def next_read(self, now: float) -> Skip | Take | None:
        """What to read next; `was_read` or `input_failed` must follow once it is read."""
        return self._rules.plan(now) if self._reads else None

    def was_read(self, now: float, reading: Reading) -> None:
        """What `next_read` asked for was read, or the first part of it."""
        if not self._is_the_input(now, reading.state):
            return
        if reading.arguments is None:
            self._rules.skipped(reading.count)
        else:
            self._rules.offer(now, reading.count, reading.arguments)

    def input_failed(self, now: float, error: OperatorError) -> None:
        """The input cannot be read any further."""
        if self._rules.verifying:
            # It is not the input of the earlier run: nothing of it was pushed, and nothing will be.
            self._end = summary.mistake(error)
            return
        self._input_error = error
        self._outputs += self._rules.input_scarce(now, False)
        if self._rules.outstanding:
            self._log("error", f"{error}; waiting for the tasks before it")

    @property
    def _reads(self) -> bool:
        seen = self._request.seen
        return self._input_error is None and self._end is None and (seen is None or seen.complete)

    def _is_the_input(self, now: float, state: InputState) -> bool:
        """Refuse an input that differs from the one that an earlier run of the job has read."""
        if not self._talk.is_another_input(state.count, state.digest, state.ended):
            return True
        request = self._request
        self.input_failed(now, summary.another_input(request.job, request.seen is not None, request.retry_failed))
        return False

    def _follow_input(self, now: float, state: InputState) -> None:
        self._expected = state.expected, state.is_estimate
        self._rules.expect(state.expected)
        is_whole = state.ended and self._rules.caught_up and self._rules.total is None
        if self._reads and is_whole and self._is_the_input(now, state):
            self._rules.input_ended()
        if self._reads and self._rules.caught_up and self._talk.opened is not None:
            self._verify(now, self._talk.opened, state)
        self._want_input(not state.ended and self.next_read(now) is not None)
        if not self._reads:
            return
        if not self._rules.verifying:
            expected = None if state.is_estimate else state.expected
            self._talk.mark(state.count, state.digest, expected if self._rules.total is None else self._rules.total)
        dry = state.ended or (self._wants_input and state.expected is None)
        self._outputs += self._rules.input_scarce(now, dry)

    def _verify(self, now: float, opened: Opened, state: InputState) -> None:
        """Say once that the input is the right one; take nothing from a stream whose spool is another one."""
        job = self._request.job
        if state.fresh and opened.total is not None:
            self.input_failed(now, summary.stream_is_over(job))
        elif state.fresh and self._rules.earlier_goes_on:
            self.input_failed(now, summary.no_spool(job, self._request.spool))
        elif not self._is_verified and not self._rules.verifying and (opened.total is None or state.ended):
            self._is_verified = True
            self._outputs.append(InputVerified())

    def _want_input(self, wanted: bool) -> None:
        if wanted != self._wants_input:
            self._wants_input = wanted
            self._outputs.append(WantInput(wanted))

    # -- the tasks ----------------------------------------------------------------------------------------------

    def next_push(self, now: float) -> Batch | None:
        """The batch to push now; `pushed` must follow once it is sent."""
        return self._rules.next_push(now) if self._end is None else None

    def pushed(self, now: float) -> None:
        """The batch that `next_push` gave was sent."""
        self._rules.pushed(now)
        self._first_push_at = now if self._first_push_at is None else self._first_push_at

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float, sink_away: bool, state: InputState) -> list[SessionOutput]:
        """Do what is due; the answer is all that there is to do in this turn, but for what is to be pushed."""
        self._halt_if_enough_failed(now)
        self._follow_input(now, state)
        if self._end is None:
            self._outputs += self._talk.tick(now)
            self._end = self._end_if_over(now) or self._end_if_left_alone(now, sink_away)
        if self._end is None:
            self._speak(now, sink_away)
        outputs, self._outputs = self._outputs, []
        return outputs if self._end is None else [*outputs, self._end]

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        voices = (self._open_voice, self._crew_voice, self._input_voice)
        instants = (
            self._talk.deadline(),
            self._leaves_at,
            self._gives_up_at,
            self.route.due_at,
            *(voice.due_at for voice in voices),
        )
        return min((instant for instant in instants if instant is not None), default=None)

    def _end_if_over(self, now: float) -> JobEnd | None:
        rules = self._rules
        if self._talk.problem:
            return summary.mistake(OperatorError(self._talk.problem))
        if self._worker_error is not None and self._talk.opened is not None:
            self._cancel_what_is_empty()
            return summary.mistake(self._worker_error)
        if self._leaves_at is not None:
            closes = self._is_halted and rules.finished and not self._talk.closed
            return None if (rules.in_flight_count or closes) and now < self._leaves_at else self._sum_up(now)
        if rules.dropped:
            return summary.mistake(summary.cancelled(self._request.job))
        if self._talk.closed or (self._input_error and not rules.outstanding):
            return self._sum_up(now)
        return None

    def _end_if_left_alone(self, now: float, sink_away: bool) -> JobEnd | None:
        most_s = self._request.sink_away_max_s
        if most_s is None or not sink_away:
            self._gives_up_at = None
            return None
        self._gives_up_at = now + most_s if self._gives_up_at is None else self._gives_up_at
        if now < self._gives_up_at:
            return None
        return summary.mistake(summary.sink_gone(self._request.job, most_s))

    def _sum_up(self, now: float) -> JobEnd:
        request, rules, closed = self._request, self._rules, self._talk.closed
        seconds = now - (self._started_at if self._first_push_at is None else self._first_push_at)
        counts = f"{rules.pushed_count} pushes, {rules.returned_count} returns, {rules.copied_count} copies"
        if self._input_error is not None:
            self._cancel_what_is_empty()
        if closed is None and self._is_halted and self._input_error is None:
            end = summary.halted(request.job, self.standing, request.results_options)
        elif closed is None:
            end = summary.stopped(request.job, self.standing, self._input_error)
        else:
            end = summary.done(request.job, closed, seconds, request.results_options)
        skipped = [] if request.seen is None else [summary.skipped(request.job, request.seen.skipped_count)]
        return JobEnd(end.code, [LogLine("debug", f"{seconds:.4f} s, {counts}"), *skipped, *end.lines], end.error)

    def _cancel_what_is_empty(self) -> None:
        """Leave no job open that ends by a mistake before anything is recorded; --job goes on with it all the same.

        A job of an earlier run is left alone: workers that are away just now may run its tasks.
        """
        is_new = self._talk.opened is not None and not self._talk.opened.resumed
        if is_new and not self._rules.done_count and not self._rules.in_flight_count:
            self._outputs.append(Cancel(self._request.job))

    def inspect(self) -> SessionView:
        """What is inside."""
        return SessionView(self._rules, self._talk.opened, self._talk.closed is not None)

    @property
    def earlier_attempts(self) -> int:
        """Failures at attempts up to this one are being repeated."""
        opened = self._talk.opened
        return 0 if opened is None else opened.attempts

    @property
    def others(self) -> int:
        """How many workers are here, when none of them exposes the function."""
        return 0 if self._rules.crew_count else self._rules.others_count

    # -- words --------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """How the job stands."""
        rules = self._rules
        total, is_estimate = self._expected if rules.total is None else (rules.total, False)
        return Standing(
            rules.done_count,
            rules.failed_count,
            total,
            rules.outstanding,
            rules.crew_count,
            rules.slots,
            is_estimate,
            rules.caught_up,
        )

    def _log(self, level: str, text: str) -> None:
        self._outputs.append(LogLine(level, text))

    def _speak(self, now: float, sink_away: bool) -> None:
        """Say what the job waits for, while it waits for somebody."""
        rules, request = self._rules, self._request
        if lines := self.route.changed(now):
            self._outputs += [*lines, UseRelay(), *self._talk.welcome(now, self.route.port, relayed=True)]
        self._outputs += self.route.tick(now, rules.crew_count > 0 and not sink_away)
        if self._open_voice.is_due(now, not sink_away and not rules.caught_up):
            self._log("warning", str(causes.not_opened(request.job)))
        if self._crew_voice.is_due(now, not sink_away and rules.caught_up and not rules.crew_count):
            if rules.others_count and self._crew_voice.count > 1 and not request.waits_for_worker:
                self._cancel_what_is_empty()
                self._end = summary.mistake(summary.no_worker(request.function, rules.others_count, request.job))
            else:
                text = summary.no_worker_yet(request.function, rules.others_count, request.workers)
                self._log("warning", f"{text}; waiting")
        if self._input_voice.is_due(now, not sink_away and self._is_dry):
            self._log("warning", str(self._dry()))

    @property
    def _is_dry(self) -> bool:
        """True while the job waits for its input, and for nothing else."""
        idle = self._rules.verifying or not (self._rules.outstanding or self._request.input_rests)
        return self._wants_input and idle

    def _dry(self) -> Cause:
        if self._rules.verifying:
            return causes.input_repeats(self._request.job, counted(self._rules.next_task, "task"))
        return causes.input_dry()
