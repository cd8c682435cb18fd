"""Where the bytes of an input come from: a file as it is when the job begins, a pipe that can be replayed, or a stream.

A job that is run again reads a file again, and expects a pipe to bring the same again. A stream goes on and never does:
what it gives is spooled before anybody gets it.
"""

import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..errors import OperatorError
from .spool import Spool, SpoolPlace, kept_beside, remove

_READ_BYTES = 256 * 1024
_LAST_BYTES = 1024 * 1024
"""How much is taken from a stream when the job is stopped: what a pipe can hold."""


class Source(Protocol):
    """Bytes in order; nothing blocks when `fileno` is readable."""

    name: str

    @property
    def expect_bytes(self) -> int | None:
        """How many bytes there are, as far as that is known."""

    @property
    def fresh(self) -> bool:
        """True when no earlier run of the job can have read what comes next, nor will a later one."""

    def fileno(self) -> int: ...
    def begin(self, ledger: str, resumed: bool) -> list[str]: ...
    def verified(self) -> None: ...
    def read(self) -> bytes | None: ...
    def leave(self, is_done: bool) -> list[str]: ...


class FileSource:
    """A regular file. It must stay as it is while it is read: half of another file would look like a whole job."""

    fresh = False

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._was = os.fstat(descriptor)
        self._at = self._began_at = os.lseek(descriptor, 0, os.SEEK_CUR)
        self.expect_bytes = max(0, self._was.st_size - self._at)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._descriptor

    def begin(self, ledger: str, resumed: bool) -> list[str]:
        """Nothing to prepare."""
        return []

    def verified(self) -> None:
        """Nothing was kept."""

    def read(self) -> bytes | None:
        """The next bytes; none at the end. Raises OperatorError when the file was changed since it was opened."""
        chunk = _read(self._descriptor, self.name)
        self._at += len(chunk or b"")
        if chunk == b"":
            self._check_unchanged()
        return chunk

    def leave(self, is_done: bool) -> list[str]:
        """Nothing to keep."""
        return []

    def _check_unchanged(self) -> None:
        was, now = self._was, os.fstat(self._descriptor)
        if self._at < was.st_size:
            raise OperatorError(
                f"{self.name} is shorter than at the start of the job ({self._at - self._began_at} instead of"
                f" {self.expect_bytes} bytes): restore it"
            )
        if (now.st_size, now.st_mtime_ns) != (was.st_size, was.st_mtime_ns):
            raise OperatorError(f"{self.name} was changed while the job read it: tasks may be missing or mixed up")


class PipeSource:
    """A pipe that can be replayed.

    Should a job that is run again refuse what comes, because it is a stream in truth, then nothing of it is lost.
    """

    expect_bytes = None
    fresh = False

    def __init__(self, descriptor: int, name: str, place: SpoolPlace) -> None:
        self.name = name
        self._descriptor = descriptor
        self._place = place
        self._kept: Path | None = None

    def fileno(self) -> int:
        """The pipe's descriptor."""
        return self._descriptor

    def begin(self, ledger: str, resumed: bool) -> list[str]:
        """Keep what is read from now on, if an earlier run has read something else."""
        if resumed and self._kept is None:
            self._kept = kept_beside(self._place, ledger)
        return []

    def verified(self) -> None:
        """It is what the earlier run has read."""
        if self._kept is not None:
            remove(self._kept)
            self._kept = None

    def read(self) -> bytes | None:
        """The next bytes; none at the end."""
        chunk = _read(self._descriptor, self.name)
        if self._kept is not None and chunk:
            try:
                with self._kept.open("ab") as file:
                    file.write(chunk)
            except OSError as error:
                raise OperatorError(f"cannot keep what is read in {self._kept}: {error.strerror}") from None
        return chunk

    def leave(self, is_done: bool) -> list[str]:
        """Say where that is which is not the input of the earlier run, as far as it is known."""
        kept = self._kept
        if kept is not None and not is_done and kept.exists() and kept.stat().st_size:
            return [f"what was read from {self.name} is kept in {kept}"]
        self.verified()
        return []


