"""Recording: every value that a task can return is stored, and read again as the JSON that it means."""

import base64
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol.messages import Quarantine
from common.sink.ledger_reader import LedgerReader
from common.sink.rows import as_json, columns, quarantined, recording
from common.sink.sqlite_ledger import Ledger
from tests.unit.builders import VALUES, record, results

_numbers = itertools.count()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(str(tmp_path / "results.db"))
    yield opened
    opened.close()


def stored(ledger: Ledger, tmp_path: Path, values: list[Any]) -> list[str]:
    """The values as JSON, after they went through a ledger file into another connection."""
    job = ledger.open_job(f"job{next(_numbers)}", "tasks:any", "lines of text")
    ledger.commit([record(values, job=job.name)], [])
    reader = LedgerReader(str(tmp_path / "results.db"))
    texts = [as_json(row.value, row.json) for row in reader.rows(job.job, failed=False)]
    reader.close()
    return texts


def meaning(value: Any, top: bool = True) -> Any:
    """What a reader of the JSON text must see; what JSON has no word for is a string."""
    match value:
        case float() if math.isnan(value):
            return "NaN" if top else None
        case float() if math.isinf(value):
            return ("Infinity" if value > 0 else "-Infinity") if top else None
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [meaning(each, False) for each in value]
        case dict():
            return {key: meaning(each, False) for key, each in value.items()}
    return value


@given(values=st.lists(VALUES, min_size=1, max_size=6))
@example(values=[math.inf, -math.inf, math.nan, [math.inf]])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_values_come_back_as_the_json_that_they_mean(ledger: Ledger, tmp_path: Path, values: list[Any]) -> None:
    read = [json.loads(text, parse_constant=lambda name: (name,)) for text in stored(ledger, tmp_path, values)]
    # By repr: True is not 1 here, and 1 is not 1.0.
    assert list(map(repr, read)) == [repr(meaning(value)) for value in values]


TABLE = [
    (True, "true"),
    ("true", '"true"'),
    (None, "null"),
    ("null", '"null"'),
    (1, "1"),
    (1.0, "1.0"),
    ("1", '"1"'),
    ([1], "[1]"),
    ("[1]", '"[1]"'),
    (2**63 - 1, "9223372036854775807"),
    (2**63, "9223372036854775808"),
    (2**64 - 1, "18446744073709551615"),
    (-(2**63), "-9223372036854775808"),
    (math.nan, '"NaN"'),
    ("NaN", '"NaN"'),
    (math.inf, '"Infinity"'),
    (-math.inf, '"-Infinity"'),
    ("Infinity", '"Infinity"'),
    (b"\x00\xff", '"AP8="'),
    ({"a": [b"\x00", {}]}, '{"a":["AA==",{}]}'),
    ({1: 2}, '{"1":2}'),
    ("a\x00'\"\n", '"a\\u0000\'\\"\\n"'),
]


def test_values_that_look_alike_stay_apart(ledger: Ledger, tmp_path: Path) -> None:
    assert stored(ledger, tmp_path, [value for value, _ in TABLE]) == [text for _, text in TABLE]


@pytest.mark.parametrize(("value", "text"), TABLE, ids=[text for _, text in TABLE])
def test_a_value_reads_the_same_alone_as_among_others(ledger: Ledger, tmp_path: Path, value: Any, text: str) -> None:
    assert stored(ledger, tmp_path, [value, value]) == [text, text]


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
