"""The ventilator's loop: sockets, input and signals around its session."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import zmq

from .. import own_process
from ..errors import ExitCode, OperatorError, WorkerEnded
from ..log_line import LogLine, write
from ..protocol.codec import encode
from ..protocol.messages import FromSink, Opened, Present, Welcome
from ..transport import clock, polling, sockets
from ..transport import sink_link as link
from ..transport.key_files import Certificate
from .appended_input import AppendedInput
from .inputs import Input, read_ahead, state_of
from .request import JobRequest
from .seen import SeenArguments
from .session import InputVerified, SessionOutput, UseRelay, VentilatorSession, WantInput
from .settings import DispatchSettings, RelayUse
from .summary import JobEnd, Standing, Workers
from .tasks_link import TasksLink

if TYPE_CHECKING:
    from .local_farm import LocalFarm

log = logging.getLogger(__name__)


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
    append: bool = False
    results_options: tuple[str, ...] = ()
    """With which options `sink.py results` prints the results here."""
    spool: Path = Path("spool")
    """The folder of what is read from streams."""
    workers: Workers = Workers.HERE
    """Where workers can be started."""
    waits_for_worker: bool = False
    """Wait for a worker that exposes the function, also where others are."""
    input_rests: bool = False
    """The input may have nothing new for long, which is not worth a word."""
    max_fails: int | None = None
    """Stop when this many tasks have failed in this run."""
    sink_away_max_s: float | None = None
    """How long to wait for a sink that is away; None: for ever."""
    relay: RelayUse = RelayUse.auto
    """When tasks go through the sink's relay."""


class Display(Protocol):
    """Is shown in each turn how the job stands. What it raises ends the job; WorkerEnded lets it end in order."""

    def show(self, now: float, standing: Standing) -> None: ...
    def deadline(self) -> float: ...
    def close(self) -> None: ...


