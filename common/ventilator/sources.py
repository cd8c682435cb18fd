"""Where the bytes of an input come from: a file or a pipe."""

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
    """A regular file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self.expect_bytes = max(0, os.fstat(file.fileno()).st_size - os.lseek(file.fileno(), 0, os.SEEK_CUR))

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def read(self) -> bytes:
        """The next bytes; none at the end."""
        return _read(self._file, self.name)


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
