"""The results of a job as a table: its columns, what stands in them, and which type each of them has."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..errors import OperatorError
from ..plain_text import counted
from ..protocol.values import value_of
from ..task_ranges import TaskRanges
from .column_types import JSON, ColumnType, plain
from .rows import as_json
from .store import Row, weight

COLUMNS_MAX = 1_000
_ROWS_LOOKED_AT = 5_000
_ROWS_MAX, _CELLS_MAX, _BYTES_MAX = 20_000, 1_000_000, 32 * 1024 * 1024
"""At most how much is held at once."""
_FIXED = {
    "task": "int64",
    "status": "text",
    "error": "text",
    "attempt": "int64",
    "worker": "text",
    "seconds": "float64",
    "argument_digest": "text",
}
_UNKNOWN = object()
"""A value that cannot be given back here, such as an array where there is no numpy."""

Cell = tuple[str, Any, str]
"""A column, the value as it is, and as JSON text where that is wanted."""


class ResultColumns:
    """Which columns the rows have. Look at all rows first, then take them group by group.

    With `spread` each key of a map is a column, such as `value.loss`; `value` has what is no map.
    """

    def __init__(self, spread: bool) -> None:
        self._spread = spread
        self._types = {"value": ColumnType(), "argument": ColumnType()}
        """Of value and argument, and of their keys."""
        self._seen = TaskRanges()

    def look(self, rows: Iterable[Row]) -> None:
        """Look at all rows. Raises OperatorError when they have too many columns."""
        for group in self._groups(rows, _ROWS_LOOKED_AT):
            for row in group:
                self._seen.add(row.task, 1)
            found: dict[str, list[Any]] = {}
            for row in group:
                for column, value, _ in self._cells(row, texts=False):
                    found.setdefault(column, []).append(value)
            for column, values in found.items():
                self._types.setdefault(column, ColumnType()).look(values)
            if len(self._types) > COLUMNS_MAX:
                raise OperatorError(
                    f"the maps have more than {counted(COLUMNS_MAX, 'key')}, which is too much for columns: leave out"
                    " --columns"
                )

    @property
    def types(self) -> dict[str, str]:
        """The type of each column, in their order."""
        value, argument = self._part("value"), self._part("argument")
        before, between = ("task", "status"), ("error", "attempt", "worker", "seconds")
        fixed = [{name: _FIXED[name] for name in names} for names in (before, between, ("argument_digest",))]
        return fixed[0] | value | fixed[1] | argument | fixed[2]

    def _part(self, name: str) -> dict[str, str]:
        keys = {each: kind.name for each, kind in self._types.items() if each.startswith(name + ".")}
        whole = self._types[name].name
        return keys if keys and whole == "null" else {name: whole} | keys

    def groups(self, rows: Iterable[Row]) -> Iterator[dict[str, list[Any]]]:
        """The rows that were looked at, many at once, each column with its values; None is a gap.

        Raises OperatorError when a row has changed since, which happens only while the job runs.
        """
        types = self.types
        for group in self._groups(self.seen(rows), min(_ROWS_MAX, _CELLS_MAX // len(types))):
            columns: dict[str, list[Any]] = {name: [None] * len(group) for name in types}
            for name in _FIXED:
                columns[name] = [_fixed(row, name) for row in group]
            has_texts = JSON in types.values()
            for at, row in enumerate(group):
                for column, value, text in self._cells(row, has_texts):
                    if column not in types:
                        raise _changed()
                    columns[column][at] = text if types[column] == JSON and value is not None else value
            for column, kind in self._types.items():
                if column in types and types[column] != JSON:
                    kind.look(columns[column])
                    if kind.name != types[column]:
                        raise _changed()
            yield columns

    def seen(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Those of the rows that were looked at: while the job runs, there are more each time."""
        return (row for row in rows if row.task in self._seen)

    def csv(self, row: Row) -> dict[str, Any]:
        """What stands in the row's cells of CSV."""
        texts = {column: cell_of(text) for column, _, text in self._cells(row, texts=True)}
        return {name: _fixed(row, name) for name in _FIXED} | texts

    def _cells(self, row: Row, texts: bool) -> Iterator[Cell]:
        yield from _cells_of("value", row.value, row.json, row.exact, self._spread, texts)
        yield from _cells_of("argument", row.argument, row.argument_json, None, self._spread, texts)

    def _groups(self, rows: Iterable[Row], rows_max: int) -> Iterator[list[Row]]:
        group: list[Row] = []
        group_bytes = 0
        for row in rows:
            group.append(row)
            group_bytes += weight(row)
            if len(group) >= rows_max or group_bytes >= _BYTES_MAX:
                yield group
                group, group_bytes = [], 0
        if group:
            yield group


def cell_of(text: str) -> str | None:
    """JSON text as a cell of CSV: without the quotation marks of a string, so that NaN is read as a number."""
    if text == "null":
        return None
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def _fixed(row: Row, column: str) -> Any:
    """What stands in a column that every job has."""
    if column == "argument_digest":
        return row.argument_digest and row.argument_digest.hex()
    return getattr(row, column)


def _cells_of(
    name: str, stored: Any, json: int | None, exact: bytes | None, spread: bool, texts: bool
) -> Iterator[Cell]:
    if stored is None:
        return
    value = stored if exact is None and not json else _restored(stored, json, exact)
    if not spread or type(value) is not dict:
        yield name, plain(value), as_json(stored, json) if texts else ""
    elif exact is None and not texts:
        for key, each in value.items():
            yield f"{name}.{key}", each, ""
    else:
        # Both have the same keys in the same order; those of JSON are text.
        shown = msgspec.json.decode(stored, type=dict[str, msgspec.Raw])
        for (key, text), each in zip(shown.items(), value.values(), strict=True):
            yield f"{name}.{key}", plain(each), bytes(text).decode()


def _restored(stored: Any, json: int | None, exact: bytes | None) -> Any:
    try:
        return value_of(stored, json, exact)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return _UNKNOWN


def _changed() -> OperatorError:
    return OperatorError("the job runs, and some of its results have changed meanwhile: run this again")
