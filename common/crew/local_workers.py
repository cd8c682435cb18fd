"""The allocations of `crew keep local`: worker processes of this machine, which leave when this one ends."""

import os
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ..errors import OperatorError
from ..worker.start import default_name
from .allocations import Condition

LOGS_MAX = 100
"""Of how many workers that have failed the logs are kept, the newest."""


class LocalWorkers:
    """Starts them. The kernel closes their standard input however this process ends."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._failed: deque[str] = deque()
        """Those whose logs are kept."""
        self._count = 0

    def start(self, count: int) -> list[str]:
        """Start workers; their names. Raises OperatorError."""
        return [self._start() for _ in range(count)]

    def _start(self) -> str:
        self._count += 1
        name = f"{default_name()[:30]}-keep-{os.getpid()}-{self._count}"
        try:
            while len(self._failed) > LOGS_MAX:
                # Not when they end, because the last lines of each may be shown first.
                self.log(self._failed.popleft()).unlink(missing_ok=True)
            # Others can tell the name beforehand: a link that they have put there is not followed.
            self.log(name).unlink(missing_ok=True)
            with self.log(name).open("xb") as log:
                # In a session of its own: Ctrl-C is for this process, which tells its workers.
                self._processes[name] = subprocess.Popen(
                    [*self._command, "--name", name],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise OperatorError(f"cannot start a worker that logs to {self.log(name)}: {error.strerror}") from None
        return name

    def conditions(self) -> dict[str, Condition]:
        """How they stand; of one that has ended it is said once."""
        found = {name: _condition(process.poll()) for name, process in self._processes.items()}
        for name, condition in found.items():
            if condition is not Condition.RUNS:
                self._forget(name)
        return found

    def _forget(self, name: str) -> None:
        process = self._processes.pop(name)
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode == 0:
            # What it said is of no use any longer, and there may be many of them.
            self.log(name).unlink(missing_ok=True)
        else:
            self._failed.append(name)

    def log(self, worker: str) -> Path:
        """The file in which this worker logs."""
        return self._folder / f"tradewind-{worker}.log"

    def leave(self, at_once: bool) -> None:
        """Tell them to leave, in order or at once."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            if at_once:
                process.terminate()

    def left_behind(self) -> str:
        """What becomes of the workers when nobody keeps the crew any longer."""
        return "the workers finish what they run; a second signal does not wait for them"


def _condition(code: int | None) -> Condition:
    if code is None:
        return Condition.RUNS
    return Condition.LEFT if code == 0 else Condition.BROKEN
