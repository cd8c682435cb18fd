"""A private sink, and private workers for the functions that are mapped: real processes, as with --local."""

import json
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from ..plain_text import how_ended
from ..protocol.users import VENTILATOR, WORKER
from ..ventilator.local_farm import PrivateKeys, end, ended, spawn

log = logging.getLogger(__name__)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class PrivateFarm:
    """Starts the sink at once, and workers when they are asked for. `close` ends them all."""

    def __init__(self, ledger: str | None, slots: int | None) -> None:
        self._slots = slots
        self._stack = ExitStack()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        """By the module or function that each one exposes."""
        self._count = 0
        self._last_words: dict[int, str] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closes = False
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-")))
        self._stack.callback(end, self._processes)
        try:
            self._keys = PrivateKeys(self._folder)
            self.key = self._keys.of(VENTILATOR)
            self.ledger = ledger or str(self._folder / "results.db")
            self._sink = self._keep(
                "sink", self._keys.start_sink(self.ledger, *self._log_settings(), subprocess.DEVNULL, subprocess.PIPE)
            )
        except BaseException:
            self._stack.close()
            raise

    def expose(self, spec: str, script: str | None = None) -> None:
        """Let a worker expose this module or function, with the same modules in reach as this process has."""
        with self._lock:
            process = self._worker(spec)
            if process is None or process.poll() is not None:
                self._start_worker(spec, script)

    def expose_alone(self, spec: str, script: str | None, others: int) -> None:
        """Let a worker of its own expose it, if the one of its module is here and does not.

        `others` workers have joined that do not expose it: once these are all, none is importing any more.
        """
        with self._lock:
            living = sum(process.poll() is None for process in self._workers.values())
            if spec not in self._workers and others >= living and not self._closes:
                self._start_worker(spec, script)

    def _start_worker(self, spec: str, script: str | None) -> None:
        """The lock is held."""
        self._count += 1
        options = ["--key", str(self._keys.of(WORKER)), "--name", f"local{self._count}"]
        options += [] if self._slots is None else ["--slots", str(self._slots)]
        level, env = self._log_settings()
        env["PYTHONPATH"] = _module_path(script)
        self._workers[spec] = self._keep(
            "worker",
            spawn("worker", [*options, "--", spec], self._folder, level, env, subprocess.DEVNULL, subprocess.PIPE),
        )

    def check(self, spec: str) -> None:
        """Raise OperatorError when the sink has ended, and WorkerEnded when only the worker that exposes this has."""
        for role, process in (("sink", self._sink), ("worker", self._worker(spec))):
            if process is not None and process.poll() is not None:
                why = self._last_words.get(process.pid) or how_ended(process.returncode)
                raise ended(role, f"the {role} of this farm has ended: {why}")

    def _worker(self, spec: str) -> subprocess.Popen[bytes] | None:
        return self._workers.get(spec) or self._workers.get(spec.partition(":")[0])

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids by role."""
        return {each: [process.pid for role, process in self._processes if role == each] for each in ("sink", "worker")}

    def close(self) -> None:
        """End the processes; a ledger that was not named goes with them. In a forked process nothing happens."""
        if os.getpid() == self._pid:
            with self._lock:
                self._closes = True
            self._stack.close()

    def _log_settings(self) -> tuple[str, dict[str, str]]:
        return "info" if log.isEnabledFor(logging.INFO) else "warning", {"TRADEWIND_LOG_FORMAT": "json"}

    def _keep(self, role: str, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self._processes.append((role, process))
        assert process.stderr is not None
        threading.Thread(
            target=self._pass_on, args=(role, process.pid, process.stderr), name=f"tradewind-log-{role}", daemon=True
        ).start()
        return process

    def _pass_on(self, role: str, pid: int, lines: IO[bytes]) -> None:
        """What the process logs becomes log records here."""
        its_log = logging.getLogger(f"{__name__.partition('.')[0]}.{role}")
        with lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                try:
                    said = json.loads(text)
                    level, text = _LEVELS.get(said["level"], logging.INFO), said["message"]
                except (ValueError, KeyError, TypeError):
                    level = logging.WARNING
                if self._closes:
                    # Whoever leaves first takes the folder along.
                    level = logging.DEBUG
                if level == logging.ERROR:
                    self._last_words[pid] = text.splitlines()[-1]
                its_log.log(level, "%s", text)


def _module_path(script: str | None) -> str:
    """Where this process finds modules, for a worker; the folder of a script first."""
    folders = [str(Path(script).parent)] if script else []
    folders += [str(Path(each or ".").absolute()) for each in sys.path]
    its_own = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    own = {*its_own, *(f"{each}/lib-dynload" for each in its_own)}
    return os.pathsep.join(each for each in dict.fromkeys(folders) if each not in own and Path(each).is_dir())
