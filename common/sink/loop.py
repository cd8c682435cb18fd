"""The sink's loop: sockets, keys and signals around its rules."""

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zmq

from ..errors import ProtocolError
from ..log_line import LogLine
from ..protocol.codec import decode_to_sink, encode, split_results
from ..protocol.users import User
from ..transport import clock, polling, sockets
from ..transport.parent import Parent
from ..transport.zap import REFUSED_FOR_GOOD, ZapHandler
from .collector import Collector
from .key_folder import KeyFolder
from .outputs import Output
from .roster_watch import RosterWatch
from .settings import CollectorSettings
from .store import Store

log = logging.getLogger(__name__)

_CONTROL_FRAMES_A_TURN = 2_000
_RESULTS_FRAMES_A_TURN = 10_000


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """The command line."""

    ledger: str
    keys: Path
    listen: str
    control_port: int
    results_port: int


class Sink:
    """Sockets, keys and signals around the rules of `Collector`."""

    def __init__(self, options: SinkOptions, ledger: Store) -> None:
        folder = KeyFolder(options.keys)
        pair = folder.prepare()
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self._gate = ZapHandler(self._context, self._admit, self._log_refused, REFUSED_FOR_GOOD)
        self._control = sockets.control_server(self._context, pair)
        self._results = sockets.results_server(self._context, pair)
        self._control_inbox = sockets.Inbox(self._control, _CONTROL_FRAMES_A_TURN)
        self._results_inbox = sockets.Inbox(self._results, _RESULTS_FRAMES_A_TURN)
        control_port = sockets.bind(self._control, options.listen, options.control_port, "--control-port")
        results_port = sockets.bind(self._results, options.listen, options.results_port, "--results-port")
        address = sockets.bound_address(self._control)
        here = "127.0.0.1" if address.is_unspecified else options.listen
        folder.prepare_local(sockets.endpoint(here, control_port))
        self._watch = RosterWatch(folder)
        settings = CollectorSettings(results_port=results_port, loopback=str(address) if address.is_loopback else "")
        self._rules = Collector(clock.now(), settings, ledger, secrets.token_hex(8), self._watch.roster)
        self._timing = settings.timing
        self._roster_at = clock.now()
        where = "all addresses" if address.is_unspecified else options.listen
        log.info("listening at %s, ports %d and %d; ledger %s", where, control_port, results_port, options.ledger)

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        poll, signals = polling.Poll(), polling.Signals()
        parent = Parent(poll)
        poll.register(signals, lambda: None)
        poll.register(self._gate.socket, self._gate.answer)
        poll.register(self._control, self._take_control)
        poll.register(self._results, self._take_results)
        try:
            while not signals.received() and not parent.gone:
                poll.wait(self._deadline())
                self._perform(self._rules.tick(clock.now()))
                self._look_at_roster_now_and_then()
            self._take_results()
            self._perform(self._rules.flush(clock.now()))
            log.info("leaving; all recorded results are in the ledger")
        finally:
            self._control.close()
            self._results.close()
            self._gate.close()
            self._context.term()
            parent.clean_up()

    def _deadline(self) -> float:
        instant = self._rules.deadline()
        look_at = self._roster_at + self._timing.beat_s
        return look_at if instant is None else min(instant, look_at)

    def _take_control(self) -> None:
        for arrived in self._control_inbox.take():
            user = self._user(arrived.frame)
            if user is None:
                continue
            try:
                message = decode_to_sink(arrived.content)
            except ProtocolError as error:
                self._perform(self._rules.malformed(user, "control", error))
                continue
            address = sockets.peer_address(arrived.frame)
            self._perform(self._rules.receive(clock.now(), arrived.peer, user, address, message))

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
        for output in outputs:
            if isinstance(output, LogLine):
                log.log(logging.getLevelNamesMapping()[output.level.upper()], output.text)
            else:
                self._control.send_multipart([output.peer, encode(output.message)])

    # -- keys ---------------------------------------------------------------------------------------------------

    def _admit(self, link: str, key: str) -> bool:
        if not self._watch.admits(link, key):
            # It may have been enrolled a moment ago.
            self._look_at_roster()
        return self._watch.admits(link, key)

    def _log_refused(self, link: str, key: str, address: str) -> None:
        text = self._watch.refused(link, key, address)
        if text is not None:
            log.warning(text)

    def _look_at_roster_now_and_then(self) -> None:
        if clock.now() >= self._roster_at + self._timing.beat_s:
            self._roster_at = clock.now()
            self._look_at_roster()

    def _look_at_roster(self) -> None:
        if self._watch.look():
            self._perform(self._rules.roster_changed(clock.now(), self._watch.roster))
