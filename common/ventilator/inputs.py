"""A job's input, read lazily: lines of a file or of standard input, or a range of integers."""

import codecs
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from ..errors import OperatorError
from ..protocol.arguments import input_digest
from ..protocol.fields import TASK_MAX, ArgumentForm
from ..protocol.messages import UNUSABLE
from ..protocol.settings import MESSAGE_BYTES_MAX
from .dispatch import Skip
from .session import InputState, Reading, VentilatorSession
from .sources import Source, StreamSource, open_source
from .spool import SpoolPlace
from .unusable import not_lines, reason, too_long

DEPTH_MARGIN = 100
"""An argument is encoded inside this many lists, which are then cut off: what decodes it may allow less depth."""
_UNFIT = (ValueError, OverflowError, RecursionError)
"""What decoding a line, or encoding its value, raises."""
_FEW = 16
_encoder = msgspec.msgpack.Encoder()


class Input(Protocol):
    """Tasks in order. All counts are tasks; nothing blocks."""

    source: str
    """The kind of input, which a resumed job must share."""
    arguments: ArgumentForm
    """How the ledger keeps the tasks' arguments; empty where the source says what they are."""

    @property
    def expected(self) -> int | None:
        """How many tasks there are, as far as that is known."""

    @property
    def is_estimate(self) -> bool:
        """True while `expected` is estimated from the part that was read."""

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""

    @property
    def fresh(self) -> bool:
        """True when what comes next was never read before, and will never come again."""

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]: ...
    def verified(self) -> None: ...
    def leave(self, is_done: bool) -> list[str]: ...
    def fileno(self) -> int | None: ...
    def fill(self) -> None: ...
    def available(self, count: int = 1) -> bool: ...
    def skip(self, count: int) -> int: ...
    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]: ...
    def mark(self) -> tuple[int, bytes]: ...


def state_of(opened: Input) -> InputState:
    """How far it was read."""
    count, digest = opened.mark()
    return InputState(count, digest, opened.ended, opened.expected, opened.is_estimate, opened.fresh)


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


def encoded(arguments: list[Any]) -> bytes:
    """The arguments as one MessagePack array. Raises ValueError, OverflowError or RecursionError when one has no form
    there."""
    wrapped: Any = arguments
    for _ in range(DEPTH_MARGIN):
        wrapped = [wrapped]
    return _encoder.encode(wrapped)[DEPTH_MARGIN:]


def _split(chunk: bytes, end: bytes) -> list[bytes]:
    """The same as `chunk.split(end)`, which is slow where lines are long: it compares byte by byte."""
    parts, start = list[bytes](), 0
    while (at := chunk.find(end, start)) >= 0:
        if len(parts) == _FEW:
            return chunk.split(end)
        parts.append(chunk[start:at])
        start = at + 1
    return [*parts, chunk[start:]]


def popped(queue: deque[bytes], count: int, bytes_max: int | None) -> list[bytes]:
    """Up to `count` of the encoded arguments that are there, at least one, fewer when they exceed `bytes_max`."""
    # Another thread may append meanwhile: an iterator over the queue would end by an error.
    taken, size = list[bytes](), 0
    while queue and len(taken) < count:
        size += len(queue[0])
        if bytes_max is not None and size > bytes_max and taken:
            break
        taken.append(queue.popleft())
    return taken


class RangeInput:
    """The integers from `start` to `stop - 1`."""

    fresh = False
    arguments: ArgumentForm = ""

    def __init__(self, start: int, stop: int) -> None:
        self.source = f"range {start}:{stop}"
        self.expected = stop - start
        self.is_estimate = False
        self._start = start
        self._next = start
        self._stop = stop

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._next >= self._stop

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        """There is nothing to prepare."""
        return []

    def verified(self) -> None:
        """Nothing was kept."""

    def leave(self, is_done: bool) -> list[str]:
        """There is nothing to keep."""
        return []

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


