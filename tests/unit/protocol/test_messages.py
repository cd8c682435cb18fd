"""Messages: what is sent is what arrives, and whatever else arrives is refused with one kind of error."""

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol import messages
from common.protocol.codec import (
    decode_batch,
    decode_from_sink,
    decode_outcomes,
    decode_results,
    decode_to_sink,
    encode,
    slice_arguments,
    ticket,
)
from common.protocol.fields import BATCH_TASKS_MAX, TASK_MAX, Message
from common.protocol.messages import Batch, FromSink, Results, ToSink
from tests.unit.builders import TICKET, VALUES, any_of, results

pack = msgspec.msgpack.encode


def decode_wholly(frame: bytes) -> object:
    """Results together with their outcomes, which are decoded later."""
    message = decode_results(frame)
    return message, decode_outcomes(message)


DECODERS: list[Callable[[bytes], object]] = [
    decode_to_sink,
    decode_from_sink,
    decode_batch,
    decode_wholly,
    lambda frame: slice_arguments(frame, 0, 1),
]


def only_protocol_errors(frame: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(frame)
        except ProtocolError as error:
            assert str(error)


def within_batch(message: Results) -> Results:
    return msgspec.structs.replace(message, batch=(message.first, message.count, 1))


def whole(message: Batch) -> Batch:
    first, arguments = min(message.first, TASK_MAX - 2), Raw(pack([message.attempt, message.job]))
    return msgspec.structs.replace(message, first=first, count=2, arguments=arguments)


def decoder_of(kind: type[Message]) -> Callable[[bytes], Message]:
    if kind is Batch:
        return decode_batch
    if kind is Results:
        return decode_results
    return decode_to_sink if kind in get_args(ToSink) else decode_from_sink


KINDS = sorted({Batch, Results, *get_args(ToSink), *get_args(FromSink)}, key=lambda kind: kind.__name__)
MESSAGES = st.one_of([any_of(kind) for kind in KINDS])
EXAMPLES = [
    encode(Batch("job", "tasks:square", 0, 2, 1, TICKET, None, False, False, Raw(pack([1, "two"])))),
    encode(results([1, "two", None], 5, errors={1: "no"})),
    pack({"type": "beat", "slots": 4, "prefetch": 1, "running": 2, "held": {"job": [(0, 10)]}}),
    pack({"type": "hello", "version": 1, "role": "worker", "name": "ada"}),
    pack(
        {
            "type": "receipts",
            "job": "job",
            "after": 0,
            "position": 3,
            "runs": [(0, 3)],
            "count": 3,
            "seconds": 0.5,
            "done": 3,
            "failed": 0,
            "more": False,
        }
    ),
]


def test_every_message_is_in_one_of_the_unions() -> None:
    named = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, Message)}
    assert named - {Message} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(draw=st.data())
@settings(max_examples=25)
def test_what_is_encoded_is_decoded_the_same(kind: type[Message], draw: st.DataObject) -> None:
    message = draw.draw(any_of(kind))
    if isinstance(message, Results):
        message = within_batch(message)
    if isinstance(message, Batch):
        message = whole(message)
    again = decoder_of(kind)(encode(message))
    assert type(again) is kind
    assert encode(again) == encode(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(frame: bytes) -> None:
    only_protocol_errors(frame)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_mutated_frame_is_a_message_or_a_protocol_error(frame: bytes, draw: st.DataObject) -> None:
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(frame)))
        cut = draw.draw(st.integers(0, 4))
        frame = frame[:at] + draw.draw(st.binary(max_size=4)) + frame[at + cut :]
    only_protocol_errors(frame)


@given(st.sampled_from(EXAMPLES), VALUES, st.data())
def test_a_field_of_another_kind_is_a_protocol_error_at_most(frame: bytes, value: Any, draw: st.DataObject) -> None:
    fields = msgspec.msgpack.decode(frame)
    fields[draw.draw(st.sampled_from(sorted(fields)))] = value
    only_protocol_errors(pack(fields))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4type\xa5hello",
        b"\x81\x80\x01",
        pack({"type": "pickle"}),
        pack({"version": 1}),
        pack(["hello"]),
    ],
    ids=["empty", "unused", "deep", "huge list", "huge map", "short", "map key", "unknown", "untyped", "list"],
)
def test_these_frames_are_refused_by_every_decoder(frame: bytes) -> None:
    for decode in DECODERS[:4]:
        with pytest.raises(ProtocolError):
            decode(frame)


