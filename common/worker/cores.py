"""How many cores this process may use, what limits them, and how a child is told its share."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLLOW_OMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
THREADS = ("OMP_NUM_THREADS", *_FOLLOW_OMP, "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Cores:
    """`why` says in words where the number comes from; `quota` is the CPU quota, if that is what limits it."""

    count: int
    why: str
    quota: float | None = None


def usable_cores(own_groups: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> Cores:
    """The cores that this process may run on, or what the CPU quota of its control group is worth if that is less."""
    present = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    quota = min(_quotas(own_groups, groups), default=math.inf)
    if quota < allowed:
        # Rounded up: the last part of a core would be left unused.
        return Cores(max(1, math.ceil(quota)), f"the CPU quota of its control group is {quota:g} cores", quota)
    if allowed < present:
        return Cores(allowed, f"it may use {allowed} of {present} cores")
    return Cores(allowed, f"this machine has {allowed} cores")


def _quotas(own_groups: Path, groups: Path) -> Iterator[float]:
    """The CPU quotas of the process's control groups and of those around them, in cores."""
    for folder in group_folders("cpu", own_groups, groups):
        yield from _quota(folder)


def group_folders(controller: str, own_groups: Path, groups: Path) -> Iterator[Path]:
    """The folders of the process's control groups, and of those around them, that may limit this."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            tops = [groups, groups / "unified"]
        elif controller in controllers.split(","):
            tops = [groups / controllers, groups / controller]
        else:
            continue
        for top in tops:
            # Inside a container the path may be that of the host, which is not there: the top is the container's own.
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield folder
                if folder == top:
                    break


def _quota(folder: Path) -> Iterator[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text() for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            # Not there, or "max".
            continue
        if quota > 0 and period > 0:
            yield quota / period


def child_environment(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """A child's environment, from the worker's own: nothing of ours, and how many threads numeric libraries start.

    What the operator has set stays.
    """
    found = {name: value for name, value in own.items() if not name.startswith("TRADEWIND_")}
    if threads is None:
        return found
    # Some take over what OMP_NUM_THREADS says where they have no variable of their own.
    left = [name for name in THREADS if "OMP_NUM_THREADS" not in own or name not in _FOLLOW_OMP]
    return dict.fromkeys(left, str(threads)) | found
