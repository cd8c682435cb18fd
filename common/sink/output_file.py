"""Where results are printed: standard output, or a file."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .. import console
from ..errors import OperatorError


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """The file, which takes its name only when it is whole; None and `-` are standard output. Raises OperatorError."""
    if path is None or str(path) == "-":
        with console.pipe_may_close():
            yield sys.stdout
        return
    try:
        target = path.resolve()
        # A device or a FIFO would be replaced by the file.
        is_direct = target.exists() and not target.is_file()
        draft = target if is_direct else target.with_name(f".tradewind-{os.getpid()}.part")
        with draft.open("w", encoding="utf-8", newline="") as file:
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
