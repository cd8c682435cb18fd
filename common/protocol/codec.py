"""Messages to frames and back (MessagePack). Frames are checked only here."""

import hashlib
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Ext

from ..errors import ProtocolError
from .fields import BATCH_TASKS_MAX, RESULTS_IN_FRAME_MAX, TASK_MAX, Index, Message, Name, Outcomes
from .messages import Batch, FromSink, Results, ToSink

T = TypeVar("T")

_SHOWN_CHARACTERS = 200

_encoder = msgspec.msgpack.Encoder()
_to_sink: msgspec.msgpack.Decoder[ToSink] = msgspec.msgpack.Decoder(ToSink)
_from_sink: msgspec.msgpack.Decoder[FromSink] = msgspec.msgpack.Decoder(FromSink)
_batch = msgspec.msgpack.Decoder(Batch)
_results = msgspec.msgpack.Decoder(Results)
_arguments = msgspec.msgpack.Decoder(list[Raw])


class _RawOutcomes(Outcomes, frozen=True, gc=False):
    """Outcomes whose values are not read yet."""

    values: Raw  # type: ignore[assignment]


class BadResults(Struct, frozen=True):
    """Results that are none, from which one can still read who is to be told."""

    worker: Name
    serial: Index
    reason: str = ""


_outcomes = msgspec.msgpack.Decoder(_RawOutcomes)
_bad_results = msgspec.msgpack.Decoder(BadResults)
_results_frame = msgspec.msgpack.Decoder(Annotated[list[Raw], Meta(max_length=RESULTS_IN_FRAME_MAX)])
_Some = Annotated[list[T], Meta(max_length=BATCH_TASKS_MAX)]
_values = (
    msgspec.msgpack.Decoder(_Some[None | bool | int | float | str | Ext]),
    msgspec.msgpack.Decoder(_Some[None | bool | int | float | bytes | Ext]),
)
"""Two, because msgspec tells str from bytes in no union."""
_each_value = msgspec.msgpack.Decoder(_Some[Raw])


def encode(message: Message) -> bytes:
    """Any message as the one frame that carries it."""
    return _encoder.encode(message)


def _decoded(decoder: "msgspec.msgpack.Decoder[T]", frame: bytes | memoryview | Raw) -> T:
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(_shown(str(error))) from None


def _shown(text: str) -> str:
    """Text from a peer, made safe for the log: one line, cut to a maximum length."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_SHOWN_CHARACTERS])


def decode_to_sink(frame: bytes | memoryview) -> ToSink:
    """A control frame that reached the sink. Raises ProtocolError."""
    return _decoded(_to_sink, frame)


def decode_from_sink(frame: bytes | memoryview) -> FromSink:
    """A control frame that the sink sent. Raises ProtocolError."""
    return _decoded(_from_sink, frame)


def decode_batch(frame: bytes | memoryview) -> Batch:
    """A frame of the tasks link. Raises ProtocolError."""
    batch = _decoded(_batch, frame)
    if batch.first + batch.count > TASK_MAX:
        raise ProtocolError("a batch goes beyond the last task that can be")
    if _array_count(memoryview(batch.arguments)) != batch.count:
        raise ProtocolError("a batch holds more or fewer arguments than it says")
    return batch


def _array_count(encoded: memoryview) -> int | None:
    """How many items a MessagePack array has, by its head; None if it is not an array."""
    if encoded[0] & 0xF0 == 0x90:
        return encoded[0] & 0x0F
    head_bytes = {0xDC: 2, 0xDD: 4}.get(encoded[0])
    return head_bytes and int.from_bytes(encoded[1 : 1 + head_bytes])


def decode_results(frame: bytes | memoryview | Raw) -> Results:
    """One message of the results link, its outcomes still encoded. Raises ProtocolError."""
    results = _decoded(_results, frame)
    first, count, _ = results.batch
    if results.first < first or results.first + results.count > first + count:
        raise ProtocolError("results lie outside their batch")
    return results


def join_results(frames: list[bytes]) -> bytes:
    """Encoded `Results` as the one frame of the results link that carries them: an array (MessagePack array family)."""
    count = len(frames)
    head = bytes([0x90 | count]) if count < 16 else b"\xdd" + count.to_bytes(4)
    return head + b"".join(frames)


def split_results(frame: bytes | memoryview) -> list[Results | BadResults]:
    """The messages of a frame of the results link. Raises ProtocolError when one does not even say whose it is."""
    return [_results_or_bad(each) for each in _decoded(_results_frame, frame)]


def _results_or_bad(each: Raw) -> Results | BadResults:
    try:
        return decode_results(each)
    except ProtocolError as error:
        bad = _decoded(_bad_results, each)
        return BadResults(bad.worker, bad.serial, str(error))


def decode_outcomes(results: Results) -> Outcomes:
    """The outcomes of a results message. Raises ProtocolError when they do not fit its count.

    When a value cannot be read, all values are left as Raw, for `decode_value`.
    """
    raw = _decoded(_outcomes, results.outcomes)
    values = _decoded_values(raw.values)
    if not len(values) == len(raw.seconds) == results.count:
        raise ProtocolError("the outcomes are not as many as the tasks")
    if any(offset >= results.count for offset, _, _ in raw.errors):
        raise ProtocolError("an error belongs to no task of the message")
    if any(offset >= results.count for offset, _ in raw.exact):
        raise ProtocolError("an exact value belongs to no task of the message")
    return Outcomes(values, raw.seconds, raw.errors, raw.exact)


def _decoded_values(values: Raw) -> list[Any]:
    for decoder in _values:
        try:
            return decoder.decode(values)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return _decoded(_each_value, values)


def decode_value(value: Raw) -> Any:
    """One value of `Outcomes`: a plain one, or an extension. Raises ProtocolError."""
    for decoder in _values:
        try:
            return decoder.decode(b"\x91" + bytes(value))[0]
        except UnicodeDecodeError:
            raise ProtocolError("text that is not valid UTF-8") from None
        except msgspec.DecodeError:
            continue
    raise ProtocolError("an array or a map that is not JSON text (extension type 1)")


def slice_arguments(arguments: bytes | Raw, offset: int, count: int) -> Raw:
    """The encoded arguments from `offset` on, `count` of them. Raises ProtocolError when there are fewer."""
    items = _decoded(_arguments, arguments)[offset : offset + count]
    if len(items) != count:
        raise ProtocolError("a batch holds fewer arguments than it says")
    return Raw(_encoder.encode(items))


def ticket(ticket_key: bytes, first: int, count: int, attempt: int) -> bytes:
    """The keyed digest (BLAKE2b, RFC 7693, 16 bytes) that shows a batch was really pushed by its job's ventilator."""
    return hashlib.blake2b(b"%d %d %d" % (first, count, attempt), key=ticket_key, digest_size=16).digest()


def origin(ticket_key: bytes) -> bytes:
    """What all batches of a job have in common, and other ventilators do not know (BLAKE2b, RFC 7693, 16 bytes)."""
    return hashlib.blake2b(b"places", key=ticket_key, digest_size=16).digest()
