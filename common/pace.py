"""How fast something goes, and how times and rates are written for people. No socket, no clock."""

from collections import deque


class Pace:
    """Tasks in a second, from the last seconds, or from the last tasks where these took longer. `now` is in seconds."""

    _SPAN_S = 5.0
    _TASKS = 10

    def __init__(self) -> None:
        self._history: deque[tuple[float, int]] = deque()
        """When which count was reached."""

    def note(self, now: float, done: int) -> None:
        """This many tasks are done now."""
        history = self._history
        if not history or done != history[-1][1]:
            history.append((now, done))
        while len(history) > 2 and history[1][0] <= now - self._SPAN_S and history[1][1] <= done - self._TASKS:
            history.popleft()

    def rate(self, now: float) -> float:
        """Tasks in a second; 0 while nothing is known."""
        if not self._history:
            return 0.0
        (then, before), (_, done) = self._history[0], self._history[-1]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0


def duration(seconds: float) -> str:
    """Seconds for people."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.2g} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400:,} d {whole % 86400 // 3600:02} h"


def rate_text(rate: float) -> str:
    """A rate for people: slow ones by the minute or the hour."""
    if not rate or rate >= 1:
        return f"{rate:,.0f}/s" if not rate or rate >= 100 else f"{rate:.1f}/s"
    return f"{rate * 60:.1f}/min" if rate * 60 >= 1 else f"{rate * 3600:.2g}/h"
