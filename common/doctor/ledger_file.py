"""Finds out how the sink's files are: key folder, ledger, the disk below it, and which programs hold it."""

import contextlib
import os
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmptyLedger, OperatorError
from ..sink.ledgers import open_reader
from ..transport import clock
from ..transport.key_folder import KeyFolder
from .facts import Folder, LedgerFile, Program

_SYNCS = 5
_SYNC_BYTES = 8 * 1024
_PAUSE_S = 0.3
"""Between two looks at the locks: a commit of the sink or a short read holds one for less."""
_WRITE_LOCK = "120"
"""Which byte of the log's index a writer locks (https://www.sqlite.org/walformat.html)."""
_MOUNTS, _LOCKS = Path("/proc/self/mountinfo"), Path("/proc/locks")


def key_folder(path: Path) -> Folder:
    """The sink's key folder."""
    folder = KeyFolder(path)
    if not path.exists():
        return Folder(str(path), False)
    try:
        folder.made()
        if not folder.sink().secret:
            raise OperatorError(f"{path / 'sink.key_secret'} has no secret key: restore it from a copy")
        return Folder(str(path), True, enrolled=len(folder.enrolled()))
    except (OperatorError, OSError) as error:
        return Folder(str(path), True, str(error))


def ledger_file(place: str) -> LedgerFile:
    """The ledger, and the disk below it."""
    path = Path(place)
    file = path.resolve()
    fault = _fault(place) if path.exists() else ""
    sync_s, write_error = _sync(file.parent)
    held_by = holders(file)
    sink, locker = held_by or (None, None)
    return LedgerFile(
        path=place,
        exists=path.exists(),
        fault=fault,
        file_system=file_system(file.parent),
        free_bytes=free_bytes(file.parent),
        file_bytes=_size(file),
        log_bytes=_size(file.with_name(file.name + "-wal")),
        sync_s=sync_s,
        write_error=write_error,
        has_locks=held_by is not None,
        sink=sink,
        locker=locker,
    )


def _fault(place: str) -> str:
    try:
        with closing(open_reader(place)) as reader:
            reader.jobs()
    except EmptyLedger:
        return ""
    except OperatorError as error:
        return str(error)
    return ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def free_bytes(folder: Path) -> int | None:
    """The room for a file of this user."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """The type of the file system that this folder is on; empty where the system does not say."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        words, _, more = line.partition(" - ")
        point = Path(words.split()[4].encode().decode("unicode_escape"))
        # Of two at the same point the later one hides the earlier.
        if (folder == point or point in folder.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), more.split()[0]
    return kind


def _sync(folder: Path) -> tuple[float | None, str]:
    """How long the disk takes to keep a small write, the middle one of some; and why none can be written."""
    took = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(_SYNCS):
                began_at = clock.now()
                file.write(bytes(_SYNC_BYTES))
                file.flush()
                os.fsync(file.fileno())
                took.append(clock.now() - began_at)
    except OSError as error:
        return None, f"{error.strerror}: let this user write in {folder}, make room, or give another --ledger"
    return statistics.median(took), ""


# -- locks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lock:
    kind: str
    pid: int
    file: tuple[int, int, int]
    """Major and minor number of the device, and the inode."""
    start: str


def holders(file: Path) -> tuple[Program | None, Program | None] | None:
    """The sink that has the ledger open, and another program that keeps it from being written.

    The system is asked who holds which locks, because to try one would be in a sink's way. None where it does not say.
    """
    found = _read_locks()
    if found is None:
        return None
    sinks = [lock.pid for lock in _held(found, file.with_name(file.name + ".lock")) if lock.kind == "FLOCK"]
    writers = _writers(found, file) - {*sinks}
    if writers:
        time.sleep(_PAUSE_S)
        writers &= _writers(_read_locks() or [], file)
    return _program(sinks), _program(sorted(writers))


def _writers(locks: list[_Lock], file: Path) -> set[int]:
    """Who holds SQLite's locks for writing: on the file itself, or at its place in the index of the log."""
    of_log = _held(locks, file.with_name(file.name + "-shm"))
    return {lock.pid for lock in _held(locks, file)} | {lock.pid for lock in of_log if lock.start == _WRITE_LOCK}


def _held(locks: list[_Lock], file: Path) -> list[_Lock]:
    """Those on this file."""
    try:
        found = file.stat()
    except OSError:
        return []
    wanted = os.major(found.st_dev), os.minor(found.st_dev), found.st_ino
    return [lock for lock in locks if lock.file == wanted]


def _read_locks() -> list[_Lock] | None:
    """All locks for writing that somebody holds; None where the system does not say."""
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        words = line.split()
        # 1: POSIX  ADVISORY  WRITE 1234 00:2a:5678 120 120; with -> it is one that waits.
        if len(words) < 7 or words[1] == "->" or words[3] != "WRITE":
            continue
        major, minor, inode = words[5].split(":")
        found.append(_Lock(words[1], int(words[4]), (int(major, 16), int(minor, 16), int(inode)), words[6]))
    return found


def _program(pids: list[int]) -> Program | None:
    for pid in pids:
        name = ""
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        return Program(pid, name)
    return None
