"""Finds out what a process may use on this machine."""

import contextlib
import os
import platform
import resource
from pathlib import Path

import zmq

from .. import __version__
from ..worker.cores import THREADS, group_folders, usable_cores
from .facts import Machine, Software

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_GROUPS = Path("/sys/fs/cgroup")
_MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
_NO_LIMIT = 2**62
"""Above this the older kind of control groups says that there is none."""


def software() -> Software:
    """The versions here."""
    versions = (
        ("Tradewind", __version__),
        ("Python", platform.python_version()),
        ("pyzmq", zmq.pyzmq_version()),
        ("libzmq", zmq.zmq_version()),
    )
    return Software(versions, bool(zmq.has("curve")))


def machine(own_groups: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> Machine:
    """What a process may use here."""
    cores = usable_cores(own_groups, groups)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    threads = tuple((name, os.environ[name]) for name in THREADS if name in os.environ)
    more = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        more["outgoing_from"] = int(_OUTGOING.read_text().split()[0])
    files = -1 if files == resource.RLIM_INFINITY else files
    return Machine(cores.count, cores.why, cores.quota, _memory(own_groups, groups), files, threads, **more)


def _memory(own_groups: Path, groups: Path) -> int | None:
    """The smallest memory limit of the control groups around this process."""
    files = [folder / name for folder in group_folders("memory", own_groups, groups) for name in _MEMORY_FILES]
    return min((limit for file in files if (limit := _limit(file)) is not None), default=None)


def _limit(file: Path) -> int | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):
        # Not there, or "max".
        return None
    return limit if 0 < limit < _NO_LIMIT else None
