"""Where batches are pushed: to the workers that connect here, or to the sink's relay, to which they connect."""

import logging
from collections.abc import Callable
from typing import Any

import zmq

from .. import descriptors
from ..protocol.handshake import LinkEvent
from ..protocol.settings import MORE_TASKS_PORTS, TASKS_PORT
from ..transport import sockets
from ..transport.door import Door
from ..transport.key_files import Certificate
from ..transport.monitor import LinkMonitor
from ..transport.polling import Poll
from ..transport.zap import ADMITTED, REFUSED_FOR_NOW, ZapHandler
from .admission import Admission

log = logging.getLogger(__name__)


class _Bound:
    """The socket to which workers connect, and who may."""

    def __init__(self, context: zmq.Context[Any], certificate: Certificate, poll: Poll, admission: Admission) -> None:
        self._admission = admission
        # The handler stands before the first socket that needs it.
        self.gate = ZapHandler(context, self._judge, self._say_refused)
        self.socket = sockets.tasks_server(context, certificate)
        self._door = Door(descriptors.raise_limit(), self.socket)
        poll.register(self.gate.socket, self.gate.answer)
        self._door.register(poll)

    def cut(self, living: int) -> None:
        """Hang up on all if more are connected than live."""
        self._door.cut_off(self.socket, living)

    def tick(self, now: float) -> None:
        """Look after connections, and after keys that wait."""
        self._door.tick()
        self.gate.tick(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = (self.gate.deadline(), self._door.deadline())
        return min((at for at in instants if at is not None), default=None)

    def _judge(self, domain: str, key: str, address: str, has_waited: bool) -> str | None:
        admitted = self._admission.judge(key)
        if admitted is None and not has_waited:
            return None
        self._door.showed_key(address)
        return ADMITTED if admitted else REFUSED_FOR_NOW

    def _say_refused(self, domain: str, key: str, address: str) -> None:
        log.debug("refused key %s... from %s for now: no worker is at the sink with it", key[:8], address)

    def close(self) -> None:
        self._door.close()
        self.socket.close()
        self.gate.close()


class TasksLink:
    """Begins with neither: `listen` or `use_relay` comes before the first push."""

    def __init__(self, context: zmq.Context[Any], certificate: Certificate, poll: Poll, admission: Admission) -> None:
        self._context = context
        self._admission = admission
        self._certificate = certificate
        self._poll = poll
        self._bound: _Bound | None = None
        self._port = 0
        self._relay: zmq.Socket[bytes] | None = None
        self._relay_watch: LinkMonitor | None = None
        self._relay_at = ""

    def listen(self, host: str, port: int | None, is_private: bool) -> int:
        """Listen for workers, unless that is done already; returns the port."""
        if self._port:
            return self._port
        self._bound = _Bound(self._context, self._certificate, self._poll, self._admission)
        if is_private and port is None:
            # Its only worker is told the port: nobody need know it.
            self._port = sockets.bind(self._bound.socket, host, 0, "--port")
        elif port is None:
            self._port = sockets.bind(self._bound.socket, host, TASKS_PORT, "--port", MORE_TASKS_PORTS)
            if self._port != TASKS_PORT:
                log.info("port %d is in use: workers find this ventilator at port %d", TASKS_PORT, self._port)
        else:
            self._port = sockets.bind(self._bound.socket, host, port, "--port")
        return self._port

    def use_relay(self, host: str, port: int, is_up: Callable[[bool], object]) -> None:
        """Push to the relay from now on; `is_up` is told when its connection comes and goes."""
        at = sockets.endpoint(host, port)
        if at == self._relay_at:
            return
        self.wait_for_room(False)
        self._close_relay()
        self._relay_at = at
        self._relay = sockets.relay_client(self._context, self._certificate)
        self._relay_watch = watch = LinkMonitor(self._relay)

        def look() -> None:
            for event, _, _ in watch.events():
                is_up(event is LinkEvent.CONNECTED)

        self._poll.register(watch.socket, look)
        self._relay.connect(at)

    def push(self, content: bytes) -> bool:
        """Push a batch; False when there is no room for it now."""
        try:
            if self._relay is not None:
                sockets.send(self._relay, content, zmq.DONTWAIT)
            else:
                assert self._bound is not None
                self._bound.socket.send(content, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def wait_for_room(self, wanted: bool) -> None:
        """Wait for room too, or no longer."""
        made = self._relay or (self._bound.socket if self._bound is not None else None)
        if made is None:
            return
        self._poll.unregister(made)
        if wanted:
            self._poll.register(made, lambda: None, zmq.POLLOUT)

    def ask_again(self) -> None:
        """Others may be admitted now."""
        if self._bound is not None:
            self._bound.gate.ask_again()

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._bound is not None:
            self._bound.tick(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return None if self._bound is None else self._bound.deadline()

    def cut(self, living: int) -> None:
        """Cut all workers' connections if more are connected than live; at the relay, the sink does that."""
        if self._bound is not None and self._relay is None:
            self._bound.cut(living)

    def close(self) -> None:
        """Let go of all."""
        self._close_relay()
        if self._bound is not None:
            self._bound.close()

    def _close_relay(self) -> None:
        if self._relay is not None and self._relay_watch is not None:
            self._poll.unregister(self._relay)
            self._poll.unregister(self._relay_watch.socket)
            self._relay_watch.close()
            self._relay.close()
