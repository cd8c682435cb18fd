"""Rows: what comes of a results message, and of a task that is given up. test_store.py reads all values again."""

import math
import struct
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.msgpack import Ext

from common.errors import ProtocolError
from common.protocol.fields import CALL, UNUSABLE
from common.protocol.messages import Quarantine
from common.protocol.values import JSON_EXT
from common.sink.rows import columns, quarantined, recording
from tests.unit.builders import record, results


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [None, None], [b"a"], [0.5, math.inf]], ids=str)
def test_values_of_one_plain_type_need_no_json_column(values: list[Any]) -> None:
    exact: dict[int, bytes] = {}
    assert columns(values, exact) == (values, None)
    assert not exact


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xd4\x05\x01", "extension type 5 is no value"),
        (b"\xd4\x00\x01", "extension type 0 is no value"),
        (b"\xd6\xff\x00\x00\x00\x01", "extension type -1 is no value"),
        (b"\x81\xa1a\x01", "an array or a map that is not JSON text"),
        (b"\x91\x01", "an array or a map that is not JSON text"),
        (b"\xa1\xff", "not valid UTF-8"),
        (msgspec.msgpack.encode(Ext(JSON_EXT, b"[1,]")), "it is not JSON"),
        (msgspec.msgpack.encode(Ext(JSON_EXT, b"NaN")), "it is not JSON"),
        (msgspec.msgpack.encode(Ext(JSON_EXT, b"")), "it is not JSON"),
        (msgspec.msgpack.encode(Ext(JSON_EXT, b'"\xff"')), "it is not JSON"),
        (msgspec.msgpack.encode(Ext(JSON_EXT, b"[" * 100_000)), "nested too deeply"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_stored_is_its_tasks_failure_and_no_other_tasks(value: bytes, reason: str) -> None:
    outcomes = {"values": [1, Raw(value), "3", b"4"], "seconds": [0.0] * 4, "errors": []}
    message = msgspec.structs.replace(results([0] * 4), outcomes=msgspec.msgpack.encode(outcomes))
    made = recording(message, attempts_max=5)
    assert list(made.stored) == [1, None, "3", b"4"]
    assert made.errors.keys() == {1}
    assert made.errors[1].startswith("the result cannot be stored: ")
    assert reason in made.errors[1]
    assert not made.again, "another attempt would not help"


def test_json_text_is_stored_on_one_line() -> None:
    text = Ext(JSON_EXT, b'{"a":\r\n [1,\n"\xc2\x85"]}\n')
    assert list(record([text]).stored) == ['{"a":   [1, "\x85"]} ']


def test_nan_is_stored_as_json_and_exactly_with_its_bits() -> None:
    [nan] = struct.unpack(">d", b"\x7f\xf8\x00\x00\x00\x00\x00\x2a")
    made = record([1.5, nan])
    assert list(made.rows(0, 2)) == [(0, 1.5, 0.25, None, None), (1, '"NaN"', 0.25, 1, made.exact[1])]
    assert made.exact == {1: b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x2a"}


def test_an_exact_value_is_passed_on_as_it_is() -> None:
    made = record([1, [1], 3], exact={0: b"one", 1: b"two"})
    assert list(made.rows(0, 3)) == [(0, 1, 0.25, None, b"one"), (1, "[1]", 0.25, 1, b"two"), (2, 3, 0.25, None, None)]


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, None), (4, False)])
def test_a_failure_of_an_earlier_run_is_tried_again_whatever_it_says(
    attempt: int, again: bool | None, final: bool
) -> None:
    outcomes = {"values": [None], "seconds": [0.0], "errors": [[0, "ValueError: no", final]]}
    message = msgspec.structs.replace(results([None], attempt=attempt), outcomes=msgspec.msgpack.encode(outcomes))
    made = recording(message, attempts_before=2, attempts_max=4)
    assert bool(made.again) is (not final if again is None else again)
    assert made.again ^ made.errors.keys() == {0}


@pytest.mark.parametrize(
    ("attempts_before", "attempt", "replaced"), [(0, 3, 0), (2, 1, 0), (2, 2, 1), (2, 3, 2), (2, 5, 2)]
)
def test_only_a_failure_of_an_earlier_run_gives_way_and_only_to_a_later_attempt(
    attempts_before: int, attempt: int, replaced: int
) -> None:
    assert recording(results([1], attempt=attempt), attempts_before, 9).replaced_attempts == replaced
    given_up = Quarantine("job", 0, attempt, "ada", 3, Raw(b"\x91\x01"))
    assert quarantined(given_up, attempts_before).replaced_attempts == replaced


def test_a_task_without_an_argument_can_be_given_up_too() -> None:
    argument = Raw(msgspec.msgpack.encode([msgspec.msgpack.Ext(UNUSABLE, b"in:3: not JSON")]))
    made = quarantined(Quarantine("job", 0, 1, "ada", 3, argument))
    assert made.errors[0].startswith('argument: "in:3: not JSON"')


CALLED = msgspec.msgpack.encode([["a", {(1, 2): 3}], {"k": b"\0"}])


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ({None: 1}, "{None: 1}"),
        ({True: 1}, "{True: 1}"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ([{"a": {None: "é"}}], "[{'a': {None: 'é'}}]"),
        ({1: 2, "a": 1.5, b"b": None}, '{"1":2,"a":1.5,"Yg==":null}'),
        ([Ext(5, b"te\xffxt")], '["te�xt"]'),
        (Ext(CALL, msgspec.msgpack.encode([[1, "two"], {"k": None}])), '[[1,"two"],{"k":null}]'),
        (Ext(CALL, CALLED), "[['a', {(1, 2): 3}], {'k': b'\\x00'}]"),
        (Ext(CALL, b"\xc1\xffa"), '"��a"'),
        (Ext(CALL, b"\x91" * 100_000), f'"{"�" * 2_000}'[:2_000]),
    ],
    ids=["None", "bool", "tuple", "inside", "json keys", "extension", "call", "call tuple", "no call", "deep call"],
)
def test_any_argument_can_be_given_up_and_is_shown(argument: Any, shown: str) -> None:
    given_up = Quarantine("job", 0, 1, "ada", 3, Raw(msgspec.msgpack.encode([argument])))
    for form in ("", "text", "json"):
        line, rest = quarantined(given_up, form=form).errors[0].split("\n")
        assert line == f"argument: {shown}"
        assert rest == "quarantined: 3 workers died while running it, the last of them ada"


@pytest.mark.parametrize("argument", [b"\x90", b"\x01", b"\xc1", b"", b"\x91" * 100_000, b"\x91\xa1\xff"], ids=len)
def test_what_is_no_argument_is_not_given_up(argument: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^the argument cannot be read: "):
        quarantined(Quarantine("job", 0, 1, "ada", 3, Raw(argument)))


def test_rows_go_by_offset_and_carry_the_task_index() -> None:
    made = record(["a", "b", "c"], first=10)
    assert list(made.rows(1, 3)) == [(11, "b", 0.25), (12, "c", 0.25)]
    assert list(made.picked([2, 0])) == [(12, "c", 0.25), (10, "a", 0.25)]
    assert list(record(["a", True], first=10).rows(1, 2)) == [(11, "true", 0.25, 1, None)]
