"""What a figure depends on: the machine, and the versions of everything."""

import os
import platform
import re
import sqlite3
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

import zmq

from benchmarks.farm import TOP


def described() -> dict[str, str]:
    """Names and values, for people and for JSON."""
    return {
        "tradewind": _commit(),
        "cpu": _cpu(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.2f} when it began",
        "fsync": f"{fsync_ms():.2f} ms in {tempfile.gettempdir()}",
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.pyzmq_version(),
        "sqlite": sqlite3.sqlite_version,
        "joblib": _version("joblib"),
    }


def fsync_ms() -> float:
    """The median of some small synced writes where the ledgers of the bench lie."""
    found = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            found.append(time.perf_counter() - started)
    return sorted(found)[25] * 1000


def _commit() -> str:
    git = ["git", "-C", str(TOP), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _version("tradewind")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
