"""The ZAP handler (ZeroMQ RFC 27): which keys may connect to which of this process's sockets."""

from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

from . import clock
from .doorstep import HANDSHAKE_S

ADMITTED = "200"
REFUSED_FOR_GOOD = "400"
REFUSED_FOR_NOW = "300"
_VERSION = b"1.0"


class ZapHandler:
    """Answers libzmq's question for each new connection; without it a CURVE server would admit every key.

    `judge` gets the socket's domain, the client's public key (Z85) and its address, and gives one of the verdicts
    above, or None when it must look first: `ask_again` asks it once more, and `answer_waiting` for the last time, with
    True as its last argument. Where nothing is looked up, but awaited, `tick` does that.
    `refused` gets domain, key and address when it is not admitted. The User-Id of an admitted connection is its key.
    """

    WAITING_MAX = 1_000
    """At most how many questions wait for a look. Others are told to come again."""

    def __init__(
        self,
        context: zmq.Context[Any],
        judge: Callable[[str, str, str, bool], str | None],
        refused: Callable[[str, str, str], None],
    ) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        # Each question gets its answer, however many connections ask at once.
        self.socket.rcvhwm = self.socket.sndhwm = 0
        # An inproc socket cannot be reached from outside this process, so this one has no CURVE.
        self.socket.bind("inproc://zeromq.zap.01")
        self._judge = judge
        self._refused = refused
        self._waiting: list[list[bytes]] = []
        self._waits_since = clock.now()

    @property
    def waiting(self) -> bool:
        """True while a question waits for `answer_waiting`."""
        return bool(self._waiting)

    def answer(self) -> None:
        """Answer every question that has come, except those that must wait."""
        while True:
            try:
                question = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._answer(question, False)

    def ask_again(self) -> None:
        """Answer those of the questions that wait which can be answered now."""
        self._answer_all(False)

    def answer_waiting(self) -> None:
        """Answer the questions that waited."""
        self._answer_all(True)

    def tick(self, now: float) -> None:
        """Answer those that have waited for as long as a handshake may take: libzmq has ended their connections."""
        if not self._waiting:
            self._waits_since = now
        elif now >= self._waits_since + HANDSHAKE_S:
            self._waits_since = now
            self.answer_waiting()

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return self._waits_since + HANDSHAKE_S if self._waiting else None

    def _answer_all(self, has_waited: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            self._answer(question, has_waited)

    def _answer(self, question: list[bytes], has_waited: bool) -> None:
        asker, _, _, request, domain, address, _, mechanism, *credentials = question
        verdict: str | None = REFUSED_FOR_GOOD
        user = b""
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            key = z85.encode(credentials[0]).decode()
            where = address.decode().removeprefix("::ffff:")
            verdict = self._judge(domain.decode(), key, where, has_waited)
            if verdict is None and not has_waited and len(self._waiting) < self.WAITING_MAX:
                self._waiting.append(question)
                return
            if verdict == ADMITTED:
                user = key.encode()
            else:
                self._refused(domain.decode(), key, where)
        code = verdict or REFUSED_FOR_NOW
        text = b"" if verdict == ADMITTED else b"refused"
        self.socket.send_multipart([asker, b"", _VERSION, request, code.encode(), text, user, b""])

    def close(self) -> None:
        """To be called after the last server socket was closed."""
        self.socket.close()
