"""One host of a crew: what is shown of what its worker says, how it ended, and when it is tried again."""

from collections import deque

from ..errors import ExitCode
from ..log_line import LineBudget, LogLine, PerMinute
from ..pace import duration
from .remote import Way
from .why import WORKERS_OWN, why

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""How long to wait before a host is tried again; the last one from then on."""
_KEPT_LINES = 20
LINES_A_MINUTE_MAX = 6_000
"""How many lines of a host are shown within a minute. Tasks may print without end.

That leaves out none of the worker's own lines, which say why it ends: up to as many of them are always shown.
"""


class CrewHost:
    """The rules for a host. `retry_at` says when to start its ssh again, None when that is over."""

    def __init__(self, host: str, way: Way) -> None:
        self.name = host
        self.retry_at: float | None = None
        self.has_failed = False
        """Its worker ended by an error that would be the same if it were started again."""
        self._way = way
        self._is_up = False
        self._has_joined = False
        self._failures = 0
        self._said = ""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._shown = LineBudget(LINES_A_MINUTE_MAX)
        self._own = PerMinute()

    @property
    def is_up(self) -> bool:
        """Whether the worker has begun, in this attempt."""
        return self._is_up

    def began(self) -> None:
        """Its ssh was started."""
        self._is_up = self._has_joined = False
        self._lines.clear()

    def line(self, now: float, text: str) -> list[str]:
        """A line that came from there; returns what to show, nothing for what only counts when it fails."""
        self._lines.append(text)
        is_own = WORKERS_OWN.match(text) is not None
        self._is_up = self._is_up or is_own
        self._has_joined = self._has_joined or (self._is_up and "joined the sink" in text)
        if not self._is_up:
            return []
        always = is_own and self._own.one_more(now) <= LINES_A_MINUTE_MAX
        return self._named(self._shown.say(now, text, always))

    def left_out(self) -> list[str]:
        """What to show when it has ended: how many lines were left out since that was said last."""
        return self._named(self._shown.left_out())

    def _named(self, lines: list[str]) -> list[str]:
        return [f"{self.name}: {line}" for line in lines]

    def ended(self, now: float, code: int, leaves: bool) -> LogLine | None:
        """Its ssh has ended with this code; `leaves` says that it was told to."""
        self.retry_at = None
        if code == ExitCode.OK and self._is_up:
            return LogLine("info", f"{self.name}: its worker has left")
        cause = why(self.name, self._way, code, self._lines, self._is_up)
        if leaves:
            # Below 0 it was this command that has ended it.
            return LogLine("warning", str(cause)) if code >= 0 else None
        if code == ExitCode.WRONG_USE and self._is_up:
            self.has_failed = True
            return LogLine("error", f"{self.name}: its worker ends, and is not started again, as that would not help")
        self._failures = 0 if self._has_joined else self._failures
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self.retry_at = now + pause_s
        is_new, self._said = str(cause) != self._said or self._has_joined, str(cause)
        # The same once more is no news.
        return LogLine("warning" if is_new else "debug", f"{cause}; trying again in {duration(pause_s)}")
