"""The worker's loop: sockets, children and signals around its rules."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zmq

from .. import console
from ..errors import ExitCode, OperatorError, ProtocolError
from ..protocol.codec import decode_batch, join_results
from ..protocol.messages import FromSink, Offer, Place, Places, Recorded, Welcome
from ..transport import clock, polling, sockets
from ..transport import sink_link as link
from ..transport.key_files import Certificate
from .child_process import Limits
from .holding import Holding, Output
from .settings import HoldingSettings
from .slot_events import Broken, Done, Event, GivenBack, Lost, Outcome, Ready
from .slot_orders import KillOrder, RunOrder
from .slots import Slots
from .unacked import Submit

log = logging.getLogger(__name__)
TOGETHER_S = 0.2
"""Seconds within which a signal that is meant for a whole process group reaches each process of it."""
OUTGOING_BYTES_MAX = 1024 * 1024
"""Results are sent together up to so many bytes."""


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
    holding: HoldingSettings


class Worker:
    """Sockets, children and signals around the rules of `Holding`."""

    def __init__(
        self, options: WorkerOptions, certificate: Certificate, poll: polling.Poll, signals: polling.Signals
    ) -> None:
        self._options = options
        self._certificate = certificate
        self._poll = poll
        self._signals = signals
        self._name = f"{options.name}.{sockets.process_tag()}"
        self._timing = options.holding.timing
        self._holding = Holding(options.holding, self._name)
        self._slots = Slots(options.modules, options.limits)
        self._functions: list[str] | None = None
        self._context = zmq.Context()
        self._tasks = sockets.tasks_client(self._context, certificate)
        self._results: zmq.Socket[bytes] | None = None
        self._places: dict[tuple[str, str], Place] = {}
        self._sink_run: str | None = None
        self._complained: set[str] = set()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._link = link.SinkLink(
            self._context,
            certificate,
            link.sink_address(certificate, options.sink),
            self._name,
            self._receive,
            self._timing,
        )
        self._busy_at = clock.now()
        self._voice_at = self._busy_at + self._timing.voice_s
        stop_after_s = options.stop_after_s
        self._stop_at = None if stop_after_s is None else clock.now() + stop_after_s

    def run(self) -> ExitCode:
        """Work until told to leave. Raises OperatorError when that will never be possible."""
        self._poll.register(self._slots, lambda: self._take_slot_events(self._slots.events()))
        self._poll.register(self._tasks, self._take_batches)
        self._link.register(self._poll)
        try:
            self._slots.start(range(1))
            while not self._is_over():
                self._poll.wait(self._deadline())
                self._tick()
        finally:
            self._slots.close()
            self._link.close()
            self._tasks.close()
            if self._results is not None:
                self._results.close()
            self._context.term()
        return ExitCode.OK

    # -- the loop -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = clock.now()
        self._link.tick()
        self._take_slot_events(self._slots.end_overdue(now))
        if self._functions is not None:
            self._perform(self._holding.tick(now))
        if not self._holding.empty:
            self._busy_at = now
        idle_s = self._options.exit_when_idle_s
        if idle_s is not None and now >= self._busy_at + idle_s and not self._holding.leaving:
            log.info("no task for %g seconds: leaving", idle_s)
            self._leave()
        if self._stop_at is not None and now >= self._stop_at and not self._holding.leaving:
            log.info("the time is over: returning what has not started, finishing what runs")
            self._leave()
        if console.parent_is_gone() and not self._holding.leaving:
            self._leave()
        self._send_results()
        self._speak(now)

    def _speak(self, now: float) -> None:
        """Say for what the worker waits, while it waits for its own children."""
        if self._functions is not None and not self._holding.leaving:
            self._voice_at = now + self._timing.voice_s
        elif now >= self._voice_at:
            self._voice_at = now + 2 * self._timing.voice_s
            importing = f"importing {', '.join(self._options.modules)}"
            finishing = "finishing running tasks, or waiting for their receipts; a second signal leaves at once"
            log.info("still %s", finishing if self._holding.leaving else importing)

    def _deadline(self) -> float | None:
        instants = [self._link.deadline(), self._slots.deadline(), self._stop_at, clock.now() + self._timing.beat_s]
        if self._functions is not None:
            instants.append(self._holding.deadline())
        if self._options.exit_when_idle_s is not None:
            instants.append(self._busy_at + self._options.exit_when_idle_s)
        return min(instant for instant in instants if instant is not None)

    def _is_over(self) -> bool:
        for number in self._signals.received():
            if self._holding.leaving:
                log.warning("%s again: leaving at once; running tasks are pushed to other workers", number.name)
                return True
            log.info("%s: returning what has not started, finishing what runs; again to leave at once", number.name)
            self._leave()
        return self._holding.leaving and (self._holding.empty or self._functions is None)

    def _leave(self) -> None:
        self._perform(self._holding.leave(clock.now(), self._options.holding.grace_s))

    # -- events -------------------------------------------------------------------------------------------------

    def _take_slot_events(self, events: Iterable[Event]) -> None:
        now = clock.now()
        for event in events:
            if isinstance(event, Outcome):
                if event.by_sigterm and self._is_told_to_end(now + TOGETHER_S):
                    # The whole process group is: that is no fault of the task.
                    continue
                order = (event.slot, event.first, event.count, event.seconds, event.outcomes)
                self._perform(self._holding.outcomes(now, *order))
            elif isinstance(event, Done):
                self._perform(self._holding.slot_done(now, event.slot))
            elif isinstance(event, GivenBack):
                self._perform(self._holding.given_back(now, event.slot, event.firsts, event.orders_back))
            elif isinstance(event, Lost):
                self._perform(self._holding.slot_lost(now, event.slot, event.unclear))
            elif isinstance(event, Ready):
                self._take_ready(now, event)
            else:
                self._take_broken(event, now + TOGETHER_S)

    def _is_told_to_end(self, until: float) -> bool:
        """True when the worker leaves, or a signal to leave is there by that instant."""
        return self._holding.leaving or self._signals.pending(max(0.0, until - clock.now()))

    def _take_ready(self, now: float, ready: Ready) -> None:
        if self._functions is None:
            self._functions = ready.functions
            self._holding.expose(frozenset(ready.functions))
            self._slots.start(range(1, self._options.holding.slots))
            log.info("exposing %s in %d slots", ", ".join(ready.functions), self._options.holding.slots)
            if self._sink_run is not None:
                self._link.send(Offer(ready.functions))
        self._perform(self._holding.slot_idle(now, ready.slot))

    def _take_broken(self, broken: Broken, until: float) -> None:
        # A leaving worker needs no new child for what the others still run.
        if not self._is_told_to_end(until):
            raise OperatorError(broken.text)
        log.warning("slot %d has no child process any longer: %s", broken.slot, broken.text)

    def _take_batches(self) -> None:
        batches = []
        for frame, content in sockets.drain(self._tasks):
            try:
                batches.append(decode_batch(content))
            except ProtocolError as error:
                self._complain(sockets.peer_address(frame), error)
        self._perform(self._holding.take(clock.now(), batches))

    def _complain(self, address: str, error: ProtocolError) -> None:
        if address not in self._complained:
            self._complained.add(address)
            log.warning("a ventilator at %s sent an invalid batch: %s (logged once)", address, error)

    def _receive(self, message: FromSink) -> None:
        if isinstance(message, Welcome):
            self._take_welcome(message)
        elif isinstance(message, Places):
            self._connect_places(message.places)
            jobs = frozenset(place.job for place in message.places)
            self._holding.places(jobs, frozenset(place.job for place in message.places if place.scarce))
        else:
            if isinstance(message, Recorded) and message.refused:
                log.warning("the sink refuses %d results: it does not know their job", len(message.refused))
            self._perform(self._holding.receive(clock.now(), message))

    def _take_welcome(self, welcome: Welcome) -> None:
        if self._functions is not None:
            self._link.send(Offer(self._functions))
        if welcome.run == self._sink_run:
            return
        log.info("joined the sink at %s as %s", self._link.host, self._name)
        self._sink_run = welcome.run
        if self._results is not None:
            self._results.close()
        self._results = sockets.results_client(self._context, self._certificate)
        self._results.connect(sockets.endpoint(self._link.host, welcome.results_port))
        self._perform(self._holding.sink_restarted(clock.now()))

    def _connect_places(self, places: list[Place]) -> None:
        wanted = {(sockets.endpoint(place.host or self._link.host, place.port), place.key): place for place in places}
        # Two ventilators may claim the same address; letting go of it lets go of both.
        gone = {endpoint for endpoint, _ in self._places.keys() - wanted.keys()}
        for endpoint in gone:
            self._tasks.disconnect(endpoint)
        self._places = {key: place for key, place in self._places.items() if key[0] not in gone}
        for new in wanted.keys() - self._places.keys():
            log.info("pulling the tasks of job %s from %s", wanted[new].job, new[0])
            sockets.connect_tasks(self._tasks, *new)
        self._places = wanted

    def _submit(self, frame: bytes) -> None:
        """Send results with those that follow in this turn of the loop: a message costs more than what is in it."""
        if self._outgoing_bytes + len(frame) > OUTGOING_BYTES_MAX:
            self._send_results()
        self._outgoing.append(frame)
        self._outgoing_bytes += len(frame)

    def _send_results(self) -> None:
        if self._outgoing:
            assert self._results is not None
            self._results.send(join_results(self._outgoing))
            self._outgoing, self._outgoing_bytes = [], 0

    def _perform(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, RunOrder):
                self._slots.run(clock.now(), output)
            elif isinstance(output, KillOrder):
                self._slots.kill(output.slot)
            elif isinstance(output, Submit):
                self._submit(output.frame)
            else:
                self._link.send(output)
