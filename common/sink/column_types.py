"""Which type a column gets that holds these values. A table has one for each column, results may be anything.

The types are `null`, `bool`, `int64`, `uint64`, `float64`, `text`, `bytes`, `date`, `datetime`, `instant` (a datetime
with an offset), `duration`, each also as `list of ...`, and `json`: what has no type in common is JSON text.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

JSON, LIST_OF = "json", "list of "
_LEVELS_MAX = 8
"""How deep lists may be nested."""
_KINDS = {
    bool: "bool", int: "int", float: "float", str: "text", bytes: "bytes", date: "date", list: "list", tuple: "list",
}  # fmt: skip
_TIMES = frozenset((datetime, timedelta))
"""Their kind depends on the value."""
_ALONE = frozenset(("bool", "text", "bytes", "date", "datetime", "instant", "duration"))
"""Kinds of values that are types of columns, too."""
_EXACT_IN_FLOATS = 2**53
_LONGEST = timedelta(microseconds=2**63 - 1)


def plain(value: Any) -> Any:
    """The value as a column has it: text for what is text in JSON too, and lists for arrays."""
    kind = type(value)
    if kind in _KINDS or kind in _TIMES or value is None:
        return value
    if kind in (Decimal, UUID):
        return str(value)
    if kind is time:
        return value.isoformat()
    if kind is complex:
        return str(value).strip("()")
    if kind.__name__ == "ndarray" and value.dtype.kind in "biufSU":
        return value.tolist()
    return value


class ColumnType:
    """What the values of a column have in common, as far as they were looked at."""

    def __init__(self, level: int = 0) -> None:
        self._level = level
        self._kinds: set[str] = set()
        self._least = 0
        self._most = 0
        self._items: ColumnType | None = None
        """The type of all items of lists."""

    def look(self, values: Sequence[Any]) -> None:
        """Look at these values as well; None is a gap in any column."""
        kinds = set(map(type, values))
        kinds.discard(type(None))
        self._kinds |= {_KINDS.get(kind, "other") for kind in kinds if kind not in _TIMES}
        if int in kinds:
            numbers = [each for each in values if type(each) is int]
            self._least = min(self._least, min(numbers))
            self._most = max(self._most, max(numbers))
        if str in kinds and not all(map(_is_text, values)):
            self._kinds.add("other")
        if not kinds.isdisjoint(_TIMES):
            self._kinds |= {_kind_of(each) for each in values if type(each) in _TIMES}
        if list in kinds or tuple in kinds:
            self._look_into([each for each in values if type(each) in (list, tuple)])

    def _look_into(self, lists: list[Sequence[Any]]) -> None:
        if self._level == _LEVELS_MAX:
            self._kinds.add("other")
            return
        self._items = self._items or ColumnType(self._level + 1)
        for each in lists:
            self._items.look(each)

    @property
    def name(self) -> str:
        """The type that holds all these values exactly."""
        kinds = self._kinds
        if not kinds:
            return "null"
        if kinds == {"int"}:
            if self._least >= -(2**63) and self._most < 2**63:
                return "int64"
            return "uint64" if self._least == 0 and self._most < 2**64 else JSON
        if kinds <= {"int", "float"}:
            return "float64" if self._least >= -_EXACT_IN_FLOATS and self._most <= _EXACT_IN_FLOATS else JSON
        if kinds == {"list"}:
            assert self._items is not None
            items = self._items.name
            return JSON if items == JSON else LIST_OF + items
        [kind, *others] = kinds
        return kind if kind in _ALONE and not others else JSON


def _is_text(value: Any) -> bool:
    """False for text that has no UTF-8."""
    if type(value) is not str or value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_of(value: datetime | timedelta) -> str:
    if isinstance(value, timedelta):
        return "duration" if abs(value) <= _LONGEST else "other"
    offset = value.utcoffset()
    if offset is None:
        return "datetime"
    try:
        value.astimezone(UTC)
    except OverflowError:
        return "other"
    # pyarrow drops parts of a second.
    return "other" if offset.microseconds else "instant"
