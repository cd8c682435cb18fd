"""A job's input from any iterable of the user's, read lazily in a thread of its own."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import OperatorError
from ..protocol.arguments import input_digest
from ..protocol.fields import CALL
from ..protocol.messages import ArgumentForm
from ..protocol.settings import MESSAGE_BYTES_MAX
from ..ventilator.inputs import DEPTH_MARGIN, Input, RangeInput, popped
from .bell import Bell

_AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""At most how many bytes of arguments are read ahead, unless one alone has more."""
_PLAIN = frozenset((int, float, bool, str, bytes, type(None)))


def _plain(value: Any) -> Any:
    """The plain value of a NumPy number. Raises TypeError for all else that MessagePack has no form for."""
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == () and type(plain := value.item()) is not kind:
        return plain
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, os.PathLike):
        told = "str() of it"
    elif hasattr(value, "tolist"):
        told = "its tolist(), or the path of a file"
    else:
        told = "numbers, text, bytes, lists or maps, or the path of a file"
    raise TypeError(f"{name} cannot be sent: give {told}")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


@dataclass(frozen=True, slots=True)
class Encoded:
    """An argument that is encoded already."""

    content: bytes


class ArgumentEncoder:
    """Encodes one argument after the other. Raises TypeError or ValueError for what no message can hold."""

    def __init__(self) -> None:
        self._innermost: list[Any] = [None]
        deep: list[Any] = self._innermost
        for _ in range(DEPTH_MARGIN - 1):
            deep = [deep]
        self._deep = deep

    def spread(self, args: Iterable[Any], kwargs: dict[str, Any]) -> bytes:
        """Several arguments of one call."""
        content = self.encoded([list(args), kwargs])
        return _encode(msgspec.msgpack.Ext(CALL, content))

    def encoded(self, argument: Any) -> bytes:
        """The argument in MessagePack."""
        try:
            if type(argument) is Encoded:
                return argument.content
            if type(argument) in _PLAIN:
                found = _encode(argument)
            else:
                self._innermost[0] = argument
                try:
                    found = _encode(self._deep)[DEPTH_MARGIN:]
                finally:
                    # It may hold much, and nobody knows when the next one comes.
                    self._innermost[0] = None
        except RecursionError:
            raise ValueError("it is nested too deeply, or contains itself") from None
        except OverflowError:
            raise ValueError("an integer of more than 64 bits cannot be sent") from None
        if len(found) >= MESSAGE_BYTES_MAX:
            raise ValueError(
                f"it has {len(found)} bytes, and a message holds {MESSAGE_BYTES_MAX}: write it to a file, pass the path"
            )
        return found


class ArgumentsInput:
    """An `Input` of values that any iterable gives. `start` begins to read it; at most `ahead` tasks are read ahead."""

    source = "python values"
    is_estimate = False
    fresh = False

    def __init__(self, arguments: Iterable[Any], ahead: int, total: int | None, star: bool = False) -> None:
        self.expected = total
        # Several arguments in one are no value that the ledger could show.
        self.arguments: ArgumentForm = "" if star else "json"
        self.failure: BaseException | None = None
        """What the iterable has raised."""
        # What is not iterable is the caller's error, not the job's.
        self._arguments = iter(arguments)
        self.is_verified = False
        """They are those of the earlier run, or there was none."""
        self._star = star
        self._ahead = max(1, ahead)
        self._bell = Bell()
        self._rung = False
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._put_bytes = self._took_bytes = 0
        """Each is written by one thread only."""
        self._waits = False
        """The thread waits until there is room."""
        self._is_read = False
        self._end_seen = False
        self._is_left = False
        self._taken = 0
        self._digest = input_digest()

    # -- in the thread that reads -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="tradewind-input", daemon=True).start()

    def _read(self) -> None:
        try:
            encoder = ArgumentEncoder()
            for at, argument in enumerate(self._arguments):
                try:
                    is_spread = self._star and type(argument) is not Encoded
                    encoded = encoder.spread(argument, {}) if is_spread else encoder.encoded(argument)
                except (TypeError, ValueError) as error:
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"argument {at}, of type {type(argument).__qualname__}: {error}") from None
                if not self._put(encoded):
                    return
        except BaseException as error:
            self.failure = error
        finally:
            self._arguments = iter(())
        self._is_read = True
        self._bell.ring()

    def _put(self, encoded: bytes) -> bool:
        """Queue it when there is room; False when nobody wants more."""
        queue = self._queue
        if len(queue) >= self._ahead or self._put_bytes - self._took_bytes >= _AHEAD_BYTES_MAX:
            with self._changed:
                self._waits = True
                if not self._rung:
                    # What is here may be less than the loop waits for.
                    self._ring()
                self._changed.wait_for(self._has_room)
                self._waits = False
        if self._is_left:
            return False
        self._put_bytes += len(encoded)
        queue.append(encoded)
        if not self._rung:
            self._ring()
        return True

    def _ring(self) -> None:
        self._rung = True
        self._bell.ring()

    def _has_room(self) -> bool:
        half = len(self._queue) <= self._ahead // 2 and self._put_bytes - self._took_bytes <= _AHEAD_BYTES_MAX // 2
        return half or self._is_left

    # -- in the job's loop --------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._end_seen and not self._queue

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        """There is nothing to prepare."""
        return []

    def verified(self) -> None:
        """They are those of the earlier run, or there was none."""
        self.is_verified = True

    def leave(self, is_done: bool) -> list[str]:
        """The job ends: no more is read."""
        self._is_left = True
        self._wake()
        self._bell.close()
        return []

    def fileno(self) -> int | None:
        """The descriptor to wait for, while there may be more."""
        return None if self._end_seen else self._bell.fileno()

    def fill(self) -> None:
        """Take note that there is more. Raises OperatorError when there will be no more, by an error."""
        self._bell.silence()
        self._rung = False
        if self._is_read:
            self._end_seen = True
            if self.failure is not None:
                raise OperatorError(f"the arguments ended by {type(self.failure).__name__}: {self.failure}")

    def available(self, count: int = 1) -> bool:
        """True when `count` tasks can be taken, or fewer because there will be no more or no room for them."""
        here = len(self._queue)
        return here >= count or (here > 0 and (self._end_seen or here >= self._ahead // 2 or self._waits))

    def skip(self, count: int) -> int:
        """Pass over up to `count` of the tasks that are there; returns how many."""
        return self._took(count, None)[0]

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Up to `count` of the tasks that are there, at least one, fewer when they exceed `bytes_max` encoded."""
        taken, joined = self._took(count, bytes_max)
        return taken, Raw(b"\xdd" + taken.to_bytes(4) + joined)

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were taken or passed over, and a digest of them."""
        return self._taken, self._digest.copy().digest()

    def _took(self, count: int, bytes_max: int | None) -> tuple[int, bytes]:
        """How many of the tasks that are there were taken, and what they are."""
        taken = popped(self._queue, min(count, len(self._queue)), bytes_max)
        joined = b"".join(taken)
        self._digest.update(joined)
        self._taken += len(taken)
        self._took_bytes += len(joined)
        if self._waits and self._has_room():
            self._wake()
        return len(taken), joined

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def input_of(arguments: Iterable[Any], ahead: int, total: int | None, star: bool = False) -> Input:
    """The input that these arguments are; with `star` each is the arguments of a call."""
    if isinstance(arguments, range) and arguments.step == 1 and total is None and not star:
        return RangeInput(arguments.start, max(arguments.start, arguments.stop))
    if total is None and isinstance(arguments, Sized):
        total = len(arguments)
    return ArgumentsInput(arguments, ahead, total, star)
