"""The worker's loop: it performs, with sockets, children and signals, what the session says."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from .. import descriptors, own_process
from ..errors import ExitCode, OperatorError, ProtocolError
from ..log_line import LogLine, write
from ..protocol.codec import decode_batch
from ..protocol.handshake import Fail
from ..protocol.messages import FromSink
from ..transport import clock, monitor, polling, sockets
from ..transport import sink_link as link
from ..transport.key_files import Certificate
from ..transport.parent import InputEnd, Parent
from .child_process import Limits
from .session import (
    AwaitSignal,
    Connect,
    ConnectResults,
    Disconnect,
    End,
    LookForEdits,
    SendResults,
    SessionOutput,
    StartSlots,
    TryImport,
    WorkerSession,
)
from .settings import HoldingSettings, SessionSettings
from .slot_events import Event
from .slot_orders import KillOrder, ReplaceOrder, RunOrder
from .slots import LEAVE_S, Slots

log = logging.getLogger(__name__)

_LOOK_S = 0.02
"""How often a worker that leaves looks whether its children have ended."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The command line."""

    modules: list[str]
    key: Path
    sink: str | None
    name: str
    exit_when_idle_s: float | None
    stop_after_s: float | None
    limits: Limits
    reloads: bool
    holding: HoldingSettings
    stops_with_stdin: bool = False


class Worker:
    """Sockets, children and signals around a `WorkerSession`."""

    def __init__(
        self, options: WorkerOptions, certificate: Certificate, poll: polling.Poll, signals: polling.Signals
    ) -> None:
        descriptors.raise_limit()
        self._certificate = certificate
        self._poll = poll
        self._signals = signals
        self._parent = Parent(poll)
        self._input = InputEnd(poll) if options.stops_with_stdin else None
        self._over = False
        self._in_order = False
        self._problem: str | None = None
        """Why it ends, where that is an error."""
        name = f"{options.name}.{sockets.process_tag()}"
        settings = SessionSettings(
            [*options.modules, *options.limits.commands],
            options.exit_when_idle_s,
            options.stop_after_s,
            options.holding,
            options.reloads,
        )
        self._session = WorkerSession(settings, name, clock.now())
        self._slots = Slots(options.modules, options.limits)
        self._context = zmq.Context()
        self._tasks = sockets.tasks_client(self._context, certificate)
        self._tasks_watch = monitor.LinkMonitor(self._tasks)
        self._results: zmq.Socket[bytes] | None = None
        self._link = link.SinkLink(
            self._context,
            certificate,
            link.sink_addresses(certificate, options.sink),
            name,
            self._receive,
            options.holding.timing,
        )
        self._performers: dict[type[Any], Callable[[Any], object]] = {
            RunOrder: lambda order: self._slots.run(clock.now(), order),
            KillOrder: lambda order: self._slots.kill(order.slot),
            ReplaceOrder: lambda order: self._slots.replace(order.slot),
            StartSlots: lambda order: self._slots.start(order.slots),
            LookForEdits: lambda _: self._take_slot_events(self._slots.edits()),
            TryImport: lambda _: self._take_slot_events(self._slots.try_import()),
            ConnectResults: self._connect_results,
            SendResults: self._send_results,
            Connect: self._connect,
            Disconnect: lambda order: self._tasks.disconnect(sockets.endpoint(order.host, order.port)),
            AwaitSignal: self._await_signal,
            LogLine: partial(write, log),
            Fail: self._fail,
            End: self._end,
        }

    def run(self) -> ExitCode:
        """Work until told to leave. Raises OperatorError when that will never be possible."""
        self._poll.register(self._slots, lambda: self._take_slot_events(self._slots.events()))
        self._poll.register(self._tasks, self._take_batches)
        self._poll.register(self._tasks_watch.socket, self._take_link_events)
        self._link.register(self._poll)
        try:
            self._perform(self._session.begin())
            self._tick()
            while not self._over:
                self._poll.wait(self._deadline())
                self._tick()
        finally:
            self._slots.dismiss()
            self._link.close()
            self._tasks_watch.close()
            self._tasks.close()
            if self._results is not None:
                self._results.close()
            self._context.term()
            if self._in_order:
                self._await_children()
            self._slots.close()
        if self._problem is not None:
            raise OperatorError(self._problem)
        return ExitCode.OK

    def _await_children(self) -> None:
        """Let the children end by themselves, for some seconds, or until a signal comes."""
        until = clock.now() + LEAVE_S
        while not self._slots.have_left() and not self._signals.pending(_LOOK_S):
            if clock.now() >= until:
                log.warning("not all child processes end by themselves: the rest is killed")
                return

    # -- what happens -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._link.tick()
        self._take_slot_events(self._slots.end_overdue(clock.now()))
        if own_process.inherits_orphans():
            own_process.reap_orphans(self._slots.pids)
        if self._parent.gone:
            self._perform(self._session.parent_gone())
        if self._input is not None and self._input.is_here:
            self._perform(self._session.input_ended(clock.now()))
        self._take_signals()
        self._perform(self._session.tick(clock.now()))

    def _deadline(self) -> float | None:
        instants = [part.deadline() for part in (self._link, self._slots, self._session)]
        return min((instant for instant in instants if instant is not None), default=None)

    def _take_slot_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self._perform(self._session.slot_event(clock.now(), event))

    def _take_signals(self) -> None:
        for number in self._signals.received():
            self._perform(self._session.signalled(clock.now(), number.name))

    def _take_batches(self) -> None:
        batches = []
        for frame, content in sockets.drain(self._tasks):
            try:
                batches.append(decode_batch(content))
            except ProtocolError as error:
                self._perform(self._session.malformed(sockets.peer_address(frame), error))
        self._perform(self._session.take(clock.now(), batches))

    def _take_link_events(self) -> None:
        for event, host, port in self._tasks_watch.events():
            self._perform(self._session.link_event(clock.now(), host, port, event))

    def _receive(self, message: FromSink) -> None:
        self._perform(self._session.receive(clock.now(), message, self._link.host))

    # -- what is done about it ----------------------------------------------------------------------------------

    def _perform(self, outputs: Iterable[SessionOutput]) -> None:
        for output in outputs:
            self._performers.get(type(output), self._link.send)(output)

    def _connect_results(self, order: ConnectResults) -> None:
        if self._results is not None:
            self._results.close()
        self._results = sockets.results_client(self._context, self._certificate)
        self._results.connect(sockets.endpoint(self._link.host, order.port))

    def _send_results(self, order: SendResults) -> None:
        assert self._results is not None
        sockets.send(self._results, order.frame)

    def _connect(self, order: Connect) -> None:
        sockets.connect_tasks(self._tasks, sockets.endpoint(order.host, order.port), order.key)

    def _await_signal(self, order: AwaitSignal) -> None:
        self._signals.pending(max(0.0, order.until - clock.now()))
        self._perform(self._session.waited(clock.now(), [number.name for number in self._signals.received()]))

    def _fail(self, order: Fail) -> None:
        raise OperatorError(order.text)

    def _end(self, order: End) -> None:
        self._over = True
        self._in_order = not order.at_once
        self._problem = self._link.waiting_for() if order.unmet else None
