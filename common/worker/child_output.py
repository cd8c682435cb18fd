"""What the user's functions print: to the worker's log, with job and task in front."""

import logging
import os
import re

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_READS_AT_ONCE = 16
_LINE_BYTES_MAX = 8 * 1024
_MARK = re.compile(rb"\x1d(\d+|-1)\x1d")


class ChildOutput:
    """The end of a pipe that is a child's standard output and standard error.

    The child puts each line behind the index of the task that printed it; output that comes past Python (a library's,
    a subprocess's) is given to the task that runs when it is read.
    """

    def __init__(self, descriptor: int, slot: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._slot = slot
        self._partial = b""

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._descriptor

    def log_lines(self, job: str | None, running: int | None) -> bool:
        """Log the lines that have come; False at the end of the pipe."""
        for _ in range(_READS_AT_ONCE):
            try:
                chunk = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                self._log(self._partial, job, running)
                self._partial = b""
                return False
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            if len(self._partial) > _LINE_BYTES_MAX:
                lines.append(self._partial)
                self._partial = b""
            for line in lines:
                self._log(line, job, running)
        return True

    def close(self) -> None:
        """Close the pipe, with a last word if a line was not ended."""
        self._log(self._partial, None, None)
        os.close(self._descriptor)

    def _log(self, line: bytes, job: str | None, running: int | None) -> None:
        for task, text in _pieces(line, running):
            self._log_piece(text, job, task)

    def _log_piece(self, line: bytes, job: str | None, task: int | None) -> None:
        text = line[:_LINE_BYTES_MAX].decode(errors="backslashreplace").rstrip()
        if not text:
            return
        where = f"slot {self._slot}" if job is None or task is None else f"job {job} task {task}"
        log.info("%s: %s%s", where, text, " [cut]" if len(line) > _LINE_BYTES_MAX else "")


def _pieces(line: bytes, running: int | None) -> list[tuple[int | None, bytes]]:
    """The line cut where another task goes on; what one task has said in parts is whole again."""
    unmarked, *marked = _MARK.split(line)
    pieces: list[tuple[int | None, bytes]] = [(running, unmarked)] if unmarked else []
    for index, text in zip(marked[::2], marked[1::2], strict=True):
        task = int(index) if int(index) >= 0 else None
        if pieces and pieces[-1][0] == task:
            text = pieces.pop()[1] + text
        pieces.append((task, text))
    return pieces
