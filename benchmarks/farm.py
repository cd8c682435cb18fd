"""A sink, workers and ventilators as users run them, for measurements: separate processes, CURVE, ledger on disk."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Measured:
    """One job. `seconds` runs from the first push to the last receipt."""

    seconds: float
    pushes: int
    returns: int
    rss_bytes: int
    sink_rss_bytes: int


class Farm:
    """A running sink and its crew."""

    def __init__(self, folder: Path, sink: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._sink = sink

    def run(self, *arguments: str) -> Measured:
        """Run a ventilator to its end; every task must succeed."""
        command = [sys.executable, str(TOP / "ventilator.py"), *arguments, "--port", "0"]
        env = os.environ | {"TRADEWIND_LOG_LEVEL": "debug"}
        with subprocess.Popen(command, cwd=self.folder, env=env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(said)
        seconds, pushes, returns = re.search(r"([\d.]+) s, (\d+) pushes, (\d+) returns", said).groups()  # type: ignore[union-attr]
        return Measured(float(seconds), int(pushes), int(returns), usage.ru_maxrss * 1024, self._sink_rss())

    def _sink_rss(self) -> int:
        status = Path(f"/proc/{self._sink.pid}/status")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else 0  # type: ignore[index]


@contextmanager
def farm(module: str, text: str, workers: Sequence[dict[str, str]], slots: int) -> Iterator[Farm]:
    """Start a sink and one worker for each environment in `workers`, which serve a module of this text."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-bench-")))
        (folder / f"{module}.py").write_text(text)

        def start(script: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{script}.log").open("ab"))
            command = [sys.executable, str(TOP / f"{script}.py"), *arguments]
            process = subprocess.Popen(command, cwd=folder, env=os.environ | env, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        sink = start("sink", "--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0")
        log = folder / "sink.log"
        wait_for(lambda: (folder / "keys" / "observer.key_secret").exists())
        for env in workers:
            start("worker", module, "--slots", str(slots), **env)
        wait_for(lambda: log.read_text().count(" joined with ") == len(workers))
        yield Farm(folder, sink)


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    """Wait until the condition holds, half a minute at most."""
    ends_at = time.monotonic() + 30
    while not condition():
        if time.monotonic() > ends_at:
            sys.exit("the farm did not come up")
        time.sleep(0.02)
