"""Choices taken from a string of bytes, and messages made of such choices: mostly valid, with names that meet."""

import types
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec import inspect as shape

from common.protocol.codec import encode
from common.protocol.messages import Message

T = TypeVar("T")

JOBS = ("job", "job", "job", "other", "third")
NAMES = ("job", "ada", "bob", "eve", "worker", "ventilator", "observer", "a" * 100)
FUNCTIONS = ("m:f", "m:g", "other:h")
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    float("nan"),
    float("-inf"),
    "",
    "text'\x00\ud7ff",
    b"\xff\x00",
    [1, [2, [3]]],
    {"key": {"deep": [None]}},
    {1: 2},
    {b"bytes": 1},
    {None: 1.5},
    msgspec.msgpack.Ext(5, b"ext"),
    msgspec.msgpack.Ext(-1, b"\xff" * 12),
)
"""What MessagePack can carry, the awkward kinds among it."""
_PACKED = (
    *map(msgspec.msgpack.encode, VALUES),
    b"\xa2\xff\xfe",  # a string that is no UTF-8
    b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
    b"\x91" * 2_000 + b"\xc0",  # nested deeper than Python goes
    b"\x91" * 400 + b"\xc0",
    b"\x92\x01",  # too short
    b"\xc1",  # no MessagePack at all
)
_EDGES = (0, 1, 2, 9, 10, 39, 40, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63, -1)


class Draw:
    """Choices from bytes; when these are used up every choice is the first one."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._source)

    def byte(self) -> int:
        self._at += 1
        return self._source[self._at - 1] if self._at <= len(self._source) else 0

    def below(self, end: int) -> int:
        return (self.byte() if end <= 256 else self.byte() << 8 | self.byte()) % end

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def often(self) -> bool:
        """True fifteen times of sixteen, and when the bytes are used up."""
        return self.byte() & 15 != 15

    def taken(self, count: int) -> bytes:
        self._at += count
        return self._source[self._at - count : self._at]


def mutated(draw: Draw, frame: bytes) -> bytes:
    """The frame, as it is or a little broken."""
    if draw.often():
        return frame
    at = draw.below(len(frame) + 1)
    way = draw.below(4)
    if way == 0:
        return frame[:at]
    if way == 1:
        return frame[:at] + draw.taken(draw.below(4)) + frame[at:]
    if way == 2:
        return frame[:at] + draw.taken(draw.below(8)) + frame[at + draw.below(8) :]
    return draw.taken(draw.below(200))


def frame_of(draw: Draw, kinds: Sequence[type[Message]]) -> bytes:
    """A frame that is often a message of one of these kinds."""
    return mutated(draw, encode(message_of(draw, draw.pick(kinds))))


def message_of(draw: Draw, kind: type[Message], **fields: Any) -> Any:
    """A message of this kind with some fields given; it need not be valid."""
    made = {name: make(draw) for name, make in _fields(kind).items() if name not in fields}
    return kind(**made, **fields)


def packed(draw: Draw) -> bytes:
    """One value in MessagePack, sometimes broken."""
    return draw.pick(_PACKED)


def packed_list(draw: Draw, count: int) -> Raw:
    """Some values as a MessagePack array, often as many as `count` says."""
    items = draw.pick((count, count, count, count, 0, count + 1)) % 1_000
    if draw.often():
        return Raw(msgspec.msgpack.encode([draw.below(100)] * items))
    head = b"\xdc" + items.to_bytes(2, "big")
    return Raw(head + b"".join(packed(draw) for _ in range(items)))


@cache
def _fields(kind: type) -> dict[str, Callable[[Draw], Any]]:
    described = typing.cast(shape.StructType, shape.type_info(kind))
    return {field.name: _maker(field.type, field.name) for field in described.fields}


def kinds_of(union: types.UnionType) -> tuple[type[Message], ...]:
    """The message types of a union."""
    return typing.get_args(union)


def index(draw: Draw) -> int:
    """A task's index or a count: a small one, or one at an edge."""
    return draw.below(41) if draw.often() else draw.pick(_EDGES)


def run(draw: Draw) -> tuple[int, int]:
    """A batch or other run of tasks: often one of the batches that the targets push, four tasks each."""
    return (4 * draw.below(10), 4) if draw.often() and draw.often() else (index(draw), index(draw))


def _seconds(draw: Draw) -> float:
    return draw.pick((0.25, 0.0, 1e9, float("nan"), float("inf"), -1.0, 1e300))


def _key(draw: Draw) -> str:
    return draw.pick("ABCDEF") * 40


def _maker(kind: shape.Type, name: str = "") -> Callable[[Draw], Any]:
    """How a value of this type is made."""
    match kind:
        case shape.Metadata():
            return _maker(kind.type, name)
        case shape.IntType():
            return _version if name == "version" else index
        case shape.FloatType():
            return _seconds
        case shape.StrType(pattern=pattern):
            return _text(pattern, name)
        case shape.BytesType():
            return lambda draw: draw.pick((b"t" * 16, b"", draw.taken(16), b"x" * 33))
        case shape.BoolType():
            return lambda draw: bool(draw.below(2))
        case shape.NoneType():
            return lambda draw: None
        case shape.LiteralType():
            return lambda draw: draw.pick((*kind.values, "other"))
        case shape.AnyType():
            return lambda draw: draw.pick((None, 1, "text", b"bytes", [1.5]))
        case shape.RawType():
            return lambda draw: packed_list(draw, 3)
        case shape.LiteralType():
            return lambda draw: draw.pick(kind.values) if draw.often() else "neither"
        case shape.AnyType():
            return lambda draw: draw.pick(VALUES)
    return _maker_of_many(kind)


def _maker_of_many(kind: shape.Type) -> Callable[[Draw], Any]:
    match kind:
        case shape.UnionType():
            makers = [_maker(each) for each in kind.types]
            return lambda draw: draw.pick(makers)(draw)
        case shape.ListType():
            item = _maker(kind.item_type)
            return lambda draw: [item(draw) for _ in range(draw.below(5))]
        case shape.VarTupleType():
            item = _maker(kind.item_type)
            return lambda draw: tuple(item(draw) for _ in range(draw.below(5)))
        case shape.TupleType(item_types=(shape.IntType(), shape.IntType())):
            return run
        case shape.TupleType():
            items = [_maker(each) for each in kind.item_types]
            return lambda draw: tuple(item(draw) for item in items)
        case shape.DictType():
            key, value = _maker(kind.key_type), _maker(kind.value_type)
            return lambda draw: {key(draw): value(draw) for _ in range(draw.below(4))}
        case shape.StructType():
            return lambda draw: message_of(draw, kind.cls)
    raise AssertionError(kind)


def _version(draw: Draw) -> int:
    return 1 if draw.often() else index(draw)


def _text(pattern: str | None, name: str) -> Callable[[Draw], str]:
    if name in ("key", "keys"):
        return _key
    if name == "role":
        return lambda draw: draw.pick(("worker", "ventilator", "observer", "sink"))
    if name == "job":
        return lambda draw: draw.pick(JOBS)
    if pattern and ":" in pattern and pattern.startswith("^[^"):
        return lambda draw: draw.pick(FUNCTIONS)
    if pattern:
        return lambda draw: draw.pick(NAMES)
    return lambda draw: draw.pick(("text", "", "line\nline\x1b[0m", "x" * 300))
