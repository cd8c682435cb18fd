"""Rows: what comes of a results message, and of a task that is given up. test_store.py reads all values again."""

import math
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol.messages import UNUSABLE, Quarantine
from common.sink.rows import columns, quarantined, recording
from tests.unit.builders import record, results


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [None, None], [b"a"], [0.5, math.inf]], ids=str)
def test_values_of_one_plain_type_need_no_json_column(values: list[Any]) -> None:
    assert columns(values) == (values, None)


@pytest.mark.parametrize(
    "value",
    [b"\xd4\x05\x01", b"\x81\xc0\x01", b"\x81\xc3\x01", b"\x81\x91\x01\x01"],
    ids=["extension", "null key", "true key", "list key"],
)
def test_a_value_that_cannot_be_stored_is_its_tasks_failure_and_no_other_tasks(value: bytes) -> None:
    outcomes = {"values": [1, Raw(value), 3], "seconds": [0.0] * 3, "errors": []}
    message = msgspec.structs.replace(results([1, 2, 3]), outcomes=Raw(msgspec.msgpack.encode(outcomes)))
    made = recording(message, attempts_max=5)
    assert list(made.stored) == [1, None, 3]
    assert made.errors.keys() == {1}
    assert made.errors[1].startswith("the result cannot be stored: ")
    assert not made.again, "another attempt would not help"


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, None), (4, False)])
def test_a_failure_of_an_earlier_run_is_tried_again_whatever_it_says(
    attempt: int, again: bool | None, final: bool
) -> None:
    outcomes = {"values": [None], "seconds": [0.0], "errors": [[0, "ValueError: no", final]]}
    message = msgspec.structs.replace(results([None]), attempt=attempt, outcomes=Raw(msgspec.msgpack.encode(outcomes)))
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


@pytest.mark.parametrize("value", [b"\xa1\xff", b"\x91" * 100_000], ids=["no UTF-8", "deep"])
def test_a_value_that_cannot_be_read_is_the_workers_fault(value: bytes) -> None:
    outcomes = {"values": [Raw(value)], "seconds": [0.0], "errors": []}
    message = msgspec.structs.replace(results([None]), outcomes=Raw(msgspec.msgpack.encode(outcomes)))
    with pytest.raises(ProtocolError):
        recording(message)


def test_rows_go_by_offset_and_carry_the_task_index() -> None:
    made = record(["a", "b", "c"], first=10)
    assert list(made.rows(1, 3)) == [(11, "b", 0.25), (12, "c", 0.25)]
    assert list(made.picked([2, 0])) == [(12, "c", 0.25), (10, "a", 0.25)]
    assert list(record(["a", True], first=10).rows(1, 2)) == [(11, "true", 0.25, 1)]
