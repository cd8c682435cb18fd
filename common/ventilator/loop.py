"""The ventilator's loop: sockets, input and signals around its rules."""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

import zmq

from ..errors import ExitCode, OperatorError
from ..protocol.codec import encode
from ..protocol.messages import Cancel, FromSink, Message, Roster, Welcome
from ..protocol.settings import TASKS_PORT
from ..transport import clock, polling, sockets
from ..transport import sink_link as link
from ..transport.key_files import Certificate
from ..transport.zap import REFUSED_FOR_NOW, ZapHandler
from .dialog import Dialog
from .dispatch import Dispatch, Skip
from .inputs import Input
from .local_farm import LocalFarm
from .progress import ProgressDisplay, Standing, duration
from .settings import DispatchSettings

log = logging.getLogger(__name__)
DRAIN_S = 10.0
"""How long an interrupted job waits for what runs."""


@dataclass(frozen=True, slots=True)
class VentilatorOptions:
    """The command line."""

    function: str
    key: Path
    sink: str | None
    job: str
    port: int | None
    retry_failed: bool
    dispatch: DispatchSettings
    ledger: Path | None = None
    """Where the results are, if that is known here and not the default."""


class Ventilator:
    """Sockets, input and signals around the rules of `Dispatch` and `Dialog`."""

    def __init__(
        self,
        options: VentilatorOptions,
        opened: Input,
        certificate: Certificate,
        poll: polling.Poll,
        signals: polling.Signals,
        farm: LocalFarm | None,
    ) -> None:
        self._farm = farm
        self._options = options
        self._input = opened
        self._certificate = certificate
        self._poll = poll
        self._signals = signals
        self._timing = options.dispatch.timing
        self._rules = Dispatch(options.dispatch, options.job, options.function)
        self._talk = Dialog(
            options.dispatch, self._rules, options.job, options.function, opened.source, options.retry_failed
        )
        self._worker_keys: frozenset[str] = frozenset()
        self._unsent: list[Message] = []
        """For the sink, at the end of this turn of the loop."""
        self._input_error: OperatorError | None = None
        self._input_polled: int | None = None
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self._gate = ZapHandler(self._context, self._admit, self._say_refused, REFUSED_FOR_NOW)
        self._tasks = sockets.tasks_server(self._context, certificate)
        self._tasks_endpoint = ""
        self._port = 0
        self._link = link.SinkLink(
            self._context,
            certificate,
            link.sink_address(certificate, options.sink),
            f"ventilator.{sockets.process_tag()}",
            self._receive,
            self._timing,
        )
        self._display: ProgressDisplay | None = None
        self._interrupted_at: float | None = None
        self._voice_at = clock.now() + self._timing.voice_s
        self._voiced_count = 0
        self._input_voice_at = self._voice_at
        self._started_at = clock.now()
        self._first_push_at: float | None = None
        self._ended_at = self._started_at

    def run(self) -> ExitCode:
        """Run the job to its end. Raises OperatorError when that will never be possible."""
        self._link.register(self._poll)
        self._poll.register(self._gate.socket, self._gate.answer)
        job, function = self._options.job, self._options.function
        log.info("job %s: %s over %s, sink at %s", job, function, self._input.source, self._link.host)
        self._display = ProgressDisplay(job)
        try:
            while not self._is_over():
                self._poll.wait(self._deadline())
                self._tick()
            self._ended_at = clock.now()
            if self._input_error is not None:
                self._cancel_what_is_empty()
        finally:
            self._display.close()
            self._link.close()
            self._tasks.close()
            self._gate.close()
            self._context.term()
        return self._sum_up()

    # -- the loop -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = clock.now()
        self._link.tick()
        self._read_input(now)
        self._unsent += self._talk.tick(now)
        if self._talk.problem:
            raise OperatorError(self._talk.problem)
        # A slot may wait for what is pushed, nobody for the next question.
        self._push()
        self._send(self._unsent)
        self._unsent = []
        self._speak(now)
        self._speak_of_input(now)
        assert self._display is not None
        self._display.show(now, self._standing())

    def _deadline(self) -> float:
        assert self._display is not None
        instants = [self._link.deadline(), self._talk.deadline(), self._display.deadline(), self._voice_at]
        if self._interrupted_at is not None:
            instants.append(self._interrupted_at + DRAIN_S)
        return min(instant for instant in instants if instant is not None)

    def _is_over(self) -> bool:
        for number in self._signals.received():
            if self._interrupted_at is not None:
                log.warning("%s again: leaving at once", number.name)
                return True
            self._interrupted_at = clock.now()
            log.info("%s: pushing no more, waiting for what runs; again to leave at once", number.name)
            self._send(self._talk.halt())
        if self._interrupted_at is not None:
            drained = self._rules.in_flight_count == 0 or not self._rules.caught_up
            return drained or clock.now() >= self._interrupted_at + DRAIN_S
        if self._rules.dropped:
            raise OperatorError(f"job {self._options.job} was cancelled; what is done stays in the ledger")
        return self._talk.closed is not None or (self._input_error is not None and self._rules.outstanding == 0)

    # -- input and output ---------------------------------------------------------------------------------------

    def _read_input(self, now: float) -> None:
        if self._input_error is not None:
            return
        try:
            plan = self._rules.plan(now)
            while plan is not None and self._input.available(plan.at_least):
                if isinstance(plan, Skip):
                    skipped = self._input.skip(plan.count)
                    self._check_input()
                    self._rules.skipped(skipped)
                else:
                    taken = self._input.take(plan.count, self._options.dispatch.batch_bytes_max)
                    self._check_input()
                    self._rules.offer(now, *taken)
                plan = self._rules.plan(now)
            self._want_input(plan is not None and not self._input.ended)
            self._rules.expected = self._input.expected
            if self._input.ended and self._rules.caught_up and self._rules.total is None:
                self._check_input()
                self._rules.total = self._rules.next_task
            if not self._rules.verifying:
                self._talk.mark(*self._input.mark(), self._rules.total is not None)
        except OperatorError as error:
            if self._rules.verifying:
                # It is not the input of the earlier run: nothing of it was pushed, and nothing will be.
                raise
            self._input_error = error
            self._want_input(False)
            if self._rules.outstanding:
                log.error("%s; waiting for the tasks before it", error)
        dry = self._input.ended or (self._input_polled is not None and self._input.expected is None)
        self._unsent += self._rules.input_scarce(now, dry)

    def _check_input(self) -> None:
        """Refuse an input that differs from the one that an earlier run of the job has read."""
        if self._talk.is_another_input(*self._input.mark(), self._input.ended):
            raise OperatorError(
                f"the input is not the one that job {self._options.job} was started with: give the same input again,"
                " or another --job name"
            )

    def _want_input(self, wanted: bool) -> None:
        # An input at its end has no descriptor, and is readable for ever: polled on, it would keep a core busy.
        descriptor = self._input.fileno() if wanted else None
        if descriptor == self._input_polled:
            return
        if self._input_polled is not None:
            self._poll.unregister(self._input_polled)
        if descriptor is not None:
            self._poll.register(descriptor, self._input.fill)
        self._input_polled = descriptor

    def _push(self) -> None:
        blocked = False
        while (batch := self._rules.next_push(clock.now())) is not None:
            try:
                self._tasks.send(encode(batch), zmq.DONTWAIT)
            except zmq.Again:
                blocked = True
                break
            self._rules.pushed(clock.now())
            self._first_push_at = self._first_push_at or clock.now()
        self._poll.unregister(self._tasks)
        if blocked:
            self._poll.register(self._tasks, lambda: None, zmq.POLLOUT)

    # -- messages -----------------------------------------------------------------------------------------------

    def _receive(self, message: FromSink) -> None:
        now = clock.now()
        if isinstance(message, Welcome):
            self._bind(message.loopback)
            self._unsent += self._talk.welcome(now, self._port)
        elif isinstance(message, Roster):
            self._take_roster(frozenset(message.keys))
        else:
            self._unsent += self._talk.receive(now, message)

    def _bind(self, loopback: bool) -> None:
        """Listen for workers: where the sink listens on this machine only, so does the ventilator."""
        if self._port:
            return
        host = "127.0.0.1" if loopback else "*"
        wanted = self._options.port
        if wanted is None:
            try:
                self._port = sockets.bind(self._tasks, host, TASKS_PORT, "--port")
            except OperatorError:
                self._port = sockets.bind(self._tasks, host, 0, "--port")
        else:
            self._port = sockets.bind(self._tasks, host, wanted, "--port")
        self._tasks_endpoint = sockets.endpoint(host, self._port)

    def _take_roster(self, keys: frozenset[str]) -> None:
        revoked = self._worker_keys - keys
        self._worker_keys = keys
        if revoked:
            # Live connections do not ask the gate again: all are made anew, and the leases bring back what was queued.
            self._tasks.unbind(self._tasks_endpoint)
            self._tasks.bind(self._tasks_endpoint)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            self._link.send(message)

    def _admit(self, domain: str, key: str) -> bool:
        return key in self._worker_keys

    def _say_refused(self, domain: str, key: str, address: str) -> None:
        log.debug("refused key %s... from %s for now: it is not enrolled as a worker", key[:8], address)

    # -- words --------------------------------------------------------------------------------------------------

    def _standing(self) -> Standing:
        rules = self._rules
        total = rules.total if rules.total is not None else self._input.expected
        return Standing(rules.done_count, rules.failed_count, total, rules.outstanding, rules.crew_count, rules.slots)

    def _speak(self, now: float) -> None:
        """Say for what the job waits, while it waits for somebody."""
        if self._farm is not None and not self._rules.crew_count:
            self._farm.check()
        if self._link.away() or (self._rules.caught_up and self._rules.crew_count) or self._talk.closed:
            self._voice_at = now + self._timing.voice_s
            self._voiced_count = 0
        elif now >= self._voice_at:
            self._voice_at = now + 2 * self._timing.voice_s
            if not self._rules.caught_up:
                log.warning("waiting for the sink to open job %s: its log says what keeps it", self._options.job)
                return
            others = self._rules.others_count
            if others and self._voiced_count >= 1:
                self._cancel_what_is_empty()
                raise OperatorError(
                    f"no worker exposes {self._options.function}; {others} that are here expose other functions: mend"
                    " the name and run the command again, or start a worker that exposes it and add"
                    f" --job {self._options.job}"
                )
            self._voiced_count += 1
            module = self._options.function.partition(":")[0]
            log.warning(
                "no worker exposes %s: start one with `python worker.py %s`; waiting",
                self._options.function,
                module,
            )

    def _cancel_what_is_empty(self) -> None:
        """Leave no job open that ends by a mistake before anything is recorded; --job goes on with it all the same.

        A job of an earlier run is left alone: workers that are away just now may run its tasks.
        """
        is_new = self._talk.opened is not None and not self._talk.opened.resumed
        if is_new and not self._rules.done_count and not self._rules.in_flight_count:
            self._link.send(Cancel(self._options.job))

    def _speak_of_input(self, now: float) -> None:
        """Say that the job waits for its own input."""
        if self._input_polled is None or self._rules.outstanding or self._link.away():
            self._input_voice_at = now + self._timing.voice_s
        elif now >= self._input_voice_at:
            self._input_voice_at = now + 2 * self._timing.voice_s
            log.warning("the input gives nothing: waiting for its next line, or its end")

    def _sum_up(self) -> ExitCode:
        job = self._options.job
        closed = self._talk.closed
        seconds = self._ended_at - (self._first_push_at or self._started_at)
        rules = self._rules
        counts = rules.pushed_count, rules.returned_count, rules.copied_count
        log.debug("%.4f s, %d pushes, %d returns, %d copies", seconds, *counts)
        if closed is None:
            if self._input_error is not None and not self._rules.done_count:
                raise self._input_error
            done, total = self._rules.done_count, self._input.expected
            of = "" if total is None else f" of {total}"
            log.info("job %s stopped: %d%s tasks are recorded", job, done, of)
            log.info("to go on with it, run the same command with --job %s", job)
            if self._input_error is not None:
                raise self._input_error
            return ExitCode.INTERRUPTED
        pace = f"in {duration(seconds)}, {closed.done / seconds:,.0f} tasks/s" if seconds else ""
        log.info("job %s is done: %d tasks recorded, %d failed, %s", job, closed.done, closed.failed, pace)
        for task, error in closed.failures:
            log.warning("task %d failed: %s", task, error)
        if closed.failed > len(closed.failures):
            log.warning("and %d more", closed.failed - len(closed.failures))
        where = f" --ledger {shlex.quote(str(self._options.ledger))}" if self._options.ledger else ""
        log.info("results: python sink.py results %s%s%s", job, " --failed" if closed.failed else "", where)
        return ExitCode.TASKS_FAILED if closed.failed else ExitCode.OK
