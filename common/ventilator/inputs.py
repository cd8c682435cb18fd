"""A job's input, read lazily: lines of a file or of standard input, or a range of integers."""

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from msgspec import Raw

from ..errors import OperatorError
from ..protocol.messages import TASK_MAX
from ..protocol.settings import MESSAGE_BYTES_MAX
from .dispatch import Skip
from .session import InputState, Reading, VentilatorSession

_READ_BYTES = 256 * 1024
_DEPTH_MARGIN = 100
_encoder = msgspec.msgpack.Encoder()


class Input(Protocol):
    """Tasks in order. All counts are tasks; nothing blocks."""

    source: str
    """The kind of input, which a resumed job must share."""

    @property
    def expected(self) -> int | None:
        """How many tasks there are, as far as that is known."""

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""

    def fileno(self) -> int | None: ...
    def fill(self) -> None: ...
    def available(self, count: int = 1) -> bool: ...
    def skip(self, count: int) -> int: ...
    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]: ...
    def mark(self) -> tuple[int, bytes]: ...


def state_of(opened: Input) -> InputState:
    """How far it was read."""
    count, digest = opened.mark()
    return InputState(count, digest, opened.ended, opened.expected)


def read_ahead(opened: Input, session: VentilatorSession, now: float, batch_bytes_max: int) -> None:
    """Read what the session asks for, as far as it can be read now."""
    try:
        while (order := session.next_read(now)) is not None and opened.available(order.at_least):
            if isinstance(order, Skip):
                count, arguments = opened.skip(order.count), None
            else:
                count, arguments = opened.take(order.count, batch_bytes_max)
            session.was_read(now, Reading(count, arguments, state_of(opened)))
    except OperatorError as error:
        session.input_failed(now, error)


def encoded(arguments: list[Any], first: int) -> Raw:
    """The arguments as one MessagePack array. Raises OperatorError when one is too large for a message, ValueError,
    OverflowError or RecursionError when one cannot be encoded."""
    # Encoded some levels deeper than they are, because the process that decodes them may allow less depth.
    wrapped: Any = arguments
    for _ in range(_DEPTH_MARGIN):
        wrapped = [wrapped]
    payload = _encoder.encode(wrapped)[_DEPTH_MARGIN:]
    if len(payload) > MESSAGE_BYTES_MAX and len(arguments) == 1:
        raise OperatorError(
            f"the argument of task {first} has {len(payload)} bytes, but a message holds {MESSAGE_BYTES_MAX}:"
            " pass a path and let the worker read the file"
        )
    return Raw(payload)


class RangeInput:
    """The integers from `start` to `stop - 1`."""

    def __init__(self, start: int, stop: int) -> None:
        self.source = f"range {start}:{stop}"
        self.expected = stop - start
        self._start = start
        self._next = start
        self._stop = stop

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._next >= self._stop

    def fileno(self) -> int | None:
        """There is nothing to wait for."""
        return None

    def fill(self) -> None:
        """There is nothing to read."""

    def available(self, count: int = 1) -> bool:
        """True while there are tasks."""
        return not self.ended

    def skip(self, count: int) -> int:
        """Pass over up to `count` tasks; returns how many."""
        skipped = min(count, self._stop - self._next)
        self._next += skipped
        return skipped

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Up to `count` tasks, at least one: how many, and their encoded arguments."""
        end = min(self._next + count, self._stop)
        taken = range(self._next, end)
        self._next = end
        return len(taken), Raw(_encoder.encode(list(taken)))

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were read, and a digest of them: the source says it all."""
        return self._next - self._start, b""


