"""The sink's loop: sockets, keys and signals around its rules."""

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zmq

from .. import descriptors
from ..errors import ProtocolError
from ..log_line import LogLine, write
from ..protocol.codec import decode_to_sink, encode, split_results
from ..protocol.messages import Hello, Message
from ..protocol.settings import Timing
from ..protocol.users import ROLES, VENTILATOR, WORKER, User
from ..transport import clock, polling, sockets
from ..transport.connections import hang_up
from ..transport.door import Door
from ..transport.doorstep import GivenIds
from ..transport.key_folder import KeyFolder
from ..transport.parent import Parent
from ..transport.zap import ADMITTED, REFUSED_FOR_NOW, ZapHandler
from .collector import Collector
from .crew_news import joined
from .ledgers import shown
from .outputs import Admit, CutOff, Output
from .relay import Relay
from .roster_watch import RosterWatch
from .settings import CollectorSettings
from .store import LedgerLost, Store

log = logging.getLogger(__name__)

_CONTROL_FRAMES_A_TURN = 2_000
_RESULTS_FRAMES_A_TURN = 10_000
_OUTPUTS_AT_ONCE = 1_000
"""Outputs that are performed together: with all of a turn, its first answers would wait too long."""
_LOOK_SOON_S = 0.1
_LEAVING_S = 10.0
"""How long a sink that leaves waits for a slow disk."""


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """The command line."""

    ledger: str
    keys: Path
    listen: str
    control_port: int
    results_port: int
    relay_port: int | None = None
    tasks_port: int | None = None
    listener: int | None = None
    """The descriptor of a socket that listens already, in place of the host and the control port."""


