"""What is kept of a task's argument: all of it, or the digest and the beginning of a large one."""

import hashlib
from typing import Any

import msgspec
from msgspec import Raw

KEPT_BYTES_MAX = 4096
"""An argument that takes more bytes is kept as its digest and its beginning."""
_HEADER_BYTES = 5
"""An encoded text takes at most this many bytes more than the text itself."""
_ROOM_BYTES = 16 * 1024
"""The envelope of a message has this much room for what is kept of one argument."""
UNFIT = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
"""What reading an argument of a peer's, or writing it as text, raises."""

Cut = tuple[int, bytes, str]
"""A large argument: its offset, its digest and its beginning."""

_encoder = msgspec.msgpack.Encoder()
_each = msgspec.msgpack.Decoder(list[Raw])


_DIGEST_BYTES = 16
"""Of the digest of an argument, and of an input by a release before version 2."""


def digest(argument: bytes | Raw) -> bytes:
    """The digest of an encoded argument: SHA-256, which processors have instructions for, cut to 16 bytes."""
    return hashlib.sha256(argument).digest()[:_DIGEST_BYTES]


def input_digest(before: bytes = b"") -> "hashlib._Hash | hashlib.blake2b":
    """The digest of what is read of an input begins like this, where an earlier run of the job has found `before`."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES) if len(before) == _DIGEST_BYTES else hashlib.sha256()


def text(argument: Any, is_json: bool) -> str | bytes:
    """The argument as a line of input. Raises ValueError, TypeError or RecursionError when there is none."""
    if isinstance(argument, str | bytes) and not is_json:
        return argument
    return msgspec.json.encode(argument).decode()


def head(line: str | bytes) -> str:
    """The beginning of a long line."""
    start = line[:KEPT_BYTES_MAX]
    start = start.encode()[:KEPT_BYTES_MAX] if isinstance(start, str) else start
    return start.decode(errors="ignore")


def kept(arguments: Raw, count: int, room: int) -> tuple[bytes | None, list[Cut]]:
    """What results carry of these `count` encoded arguments; None when even the beginnings take more than `room`."""
    size = memoryview(arguments).nbytes
    if size <= min(count * KEPT_BYTES_MAX, room):
        return bytes(arguments), []
    try:
        items = _each.decode(arguments)
    except UNFIT:
        return None, []
    cuts = []
    for at, item in enumerate(items):
        if memoryview(item).nbytes > KEPT_BYTES_MAX + _HEADER_BYTES:
            cuts.append((at, digest(item), _head_of(item)))
            items[at] = Raw(b"\xc0")
    left = _encoder.encode(items)
    needed = len(left) + len(cuts) * (KEPT_BYTES_MAX + 32)
    return (left, cuts) if needed <= max(room, _ROOM_BYTES) else (None, [])


def _head_of(item: Raw) -> str:
    try:
        return head(text(msgspec.msgpack.decode(item), is_json=False))
    except UNFIT:
        return ""
