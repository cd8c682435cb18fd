"""What is fuzzed: a function for each target, which takes any bytes and fails by an exception.

ProtocolError is the only one that a peer may cause, and OperatorError the only one that a file may.
"""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from common.errors import OperatorError, ProtocolError
from common.protocol.codec import (
    decode_batch,
    decode_from_sink,
    decode_outcomes,
    decode_results,
    decode_to_sink,
    encode,
    slice_arguments,
)
from common.protocol.messages import Batch, FromSink, Results, ToSink
from common.sink.rows import as_json, quarantined, recording
from common.transport import key_files as keys
from common.transport.sink_link import sink_addresses
from tests.fuzz import sink_targets, ventilator_targets, worker_targets
from tests.fuzz.draw import Draw, frame_of, kinds_of, message_of, packed, packed_list

Target = Callable[[bytes], None]


def _tried(decode: Callable[[bytes], object], frame: bytes) -> object:
    try:
        return decode(frame)
    except ProtocolError as error:
        assert str(error).isprintable() and len(str(error)) < 500, error
        return None


def _frames(source: bytes, kinds: tuple[type, ...]) -> tuple[bytes, bytes]:
    """The bytes as they are, and a message made of them."""
    return source, frame_of(Draw(source), kinds)


def control_to_sink(source: bytes) -> None:
    """What is decoded is encoded the same way again."""
    for frame in _frames(source, kinds_of(ToSink)):
        message = _tried(decode_to_sink, frame)
        assert message is None or encode(decode_to_sink(encode(message))) == encode(message)  # type: ignore[arg-type]


def control_from_sink(source: bytes) -> None:
    """The same for what the sink sends."""
    for frame in _frames(source, kinds_of(FromSink)):
        message = _tried(decode_from_sink, frame)
        assert message is None or encode(decode_from_sink(encode(message))) == encode(message)  # type: ignore[arg-type]


def batch(source: bytes) -> None:
    """A batch that was taken can be cut at any place."""
    draw = Draw(source)
    made = encode(message_of(draw, Batch, arguments=packed_list(draw, draw.below(6))))
    for frame in (source, made, frame_of(draw, (Batch,))):
        message = _tried(decode_batch, frame)
        if isinstance(message, Batch):
            for first in range(min(message.count, 5)):
                slice_arguments(message.arguments, first, 1)


def results(source: bytes) -> None:
    """Results that were taken are rows: numbers, text, bytes or NULL, and show as JSON."""
    draw = Draw(source)
    made = message_of(draw, Results, count=2, batch=(0, 50, 1), outcomes=sink_targets.outcomes(draw, 2))
    for frame in (source, encode(made), frame_of(draw, (Results,))):
        message = _tried(decode_results, frame)
        if not isinstance(message, Results):
            continue
        _tried(lambda _, message=message: decode_outcomes(message), b"")  # type: ignore[misc]
        recorded = _tried(lambda _, message=message: recording(message, 0, 2), b"")  # type: ignore[misc]
        for at in range(min(message.count, 5) if recorded else 0):
            (row,) = recorded.rows(at, at + 1)  # type: ignore[attr-defined]
            assert isinstance(row[1], int | float | str | bytes | None)
            if row[1] is not None:
                as_json(row[1], row[3] if len(row) > 3 else None)


def arguments(source: bytes) -> None:
    """Arguments, as a ventilator cuts them, and a quarantined one."""
    draw = Draw(source)
    first, count = draw.below(5), draw.below(5)
    for text in (source, bytes(packed_list(draw, first + count)), packed(draw)):
        _tried(lambda text: slice_arguments(text, first, count), text)
        _tried(lambda text: quarantined(sink_targets.quarantine(text)), text)


@cache
def _key_file() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "some.key_secret"
    path.touch(mode=0o600)
    return folder, path


_LINES = (
    'public-key = "' + "p" * 40 + '"',
    'secret-key = "' + "s" * 40 + '"',
    'sink-key = "' + "k" * 40 + '"',
    'role = "worker"',
    'name = "ada"',
    'sink = "tcp://127.0.0.1:5559"',
    'sink = "tcp://[::1',
    'sink = "tcp://host:99999"',
    "sink = ",
    'sink = "tcp://a:1,tcp://b:2"',
    "# comment",
    "curve",
)


def key_file(source: bytes) -> None:
    """A key file is one, or it is said in words that it is none."""
    draw = Draw(source)
    text = "\n".join(draw.pick(_LINES) if draw.often() else str(draw.taken(9)) for _ in range(draw.below(9)))
    _, path = _key_file()
    for content in (source, text.encode()):
        path.write_bytes(content)
        try:
            pair = keys.load_pair(path, "worker")
        except OperatorError as error:
            assert str(error)
            continue
        assert len(pair.public) == 40 and len(pair.secret or "") == 40
        try:
            sink_addresses(pair, None)
        except OperatorError as error:
            assert str(error)


TARGETS: dict[str, Target] = {
    "control_to_sink": control_to_sink,
    "control_from_sink": control_from_sink,
    "batch": batch,
    "results": results,
    "arguments": arguments,
    "key_file": key_file,
    "collection": sink_targets.collection,
    "dispatch": ventilator_targets.dispatch,
    "joining": ventilator_targets.joining,
    "holding": worker_targets.holding,
    "child_link": worker_targets.child_link,
}
