"""The relay: tasks of ventilators that no worker can connect to come in at one port and go out at another.

A thread of its own passes them on, so that a flood of tasks and the sink's commits do not wait for each other. Who may
connect is decided in the sink's thread, like on its other links.
"""

import logging
import socket
import threading
from collections.abc import Callable

import zmq

from ..protocol.settings import MORE_TASKS_PORTS, RELAY_PORT, RELAYED_TASKS_PORT, Timing
from ..transport import clock, polling, sockets
from ..transport.door import Door
from ..transport.key_files import Certificate
from ..transport.zap import ZapHandler
from .relay_queue import RelayQueue

log = logging.getLogger(__name__)

_FRAMES_A_TURN = 1_000
_SENT_A_TURN = 1_000
BYTES_OF_A_KEY_MAX = 128 * 1024 * 1024
"""At most how much the relay holds of one ventilator's key."""


class Relay:
    """Its sockets are in a context of their own: the encryption of tasks has an I/O thread beside the other links'."""

    def __init__(
        self,
        pair: Certificate,
        timing: Timing,
        judge: Callable[[str, str, str, bool], str | None],
        refused: Callable[[str, str, str], None],
    ) -> None:
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self.gate = ZapHandler(self._context, judge, refused)
        self.incoming = sockets.relay_server(self._context, pair)
        self.outgoing = sockets.tasks_server(self._context, pair)
        self._inbox = sockets.Inbox(self.incoming, _FRAMES_A_TURN)
        self._queue = RelayQueue(timing.lease_s, BYTES_OF_A_KEY_MAX)
        self._ventilators: frozenset[str] = frozenset()
        self._workers: frozenset[str] = frozenset()
        self._present: frozenset[str] = frozenset()
        self._ours, self._theirs = socket.socketpair()
        self._stops = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self, listen: str, port: int | None, tasks_port: int | None) -> tuple[int, int]:
        """Listen and begin; returns the ports. Where None is given, a free one is taken if the usual one is in use."""
        found = tuple(
            sockets.bind(
                made, listen, usual if given is None else given, option, MORE_TASKS_PORTS if given is None else ()
            )
            for made, usual, given, option in (
                (self.incoming, RELAY_PORT, port, "--relay-port"),
                (self.outgoing, RELAYED_TASKS_PORT, tasks_port, "--tasks-port"),
            )
        )
        self._thread.start()
        return found[0], found[1]

    def admit(self, door: Door, ventilators: frozenset[str], workers: frozenset[str]) -> None:
        """Only these keys may stay; where one is missing that was there before, all have to connect again."""
        gone = self._ventilators - ventilators, self._workers - workers
        self._ventilators, self._workers = ventilators, workers
        for made, keys in zip((self.incoming, self.outgoing), gone, strict=True):
            if keys:
                door.hang_up_on(made)

    def cut_off(self, door: Door, address: str | None, living: int) -> None:
        """Hang up on the workers at this address, or on all, if more are connected than live there."""
        door.cut_off(self.outgoing, living, address)

    def let_in(self, keys: frozenset[str]) -> None:
        """Workers with these keys are here: only they may pull."""
        self._present = keys
        self.gate.ask_again()

    def is_present(self, key: str) -> bool:
        """Whether a worker with this key is here; if it is about to join, its connection waits for that."""
        return key in self._present

    def check(self) -> None:
        """Raise what has ended the thread, if it has ended."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the thread; to be called before its sockets are no longer watched."""
        self._stops = True
        self._theirs.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """To be called after `stop`, and when the sockets are no longer watched."""
        self.incoming.close()
        self.outgoing.close()
        self.gate.close()
        self._context.term()
        self._ours.close()
        self._theirs.close()

    # -- in its thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._pass_on()
        except BaseException as error:
            self._failure = error

    def _pass_on(self) -> None:
        poll = polling.Poll()
        poll.register(self._ours, lambda: None)
        poll.register(self.incoming, self._take)
        waits = False
        while not self._stops:
            poll.wait(self._queue.deadline())
            blocked = self._give()
            if words := self._queue.words(clock.now()):
                log.warning("%s", words)
            if blocked != waits:
                waits = blocked
                if blocked:
                    poll.register(self.outgoing, lambda: None, zmq.POLLOUT)
                else:
                    poll.unregister(self.outgoing)

    def _take(self) -> None:
        for arrived in self._inbox.take():
            key = sockets.user_id(arrived.frame)
            # A key that was struck out may have been on the way.
            if key in self._ventilators and arrived.content:
                self._queue.put(clock.now(), key or "", bytes(arrived.content))

    def _give(self) -> bool:
        """Send what is held; True when no connection has room for the next one."""
        for _ in range(_SENT_A_TURN):
            content = self._queue.next(clock.now())
            if content is None:
                return False
            try:
                self.outgoing.send(content, zmq.DONTWAIT)
            except zmq.Again:
                return True
            self._queue.sent()
        return True