class Ventilator:
    """Sockets, input and signals around a `VentilatorSession`, which decides."""

    def __init__(
        self,
        options: VentilatorOptions,
        opened: Input,
        certificate: Certificate,
        poll: polling.Poll,
        signals: polling.StopSource,
        farm: "LocalFarm | None",
        display: Display,
        given_link: link.SinkLink | None = None,
    ) -> None:
        seen = SeenArguments(options.job) if options.append else None
        opened = opened if seen is None else AppendedInput(opened, seen)
        arguments = opened.arguments if options.dispatch.keep_arguments else ""
        settings = replace(options.dispatch, keep_arguments=bool(arguments))
        request = JobRequest(
            job=options.job,
            function=options.function,
            source=opened.source,
            retry_failed=options.retry_failed,
            results_options=options.results_options,
            spool=str(options.spool),
            workers=options.workers,
            arguments=arguments,
            seen=seen,
            waits_for_worker=options.waits_for_worker,
            input_rests=options.input_rests,
            max_fails=options.max_fails,
            sink_away_max_s=options.sink_away_max_s,
            relay=options.relay,
        )
        self.session = VentilatorSession(clock.now(), settings, request)
        self._farm = farm
        self._options = options
        self._input = opened
        self._poll = poll
        self._signals = signals
        self._input_polled: int | None = None
        self._context = zmq.Context()
        self._tasks = TasksLink(self._context, certificate, poll, self.session.admission)
        self._is_link_ours = given_link is None
        self._link = given_link or link.SinkLink(
            self._context,
            certificate,
            link.sink_addresses(certificate, options.sink),
            f"ventilator.{sockets.process_tag()}",
            self._receive,
            options.dispatch.timing,
        )
        self._display = display
        self._end: JobEnd | None = None

    def run(self) -> JobEnd:
        """Run the job to its end. Raises OperatorError when that will never be possible."""
        self._link.register(self._poll)
        job, function = self._options.job, self._options.function
        log.info("job %s: %s over %s, sink at %s", job, function, self._input.source, self._link.host)
        try:
            if not self._is_link_ours:
                self._link.take_over(self._receive)
            while self._end is None:
                self._poll.wait(self._deadline())
                for number in self._signals.received():
                    self.session.interrupt(clock.now(), number.name)
                self._turn()
        finally:
            try:
                self._display.close()
            finally:
                self._close()
        return self._end

    def _close(self) -> None:
        self._leave_input()
        if self._is_link_ours:
            self._link.close()
        else:
            self._link.release()
        self._tasks.close()
        self._context.term()

    # -- the loop -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = clock.now()
        self._link.tick()
        read_ahead(self._input, self.session, now, self._options.dispatch.batch_bytes_max)
        outputs = self.session.tick(now, self._link.away(), state_of(self._input))
        # A slot may wait for what is pushed, nobody for the next question.
        self._push()
        self._perform(outputs)
        if self._input_polled is not None:
            # Once the spool of a stream is read, the stream itself goes on.
            self._want_input(True)
        standing = self.session.standing
        if self._farm is not None and own_process.inherits_orphans():
            own_process.reap_orphans(self._farm.pids)
        try:
            if self._farm is not None and not standing.crew:
                self._farm.check()
            self._display.show(now, standing)
        except WorkerEnded as error:
            self.session.worker_ended(error)
        self._tasks.tick(now)

    def _deadline(self) -> float:
        instants = (each.deadline() for each in (self._link, self.session, self._display, self._tasks))
        return min(instant for instant in instants if instant is not None)

    def _perform(self, outputs: list[SessionOutput]) -> None:
        for output in outputs:
            if isinstance(output, LogLine):
                log_line(output)
            elif isinstance(output, WantInput):
                self._want_input(output.wanted)
            elif isinstance(output, UseRelay):
                self._use_relay()
            elif isinstance(output, InputVerified):
                self._input.verified()
            elif isinstance(output, JobEnd):
                self._end = output
            else:
                self._link.send(output)

    def _want_input(self, wanted: bool) -> None:
        # An input at its end has no descriptor, and is readable for ever: polled on, it would keep a core busy.
        try:
            descriptor = self._input.fileno() if wanted else None
        except OperatorError as error:
            self.session.input_failed(clock.now(), error)
            descriptor = None
        if descriptor == self._input_polled:
            return
        if self._input_polled is not None:
            self._poll.unregister(self._input_polled)
        if descriptor is not None:
            self._poll.register(descriptor, self._fill)
        self._input_polled = descriptor

    def _fill(self) -> None:
        try:
            self._input.fill()
        except OperatorError as error:
            self.session.input_failed(clock.now(), error)

    def _begin_input(self, opened: Opened) -> None:
        try:
            for line in self._input.begin(opened.ledger, opened.resumed, opened.mark_digest):
                log.info("%s", line)
        except OperatorError as error:
            self.session.input_failed(clock.now(), error)

    def _leave_input(self) -> None:
        is_done = self._end is not None and self._end.code is ExitCode.OK
        for line in self._input.leave(is_done):
            log.info("%s", line)

    def _push(self) -> None:
        blocked = False
        while (batch := self.session.next_push(clock.now())) is not None:
            if not self._tasks.push(encode(batch)):
                blocked = True
                break
            self.session.pushed(clock.now())
        self._tasks.wait_for_room(blocked)

    # -- messages -----------------------------------------------------------------------------------------------

    def _receive(self, message: FromSink) -> None:
        if isinstance(message, Welcome):
            self._receive_welcome(message)
            return
        if isinstance(message, Opened):
            self._begin_input(message)
        for order in self.session.receive(clock.now(), message):
            self._tasks.cut(order.living)
        if isinstance(message, Present):
            self._tasks.ask_again()

    def _receive_welcome(self, welcome: Welcome) -> None:
        port, options = 0, self._options
        if options.relay is not RelayUse.always:
            # Where the sink listens on this machine only, so does the ventilator.
            port = self._tasks.listen(welcome.loopback or "*", options.port, self._farm is not None)
        self.session.welcome(clock.now(), port, welcome.relay_port)
        if self.session.route.relayed:
            self._use_relay()

    def _use_relay(self) -> None:
        self._tasks.use_relay(self._link.host, self.session.route.port, self._relay_is_up)

    def _relay_is_up(self, is_up: bool) -> None:
        self.session.route.relay_is_up = is_up


def log_line(line: LogLine) -> None:
    """Write what the session wants logged."""
    write(log, line)