class StreamSource:
    """A pipe or a socket that never brings the same again: its spool is read first, and holds all that it gives."""

    expect_bytes = None

    def __init__(self, name: str, connect: Callable[[], int], goes_on: bool, end: bytes, place: SpoolPlace) -> None:
        self.name = name
        self._connect = connect
        self._goes_on = goes_on
        """The same pipe as in the earlier run: it brings the rest of a line that was cut."""
        self._end = end
        self._place = place
        self._spool: Spool | None = None
        self._stream: int | None = None
        """Not there before it may be read: what was written into a pipe is lost with its last reader."""

    @property
    def fresh(self) -> bool:
        """True when all that was spooled is read."""
        return self._spool is not None and self._spool.is_read and not self._spool.ended

    def fileno(self) -> int:
        """What is readable when there is more: the spool, then the stream."""
        assert self._spool is not None
        if not self.fresh:
            return self._spool.descriptor
        if self._stream is None:
            self._stream = self._connect()
        return self._stream

    def begin(self, ledger: str, resumed: bool) -> list[str]:
        """Find the spool of an earlier run, or make one."""
        if self._spool is not None:
            return []
        self._spool = Spool(self._place, ledger)
        kept = f"what is read from {self.name} is kept in {self._spool.path}"
        said = [f"{kept} until the job is done without a failed task"]
        if not self._goes_on and (cut := self._spool.cut_last_line(self._end)):
            said.append(f"the last line that the earlier run has read had no end: it is no task, and is kept in {cut}")
        return said

    def verified(self) -> None:
        """What was kept is needed."""

    def read(self) -> bytes | None:
        """The next bytes, which are on the disk; none at the end."""
        assert self._spool is not None
        if self.fresh:
            taken = self._spool.take_from(self.fileno())
            if taken is None:
                return None
            if taken == 0:
                self._spool.end()
        return b"" if self._spool.is_read else self._spool.read()

    def leave(self, is_done: bool) -> list[str]:
        """Keep what is in the pipe too, for nobody else may read it; say where it is."""
        spool = self._spool
        if spool is None:
            return []
        problems: list[str] = []
        if self._stream is not None and not spool.ended:
            try:
                self._take_last(self._stream, spool)
            except OperatorError as error:
                problems.append(str(error))
        if is_done or spool.is_empty:
            spool.remove()
            return problems
        return [
            *problems,
            f"what was read from {self.name} is kept in {spool.path}: the job reads it when it is run again",
        ]

    @staticmethod
    def _take_last(stream: int, spool: Spool) -> None:
        taken = 0
        readable = select.poll()
        readable.register(stream, select.POLLIN)
        while taken < _LAST_BYTES and readable.poll(0):
            count = spool.take_from(stream)
            if not count:
                break
            taken += count


def open_source(path: str, is_stream: bool, end: bytes, place: SpoolPlace) -> Source:
    """The source that this path is, or standard input for `-`. Raises OperatorError."""
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise OperatorError("standard input is closed: give it a file or a pipe, or name a file instead of -")
    descriptor = sys.stdin.fileno() if path == "-" else None
    try:
        mode = (Path(path).stat() if descriptor is None else os.fstat(descriptor)).st_mode
        is_named = (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and _is_named(path, descriptor)
        if descriptor is None and is_named:
            if not os.access(path, os.R_OK):
                raise PermissionError(13, os.strerror(13))
            connect = _socket_at if stat.S_ISSOCK(mode) else _fifo_at
            return StreamSource(name, lambda: connect(path), stat.S_ISFIFO(mode), end, place)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"cannot read the input {path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise OperatorError(f"cannot read the input {path}: it is a folder")
    if is_stream and stat.S_ISREG(mode):
        raise OperatorError(f"{name} is a file, which is read again: leave out --stream, or follow it by `tail -f`")
    if is_stream or is_named or stat.S_ISSOCK(mode):
        return StreamSource(name, lambda: descriptor, is_named and stat.S_ISFIFO(mode), end, place)
    return FileSource(descriptor, name) if stat.S_ISREG(mode) else PipeSource(descriptor, name, place)


def _is_named(path: str, descriptor: int | None) -> bool:
    """True for a pipe or socket with a name of its own; those of a shell have only numbers."""
    real = os.path.realpath(path if descriptor is None else f"/dev/fd/{descriptor}")
    return not real.startswith("/dev/fd/") and Path(real).exists()


def _fifo_at(path: str) -> int:
    try:
        # Whoever writes may come later.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"cannot read the input {path}: {error.strerror}") from None


def _socket_at(path: str) -> int:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(path)
    except OSError as error:
        made.close()
        raise OperatorError(f"cannot connect to the input {path}: {error.strerror}") from None
    return made.detach()


def _read(descriptor: int, name: str) -> bytes | None:
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        raise OperatorError(f"cannot read {name}: {error.strerror}") from None