class Sink:
    """Sockets, keys and signals around the rules of `Collector`."""

    def __init__(self, options: SinkOptions, ledger: Store) -> None:
        descriptors_max = descriptors.raise_limit()
        folder = KeyFolder(options.keys)
        pair = folder.prepare()
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self._gate = ZapHandler(self._context, self._judge, self._log_refused)
        self._control = sockets.control_server(self._context, pair)
        self._results = sockets.results_server(self._context, pair)
        self._given_ids = GivenIds(sockets.next_routing_id(self._context, self._control))
        self._control_inbox = sockets.Inbox(self._control, _CONTROL_FRAMES_A_TURN, self._given_ids.include)
        self._results_inbox = sockets.Inbox(self._results, _RESULTS_FRAMES_A_TURN)
        self._relay = Relay(pair, Timing(), self._judge, self._log_refused)
        self._door = Door(descriptors_max, self._control, self._results, self._relay.incoming, self._relay.outgoing)
        if options.listener is None:
            control_port = sockets.bind(self._control, options.listen, options.control_port, "--control-port")
        else:
            control_port = sockets.take_over(self._control, options.listener)
        results_port = sockets.bind(self._results, options.listen, options.results_port, "--results-port")
        relay_ports = self._relay.start(options.listen, options.relay_port, options.tasks_port)
        address = sockets.bound_address(self._control)
        here = "127.0.0.1" if address.is_unspecified else options.listen
        folder.prepare_local(sockets.endpoint(here, control_port))
        self._watch = RosterWatch(folder)
        self._admit_to_relay()
        settings = CollectorSettings(
            results_port=results_port,
            relay_port=relay_ports[0],
            relayed_tasks_port=relay_ports[1],
            key=pair.public,
            loopback=str(address) if address.is_loopback else "",
        )
        self._ledger = ledger
        self._rules = Collector(clock.now(), settings, ledger, secrets.token_hex(8), self._watch.roster)
        self._timing = settings.timing
        self._rules.time_offset_s = time.time() - clock.now()
        self._looked_at = clock.now()
        where = "all addresses" if address.is_unspecified else options.listen
        ports = control_port, results_port, *relay_ports
        log.info(
            "listening at %s, ports %d and %d, relay at %d and %d; ledger %s", where, *ports, shown(options.ledger)
        )

    def run(self, signals: polling.StopSource) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        poll = polling.Poll()
        parent = Parent(poll)
        poll.register(signals, lambda: None)
        for gate in (self._gate, self._relay.gate):
            poll.register(gate.socket, gate.answer)
        self._door.register(poll)
        poll.register(self._control, self._take_control)
        poll.register(self._results, self._take_results)
        descriptor = self._ledger.fileno()
        if descriptor is not None:
            # That a write has ended is looked at in each turn.
            poll.register(descriptor, lambda: None)
        try:
            while not signals.received() and not parent.gone:
                poll.wait(self._deadline())
                self._perform(joined(self._rules.tick(clock.now())))
                self._look_at_roster_now_and_then()
                self._door.tick()
                self._relay.gate.tick(clock.now())
                self._relay.check()
            self._take_results()
            try:
                self._finish_writing(signals)
            except LedgerLost as lost:
                # It leaves all the same, and does not stand by.
                log.warning("%s; what was not recorded is sent to that sink", lost)
            log.info("leaving; all recorded results are in the ledger")
        finally:
            self._relay.stop()
            self._door.close()
            self._relay.close()
            self._control.close()
            self._results.close()
            self._gate.close()
            self._context.term()
            parent.clean_up()

    def _finish_writing(self, signals: polling.StopSource) -> None:
        """Commit what has come, as far as the ledger accepts it. Another signal ends the wait for a slow one."""
        poll, ends_at = polling.Poll(), clock.now() + _LEAVING_S
        poll.register(signals, lambda: None)
        if (descriptor := self._ledger.fileno()) is not None:
            poll.register(descriptor, lambda: None)
        self._perform(self._rules.flush(clock.now()))
        while self._rules.is_writing and clock.now() < ends_at and not signals.received():
            poll.wait(ends_at)
            self._perform(self._rules.flush(clock.now()))

    def _deadline(self) -> float:
        instants = (self._rules.deadline(), self._door.deadline(), self._relay.gate.deadline(), self._look_at())
        return min(instant for instant in instants if instant is not None)

    def _look_at(self) -> float:
        """When to look at the roster next: soon when a key waits for it that may have been enrolled a moment ago."""
        return self._looked_at + (_LOOK_SOON_S if self._gate.waiting else self._timing.beat_s)

    def _take_control(self) -> None:
        outputs: list[Output] = []
        for arrived in self._control_inbox.take():
            outputs += self._answered(arrived)
            if len(outputs) >= _OUTPUTS_AT_ONCE:
                self._perform(joined(outputs))
                outputs = []
        self._perform(joined(outputs))

    def _answered(self, arrived: sockets.Arrived) -> list[Output]:
        user = self._user(arrived.frame)
        if user is None:
            return []
        try:
            message = decode_to_sink(arrived.content)
        except ProtocolError as error:
            return self._rules.malformed(user, "control", error)
        address = sockets.peer_address(arrived.frame)
        if isinstance(message, Hello) and not self._greets_rightly(arrived, user, address):
            return []
        return self._rules.receive(clock.now(), arrived.peer, user, address, message)

    def _take_results(self) -> None:
        for arrived in self._results_inbox.take():
            user = self._user(arrived.frame)
            if user is None:
                continue
            try:
                for results in split_results(arrived.content):
                    self._perform(self._rules.results(user, results))
            except ProtocolError as error:
                self._perform(self._rules.malformed(user, "results", error))

    def _user(self, frame: zmq.Frame) -> User | None:
        return self._watch.user(sockets.user_id(frame) or "")

    def _perform(self, outputs: Iterable[Output]) -> None:
        message: Message | None = None
        content = b""
        for output in outputs:
            if isinstance(output, LogLine):
                write(log, output)
            elif isinstance(output, Admit):
                self._relay.let_in(output.keys)
            elif isinstance(output, CutOff):
                self._relay.cut_off(self._door, output.address, output.living)
            else:
                # A crew of thousands is told the same, one after another.
                if output.message is not message:
                    message, content = output.message, encode(output.message)
                self._control.send(output.peer, zmq.SNDMORE)
                self._control.send(content)

    # -- keys ---------------------------------------------------------------------------------------------------

    def _judge(self, link: str, key: str, address: str, has_looked: bool) -> str | None:
        verdict = self._watch.judge(clock.now(), link, key, has_looked)
        if verdict == ADMITTED and link == "tasks" and not self._relay.is_present(key):
            verdict = REFUSED_FOR_NOW if has_looked else None
        if verdict is not None:
            self._door.showed_key(address)
        if verdict == ADMITTED and link == "control":
            self._given_ids.one_more()
        return verdict

    def _greets_rightly(self, arrived: sockets.Arrived, user: User, address: str) -> bool:
        """Whether whoever says hello has the routing id that it was given. One that claims an id is cut off."""
        descriptor = sockets.descriptor(arrived.frame)
        self._door.rules.greeted(descriptor)
        if self._given_ids.include(arrived.peer):
            return True
        hang_up(descriptor)
        self._perform(self._rules.malformed(user, "control", ProtocolError(f"{address} sets a routing id")))
        return False

    def _log_refused(self, link: str, key: str, address: str) -> None:
        self._watch.refused(clock.now(), link, key, address)

    def _look_at_roster_now_and_then(self) -> None:
        if clock.now() < self._look_at():
            return
        self._looked_at = clock.now()
        # Each second, because the clock may be set.
        self._rules.time_offset_s = time.time() - clock.now()
        if self._watch.look(clock.now()):
            self._admit_to_relay()
            self._perform(self._rules.roster_changed(clock.now(), self._watch.roster))
        self._gate.answer_waiting()

    def _admit_to_relay(self) -> None:
        keys = {role: {user.key for user in self._watch.roster.values() if user.role == role} for role in ROLES}
        self._relay.admit(self._door, frozenset(keys[VENTILATOR]), frozenset(keys[WORKER]))
