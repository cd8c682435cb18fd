"""What the user's functions print: to the worker's log, with job and task in front."""

import logging
import os
import re
from collections.abc import Callable

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_READS_AT_ONCE = 16
_LINE_BYTES_MAX = 8 * 1024
_MARK = re.compile(rb"\x1d(\d+) (-1|\d+)\x1d")
_SETTLED = re.compile(rb"\x1e(\d+) (\d+) (\d+)\x1e")
Owner = tuple[int, int, int] | None
"""What may have printed something: an order's number, and the first and the last of these tasks of it."""
Printing = Callable[[], Owner]
"""What may be printing at this moment."""
JobOf = Callable[[int], str | None]
"""The job of an order that the child has and has not done."""


class ChildOutput:
    """The end of a pipe that is a child's standard output and standard error.

    The child puts each line behind the numbers of the order and the task that printed it. What comes past Python (from
    a library, from a subprocess) has no such mark: the child says after it of which tasks it is, unless it was read
    before. Then it is of the tasks that ran around that.
    """

    def __init__(self, descriptor: int, slot: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._slot = slot
        self._partial = b""
        self._began: Owner = None
        """Whose the partial line is, unless it says so itself."""

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._descriptor

    def log_lines(self, job_of: JobOf, printing: Printing) -> bool:
        """Log the lines that have come; False at the end of the pipe."""
        waiting: list[tuple[bytes, Owner]] = []
        is_open = True
        running = printing()
        if self._partial and (self._began or running) != running and not _MARK.match(self._partial):
            # That task is over, and its line with it.
            self._log(self._partial, job_of, self._began)
            self._partial, self._began = b"", None
        for _ in range(_READS_AT_ONCE):
            try:
                chunk = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                waiting.append((self._partial, self._began or running))
                self._partial, is_open = b"", False
                break
            self._take(chunk, job_of, _around(running, printing()), waiting)
            if len(chunk) < _READ_BYTES:
                # What comes from now on may be of another task.
                break
        for line, its in waiting:
            self._log(line, job_of, its)
        return is_open

    def end_order(self, job_of: JobOf, printing: Printing) -> None:
        """Log what the tasks of an order have printed, also a last line without an end: no other job continues it."""
        self.log_lines(job_of, printing)
        self._log(self._partial, job_of, self._began)
        self._partial, self._began = b"", None

    def close(self) -> None:
        """Close the pipe, with a last word if a line was not ended."""
        self._log(self._partial, lambda _: None, None)
        os.close(self._descriptor)

    def _take(self, chunk: bytes, job_of: JobOf, owner: Owner, waiting: list[tuple[bytes, Owner]]) -> None:
        """Cut the chunk into lines; those wait whose task may be said behind them."""
        text, *settled = _SETTLED.split(self._partial + chunk)
        for at in range(0, len(settled), 4):
            order, first, last, after = settled[at : at + 4]
            for line in (*(line for line, _ in waiting), *text.split(b"\n")):
                self._log(line, job_of, (int(order), int(first), int(last)))
            waiting.clear()
            text, self._partial, self._began = after, b"", None
        *lines, partial = text.split(b"\n")
        if len(partial) > _LINE_BYTES_MAX:
            lines.append(partial)
            partial = b""
        for line in lines:
            waiting.append((line, self._began or owner))
            self._began = None
        if partial and self._began is None:
            self._began = owner
        self._partial = partial

    def _log(self, line: bytes, job_of: JobOf, owner: Owner) -> None:
        for tasks, text in _pieces(line, owner):
            self._log_piece(text, job_of, tasks)

    def _log_piece(self, line: bytes, job_of: JobOf, tasks: Owner) -> None:
        text = line[:_LINE_BYTES_MAX].decode(errors="backslashreplace").rstrip()
        if not text:
            return
        where = f"slot {self._slot}"
        if tasks is not None and (job := job_of(tasks[0])) is not None:
            _, first, last = tasks
            where = f"job {job} task {first}" if first == last else f"job {job} tasks {first} to {last}"
        log.info("%s: %s%s", where, text, " [cut]" if len(line) > _LINE_BYTES_MAX else "")


def _around(before: Owner, after: Owner) -> Owner:
    """What may have printed something that was read between these moments."""
    if before is None or after is None or before[0] != after[0]:
        return before or after
    return before[0], before[1], max(before[2], after[2])


def _pieces(line: bytes, owner: Owner) -> list[tuple[Owner, bytes]]:
    """The line cut where another task goes on; what one task has said in parts is whole again."""
    unmarked, *marked = _MARK.split(line)
    pieces: list[tuple[Owner, bytes]] = [(owner, unmarked)] if unmarked else []
    for order, index, text in zip(marked[::3], marked[1::3], marked[2::3], strict=True):
        task = (int(order), int(index), int(index)) if int(index) >= 0 else None
        if pieces and pieces[-1][0] == task:
            text = pieces.pop()[1] + text
        pieces.append((task, text))
    return pieces
