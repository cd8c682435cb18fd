"""Looks at the sink and at the allocations again and again, and performs what the rules decide."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ..errors import ExitCode, OperatorError
from ..log_line import write
from ..plain_text import one_line
from ..protocol.messages import Query, Report
from ..protocol.users import WORKER
from ..transport import clock, polling
from ..transport.sink_talk import SinkTalk
from .allocations import IN_USE, Condition
from .keeping import Blame, Keeper, Output, Start

log = logging.getLogger(__name__)

_LAST_LINES, _LAST_BYTES = 3, 4096


class Pool(Protocol):
    """Where workers are started."""

    def start(self, count: int) -> list[str]:
        """Start workers; their names. Raises OperatorError."""

    def conditions(self) -> Mapping[str, Condition]:
        """How those stand that are known, by their names. Raises OperatorError."""

    def log(self, worker: str) -> Path:
        """The file in which this worker logs."""

    def left_behind(self) -> str:
        """What becomes of the workers when nobody keeps the crew any longer."""


class _Stopped(Exception):
    """A signal came while the sink was asked."""


class KeepLoop:
    """Keeps one crew until a signal comes."""

    def __init__(self, keeper: Keeper, pool: Pool, key: Path, sink: str | None, every_s: float) -> None:
        self._keeper = keeper
        self._pool = pool
        self._key = key
        self._sink = sink
        self._every_s = every_s
        self._talk: SinkTalk | None = None
        self._signals = polling.Signals()
        self._poll = polling.Poll()
        self._poll.register(self._signals, lambda: None)

    def run(self) -> ExitCode:
        """Look until a signal comes."""
        try:
            while not self._signals.received():
                next_at = clock.now() + self._every_s
                self._look()
                self._poll.wait(next_at)
        except _Stopped:
            self._signals.received()
        finally:
            self._hang_up()
        log.info("leaving: %s", self._pool.left_behind())
        return ExitCode.OK

    def wait_for(self, workers: "Leaving") -> None:
        """Wait until the workers, which were told to leave, have left; a signal makes them do so at once."""
        while any(condition in IN_USE for condition in workers.conditions().values()):
            self._poll.wait(clock.now() + 0.1)
            if self._signals.received():
                workers.leave(at_once=True)

    def _look(self) -> None:
        report = self._report()
        # Of the report: Slurm may take a minute for the rest.
        now = clock.now()
        try:
            seen: Mapping[str, Condition] | str = self._pool.conditions()
        except OperatorError as error:
            seen = str(error)
        for output in self._keeper.look(now, seen, report):
            self._perform(output)

    def _perform(self, output: Output) -> None:
        if isinstance(output, Start):
            try:
                self._keeper.started(self._pool.start(output.count))
            except OperatorError as error:
                for line in self._keeper.refused(clock.now(), str(error)):
                    self._perform(line)
        elif isinstance(output, Blame):
            path = self._pool.log(output.allocation)
            getattr(log, output.level)("%s\n%s", output.text, last_lines(path))
        else:
            write(log, output)

    def _report(self) -> Report | str:
        """What the sink reports, or why it does not."""
        try:
            if self._talk is None:
                self._talk = SinkTalk(self._key, (WORKER,), self._sink)
                self._talk.watch(self._signals, self._stop)
            return self._talk.ask_once(Query(), Report)
        except OperatorError as error:
            self._hang_up()
            return str(error)

    def _stop(self) -> None:
        raise _Stopped

    def _hang_up(self) -> None:
        if self._talk is not None:
            self._talk.close()
            self._talk = None


class Leaving(Protocol):
    """Workers that leave when they are told to."""

    def conditions(self) -> Mapping[str, Condition]:
        """How they stand, by their names."""

    def leave(self, at_once: bool) -> None:
        """Tell them to leave, in order or at once."""


def last_lines(path: Path) -> str:
    """The last lines of a log, or why there are none."""
    try:
        with path.open("rb") as opened:
            opened.seek(max(0, path.stat().st_size - _LAST_BYTES))
            text = opened.read(_LAST_BYTES).decode(errors="replace")
    except OSError as error:
        return f"its log {path} cannot be read: {error.strerror}"
    lines = [one_line(line) for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return "\n".join([f"its log {path} ends:", *lines]) if lines else f"its log {path} is empty"
