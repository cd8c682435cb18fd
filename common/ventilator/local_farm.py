"""The private sink and worker of `ventilator.py --local`: real processes, real CURVE, keys for one run."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..errors import OperatorError, WorkerEnded
from ..transport.parent import FOLDER

_TOP = Path(__file__).absolute().parents[2]
"""Where the package is; its folder may be a link, which has another name than the folder it leads to."""
_LEAVE_S = {"worker": 1.5, "sink": 10.0}
"""How long each may take to leave before it is killed. The worker has nothing left that counts; the last commit of the
sink takes as long as the disk does."""
_LOOK_S = 0.02


class LocalFarm:
    """A context manager: a sink with this ledger and a worker with this many slots run inside it.

    `served` is what the worker serves, as its command line has it.
    Raises OperatorError when one of them cannot start; that process has logged why.
    """

    def __init__(self, served: list[str], ledger: str, slots: int, log_format: str) -> None:
        self._served = served
        self._ledger = ledger
        self._slots = slots
        self._log_format = log_format
        self._stack = ExitStack()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Path:
        """Returns the ventilator's key file."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-"))
        self._stack.callback(end, self._processes)
        keys = Path(folder) / "keys"
        ports = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
        ports += ["--relay-port", "0", "--tasks-port", "0"]
        try:
            self._start(folder, "sink", "--ledger", self._ledger, "--keys", str(keys), *ports)
            while not (keys / "ventilator.key_secret").exists():
                self.check()
                time.sleep(_LOOK_S)
            key = keys / "worker.key_secret"
            self._start(folder, "worker", *self._served, "--key", str(key), "--slots", str(self._slots))
        except BaseException:
            self._stack.close()
            raise
        return keys / "ventilator.key_secret"

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise OperatorError when the sink has ended, and WorkerEnded when only the worker has."""
        for role, process in self._processes:
            if process.poll() is not None:
                raise ended(role, f"the {role} of --local ended with exit code {process.returncode}: see above")

    @property
    def pids(self) -> list[int]:
        """The process ids of the sink and the worker."""
        return [process.pid for _, process in self._processes]

    def _start(self, folder: str, role: str, *arguments: str) -> None:
        process = spawn(role, arguments, folder, "warning", {"TRADEWIND_LOG_FORMAT": self._log_format})
        self._processes.append((role, process))


def ended(role: str, text: str) -> OperatorError:
    """The error of a private sink or worker that has ended."""
    return WorkerEnded(text) if role == "worker" else OperatorError(text)


def spawn(
    role: str,
    arguments: Sequence[str],
    folder: str,
    level: str,
    env: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a role of a private farm with this folder, to be ended by `end`; it logs from `level` up by default."""
    return subprocess.Popen(
        [sys.executable, *_program(role), *arguments],
        env={"TRADEWIND_LOG_LEVEL": level, **os.environ, FOLDER: folder, **env},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
    )


def _program(role: str) -> list[str]:
    """What starts the role: its script in a checkout; an installed package has none."""
    package = __name__.partition(".")[0]
    if package == "common":
        return [str(_TOP / f"{role}.py")]
    start = f"import sys; sys.path.insert(0, {str(_TOP)!r}); from {package}.{role}.command import main; main()"
    return ["-P", "-c", start]


def end(processes: Sequence[tuple[str, subprocess.Popen[bytes]]]) -> None:
    """Close what they hold of this process: that is their sign to leave.

    The worker goes first. The sink removes the keys as it leaves, and a worker that still starts would miss them aloud.
    """
    for role, process in reversed(processes):
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_LEAVE_S[role])
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
