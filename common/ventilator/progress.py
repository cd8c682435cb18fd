"""What the ventilator shows while a job runs: a progress line on a terminal, log lines elsewhere."""

import logging
import sys
from typing import TYPE_CHECKING

from .summary import Standing, duration

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger(__name__)

_LOG_S = 10.0
_SHOW_S = 0.2
_RATE_S = 5.0


def _bar() -> "Progress":
    # Imported here, and not above: that takes as long as all the rest of the command.
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[line]}"),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )


class ProgressDisplay:
    """Shows a job's standing now and then; `now` is monotonic seconds."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._show_at = 0.0
        self._log_at: float | None = None
        self._history: list[tuple[float, int]] = []
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(job, total=None, line="")
            self._bar.start()

    def show(self, now: float, standing: Standing) -> None:
        """Show it, unless that was done a moment ago."""
        if now < self._show_at:
            return
        self._show_at = now + _SHOW_S
        self._history.append((now, standing.done))
        while len(self._history) > 2 and self._history[0][0] < now - _RATE_S:
            self._history.pop(0)
        line = self._line(standing)
        if self._bar is not None:
            self._bar.update(self._task, completed=standing.done, total=standing.total, line=line)
        elif self._log_at is None:
            self._log_at = now + _LOG_S
        elif now >= self._log_at:
            self._log_at = now + _LOG_S
            of = "" if standing.total is None else f" of {standing.total}"
            log.info("job %s: %d%s done, %s", self._job, standing.done, of, line)

    def deadline(self) -> float:
        """When there is something new to show."""
        return self._show_at

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, standing: Standing) -> str:
        (then, before), (now, done) = self._history[0], self._history[-1]
        rate = (done - before) / (now - then) if now > then else 0.0
        parts = [f"{standing.failed} failed", f"{standing.outstanding} batches outstanding", f"{rate:,.0f}/s"]
        if rate and standing.total is not None:
            parts.append(f"{duration((standing.total - done) / rate)} left")
        parts.append(f"crew {standing.crew} with {standing.slots} slots")
        return ", ".join(parts)
