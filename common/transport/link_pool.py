"""Control links that several jobs use, one after another: so a program with many short jobs needs few handshakes."""

import threading

import zmq

from ..protocol.messages import FromSink
from ..protocol.settings import Timing
from . import clock, sockets
from .key_files import Certificate
from .sink_link import SinkLink, sink_addresses

_IDLE_MAX = 4
_IDLE_S = 5.0


class LinkPool:
    """Each link is used by one job at a time. An idle one has left the sink; it is kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._idle: list[tuple[SinkLink, float]] = []
        """Each with the instant when it was given back."""
        self._used_count = 0
        self._is_closed = False

    def reserve(self) -> SinkLink | None:
        """A link that is connected to the sink, if there is one."""
        with self._lock:
            self._drop_old()
            if not self._idle:
                return None
            self._used_count += 1
            return self._idle.pop()[0]

    def make(self, certificate: Certificate, sink: str | None) -> SinkLink:
        """A new link. Raises OperatorError when the sink's address is none."""
        addresses = sink_addresses(certificate, sink)
        with self._lock:
            if self._context is None:
                self._context = zmq.Context()
            name = f"ventilator.{sockets.process_tag()}"
            made = SinkLink(self._context, certificate, addresses, name, _ignore, Timing())
            self._used_count += 1
            return made

    def give_back(self, link: SinkLink, is_clean: bool) -> None:
        """Its job has ended. It is kept when that `is_clean`."""
        with self._lock:
            self._used_count -= 1
            self._drop_old()
            if is_clean and not self._is_closed and len(self._idle) < _IDLE_MAX:
                link.take_over(_ignore)
                self._idle.append((link, clock.now()))
            else:
                link.close()
            self._end_context()

    def close(self) -> None:
        """Close those that no job uses, and the others when they come back."""
        with self._lock:
            self._is_closed = True
            for link, _ in self._idle:
                link.close()
            self._idle.clear()
            self._end_context()

    def _drop_old(self) -> None:
        """Nobody reads what an idle link's monitor says."""
        old_at = clock.now() - _IDLE_S
        old = [link for link, at in self._idle if at < old_at]
        self._idle = [(link, at) for link, at in self._idle if at >= old_at]
        for link in old:
            link.close()

    def _end_context(self) -> None:
        # It waits for all sockets: that of a job that was left alone may stay.
        if self._is_closed and not self._used_count and self._context is not None:
            self._context.term()
            self._context = None


class JobLink:
    """The link of one job, which knows when it is no longer needed."""

    def __init__(self, pool: LinkPool, certificate: Certificate, sink: str | None) -> None:
        self.certificate = certificate
        self.is_clean = False
        """The job has ended without an error: the sink has nothing against it."""
        self.link: SinkLink | None = None
        self._pool = pool
        self._sink = sink

    def reserve(self) -> bool:
        """Take one that is connected already, if there is one."""
        self.link = self._pool.reserve()
        return self.link is not None

    def get(self) -> SinkLink:
        """The one that was reserved, or a new one. Raises OperatorError when the sink's address is none."""
        if self.link is None:
            self.link = self._pool.make(self.certificate, self._sink)
        return self.link

    def give_back(self) -> None:
        """The job has ended."""
        if self.link is not None:
            self._pool.give_back(self.link, self.is_clean)
            self.link = None


def _ignore(message: FromSink) -> None:
    """There is no job."""
