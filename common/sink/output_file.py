"""Where results are printed: standard output, or a file."""

import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .. import console
from ..errors import OperatorError

_STANDARD_OUTPUT = {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}
"""Opened by its name, a file that the shell appends to would be begun anew, and a pipe has no name beside it."""
_SQLITE = b"SQLite format 3\0"
"""What the files of SQLite begin with."""


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """The file, which takes its name only when it is whole; None, `-` and `/dev/stdout` are standard output.

    Raises OperatorError.
    """
    if path is None or str(path) in _STANDARD_OUTPUT:
        with console.pipe_may_close():
            yield sys.stdout
        return
    try:
        target = path.resolve()
        # A device or a FIFO would be replaced by the file.
        is_direct = target.exists() and not target.is_file()
        if target.is_file() and _is_database(target):
            raise OperatorError(f"{path} is an SQLite file, maybe a ledger: name another file with --output")
        draft = target if is_direct else target.with_name(f".tradewind-{secrets.token_hex(8)}.part")
        # In a folder of all users somebody may have put a link there.
        with draft.open("w" if is_direct else "x", encoding="utf-8", newline="") as file:
            try:
                if not is_direct and target.exists():
                    shutil.copymode(target, draft)
                yield file
                file.flush()
                draft.replace(target)
            except BaseException:
                if not is_direct:
                    draft.unlink()
                raise
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {error.strerror or error}") from None


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