@dataclass(frozen=True, slots=True)
class LineForm:
    """What the bytes of an input mean."""

    json: bool = False
    """Each line is a JSON value; otherwise it is its own text."""
    nul_ends: bool = False
    """A task ends with NUL, as `find -print0` writes it, and not with the line."""

    @property
    def kind(self) -> str:
        """What a resumed job must share."""
        return "lines of JSON" if self.json else "texts that end with NUL" if self.nul_ends else "lines of text"

    @property
    def end(self) -> bytes:
        """What ends a task."""
        return b"\0" if self.nul_ends else b"\n"


class LinesInput:
    """One task a line: its text, or the JSON value in it. Lines of white space only are passed over.

    A line that cannot be a task takes the place of one all the same: what goes to the worker says why.
    """

    def __init__(self, source: Source, form: LineForm) -> None:
        self.source = f"a stream of {form.kind}" if isinstance(source, StreamSource) else form.kind
        self.arguments: ArgumentForm = "json" if form.json else "text"
        self._bytes = source
        self._form = form
        self._lines: list[tuple[int, bytes]] = []
        self._at = 0
        self._partial: list[bytes] = []
        """The line that has not ended yet, in the pieces in which it came."""
        self._partial_bytes = 0
        self._partial_digest = input_digest()
        """Of what was left out of it, because no message holds it."""
        self._too_long: dict[int, int] = {}
        """Line numbers and lengths of the lines that were not consumed and of which only a digest was kept."""
        self._end_of_file = False
        self._line_count = 0
        self._read_bytes = 0
        self._taken = 0
        self._digest = input_digest()

    @property
    def expected(self) -> int | None:
        """Tasks of the whole file, estimated from its size; None for a pipe."""
        if self._end_of_file:
            return self._read_count
        if self._bytes.expect_bytes is None or not self._read_bytes:
            return None
        if self._bytes.expect_bytes == self._read_bytes:
            return self._read_count + any(piece and not piece.isspace() for piece in self._partial)
        return max(self._read_count, int(self._read_count * self._bytes.expect_bytes / self._read_bytes))

    @property
    def is_estimate(self) -> bool:
        """True while `expected` is estimated from the part that was read."""
        return not self._end_of_file and self._bytes.expect_bytes != self._read_bytes

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._end_of_file and not self.available()

    @property
    def fresh(self) -> bool:
        """True when what comes next was never read before, and will never come again."""
        return self._bytes.fresh and not self.available()

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        """The job is open, with this mark of an earlier run; returns what to log. Raises OperatorError."""
        if not self._taken:
            self._digest = input_digest(mark_digest)
        return self._bytes.begin(ledger, resumed)

    def verified(self) -> None:
        """It is the input of the earlier run."""
        self._bytes.verified()

    def leave(self, is_done: bool) -> list[str]:
        """The job ends here, now; returns what to log."""
        return self._bytes.leave(is_done)

    def fileno(self) -> int | None:
        """The descriptor to wait for, while there may be more to read."""
        return None if self._end_of_file else self._bytes.fileno()

    def fill(self) -> None:
        """Read what is there, once; to be called when `fileno` is readable. Raises OperatorError."""
        if self._end_of_file:
            return
        self._lines, self._at = self._lines[self._at :], 0
        chunk = self._bytes.read()
        if chunk is None:
            return
        if not self._read_bytes and (problem := not_lines(chunk, self._form.nul_ends)):
            raise OperatorError(f"cannot use {self._bytes.name} as the input: {problem}")
        self._read_bytes += len(chunk)
        self._end_of_file = not chunk
        piece, *lines = _split(chunk, self._form.end)
        self._add_piece(piece)
        if lines:
            self._end_line()
            self._add_lines(lines[:-1])
            self._add_piece(lines[-1])
        elif self._end_of_file:
            self._end_line()

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
        payload = self._encoded(lines)
        self._consume(len(lines))
        return len(lines), payload

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were taken or passed over, and the digest of their lines."""
        return self._taken, self._digest.copy().digest()

    @property
    def _read_count(self) -> int:
        """Tasks that were read, taken or not."""
        return self._taken + len(self._lines) - self._at

    def _add_piece(self, piece: bytes) -> None:
        """More of the line that has not ended yet."""
        self._partial_bytes += len(piece)
        if self._partial_bytes > MESSAGE_BYTES_MAX:
            self._partial_digest.update(b"".join([*self._partial, piece]))
            self._partial = []
        else:
            self._partial.append(piece)

    def _end_line(self) -> None:
        line, length = b"".join(self._partial), self._partial_bytes
        self._partial, self._partial_bytes = [], 0
        if length > MESSAGE_BYTES_MAX:
            line, self._partial_digest = self._partial_digest.digest(), input_digest()
            self._too_long[self._line_count + 1] = length
        elif not self._line_count and not self._form.nul_ends:
            line = line.removeprefix(codecs.BOM_UTF8)
        self._add_lines([line])

    def _add_lines(self, lines: list[bytes]) -> None:
        start, text = self._line_count + 1, not self._form.nul_ends
        self._line_count += len(lines)
        for number, line in enumerate(lines, start):
            if line and not (text and line.isspace()):
                self._lines.append((number, line.removesuffix(b"\r") if text else line))

    def _consume(self, count: int) -> None:
        taken = self._lines[self._at : self._at + count]
        if len(taken) < _FEW:
            # They may be long.
            for _, line in taken:
                self._digest.update(line)
                self._digest.update(self._form.end)
        else:
            self._digest.update(b"".join([line + self._form.end for _, line in taken]))
        if self._too_long:
            for number, _ in taken:
                self._too_long.pop(number, None)
        self._at += count
        self._taken += count

    def _encoded(self, lines: list[tuple[int, bytes]]) -> Raw:
        if not self._too_long:
            try:
                payload = encoded([self._argument(line) for _, line in lines])
            except _UNFIT:
                pass
            else:
                if len(lines) > 1 or len(payload) <= MESSAGE_BYTES_MAX:
                    return Raw(payload)
        # Some line cannot be a task: each one by itself.
        return Raw(_encoder.encode([self._argument_or_reason(number, line) for number, line in lines]))

    def _argument(self, line: bytes) -> Any:
        return msgspec.json.decode(line) if self._form.json else line.decode()

    def _argument_or_reason(self, number: int, line: bytes) -> Raw | msgspec.msgpack.Ext:
        if number in self._too_long:
            why = too_long(self._too_long[number], MESSAGE_BYTES_MAX)
        else:
            try:
                argument = encoded([self._argument(line)])[1:]
            except _UNFIT as error:
                why = reason(line, error)
            else:
                if len(argument) < MESSAGE_BYTES_MAX:
                    return Raw(argument)
                why = too_long(len(argument) + 1, MESSAGE_BYTES_MAX)
        return msgspec.msgpack.Ext(UNUSABLE, f"{self._bytes.name}:{number}: {why}".encode())


@dataclass(frozen=True, slots=True)
class InputRequest:
    """What the command line says of the input."""

    path: str | None = None
    """A file, a pipe, or `-`."""
    span: str | None = None
    """START:STOP of a range."""
    json: bool = False
    nul_ends: bool = False
    is_stream: bool = False
    append: bool = False
    """Its new tasks are added to a job, which needs the input's end."""


def open_input(request: InputRequest, place: SpoolPlace) -> Input:
    """The input that the command line names. Raises OperatorError."""
    path, span = request.path, request.span
    if (path is None) == (span is None):
        raise OperatorError("give one input: a file with a task per line, - for standard input, or --range START:STOP")
    if span is not None:
        flags = {"--json": request.json, "-0": request.nul_ends, "--stream": request.is_stream}
        if idle := [flag for flag, is_set in flags.items() if is_set]:
            raise OperatorError(f"--range has no lines: leave out {', '.join(idle)}")
        return RangeInput(*_span(span))
    assert path is not None
    form = LineForm(request.json or path.lower().endswith((".jsonl", ".ndjson")), request.nul_ends)
    if form.json and form.nul_ends:
        raise OperatorError("-0 is for text, and JSON values end with their line: leave out -0")
    source = open_source(path, request.is_stream, form.end, place)
    if request.append and isinstance(source, StreamSource):
        raise OperatorError("--append reads an input to its end: give a file or a pipe, not a stream")
    return LinesInput(source, form)


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
