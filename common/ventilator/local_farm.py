"""A sink and a worker of one's own, for `ventilator.py --local`: real processes, real CURVE, keys for the occasion."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..errors import OperatorError

_TOP = Path(__file__).resolve().parents[2]
_LEAVE_S = 10
_LOOK_S = 0.02


class LocalFarm:
    """`with` it: a sink with this ledger and a worker with so many slots, both gone afterwards.

    Raises OperatorError when one of them cannot start; it has said why itself.
    """

    def __init__(self, modules: list[str], ledger: Path, slots: int) -> None:
        self._modules = modules
        self._ledger = ledger
        self._slots = slots
        self._stack = ExitStack()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Path:
        """Returns the ventilator's key file."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-"))
        keys = Path(folder) / "keys"
        ports = ["--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0"]
        try:
            self._start("sink", "--ledger", str(self._ledger), "--keys", str(keys), *ports)
            while not (keys / "ventilator.key_secret").exists():
                self.check()
                time.sleep(_LOOK_S)
            key = keys / "worker.key_secret"
            self._start("worker", *self._modules, "--key", str(key), "--slots", str(self._slots))
        except BaseException:
            self._stack.close()
            raise
        return keys / "ventilator.key_secret"

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise OperatorError when a process has ended before its time."""
        for role, process in self._processes:
            if process.poll() is not None:
                raise OperatorError(f"the {role} of --local has ended with exit code {process.returncode}: see above")

    def _start(self, role: str, *arguments: str) -> None:
        process = subprocess.Popen(
            [sys.executable, *_program(role), *arguments],
            env={"TRADEWIND_LOG_LEVEL": "warning", **os.environ, "TRADEWIND_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        self._processes.append((role, process))
        self._stack.callback(_end, process)


def _program(role: str) -> list[str]:
    """The role's script in a checkout; where the package is installed there is none."""
    package = __name__.partition(".")[0]
    if package == "common":
        return [str(_TOP / f"{role}.py")]
    start = f"import sys; sys.path.insert(0, {str(_TOP)!r}); from {package}.{role}.command import main; main()"
    return ["-P", "-c", start]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
