"""What a task's result becomes: a readable form, where that does not give it back the exact one, and the way back.

The readable form is a number, text, bytes or JSON. The exact one is MessagePack with the extension types below, which
`docs/PROTOCOL.md` has too. Children load this file by its path, so it imports nothing of ours; numpy is recognised
where the user's modules have imported it.
"""

import dataclasses
import math
import re
import sys
from array import array
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib import import_module
from itertools import chain
from struct import error as StructError
from struct import pack, unpack
from typing import Any
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

JSON_EXT = 1
TUPLE_EXT, SET_EXT, FROZENSET_EXT, INTEGER_EXT, TEXT_EXT, DECIMAL_EXT, DATETIME_EXT = 2, 3, 4, 5, 6, 7, 8
DATE_EXT, TIME_EXT, TIMEDELTA_EXT, COMPLEX_EXT, UUID_EXT, ARRAY_EXT = 9, 10, 11, 12, 13, 14
LEVELS_MAX = 200
"""How deep a value may be nested that is not made of lists and maps alone. Whoever reads it recurses more for it."""
ARRAY_SHOWN = 1_000
"""The readable form has the elements of an array of up to this many, else its type and shape."""
_LEAVES = frozenset((str, int, bool, type(None)))
_CONTAINERS = frozenset((list, dict))
_PLAIN = _LEAVES | _CONTAINERS | {float}
_LEVELS_SURE, _LEVELS_LOOKED_AT = 10, 1_000
"""Up to the first nothing doubles too often, and the second is deeper than any encoder goes."""
_FEW = 16
_TEXT = frozenset((str,))
INTEGERS = -(2**63), 2**64 - 1
"""What MessagePack can hold."""
_NUMPY_KINDS = frozenset("biufcSUMmV")

_FINE_OFFSET = re.compile(r"(.*\d)([+-])(\d\d):(\d\d):(\d\d)\.(\d{6})")

_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode


