"""Results as a table: which columns there are, and what stands in them."""

from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace

from common.errors import OperatorError
from common.protocol.values import forms
from common.sink import result_columns
from common.sink.result_columns import ResultColumns, cell_of
from common.sink.rows import columns
from common.sink.store import Row


def row(task: int, value: Any, argument: Any = None, error: str | None = None) -> Row:
    """A row as a reader has it."""
    readable, found = forms(value)
    exact = {} if found is None else {0: found}
    [stored], json = columns([readable], exact)
    status = "ok" if error is None else "failed"
    is_json = 1 if isinstance(argument, str) and argument.startswith("{") else None
    result = stored, json and json[0], error, 1, "ada", 0.25, exact.get(0)
    return Row(task, status, *result, argument, is_json)


def table(rows: list[Row], spread: bool = True) -> dict[str, list[Any]]:
    """All columns of the rows."""
    made = ResultColumns(spread)
    made.look(rows)
    groups = list(made.groups(rows))
    return {name: [value for group in groups for value in group[name]] for name in made.types}


ROWS = [
    row(0, {"loss": 0.5, "at": {"x": 1}}, '{"depth":1}'),
    row(1, None, '{"depth":2}', error="no"),
    row(2, {"loss": 1, "steps": None, "on": date(2026, 11, 26)}, '{"depth":3,"rate":0.1}'),
]


def test_keys_of_maps_are_columns_with_gaps() -> None:
    found = table(ROWS)
    assert list(found) == [
        "task", "status", "value.loss", "value.at", "value.steps", "value.on",
        "error", "attempt", "worker", "seconds", "argument.depth", "argument.rate", "argument_digest",
    ]  # fmt: skip
    assert found["value.loss"] == [0.5, None, 1]
    assert found["value.at"] == ['{"x":1}', None, None]
    assert found["value.steps"] == [None, None, None]
    assert found["value.on"] == [None, None, date(2026, 11, 26)]
    assert found["argument.depth"] == [1, 2, 3]
    assert found["error"] == [None, "no", None]
    assert found["status"] == ["ok", "failed", "ok"]


def test_without_them_maps_are_json_text() -> None:
    found = table(ROWS, spread=False)
    assert found["value"][1:] == [None, '{"loss":1,"steps":null,"on":"2026-11-26"}']
    assert found["argument"][0] == '{"depth":1}'


def test_what_is_no_map_keeps_its_column_and_no_gap_becomes_a_word() -> None:
    rows = [row(0, {"a": 1, "b": "x"}), row(1, 7), row(2, {"a": "one", "b": None}), row(3, {"a": None})]
    found = table(rows)
    assert found["value"] == [None, 7, None, None]
    assert found["value.a"] == ["1", None, '"one"', None]
    assert found["value.b"] == ["x", None, None, None]
    made = ResultColumns(spread=True)
    made.look(rows)
    assert [made.csv(each).get("value.a") for each in rows] == ["1", None, "one", None]


def test_keys_that_are_no_text_are_named_as_in_json() -> None:
    found = table([row(0, {1: (1, 2), (1, "a"): b"x", None: float("nan"), "é.é": 2**70})])
    assert [name for name in found if name.startswith("value")] == [
        "value.1",
        'value.[1,"a"]',
        "value.null",
        "value.é.é",
    ]
    assert (found["value.1"], found['value.[1,"a"]'], found["value.é.é"]) == ([(1, 2)], [b"x"], [str(2**70)])


def test_a_value_that_cannot_be_given_back_here_is_its_json_text() -> None:
    assert table([replace(row(0, (1, 2)), exact=b"\xc1")], spread=False)["value"] == ["[1,2]"]


def test_rows_that_came_meanwhile_are_left_for_the_next_time() -> None:
    made = ResultColumns(spread=True)
    made.look(ROWS[:1])
    [group] = made.groups(ROWS)
    assert group["task"] == [0]


@pytest.mark.parametrize("value", ["text", {"loss": "text"}, {"loss": 2**60}, {"other": 1}], ids=repr)
def test_a_row_that_has_changed_meanwhile_is_told(value: Any) -> None:
    made = ResultColumns(spread=True)
    made.look(ROWS)
    with pytest.raises(OperatorError, match="some of its results have changed meanwhile: run this again"):
        list(made.groups([row(0, value)]))


def test_a_group_holds_few_rows_and_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_columns, "_BYTES_MAX", 2_000)
    rows = [row(n, "x" * 500) for n in range(7)]
    made = ResultColumns(spread=False)
    made.look(rows)
    assert [len(group["task"]) for group in made.groups(rows)] == [4, 3]
    monkeypatch.setattr(result_columns, "_CELLS_MAX", 2 * len(made.types))
    assert [len(group["task"]) for group in made.groups(rows)] == [2, 2, 2, 1]


def test_maps_as_dictionaries_are_refused() -> None:
    made = ResultColumns(spread=True)
    with pytest.raises(OperatorError, match=r"more than 1,000 keys.*leave out --columns"):
        made.look([row(n, {f"word {n}": 1}) for n in range(1_001)])


@pytest.mark.parametrize(
    ("json", "cell"), [("null", None), ('"NaN"', "NaN"), ("1.5", "1.5"), ('"a\\"b"', 'a"b'), ('{"a":"b"}', '{"a":"b"}')]
)
def test_a_cell_of_csv_is_json_without_the_marks_of_a_string(json: str, cell: str | None) -> None:
    assert cell_of(json) == cell
