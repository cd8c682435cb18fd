"""The private sink and worker of `ventilator.py --local`: real processes, real CURVE, keys for one run."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..errors import OperatorError, WorkerEnded
from ..plain_text import how_ended
from ..protocol.users import VENTILATOR, WORKER
from ..transport import sockets
from ..transport.key_folder import KeyFolder
from ..transport.parent import FOLDER

_TOP = Path(__file__).absolute().parents[2]
"""Where the package is; its folder may be a link, which has another name than the folder it leads to."""
_LEAVE_S = {"worker": 1.5, "sink": 10.0}
"""How long each may take to leave before it is killed. The worker has nothing left that counts; the last commit of the
sink takes as long as the disk does."""


class LocalFarm:
    """A context manager: a sink with this ledger and a worker with this many slots run inside it.

    `served` is what the worker serves, as the end of its command line has it.
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
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-")))
        self._stack.callback(end, self._processes)
        env = {"TRADEWIND_LOG_FORMAT": self._log_format}
        try:
            keys = PrivateKeys(folder)
            self._processes.append(("sink", keys.start_sink(self._ledger, "warning", env)))
            arguments = ["--key", str(keys.of(WORKER)), "--slots", str(self._slots), *self._served]
            self._processes.append(("worker", spawn("worker", arguments, folder, "warning", env)))
        except BaseException:
            self._stack.close()
            raise
        return keys.of(VENTILATOR)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise OperatorError when the sink has ended, and WorkerEnded when only the worker has."""
        for role, process in self._processes:
            if process.poll() is not None:
                raise ended(role, f"the {role} of --local has ended ({how_ended(process.returncode)}): see above")

    @property
    def pids(self) -> list[int]:
        """The process ids of the sink and the worker."""
        return [process.pid for _, process in self._processes]


class PrivateKeys:
    """The keys of a private farm, and the socket of its sink. Both are made before the sink runs, so that all that
    belongs to the farm starts side by side: who connects early waits in the socket's queue.

    Raises OperatorError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys = KeyFolder(folder / "keys")
        self._keys.prepare()
        self._listener = sockets.listener()
        self._keys.prepare_local(sockets.endpoint(*self._listener.getsockname()))

    def of(self, role: str) -> Path:
        """The key file of this role."""
        return self._keys.local(role)

    def start_sink(
        self, ledger: str, level: str, env: Mapping[str, str], stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the sink, once; as `spawn` does."""
        with self._listener:
            descriptor = self._listener.fileno()
            arguments = ["--ledger", ledger, "--keys", str(self._keys.path), "--listener", str(descriptor)]
            return spawn("sink", arguments, self._folder, level, env, stdout, stderr, descriptor)


def ended(role: str, text: str) -> OperatorError:
    """The error of a private sink or worker that has ended."""
    return WorkerEnded(text) if role == "worker" else OperatorError(text)


def spawn(
    role: str,
    arguments: Sequence[str],
    folder: Path,
    level: str,
    env: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
    *descriptors: int,
) -> subprocess.Popen[bytes]:
    """Start a role of a private farm with this folder, to be ended by `end`; it logs from `level` up by default."""
    own = {name: value for name, value in os.environ.items() if name != "TRADEWIND_SINK"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _program(role), *arguments],
        env={"TRADEWIND_LOG_LEVEL": level, **own, FOLDER: str(folder), **env},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
        pass_fds=descriptors,
    )


def _program(role: str) -> str:
    """What starts the role, without its command line: to import what reads one takes as long as the rest."""
    package = __name__.partition(".")[0]
    # In a checkout its messages name commands as its script does.
    named = f"sys.argv[0] = {str(_TOP / role)!r} + '.py'; " if package == "common" else ""
    return f"import sys; sys.path.insert(0, {str(_TOP)!r}); {named}from {package}.{role}.private import main; main()"


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
