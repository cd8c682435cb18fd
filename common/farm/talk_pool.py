"""The connections with which a farm asks its sink. They are kept: the sink counts how often a key connects."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..transport.sink_talk import SinkTalk

_IDLE_MAX = 4


class TalkPool:
    """Each talk is used by one thread at a time."""

    def __init__(self, make: Callable[[float], SinkTalk]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[SinkTalk] = []
        self._is_closed = False

    @contextmanager
    def talk(self, join_s: float) -> Iterator[SinkTalk]:
        """A talk, kept afterwards unless it has failed. A new one has `join_s` seconds to join, once it is asked.

        Raises RuntimeError when the farm is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this farm is closed: take results before it is, inside its `with` block")
            talk = self._idle.pop() if self._idle else None
        if talk is None:
            talk = self._make(join_s)
        is_sound = False
        try:
            yield talk
            is_sound = True
        except GeneratorExit:
            is_sound = True
            raise
        finally:
            with self._lock:
                if keeps := is_sound and not self._is_closed and len(self._idle) < _IDLE_MAX:
                    self._idle.append(talk)
            if not keeps:
                talk.close()

    def close(self) -> None:
        """Close those that nobody uses, and the others when they come back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for talk in idle:
            talk.close()
