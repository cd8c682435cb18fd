"""The ventilator's loop: sockets, input and signals around its session."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import zmq

from .. import descriptors, own_process
from ..errors import ExitCode, OperatorError, WorkerEnded
from ..log_line import LogLine, write
from ..protocol.codec import encode
from ..protocol.messages import FromSink, Opened, Present, Welcome
from ..protocol.settings import MORE_TASKS_PORTS, TASKS_PORT
from ..transport import clock, polling, sockets
from ..transport import sink_link as link
from ..transport.door import Door
from ..transport.doorstep import HANDSHAKE_S
from ..transport.key_files import Certificate
from ..transport.zap import ADMITTED, REFUSED_FOR_NOW, ZapHandler
from .appended_input import AppendedInput
from .inputs import Input, read_ahead, state_of
from .request import JobRequest
from .seen import SeenArguments
from .session import InputVerified, SessionOutput, VentilatorSession, WantInput
from .settings import DispatchSettings
from .summary import JobEnd, Standing, Workers

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
    sink_away_max_s: float | None = None
    """How long to wait for a sink that is away; None: for ever."""


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
            sink_away_max_s=options.sink_away_max_s,
        )
        self.session = VentilatorSession(clock.now(), settings, request)
        self._farm = farm
        self._options = options
        self._input = opened
        self._poll = poll
        self._signals = signals
        self._gate_looked_at = clock.now()
        self._input_polled: int | None = None
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self._gate = ZapHandler(self._context, self._judge, self._say_refused)
        self._tasks = sockets.tasks_server(self._context, certificate)
        self._door = Door(descriptors.raise_limit(), self._tasks)
        self._port = 0
        self._link = link.SinkLink(
            self._context,
            certificate,
            link.sink_address(certificate, options.sink),
            f"ventilator.{sockets.process_tag()}",
            self._receive,
            options.dispatch.timing,
        )
        self._display = display
        self._end: JobEnd | None = None

    def run(self) -> JobEnd:
        """Run the job to its end. Raises OperatorError when that will never be possible."""
        self._link.register(self._poll)
        self._poll.register(self._gate.socket, self._gate.answer)
        self._door.register(self._poll)
        job, function = self._options.job, self._options.function
        log.info("job %s: %s over %s, sink at %s", job, function, self._input.source, self._link.host)
        try:
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
        self._link.close()
        self._door.close()
        self._tasks.close()
        self._gate.close()
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
        self._door.tick()
        if not self._gate.waiting:
            self._gate_looked_at = now
        elif now >= self._gate_looked_at + HANDSHAKE_S:
            # libzmq has ended these connections by now; their workers connect again.
            self._gate_looked_at = now
            self._gate.answer_waiting()

    def _deadline(self) -> float:
        gate_at = self._gate_looked_at + HANDSHAKE_S if self._gate.waiting else None
        deadlines = (self._link.deadline(), self.session.deadline(), self._display.deadline(), self._door.deadline())
        instants = (*deadlines, gate_at)
        return min(instant for instant in instants if instant is not None)

    def _perform(self, outputs: list[SessionOutput]) -> None:
        for output in outputs:
            if isinstance(output, LogLine):
                log_line(output)
            elif isinstance(output, WantInput):
                self._want_input(output.wanted)
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
            for line in self._input.begin(opened.ledger, opened.resumed):
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
            try:
                self._tasks.send(encode(batch), zmq.DONTWAIT)
            except zmq.Again:
                blocked = True
                break
            self.session.pushed(clock.now())
        self._poll.unregister(self._tasks)
        if blocked:
            self._poll.register(self._tasks, lambda: None, zmq.POLLOUT)

    # -- messages -----------------------------------------------------------------------------------------------

    def _receive(self, message: FromSink) -> None:
        if isinstance(message, Welcome):
            self._bind(message.loopback)
            self.session.welcome(clock.now(), self._port)
            return
        if isinstance(message, Opened):
            self._begin_input(message)
        for order in self.session.receive(clock.now(), message):
            if self._door.known_count(self._tasks) > order.living:
                self._door.hang_up_on(self._tasks)
        if isinstance(message, Present):
            self._gate.ask_again()

    def _bind(self, loopback: str) -> None:
        """Listen for workers: where the sink listens on this machine only, so does the ventilator."""
        if self._port:
            return
        host = loopback or "*"
        if self._farm is not None and self._options.port is None:
            # Its only worker is told the port: nobody need know it.
            self._port = sockets.bind(self._tasks, host, 0, "--port")
        elif self._options.port is None:
            self._port = sockets.bind(self._tasks, host, TASKS_PORT, "--port", MORE_TASKS_PORTS)
            if self._port != TASKS_PORT:
                log.info("port %d is in use: workers find this ventilator at port %d", TASKS_PORT, self._port)
        else:
            self._port = sockets.bind(self._tasks, host, self._options.port, "--port")

    def _judge(self, domain: str, key: str, address: str, has_waited: bool) -> str | None:
        admitted = self.session.admission.judge(key)
        if admitted is None and not has_waited:
            return None
        self._door.showed_key(address)
        return ADMITTED if admitted else REFUSED_FOR_NOW

    def _say_refused(self, domain: str, key: str, address: str) -> None:
        log.debug("refused key %s... from %s for now: no worker is at the sink with it", key[:8], address)


def log_line(line: LogLine) -> None:
    """Write what the session wants logged."""
    write(log, line)
