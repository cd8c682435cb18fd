"""What the ventilator shows while a job runs: a progress line on a terminal, log lines elsewhere."""

import logging
import os
import sys

from .. import console
from ..pace import Pace
from .progress_line import Style, for_terminal, in_words
from .summary import Standing

log = logging.getLogger(__name__)

_LOG_S = 10.0
_SHOW_S = 0.2


class ProgressDisplay:
    """Shows a job's standing now and then; `now` is monotonic seconds."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._show_at = 0.0
        self._log_at: float | None = None
        self._pace = Pace()
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and console.log_format() == "text"

    def show(self, now: float, standing: Standing) -> None:
        """Show it, unless that was done a moment ago."""
        if now < self._show_at:
            return
        self._show_at = now + _SHOW_S
        if standing.is_counted:
            self._pace.note(now, standing.done)
        rate = self._pace.rate(now)
        if self._is_terminal:
            console.show_status(for_terminal(standing, rate, self._job, _style()))
        elif self._log_at is None:
            self._log_at = now + _LOG_S
        elif now >= self._log_at:
            self._log_at = now + _LOG_S
            log.info("job %s: %s", self._job, in_words(standing, rate))

    def deadline(self) -> float:
        """When there is something new to show."""
        return self._show_at

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._is_terminal:
            console.show_status("")


def _style() -> Style:
    """Of the terminal as it is now: its window may have been resized."""
    try:
        columns = os.get_terminal_size(2).columns
    except OSError:
        columns = 0
    is_ascii = not sys.stderr.encoding.lower().startswith("utf")
    return Style(columns or 80, "NO_COLOR" not in os.environ, is_ascii)
