"""The control link from a worker's, ventilator's or observer's side: a socket, its monitor, the rules of joining."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from ..errors import OperatorError, ProtocolError
from ..log_line import LogLine, write
from ..protocol.codec import decode_from_sink, encode
from ..protocol.handshake import Fail, Handshake, Output, Redial
from ..protocol.messages import FromSink, Goodbye, Message, Welcome
from ..protocol.settings import Timing
from ..protocol.sink_addresses import Address, parsed
from . import clock, monitor, polling, sockets
from .key_files import Certificate, is_missing, load_pair

log = logging.getLogger(__name__)


def sink_addresses(certificate: Certificate, override: str | None) -> list[Address]:
    """Host and control port of each of the site's sinks: those of the key file, unless `override` says otherwise."""
    try:
        found = parsed(certificate.sink)
    except ValueError:
        raise OperatorError(f"{certificate.path} has no valid sink address: {certificate.sink!r}") from None
    if not override:
        return found
    try:
        return parsed(override, found[0])
    except ValueError:
        raise OperatorError(
            f"{override!r} is not a sink address: give HOST or HOST:PORT, several with commas between them"
        ) from None


class SinkLink:
    """`receive` and `tick` drive it; `receiver` gets each message once joined, `Welcome` included.

    They raise OperatorError when the sink refuses this peer for good.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        certificate: Certificate,
        addresses: list[Address],
        name: str,
        receiver: Callable[[FromSink], None],
        timing: Timing,
    ) -> None:
        self.host = addresses[0][0]
        """Of the sink that is dialled now."""
        self._certificate = certificate
        self._addresses = addresses
        is_key_files_own = addresses == sink_addresses(certificate, None)
        self._read_again_at = clock.now() + timing.beat_s if is_key_files_own else None
        """When to look in the key file again, if the address is its own."""
        self._timing = timing
        self._receiver = receiver
        self._awaits_welcome = False
        """What comes is for whoever had the link before."""
        endpoints = [sockets.endpoint(*address) for address in addresses]
        self._rules = Handshake(timing, certificate.role, name, endpoints, str(certificate.path))
        self._context = context
        self._poll: polling.Poll | None = None
        self._lookups: dict[str, monitor.NameLookup] = {}
        self._dial(0)

    def _dial(self, place: int) -> None:
        self.host, port = self._addresses[place]
        self._socket = sockets.control_client(self._context, self._certificate)
        self._watch = monitor.LinkMonitor(self._socket, self._lookups)
        self._socket.connect(sockets.endpoint(self.host, port))

    @property
    def welcome(self) -> Welcome | None:
        """The sink's last welcome."""
        return self._rules.welcome

    def waiting_for(self) -> str:
        """What keeps the sink from answering, and what to do, in words."""
        return self._rules.waiting_for()

    def away(self) -> bool:
        """True while the sink is not there or says nothing."""
        return self._rules.away(clock.now())

    def register(self, poll: polling.Poll) -> None:
        """Let `poll` drive the link."""
        self._poll = poll
        poll.register(self._watch.socket, self._take_events)
        poll.register(self._socket, self._receive)

    def release(self) -> None:
        """Leave the sink, and keep the connection for whoever takes it over, in another thread perhaps."""
        self._say_goodbye()
        self._rules.leave()
        if self._poll is not None:
            self._poll.unregister(self._watch.socket)
            self._poll.unregister(self._socket)
            self._poll = None

    def take_over(self, receiver: Callable[[FromSink], None]) -> None:
        """Give what comes from the next welcome on to another receiver."""
        self._receiver = receiver
        self._awaits_welcome = True

    def send(self, message: Message) -> bool:
        """Send to the sink if it is there now. A caller that needs more must repeat it."""
        try:
            sockets.send(self._socket, encode(message), zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._rules.said(clock.now())
        return True

    def tick(self) -> None:
        """Do what time asks for."""
        self._perform(self._rules.tick(clock.now()))
        now, due_at = clock.now(), self._read_again_at
        if self.welcome is None and due_at is not None and now >= due_at:
            self._read_again_at = now + self._timing.beat_s
            self._follow_key_file()

    def _follow_key_file(self) -> None:
        """A sink on this machine that was started after us, at other ports than before, says so in our key file."""
        if is_missing(self._certificate.path):
            return
        addresses = sink_addresses(load_pair(self._certificate.path, self._certificate.role), None)
        if addresses != self._addresses:
            self._addresses = addresses
            self._perform(self._rules.moved([sockets.endpoint(*address) for address in addresses]))

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = [self._rules.deadline(), self._read_again_at if self.welcome is None else None]
        return min((instant for instant in instants if instant is not None), default=None)

    def close(self) -> None:
        """Say goodbye and let go; what was sent has half a second to leave."""
        self._say_goodbye()
        self._watch.close()
        self._socket.close()

    def _say_goodbye(self) -> None:
        if self._rules.joined:
            self.send(Goodbye())

    def _take_events(self) -> None:
        for seen, _, _ in self._watch.events():
            self._perform(self._rules.event(clock.now(), seen))

    def _receive(self) -> None:
        for _, content in sockets.drain(self._socket):
            try:
                message = decode_from_sink(content)
            except ProtocolError as error:
                log.warning("the sink sent an invalid message: %s", error)
                continue
            self._perform(self._rules.receive(clock.now(), message))
            self._awaits_welcome = self._awaits_welcome and not isinstance(message, Welcome)
            if not self._awaits_welcome:
                self._receiver(message)

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Fail):
                raise OperatorError(output.text)
            if isinstance(output, LogLine):
                write(log, output)
            elif isinstance(output, Redial):
                self._redial(output.place)
            else:
                self.send(output)

    def _redial(self, place: int) -> None:
        assert self._poll is not None
        self._poll.unregister(self._watch.socket)
        self._poll.unregister(self._socket)
        self._watch.close()
        self._socket.close()
        self._dial(place)
        self.register(self._poll)


def wait_for_pair(
    path: Path,
    role: str,
    poll: polling.Poll,
    patient: bool,
    stopped: Callable[[], bool],
    timing: Timing,
    most_s: float | None = None,
) -> Certificate | None:
    """The key file; when `patient`, once the sink has made it, or None when `stopped` first. Says what it waits for.

    Raises OperatorError when the file is missing, after `most_s` seconds if it is waited for, or cannot be used.
    """
    voice_at = clock.now() + 1
    give_up_at = None if most_s is None else clock.now() + most_s
    text = f"no key file {path} yet: start the sink in this folder (python sink.py), or give one with --key"
    while patient and is_missing(path):
        if stopped():
            return None
        if give_up_at is not None and clock.now() >= give_up_at:
            raise OperatorError(text)
        if clock.now() >= voice_at:
            log.warning(f"{text}; waiting")
            voice_at = clock.now() + 2 * timing.voice_s
        poll.wait(clock.now() + 0.2)
    return load_pair(path, role)
