"""Many results as one MessagePack array, and back: one call of the decoder for all of them."""

import math
from collections.abc import Iterator
from typing import Any, SupportsIndex, overload

import msgspec
from msgspec import Raw
from msgspec.msgpack import Ext

from .values import JSON_EXT, restored

EXACT_EXT = 15
"""The exact form of a result, which has extensions of its own."""
_encode = msgspec.msgpack.Encoder().encode


def packed(values: list[Any]) -> Raw:
    """The results as `sent_value` gives them."""
    return Raw(_encode(values))


def sent_value(value: Any, json: int | None, exact: bytes | None) -> Any:
    """A result as it stands in the array, from the columns `value`, `json` and `exact` of its row."""
    if exact is not None:
        return Ext(EXACT_EXT, exact)
    return Ext(JSON_EXT, value.encode()) if json else value


def unpacked(array: Raw) -> list[Any]:
    """The results as their functions returned them. One that cannot be read raises ValueError when it is taken."""
    try:
        return _decoder.decode(array)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return _OneByOne(_each.decode(array))


class _OneByOne(list[Any]):
    """Encoded results, each decoded when it is taken."""

    def __iter__(self) -> Iterator[Any]:
        return map(_decoder_of_one.decode, super().__iter__())

    @overload
    def __getitem__(self, at: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _OneByOne(found) if isinstance(at, slice) else _decoder_of_one.decode(found)


def _extended(code: int, payload: memoryview) -> Any:
    if code == JSON_EXT:
        # A ledger of version 1 has NaN without quotation marks.
        text = bytes(payload)
        try:
            return math.nan if text == b"NaN" else msgspec.json.decode(text)
        except RecursionError as error:
            raise ValueError(f"not a value that this program can read: {error}") from None
    if code == EXACT_EXT:
        return restored(bytes(payload))
    raise ValueError(f"extension type {code} is no result")


_decoder = msgspec.msgpack.Decoder(list[Any], ext_hook=_extended)
_decoder_of_one = msgspec.msgpack.Decoder(ext_hook=_extended)
_each = msgspec.msgpack.Decoder(list[Raw])
