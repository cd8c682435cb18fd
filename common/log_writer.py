"""How log lines look, and a writer for them that never makes its process wait for whoever reads them."""

import json
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from .plain_text import indented

WAITING_BYTES_MAX = 1_000_000
"""At most how many bytes wait for a reader; further lines are dropped and counted."""
FLUSH_S = 1.0
"""How long the end of a process waits for its last lines to be read."""
_ERASE = b"\r\x1b[K"


class LogFormat(StrEnum):
    """How log lines look."""

    text = "text"
    json = "json"


class LineFormatter(logging.Formatter):
    """`2026-11-26T06:40:34Z INFO sink: text`, or a JSON object with time, level, role and message. Times are UTC."""

    def __init__(self, role: str, kind: LogFormat) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {role}: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime
        self._role = role
        self._kind = kind

    def last_words(self, text: str) -> str:
        """Why the process ends: in the text format without time and level, as before the log began."""
        if self._kind is LogFormat.text:
            return f"{self._role}: {indented(text)}"
        return self.format(logging.LogRecord("", logging.ERROR, "", 0, text, (), None))

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, or as lines of which all but the first are indented."""
        if self._kind is LogFormat.text:
            return indented(super().format(record))
        seconds = self.formatTime(record, self.datefmt).removesuffix("Z")
        fields = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields).replace("\x7f", "\\u007f")


class LogWriter:
    """Writes lines to a descriptor in a thread of its own, and keeps a status line below them on a terminal.

    A reader that stops reading (Ctrl-S, a pager) stops that thread and nothing else.
    """

    def __init__(self, descriptor: int, encoding: str, dropped: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._dropped = dropped
        """The line that says how many were dropped."""
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped_count = 0
        self._status = b""
        self._shown_status = b""
        self._writes = False
        self._closes = False
        self._is_gone = False
        """Nobody will ever read what is written."""
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Write the line soon, or drop it when too much waits."""
        encoded = self._encoded(line) + b"\n"
        with self._changed:
            if self._is_gone:
                return
            if self._waiting_bytes + len(encoded) > WAITING_BYTES_MAX or self._dropped_count:
                self._dropped_count += 1
                return
            self._lines.append(encoded)
            self._waiting_bytes += len(encoded)
            self._changed.notify_all()

    def show(self, status: str) -> None:
        """Show this below the last line of a terminal, in place of what was shown there; it must fit in a line."""
        with self._changed:
            self._status = self._encoded(status)
            self._changed.notify_all()

    def close(self, within_s: float = FLUSH_S) -> None:
        """Take the status away, and wait until everything is written, but no longer than this."""
        with self._changed:
            self._status, self._closes = b"", True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_behind() and not self._writes, within_s)

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def _is_behind(self) -> bool:
        return not self._is_gone and (bool(self._lines or self._dropped_count) or self._status != self._shown_status)

    def _run(self) -> None:
        while (content := self._next()) is not None:
            self._put(content)

    def _next(self) -> bytes | None:
        """What to write next, once there is something; None at the end."""
        with self._changed:
            self._writes = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_behind() or self._closes or self._is_gone)
            if not self._is_behind():
                return None
            self._writes = True
            lines = [*self._lines]
            if self._dropped_count:
                lines.append(self._encoded(self._dropped(self._dropped_count)) + b"\n")
            self._lines.clear()
            self._waiting_bytes = self._dropped_count = 0
            erase = _ERASE if self._shown_status else b""
            self._shown_status = self._status
            # The cursor goes back to its beginning: what others write to the terminal covers it.
            status = self._shown_status + b"\r" if self._shown_status else b""
            return b"".join([erase, *lines, status])

    def _put(self, content: bytes) -> None:
        while content:
            try:
                content = content[os.write(self._descriptor, content) :]
            except BlockingIOError:
                # Whoever shares the terminal with us has made it non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                with self._changed:
                    self._is_gone = True
                return


class LogHandler(logging.Handler):
    """Hands the records of all loggers to a `LogWriter`."""

    def __init__(self, role: str, kind: LogFormat, descriptor: int, encoding: str) -> None:
        super().__init__()
        self.kind = kind
        self.setFormatter(LineFormatter(role, kind))
        self.writer = LogWriter(descriptor, encoding, self._dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written soon."""
        self.writer.write(self.format(record))

    def say_error(self, text: str) -> None:
        """Why the process ends: in the text format without time and level, as before the log began."""
        formatter = self.formatter
        assert isinstance(formatter, LineFormatter)
        self.writer.write(formatter.last_words(text))

    def _dropped(self, count: int) -> str:
        text = f"{count} log lines were dropped here, because nobody read the log"
        return self.format(logging.LogRecord("", logging.WARNING, "", 0, text, (), None))
