"""Which type a column gets: the one that holds all its values exactly, whatever order they come in."""

import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.sink.column_types import ColumnType, plain
from tests.unit.builders import VALUES

NOON = datetime(2026, 11, 26, 12)
LAST_HOUR = datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))
TYPES: list[tuple[list[Any], str]] = [
    ([], "null"),
    ([None, None], "null"),
    ([True, None, False], "bool"),
    ([1, -(2**63), None], "int64"),
    ([2**63 - 1], "int64"),
    ([0, 2**63], "uint64"),
    ([2**64 - 1], "uint64"),
    ([-1, 2**63], "json"),
    ([2**64], "json"),
    ([-(2**63) - 1], "json"),
    ([1.5, float("nan"), None], "float64"),
    ([1.5, 2**53], "float64"),
    ([1.5, 2**53 + 1], "json"),
    ([-(2**53) - 1, 1.5], "json"),
    ([True, 1], "json"),
    (["a", "é", None], "text"),
    (["a", "\ud800"], "json"),
    (["1", 1], "json"),
    ([b"\0"], "bytes"),
    ([b"\0", "a"], "json"),
    ([date(1, 1, 1)], "date"),
    ([date(1, 1, 1), NOON], "json"),
    ([NOON, datetime.min], "datetime"),
    ([NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=timezone(timedelta(hours=2)))], "instant"),
    ([NOON, NOON.replace(tzinfo=UTC)], "json"),
    ([LAST_HOUR], "json"),
    ([NOON.replace(tzinfo=timezone(timedelta(seconds=1)))], "instant"),
    ([NOON.replace(tzinfo=timezone(timedelta(microseconds=1)))], "json"),
    ([timedelta(microseconds=1), -timedelta(days=1)], "duration"),
    ([timedelta.max], "json"),
    ([[1, 2], [], None, (3,)], "list of int64"),
    ([[1], [2.5]], "list of float64"),
    ([[[1.0], []], [[]]], "list of list of float64"),
    ([[], []], "list of null"),
    ([[1], ["a"]], "json"),
    ([[1], 1], "json"),
    ([[{"a": 1}]], "json"),
    ([{"a": 1}], "json"),
    ([{1, 2}], "json"),
    ([plain(Decimal("1.10")), plain(UUID(int=1)), plain(1j), plain(time(1))], "text"),
    ([plain(numpy.zeros((2, 3), "f4")), plain(numpy.arange(3))], "json"),
    ([plain(numpy.zeros((2, 3), "f4"))], "list of list of float64"),
    ([plain(numpy.arange(3)), plain(numpy.array([1.5]))], "list of float64"),
    ([plain(numpy.array([True])), plain(numpy.array(["a"]))], "json"),
    ([plain(numpy.array(["2026-11-26"], "M8[D]"))], "json"),
    ([plain(numpy.zeros(1, "c16"))], "json"),
]


@pytest.mark.parametrize(("values", "name"), TYPES, ids=repr)
def test_the_type_holds_all_values(values: list[Any], name: str) -> None:
    for parts in ([values], [values[:1], values[1:]], [[each] for each in reversed(values)]):
        column = ColumnType()
        for part in parts:
            column.look(part)
        assert column.name == name


def test_lists_are_nested_only_so_deep() -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    column = ColumnType()
    column.look([value])
    assert column.name == "json"


@given(st.lists(VALUES, max_size=6), st.lists(VALUES, max_size=6))
def test_a_type_only_becomes_wider(some: list[Any], others: list[Any]) -> None:
    wider = {
        "null": 0, "bool": 1, "int64": 1, "uint64": 2, "float64": 3, "text": 1, "bytes": 1, "list": 1, "json": 9
    }  # fmt: skip
    column = ColumnType()
    column.look(some)
    before = column.name
    column.look(others)
    assert wider[column.name.split()[0]] >= wider[before.split()[0]]
    both = ColumnType()
    both.look(others + some)
    assert both.name == column.name


def test_text_of_other_types_is_what_json_shows() -> None:
    assert [plain(each) for each in (Decimal("1.10"), UUID(int=1), 1 + 2j, time(1, 2))] == [
        "1.10", "00000000-0000-0000-0000-000000000001", "1+2j", "01:02:00"
    ]  # fmt: skip
    [number] = plain(numpy.array([0.1], "f4"))
    assert number == struct.unpack("f", struct.pack("f", 0.1))[0]
