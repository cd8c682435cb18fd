"""The ZAP handler (ZeroMQ RFC 27): which keys may connect to which of this process's sockets."""

from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

REFUSED_FOR_GOOD = "400"
REFUSED_FOR_NOW = "300"
_VERSION = b"1.0"


class ZapHandler:
    """Answers libzmq's question for each new connection; without it a CURVE server would admit every key.

    `admit` gets the socket's domain and the client's public key (Z85) and says whether it may connect; `refused` gets
    the same and the client's address when it may not. The User-Id of an admitted connection is its key.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        admit: Callable[[str, str], bool],
        refused: Callable[[str, str, str], None],
        refusal: str,
    ) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.socket.linger = 0
        # An inproc socket cannot be reached from outside this process, so this one has no CURVE.
        self.socket.bind("inproc://zeromq.zap.01")
        self._admit = admit
        self._refused = refused
        self._refusal = refusal

    def answer(self) -> None:
        """Answer every question that has come."""
        while True:
            try:
                question = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self.socket.send_multipart(self._verdict(question))

    def _verdict(self, question: list[bytes]) -> list[bytes]:
        _, request, domain, address, _, mechanism, *credentials = question
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            key = z85.encode(credentials[0]).decode()
            if self._admit(domain.decode(), key):
                return [_VERSION, request, b"200", b"", key.encode(), b""]
            self._refused(domain.decode(), key, address.decode().removeprefix("::ffff:"))
        return [_VERSION, request, self._refusal.encode(), b"refused", b"", b""]

    def close(self) -> None:
        """To be called after the last server socket was closed."""
        self.socket.close()
