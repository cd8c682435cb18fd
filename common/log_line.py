"""A line that pure rules want logged; the loop of the role writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log this text at this level (debug, info, warning, error)."""

    level: str
    text: str


class LineBudget:
    """Bounds by time what others can make us log: at most this many lines a minute. Those left out are counted."""

    def __init__(self, a_minute_max: int) -> None:
        self._a_minute_max = a_minute_max
        self._began_at = float("-inf")
        self._count = 0

    def say(self, now: float, text: str) -> list[str]:
        """The lines to log for one more event: what was left out before, and its own unless there were too many."""
        left_out: list[str] = []
        if now >= self._began_at + 60:
            if self._count > self._a_minute_max:
                left_out.append(f"{self._count - self._a_minute_max} more like the last lines were not logged")
            self._began_at, self._count = now, 0
        self._count += 1
        return [*left_out, text] if self._count <= self._a_minute_max else left_out
