"""A line that pure rules want logged; the loop of the role writes it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log this text at this level (debug, info, warning, error)."""

    level: str
    text: str


def write(log: Any, line: LogLine) -> None:
    """Write the line to this logger of the standard library."""
    getattr(log, line.level)(line.text)


class PerMinute:
    """Counts what happens within a minute. The first event after a minute begins the next one."""

    def __init__(self) -> None:
        self._began_at = float("-inf")
        self.count = 0
        """How many there were in the minute of the last one."""

    def one_more(self, now: float) -> int:
        """The number of this event within its minute, from 1 on."""
        if now >= self._began_at + 60:
            self._began_at, self.count = now, 0
        self.count += 1
        return self.count


class LineBudget:
    """Bounds by time what others can make us log: at most this many lines a minute. Those left out are counted."""

    def __init__(self, a_minute_max: int) -> None:
        self._a_minute_max = a_minute_max
        self._minute = PerMinute()
        self._left_out_count = 0

    def say(self, now: float, text: str, always: bool = False) -> list[str]:
        """The lines to log for one more event: what was left out before, and its own unless there were too many.

        `always` logs it all the same: the caller has another bound for it.
        """
        count = self._minute.one_more(now)
        lines = self.left_out() if count == 1 or always else []
        if always or count <= self._a_minute_max:
            return [*lines, text]
        self._left_out_count += 1
        return lines

    def left_out(self) -> list[str]:
        """What to log of those that were left out since this was said last."""
        count, self._left_out_count = self._left_out_count, 0
        return [f"{count} more like the last lines were not logged"] if count else []

    def warn(self, log: Any, now: float, text: str) -> None:
        """Write these lines to this logger, as warnings."""
        for line in self.say(now, text):
            write(log, LogLine("warning", line))