@pytest.mark.parametrize(
    "field",
    [
        {"first": -1},
        {"first": TASK_MAX + 1},
        {"first": 1.5},
        {"first": "0"},
        {"count": 0},
        {"count": BATCH_TASKS_MAX + 1},
        {"attempt": 0},
        {"ticket": b"t" * 15},
        {"ticket": b"t" * 17},
        {"ticket": "t" * 16},
        {"job": ""},
        {"job": "a" * 101},
        {"job": "a/b"},
        {"job": "../up"},
        {"job": "job\n"},
        {"job": "job'"},
        {"function": "square"},
        {"function": "tasks:square\n"},
        {"function": "tasks:" + "f" * 300},
        {"type": "results"},
    ],
    ids=str,
)
def test_a_batch_out_of_bounds_is_refused(field: dict[str, Any]) -> None:
    fields = msgspec.msgpack.decode(EXAMPLES[0])
    with pytest.raises(ProtocolError):
        decode_batch(pack(fields | field))


@pytest.mark.parametrize(
    "field",
    [
        {"first": 4},
        {"first": 6},
        {"count": 4},
        {"batch": [5, 2, 1]},
        {"batch": [6, 3, 1]},
        {"batch": [5, 0, 1]},
        {"batch": [-1, 9, 1]},
        {"batch": [5, 3]},
        {"batch": [5, 3, 0]},
        {"serial": -1},
        {"worker": "a b"},
        {"worker": "o'neil"},
        {"worker": "a\0"},
    ],
    ids=str,
)
def test_results_outside_of_their_batch_or_bounds_are_refused(field: dict[str, Any]) -> None:
    fields = msgspec.msgpack.decode(EXAMPLES[1])
    with pytest.raises(ProtocolError):
        decode_results(pack(fields | field))


def test_results_may_be_a_part_of_their_batch() -> None:
    message = results([1, 2], first=7, batch=(5, 10))
    assert decode_results(encode(message)).batch == (5, 10, 1)


@pytest.mark.parametrize(
    "outcomes",
    [
        {"values": [1], "seconds": [0.0, 0.0], "errors": []},
        {"values": [1, 2], "seconds": [0.0], "errors": []},
        {"values": [1, 2, 3], "seconds": [0.0] * 3, "errors": []},
        {"values": [1, 2], "seconds": [0.0, -1.0], "errors": []},
        {"values": [1, 2], "seconds": [0.0, float("nan")], "errors": []},
        {"values": [1, 2], "seconds": [0.0, 0.0], "errors": [[2, "beyond", False]]},
        {"values": [1, 2], "seconds": [0.0, 0.0], "errors": [[-1, "before", False]]},
        {"values": [1, 2], "seconds": [0.0, 0.0], "errors": [[0, b"bytes", False]]},
        {"values": [1, 2], "seconds": [0.0, 0.0], "errors": [[0, "e" * 100_001, False]]},
        {"values": 2, "seconds": [0.0, 0.0], "errors": []},
        [1, 2],
    ],
    ids=str,
)
def test_outcomes_that_do_not_fit_their_message_are_refused(outcomes: Any) -> None:
    message = msgspec.structs.replace(results([1, 2]), outcomes=Raw(pack(outcomes)))
    with pytest.raises(ProtocolError):
        decode_outcomes(message)


@given(st.lists(VALUES, max_size=6), st.integers(0, 7), st.integers(1, 7))
def test_a_slice_of_arguments_has_these_arguments_or_is_refused(values: list[Any], offset: int, count: int) -> None:
    wanted = [pack(value) for value in values[offset : offset + count]]
    try:
        got = slice_arguments(pack(values), offset, count)
    except ProtocolError:
        assert len(wanted) < count
    else:
        assert [bytes(each) for each in msgspec.msgpack.decode(got, type=list[Raw])] == wanted
        assert len(wanted) == count


def test_a_ticket_belongs_to_one_key_and_one_batch() -> None:
    tickets = {ticket(key, first, count, 1) for key in (b"a" * 32, b"b" * 32) for first in (1, 11) for count in (1, 11)}
    assert len(tickets) == 8
    assert ticket(b"a" * 32, 1, 11, 1) == ticket(b"a" * 32, 1, 11, 1) != ticket(b"a" * 32, 1, 11, 2)


@pytest.mark.parametrize(
    ("first", "count", "arguments", "fault"),
    [
        (0, 3, [1, 2], "more or fewer arguments than it says"),
        (0, 1, [1, 2], "more or fewer arguments than it says"),
        (0, 1, {"a": 1}, "more or fewer arguments"),
        (TASK_MAX, 1, [1], "beyond the last task"),
    ],
)
def test_a_batch_that_could_not_be_run_is_refused(first: int, count: int, arguments: object, fault: str) -> None:
    with pytest.raises(ProtocolError, match=fault):
        decode_batch(encode(Batch("job", "m:f", first, count, 1, TICKET, None, False, False, Raw(pack(arguments)))))


def test_a_peers_words_are_shown_on_one_line_and_cut() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_to_sink(pack({"type": "a\nWARNING b\x1b[2J" + "x" * 10_000}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_a_batch_of_any_size_is_counted(count: int) -> None:
    message = Batch("job", "m:f", 0, count, 1, TICKET, None, False, False, Raw(pack([0] * count)))
    assert decode_batch(encode(message)).count == count
