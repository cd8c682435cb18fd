"""What was read from a stream and must not be lost: a file of its bytes, which a job that is run again reads first."""

import errno
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..errors import OperatorError

_READ_BYTES = 256 * 1024
_TAIL_BYTES = 32 * 1024 * 1024
_ROOM_BYTES = 4 * 1024 * 1024
"""Nothing is taken from a stream while the spool's disk has less room than this."""
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where a job's spool is."""

    folder: Path
    job: str


class Spool:
    """A file that gets a stream's bytes and syncs them. It grows with the stream, and goes when the job is done.

    With failed tasks it stays, for a run that retries them. When the stream has ended, its name says so: then it is the
    whole input.
    """

    def __init__(self, place: SpoolPlace, ledger: str) -> None:
        self.path = place.folder / f"{place.job}-{ledger[:8]}.spool"
        self._ended_path = self.path.with_suffix(".ended")
        self.ended = self._ended_path.exists()
        if self.ended:
            self.path = self._ended_path
        try:
            place.folder.mkdir(parents=True, exist_ok=True)
            # Its lines may be nobody else's business.
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folders.sync(place.folder)
            self._size = os.fstat(self.descriptor).st_size
        except BlockingIOError:
            raise OperatorError(
                f"{self.path} is in use by another ventilator of this job: end that one first"
            ) from None
        except OSError as error:
            raise self._unusable(error) from None
        self._read_to = 0

    @property
    def is_read(self) -> bool:
        """True once `read` has given all that it holds."""
        return self._read_to >= self._size

    @property
    def is_empty(self) -> bool:
        """True while it holds nothing."""
        return not self._size

    def read(self) -> bytes:
        """The next bytes that it holds. Raises OperatorError."""
        try:
            chunk = os.pread(self.descriptor, min(_READ_BYTES, self._size - self._read_to), self._read_to)
        except OSError as error:
            raise self._unusable(error) from None
        if not chunk:
            raise OperatorError(f"{self.path} is shorter than at the start of the job: restore it")
        self._read_to += len(chunk)
        return chunk

    def take_from(self, stream: int) -> int | None:
        """Put what the stream has now at the end; how many bytes, 0 at its end, None when there are none now.

        They are on the disk when this returns. Raises OperatorError.
        """
        found = os.fstatvfs(self.descriptor)
        if found.f_bavail * found.f_frsize < _ROOM_BYTES:
            raise OperatorError(f"no room is left for {self.path}, which keeps what is read: make room there")
        try:
            count = self._move(stream)
            if count:
                os.fdatasync(self.descriptor)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        self._size += count
        return count

    def _move(self, stream: int) -> int:
        if hasattr(os, "splice"):
            # The kernel moves it: a process that is killed meanwhile has not taken bytes that are in no file.
            try:
                return os.splice(
                    stream, self.descriptor, _READ_BYTES, offset_dst=self._size, flags=os.SPLICE_F_NONBLOCK
                )
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
        chunk = os.read(stream, _READ_BYTES)
        rest, at = memoryview(chunk), self._size
        while rest:
            written = os.pwrite(self.descriptor, rest, at)
            rest, at = rest[written:], at + written
        return len(chunk)

    def cut_last_line(self, end: bytes) -> Path | None:
        """Put a last line that has no end into a file of its own, and say which; None when there is none.

        Raises OperatorError.
        """
        try:
            return self._cut_last_line(end)
        except OSError as error:
            raise self._unusable(error) from None

    def _cut_last_line(self, end: bytes) -> Path | None:
        start = max(0, self._size - _TAIL_BYTES)
        tail = os.pread(self.descriptor, _TAIL_BYTES, start)
        whole = tail.rfind(end) + len(end)
        if self.ended or whole == len(tail) or (whole < len(end) and start):
            return None
        path = self.path.with_suffix(".cut")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as file:
            file.write(tail[whole:] + end)
            file.flush()
            os.fsync(file.fileno())
        self._size = start + whole
        os.ftruncate(self.descriptor, self._size)
        os.fsync(self.descriptor)
        return path

    def end(self) -> None:
        """The stream has ended: what it holds is the whole input."""
        try:
            self.path = self.path.rename(self._ended_path)
            folders.sync(self.path.parent)
        except OSError as error:
            raise self._unusable(error) from None
        self.ended = True

    def remove(self) -> None:
        """Nothing of it is needed any more."""
        remove(self.path)

    def _unusable(self, error: OSError) -> OperatorError:
        return OperatorError(f"cannot keep what is read in {self.path}: {error.strerror}")


def kept_beside(place: SpoolPlace, ledger: str) -> Path:
    """A new file for what may be refused. Raises OperatorError."""
    path = place.folder / f"{place.job}-{ledger[:8]}.refused"
    number = 1
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                number += 1
                path = path.with_suffix(f".refused{number}")
            else:
                return path
    except OSError as error:
        raise OperatorError(f"cannot keep what is read in {path}: {error.strerror}") from None


def remove(path: Path) -> None:
    """Remove a file, and its folder when that is empty."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