class Unsendable(Exception):
    """A result, or a part of it, that has no form in which it can be sent."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place

    def __str__(self) -> str:
        return f"result{self.place}: {self.reason}"


def forms(value: Any) -> tuple[Any, bytes | None]:
    """The readable form of a result (a plain value, or JSON text as an extension), and the exact one where that helps.

    Raises Unsendable, or RecursionError for what is nested too deeply.
    """
    if _is_plain(value):
        try:
            return Ext(JSON_EXT, _encode_json(value)), None
        except ValueError:
            pass  # A surrogate somewhere, or an integer with more digits than Python writes.
    walk = _Walk()
    readable, exact = walk.both(value, 0)
    if type(readable) in _CONTAINERS or (type(readable) is int and not INTEGERS[0] <= readable <= INTEGERS[1]):
        readable = Ext(JSON_EXT, _encode_json(readable))
    return readable, exact if walk.is_lossy else None


def _is_plain(value: Any) -> bool:
    """True for lists and maps of nothing but what JSON gives back."""
    items: Any
    if type(value) is list:
        items = value
    elif type(value) is dict and _TEXT.issuperset(map(type, value)):
        items = value.values()
    else:
        return False
    kinds = set(map(type, items))
    if kinds <= _LEAVES:
        return True
    if not kinds <= _PLAIN:
        return False
    if len(items) > _FEW:
        return _are_plain([items])
    # No generator: it would take a second frame for each level.
    for each in items:
        kind = type(each)
        if (kind is float and not math.isfinite(each)) or (kind in _CONTAINERS and not _is_plain(each)):
            return False
    return True


def _are_plain(lists: list[Any]) -> bool:
    """The same for all items of some lists. It looks at a whole level at once, which is faster for many."""
    maps: list[Any] = []
    for level in range(_LEVELS_LOOKED_AT):
        if maps and not _TEXT.issuperset(map(type, chain.from_iterable(maps))):
            return False
        items = list(chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, maps))))
        kinds = set(map(type, items))
        if not kinds <= _PLAIN:
            return False
        floats = items if len(kinds) == 1 else [each for each in items if type(each) is float]
        if float in kinds and not all(map(math.isfinite, floats)):
            return False
        lists = [each for each in items if type(each) is list] if list in kinds else []
        maps = [each for each in items if type(each) is dict] if dict in kinds else []
        if not lists and not maps:
            return True
        if level > _LEVELS_SURE:
            # What contains itself several times would double with each level.
            lists = list({id(each): each for each in lists}.values())
            maps = list({id(each): each for each in maps}.values())
    raise RecursionError


class _Walk:
    """One result on its way into both forms."""

    def __init__(self) -> None:
        self.is_lossy = False
        """True when the readable form does not give the result back."""

    def both(self, value: Any, level: int) -> tuple[Any, bytes]:
        """The readable form, for a JSON encoder, and the exact one, encoded."""
        if level > LEVELS_MAX:
            raise RecursionError
        kind = type(value)
        if kind in _LEAVES:
            return self._leaf(value)
        if kind is float:
            return self._float(value, level)
        if kind is list:
            return self._items(value, level)
        if kind is dict:
            return self._map(value.items(), level)
        if kind is tuple:
            return self._tuple(value, level)
        for kinds, form in _FORMS:
            if isinstance(value, kinds):
                return form(self, value, level)
        return self._foreign(value, level)

    # -- plain values -------------------------------------------------------------------------------------------

    def _leaf(self, value: Any) -> tuple[Any, bytes]:
        try:
            return value, _encode(value)
        except UnicodeEncodeError:
            text = value.encode("utf-8", "backslashreplace").decode()
            return self._lossy(text, TEXT_EXT, value.encode("utf-8", "surrogatepass"))
        except OverflowError:
            # JSON has integers of any size, as far as Python writes them.
            encoded = _extension(INTEGER_EXT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
            try:
                str(value)
            except ValueError:
                self.is_lossy = True
                return hex(value), encoded
            return value, encoded

    def _float(self, value: float, level: int) -> tuple[Any, bytes]:
        if level == 0 or math.isfinite(value):
            return value, _encode(value)
        self.is_lossy = True
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity", _encode(value)

    def _base(self, value: Any, level: int) -> tuple[Any, bytes]:
        """A str, int or float of a class of its own is sent as what it is."""
        base = next(each for each in (int, float, str) if isinstance(value, each))
        return self.both(getattr(base, f"__{base.__name__}__")(value), level)

    def _bytes(self, value: Any, level: int) -> tuple[Any, bytes]:
        plain = bytes(value)
        if level == 0:
            return plain, _encode(plain)
        self.is_lossy = True
        return b2a_base64(plain, newline=False).decode(), _encode(plain)

    # -- containers ---------------------------------------------------------------------------------------------

    def _items(self, items: Any, level: int) -> tuple[list[Any], bytes]:
        """Some values as a list, and as an encoded array."""
        items = list(items)
        if _LEAVES.issuperset(map(type, items)):
            try:
                return items, _encode(items)
            except (UnicodeEncodeError, OverflowError):
                pass
        readable, exact = [], [_head(0x90, 0xDC, len(items))]
        try:
            for each in items:
                shown, packed = self.both(each, level + 1)
                readable.append(shown)
                exact.append(packed)
        except Unsendable as error:
            error.place = f"[{len(readable)}]{error.place}"
            raise
        return readable, b"".join(exact)

    def _tuple(self, value: Any, level: int) -> tuple[Any, bytes]:
        readable, exact = self._items(value, level)
        return self._lossy(readable, TUPLE_EXT, exact)

    def _set(self, value: Any, level: int) -> tuple[Any, bytes]:
        try:
            items = sorted(value)
        except TypeError:
            items = sorted(value, key=repr)
        readable, exact = self._items(items, level)
        return self._lossy(readable, SET_EXT if isinstance(value, set) else FROZENSET_EXT, exact)

    def _map(self, items: Iterable[tuple[Any, Any]], level: int, shape: str = "[{!r}]") -> tuple[Any, bytes]:
        """A map, or the fields of an object."""
        readable: dict[str, Any] = {}
        exact = [b""]
        key: Any = None
        try:
            for key, value in items:
                shown, packed = (key, _encode(key)) if type(key) is str and key.isascii() else self._key(key, level)
                if shown in readable:
                    raise Unsendable("another key of this map is the same as JSON text; make them differ")
                readable[shown], packed_value = self.both(value, level + 1)
                exact += (packed, packed_value)
        except Unsendable as error:
            error.place = shape.format(key) + error.place
            raise
        exact[0] = _head(0x80, 0xDE, len(readable))
        return readable, b"".join(exact)

    def _key(self, key: Any, level: int) -> tuple[str, bytes]:
        readable, exact = self.both(key, level + 1)
        if type(readable) is str:
            return readable, exact
        self.is_lossy = True
        return _encode_json(readable).decode(), exact

    def _plain_map(self, value: Any, level: int) -> tuple[Any, bytes]:
        return self._map(value.items(), level)

    # -- types of the standard library --------------------------------------------------------------------------

    def _enum(self, value: Any, level: int) -> tuple[Any, bytes]:
        return self.both(value.value, level)

    def _lossy(self, readable: Any, code: int, payload: bytes) -> tuple[Any, bytes]:
        self.is_lossy = True
        return readable, _extension(code, payload)

    def _complex(self, value: complex, level: int) -> tuple[Any, bytes]:
        return self._lossy(str(value).strip("()"), COMPLEX_EXT, pack(">dd", value.real, value.imag))

    def _timedelta(self, value: timedelta, level: int) -> tuple[Any, bytes]:
        if type(value) is not timedelta:
            return self.both(str(value), level)
        return self._lossy(str(value), TIMEDELTA_EXT, _encode([value.days, value.seconds, value.microseconds]))

    def _uuid(self, value: UUID, level: int) -> tuple[Any, bytes]:
        return self._lossy(str(value), UUID_EXT, value.bytes)

    def _decimal(self, value: Decimal, level: int) -> tuple[Any, bytes]:
        return self._lossy(str(value), DECIMAL_EXT, str(value).encode())

    def _instant(self, value: Any, level: int) -> tuple[Any, bytes]:
        text = value.isoformat()
        codes = {datetime: DATETIME_EXT, date: DATE_EXT, time: TIME_EXT}
        if type(value) not in codes:  # Others are finer than these, as those of pandas.
            return self.both(text, level)
        return self._lossy(text, codes[type(value)], text.encode())

    # -- objects ------------------------------------------------------------------------------------------------

    def _foreign(self, value: Any, level: int) -> tuple[Any, bytes]:
        """What is known by what it has, not by its type."""
        kind = type(value)
        numpy: Any = sys.modules.get("numpy")
        if hasattr(numpy, "ndarray") and isinstance(value, numpy.ndarray | numpy.generic):
            return self._numpy(value, level, numpy)
        names: Iterable[str] | None = None
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(value)]
        elif hasattr(kind, "__attrs_attrs__"):
            names = [each.name for each in kind.__attrs_attrs__]
        if names is not None:
            return self._map(((name, getattr(value, name)) for name in names), level, ".{}")
        if hasattr(kind, "__fspath__"):
            return self.both(value.__fspath__(), level)
        raise self._refusal(value)

    def _struct(self, value: Any, level: int) -> tuple[Any, bytes]:
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        tag = value.__struct_config__
        items = [(tag.tag_field, tag.tag)] if tag.tag is not None else []
        return self._map([*items, *((shown, getattr(value, name)) for shown, name in names)], level, ".{}")

    def _refusal(self, value: Any, more: str = "") -> Unsendable:
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return Unsendable(
            f"{name}{more} cannot be sent; return numbers, text, lists, maps, dataclasses or numpy arrays,"
            " or write it to a file and return the path"
        )

    def _numpy(self, value: Any, level: int, numpy: Any) -> tuple[Any, bytes]:
        kind, size = value.dtype.kind, value.dtype.itemsize
        if isinstance(value, numpy.generic):
            if kind in "biuSU" or (kind == "f" and size <= 8) or (kind == "c" and size <= 16):
                return self.both(value.item(), level)
            value = numpy.asarray(value)
        elif type(value) not in (numpy.ndarray, numpy.memmap, numpy.matrix, numpy.recarray):
            raise self._refusal(value)
        if value.dtype.hasobject or kind not in _NUMPY_KINDS:
            raise self._refusal(value, f" of dtype {value.dtype}")
        described = numpy.lib.format.dtype_to_descr(value.dtype)
        exact = _encode([described, value.shape, value.tobytes()])
        if value.size > ARRAY_SHOWN:
            readable: Any = {"dtype": str(value.dtype), "shape": list(value.shape)}
        else:
            plain = value.astype(str) if kind in "Mm" else value
            readable, _ = self.both(plain.tolist(), level + 1)
        return self._lossy(readable, ARRAY_EXT, exact)


_Form = Callable[[_Walk, Any, int], tuple[Any, bytes]]
_FORMS: list[tuple[Any, _Form]] = [
    (Enum, _Walk._enum),
    ((str, int, float), _Walk._base),
    ((bytes, bytearray, memoryview), _Walk._bytes),
    (tuple, _Walk._tuple),
    ((list, deque, range, array), _Walk._items),
    (dict, _Walk._plain_map),
    ((set, frozenset), _Walk._set),
    ((date, time), _Walk._instant),
    (timedelta, _Walk._timedelta),
    (Decimal, _Walk._decimal),
    (complex, _Walk._complex),
    (UUID, _Walk._uuid),
    (msgspec.Struct, _Walk._struct),
]
"""By type; the first that fits. A datetime is a date."""


def _head(small: int, large: int, count: int) -> bytes:
    """The head of a MessagePack array or map."""
    if count < 16:
        return bytes((small | count,))
    return pack(">BH", large, count) if count < 2**16 else pack(">BI", large + 1, count)


def _extension(code: int, payload: bytes) -> bytes:
    return _encode(Ext(code, payload))


# -- the way back -----------------------------------------------------------------------------------------------------


def value_of(value: Any, json: int | None, exact: bytes | None) -> Any:
    """A result as its function returned it, from the columns `value`, `json` and `exact` of its row."""
    if exact is not None:
        return restored(exact)
    if json:
        return math.nan if value == "NaN" else msgspec.json.decode(value)
    return value


def restored(exact: bytes) -> Any:
    """A result from its exact form. Raises ValueError when it is none, or holds an array and there is no numpy."""
    try:
        return _exact.decode(exact)
    except (msgspec.DecodeError, ArithmeticError, RecursionError, StructError, TypeError) as error:
        raise ValueError(f"not an exact value: {error}") from None


def _extended(code: int, payload: memoryview) -> Any:
    try:
        read = _READERS[code]
    except KeyError:
        raise ValueError(f"extension type {code} is not known") from None
    return read(bytes(payload))


def _instant(kind: Any, text: str) -> Any:
    found = _FINE_OFFSET.fullmatch(text)
    if found is None:
        return kind.fromisoformat(text)
    # Python takes an offset of less than a second for none.
    local, sign = found[1], -1 if found[2] == "-" else 1
    hours, minutes, seconds, microseconds = map(int, found.groups()[2:])
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    return kind.fromisoformat(local).replace(tzinfo=timezone(sign * offset))


def _array(payload: bytes) -> Any:
    try:
        numpy = import_module("numpy")
    except ImportError:
        raise ValueError("the result has a numpy array: install numpy to read it") from None
    described, shape, content = msgspec.msgpack.decode(payload)
    dtype = numpy.lib.format.descr_to_dtype(_description(described))
    return numpy.frombuffer(bytearray(content), dtype).reshape(shape)


def _description(described: Any) -> Any:
    """numpy's description of a dtype, which has tuples where MessagePack has arrays."""
    if isinstance(described, str):
        return described
    return [(name, _description(of), *(tuple(shape) for shape in shapes)) for name, of, *shapes in described]


_exact = msgspec.msgpack.Decoder(ext_hook=_extended)
_READERS: dict[int, Callable[[bytes], Any]] = {
    TUPLE_EXT: lambda payload: tuple(_exact.decode(payload)),
    SET_EXT: lambda payload: set(_exact.decode(payload)),
    FROZENSET_EXT: lambda payload: frozenset(_exact.decode(payload)),
    INTEGER_EXT: lambda payload: int.from_bytes(payload, "big", signed=True),
    TEXT_EXT: lambda payload: payload.decode("utf-8", "surrogatepass"),
    DECIMAL_EXT: lambda payload: Decimal(payload.decode()),
    DATETIME_EXT: lambda payload: _instant(datetime, payload.decode()),
    DATE_EXT: lambda payload: date.fromisoformat(payload.decode()),
    TIME_EXT: lambda payload: _instant(time, payload.decode()),
    TIMEDELTA_EXT: lambda payload: timedelta(*msgspec.msgpack.decode(payload)),
    COMPLEX_EXT: lambda payload: complex(*unpack(">dd", payload)),
    UUID_EXT: lambda payload: UUID(bytes=payload),
    ARRAY_EXT: _array,
}
