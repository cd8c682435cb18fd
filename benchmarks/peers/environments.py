"""Peers with environments of their own: made when missing, skipped in words when that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.farm import TOP
from benchmarks.measuring import Skipped, say

PATIENCE_S = 600
_SERVERS = TOP / "benchmarks" / "peers" / "servers"


@dataclass(frozen=True)
class Peer:
    """What to install, and the tasks that it can do in a few seconds."""

    name: str
    module: str
    requirement: str
    rate_tasks: int
    program: str = ""


PEERS = (
    Peer("Dask distributed", "dask", "distributed", 3_000),
    Peer("Ray", "ray", "ray", 5_000),
    Peer("ipyparallel", "ipyparallel", "ipyparallel", 3_000),
    Peer("Parsl HTEX, CURVE", "parsl", "parsl", 5_000),
    Peer("OpenGRIS Scaler", "scaler", "opengris-scaler", 1_000),
    Peer("Celery, Redis", "celery", "celery[redis]", 3_000, program="redis-server"),
    Peer("Dramatiq, Redis", "dramatiq", "dramatiq[redis]", 3_000, program="redis-server"),
)


def contest(peer: Peer, rate_tasks: int, trips: int, times: Sequence[float], submits: int = 0) -> dict[str, Any]:
    """Run the peer's script (`servers/contest.py` says what it prints). Raises Skipped."""
    python = _environment(peer)
    command = [str(python), str(_SERVERS / f"{peer.module}_peer.py"), str(rate_tasks), str(trips), str(submits)]
    path = os.pathsep.join([str(_SERVERS), str(TOP / "benchmarks")])
    programs = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    env = os.environ | {
        "PATH": programs,
        "PYTHONPATH": path,
        "PYTHONWARNINGS": "ignore",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with (python.parent.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            answer, _ = process.communicate(json.dumps(list(times)).encode(), timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            answer = b""
        finally:
            _end_session(process)
    if process.returncode or not answer:
        lines = Path(log.name).read_text(errors="replace").strip().splitlines()
        raise Skipped(f"it did not run to its end: {(lines or ['it said nothing'])[-1].strip()[:60]}")
    found: dict[str, Any] = json.loads(answer)
    return found


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End what the script may have left in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _environment(peer: Peer) -> Path:
    """The Python of the peer's environment, made if it is not there. Raises Skipped."""
    if peer.program and shutil.which(peer.program) is None:
        raise Skipped(f"it needs {peer.program}, which is not on this machine")
    folder = TOP / ".bench" / peer.module
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    say(f"installing {peer.requirement} into {folder}")
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.requirement],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"{peer.requirement} cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    ready.touch()
    return python
