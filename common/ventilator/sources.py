"""Where the bytes of an input come from: a file as it is when the job begins, or a pipe."""

import os
import stat
from typing import IO, Protocol

from ..errors import OperatorError

_READ_BYTES = 256 * 1024


class Source(Protocol):
    """Bytes in order; nothing blocks when `fileno` is readable."""

    name: str

    @property
    def expect_bytes(self) -> int | None:
        """How many bytes there are, as far as that is known."""

    def fileno(self) -> int: ...
    def read(self) -> bytes: ...


class FileSource:
    """A regular file. It must stay as it is while it is read: half of another file would look like a whole job."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self._was = os.fstat(file.fileno())
        self._at = self._began_at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        self.expect_bytes = max(0, self._was.st_size - self._at)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def read(self) -> bytes:
        """The next bytes; none at the end. Raises OperatorError when the file was changed since it was opened."""
        chunk = _read(self._file, self.name)
        self._at += len(chunk)
        if not chunk:
            self._check_unchanged()
        return chunk

    def _check_unchanged(self) -> None:
        was, now = self._was, os.fstat(self._file.fileno())
        if self._at < was.st_size:
            raise OperatorError(
                f"{self.name} is shorter than at the start of the job ({self._at - self._began_at} instead of"
                f" {self.expect_bytes} bytes): restore it"
            )
        if (now.st_size, now.st_mtime_ns) != (was.st_size, was.st_mtime_ns):
            raise OperatorError(f"{self.name} was changed while the job read it: tasks may be missing or mixed up")


class PipeSource:
    """A pipe, a terminal or the like: what was read is not there any more."""

    expect_bytes = None

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file

    def fileno(self) -> int:
        """The pipe's descriptor."""
        return self._file.fileno()

    def read(self) -> bytes:
        """The next bytes; none at the end."""
        return _read(self._file, self.name)


def source_of(file: IO[bytes], name: str) -> Source:
    """The kind of source that this open file is. Raises OperatorError."""
    mode = os.fstat(file.fileno()).st_mode
    return FileSource(file, name) if stat.S_ISREG(mode) else PipeSource(file, name)


def _read(file: IO[bytes], name: str) -> bytes:
    try:
        return os.read(file.fileno(), _READ_BYTES)
    except OSError as error:
        raise OperatorError(f"cannot read {name}: {error.strerror}") from None