class LinesInput:
    """One task a line: its text, or with `json` the JSON value in it. Lines of white space only are passed over.

    All of these raise OperatorError for a line that cannot be a task, naming its number.
    """

    def __init__(self, file: IO[bytes], name: str, json: bool, expect_bytes: int | None = None) -> None:
        self.source = "lines of JSON" if json else "lines of text"
        self._file = file
        self._name = name
        self._json = json
        self._descriptor = file.fileno()
        self._lines: list[tuple[int, bytes]] = []
        self._at = 0
        self._partial: list[bytes] = []
        """The line that has not ended yet, in the pieces in which it came."""
        self._end_of_file = False
        self._line_count = 0
        self._read_count = 0
        self._read_bytes = 0
        self._expect_bytes = expect_bytes
        self._taken = 0
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def expected(self) -> int | None:
        """Tasks of the whole file, estimated from its size; None for a pipe."""
        if self._end_of_file:
            return self._read_count
        if self._expect_bytes is None or not self._read_bytes:
            return None
        return max(self._read_count, int(self._read_count * self._expect_bytes / self._read_bytes))

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._end_of_file and not self.available()

    def fileno(self) -> int | None:
        """The descriptor to wait for, while there may be more to read."""
        return None if self._end_of_file else self._descriptor

    def fill(self) -> None:
        """Read what is there, once; to be called when `fileno` is readable."""
        if self._end_of_file:
            return
        self._lines, self._at = self._lines[self._at :], 0
        chunk = os.read(self._descriptor, _READ_BYTES)
        self._read_bytes += len(chunk)
        self._end_of_file = not chunk
        piece, *lines = chunk.split(b"\n")
        self._partial.append(piece)
        if lines:
            lines, self._partial = [b"".join(self._partial), *lines[:-1]], lines[-1:]
        elif self._end_of_file:
            lines, self._partial = [b"".join(self._partial)], []
        if sum(map(len, self._partial)) > MESSAGE_BYTES_MAX:
            raise OperatorError(
                f"{self._name}:{self._line_count + len(lines) + 1}: the line is longer than the"
                f" {MESSAGE_BYTES_MAX} bytes that a message holds: pass a path and let the worker read the file"
            )
        for line in lines:
            self._line_count += 1
            if line and not line.isspace():
                self._lines.append((self._line_count, line.removesuffix(b"\r")))
        self._read_count = self._taken + len(self._lines)

    def available(self, count: int = 1) -> bool:
        """True when `count` tasks can be taken without reading, or fewer because there will be no more."""
        here = len(self._lines) - self._at
        return here >= count or (self._end_of_file and here > 0)

    def skip(self, count: int) -> int:
        """Pass over up to `count` of the tasks that are there; returns how many."""
        skipped = min(count, len(self._lines) - self._at)
        self._consume(skipped)
        return skipped

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Up to `count` of the tasks that are there, at least one, fewer when they exceed `bytes_max` encoded."""
        lines = self._lines[self._at : self._at + count]
        size = 0
        for taken, (_, line) in enumerate(lines):
            size += len(line)
            if size > bytes_max and taken:
                lines = lines[:taken]
                break
        arguments = [self._argument(number, line) for number, line in lines]
        try:
            payload = encoded(arguments, self._taken)
        except (ValueError, OverflowError, RecursionError):
            raise self._unfit(lines, arguments) from None
        self._consume(len(lines))
        return len(lines), payload

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were taken or passed over, and the digest of their lines."""
        return self._taken, self._digest.copy().digest()

    def _consume(self, count: int) -> None:
        taken = self._lines[self._at : self._at + count]
        self._digest.update(b"".join([line + b"\n" for _, line in taken]))
        self._at += count
        self._taken += count

    def _argument(self, number: int, line: bytes) -> Any:
        try:
            return msgspec.json.decode(line) if self._json else line.decode()
        except msgspec.DecodeError as error:
            raise OperatorError(f"{self._name}:{number}: the line is not JSON: {error}") from None
        except UnicodeDecodeError as error:
            raise OperatorError(f"{self._name}:{number}: the line is not UTF-8 text: {error.reason}") from None
        except RecursionError:
            raise OperatorError(f"{self._name}:{number}: the line's JSON is nested too deeply") from None

    def _unfit(self, lines: list[tuple[int, bytes]], arguments: list[Any]) -> OperatorError:
        """Names the first line whose value MessagePack has no form for."""
        for (number, _), argument in zip(lines, arguments, strict=True):
            try:
                encoded([argument], 0)
            except RecursionError:
                return OperatorError(f"{self._name}:{number}: the line's JSON is nested too deeply")
            except (ValueError, OverflowError) as error:
                return OperatorError(f"{self._name}:{number}: the value cannot be sent: {error}")
        raise AssertionError("every line can be encoded by itself")


def open_input(path: str | None, span: str | None) -> Input:
    """The input that the command line names: a file, `-`, or `--range START:STOP`. Raises OperatorError."""
    if (path is None) == (span is None):
        raise OperatorError("give one input: a file with a task per line, - for standard input, or --range START:STOP")
    if span is not None:
        return RangeInput(*_span(span))
    assert path is not None
    if path == "-":
        if sys.stdin is None:
            raise OperatorError("standard input is closed: give it a file or a pipe, or name a file instead of -")
        return LinesInput(sys.stdin.buffer, "standard input", json=False)
    try:
        file = Path(path).open("rb")  # noqa: SIM115
        status = os.fstat(file.fileno())
    except OSError as error:
        raise OperatorError(f"cannot read the input {path}: {error.strerror}") from None
    regular = stat.S_ISREG(status.st_mode)
    return LinesInput(file, path, path.endswith(".jsonl"), status.st_size if regular else None)


def _span(span: str) -> tuple[int, int]:
    start, _, stop = span.rpartition(":")
    try:
        low, high = int(start) if start else 0, int(stop)
    except ValueError:
        raise OperatorError(f"--range {span}: give START:STOP, or STOP to start at 0, in whole numbers") from None
    if high < low:
        raise OperatorError(f"--range {span}: STOP is less than START")
    if low < -(2**63) or high > 2**63 or high - low > TASK_MAX:
        raise OperatorError(f"--range {span}: a range holds at most 2**53 integers of 64 bits")
    return low, high
