"""What results carry of arguments: all, or digests and beginnings; never more than there is room for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, msgpack

from common.protocol.arguments import KEPT_BYTES_MAX, digest, head, kept, text
from common.protocol.settings import ENVELOPE_BYTES, MESSAGE_BYTES_MAX
from tests.unit.builders import VALUES

ROOM = MESSAGE_BYTES_MAX
LONG = "é" * KEPT_BYTES_MAX


def keep(values: list[Any], room: int = ROOM) -> tuple[Any, list[tuple[int, bytes, str]]]:
    payload, cuts = kept(Raw(msgpack.encode(values)), len(values), room)
    return (None if payload is None else msgpack.decode(payload)), cuts


@given(values=st.lists(VALUES, min_size=1, max_size=5))
def test_small_arguments_are_carried_as_they_came(values: list[Any]) -> None:
    payload = msgpack.encode(values)
    assert kept(Raw(payload), len(values), ROOM) == (payload, [])


def test_of_a_large_one_its_digest_and_its_beginning_are_carried() -> None:
    values = [LONG, "short", {"a": LONG}]
    left, cuts = keep(values)
    assert left == [None, "short", None]
    assert [offset for offset, _, _ in cuts] == [0, 2]
    assert [seal for _, seal, _ in cuts] == [digest(msgpack.encode(values[at])) for at in (0, 2)]
    assert cuts[0][2] == LONG[: KEPT_BYTES_MAX // 2]
    assert cuts[1][2].startswith('{"a":"éé')


def test_a_large_one_among_many_small_ones_is_left_to_the_sink() -> None:
    values = ["x"] * 1_000 + [LONG]
    assert keep(values) == (values, [])


def test_beside_the_largest_result_there_is_room_for_one_argument_of_any_size() -> None:
    for argument in ("x" * KEPT_BYTES_MAX, LONG, "x" * 1_000_000):
        left, cuts = keep([argument], room=0)
        assert left is not None
        assert len(msgpack.encode([left, cuts])) < ENVELOPE_BYTES / 2


def test_where_there_is_no_room_nothing_is_carried() -> None:
    assert keep(["x" * 4_000] * 200, room=100_000) == (None, [])


@pytest.mark.parametrize("payload", [b"\xc1", b"\x92\x01", b"\x91" * 2_000 + b"\x01", b"\x01"])
def test_what_is_no_array_is_not_carried_when_it_is_looked_at(payload: bytes) -> None:
    assert kept(Raw(payload), 1, room=0) == (None, [])


def test_a_beginning_ends_between_two_characters() -> None:
    assert head("a" + LONG) == "a" + LONG[: KEPT_BYTES_MAX // 2 - 1]
    assert head(b"\xff" + b"x" * 10_000) == "x" * (KEPT_BYTES_MAX - 1)


@pytest.mark.parametrize(
    ("value", "is_json", "line"), [("a", False, "a"), ("a", True, '"a"'), (b"\xff", False, b"\xff")]
)
def test_text_is_a_line_as_it_is_and_anything_else_is_json(value: Any, is_json: bool, line: str | bytes) -> None:
    assert text(value, is_json) == line
    assert json.loads(text([value, 1.5], False) if isinstance(value, str) else "1") in ([value, 1.5], 1)
