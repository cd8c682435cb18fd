"""How fast a program begins jobs that connect to the sink, which takes 2,000 connections of a key a minute."""

from collections import deque

_A_MINUTE_MAX = 1_500


class StartPace:
    """At most this many jobs a minute. `now` is monotonic seconds."""

    def __init__(self, a_minute_max: int = _A_MINUTE_MAX) -> None:
        self._begun: deque[float] = deque(maxlen=a_minute_max)

    def delay_s(self, now: float) -> float:
        """One more job is to begin: in how many seconds."""
        at = now
        if len(self._begun) == self._begun.maxlen:
            at = max(now, self._begun[0] + 60)
        self._begun.append(at)
        return at - now
