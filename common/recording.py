"""Results checked and turned into what SQLite stores: numbers and strings as such, everything else as JSON text."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from common.errors import ProtocolError
from common.messages import Results, decode_outcomes

_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Recording:
    """One results message, ready for the ledger. Sequences go by offset from `results.first`."""

    results: Results
    stored: Sequence[Any]
    """The `value` column."""
    json: Sequence[int | None] | None
    """The `json` column, or None when it is NULL for all."""
    seconds: Sequence[float]
    errors: dict[int, str]

    def rows(self, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        """(task, value, seconds[, json]) for the offsets from `low` to `high - 1`."""
        columns = [range(self.results.first + low, self.results.first + high), self.stored[low:high]]
        columns += [self.seconds[low:high]] + ([self.json[low:high]] if self.json else [])
        return zip(*columns, strict=True)

    def picked(self, offsets: Iterable[int]) -> Iterator[tuple[Any, ...]]:
        """(task, value, seconds[, json]) for these offsets."""
        return (row for offset in offsets for row in self.rows(offset, offset + 1))


def recording(results: Results) -> Recording:
    """Decode the outcomes. Raises ProtocolError when they do not fit, or hold what no result can be."""
    outcomes = decode_outcomes(results)
    try:
        stored, json = columns(outcomes.values)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ProtocolError(f"a value cannot be stored: {error}") from None
    return Recording(results, stored, json, outcomes.seconds, dict(outcomes.errors))


def columns(values: list[Any]) -> tuple[Sequence[Any], list[int | None] | None]:
    """The `value` column for these values, and the `json` column, or None when that is NULL for all.

    Lists of one plain type, the common case, are passed on without a look at each value.
    """
    kinds = set(map(type, values))
    if (
        kinds <= {str}
        or kinds <= {type(None)}
        or kinds <= {bytes}
        or (kinds == {int} and max(values) <= _INTEGER_MAX)
        or (kinds == {float} and not any(map(math.isnan, values)))
    ):
        return values, None
    pairs = [_column(value) for value in values]
    return [stored for stored, _ in pairs], [json for _, json in pairs]


def _column(value: Any) -> tuple[Any, int | None]:
    kind = type(value)
    if kind in (str, bytes, type(None)):
        return value, None
    if kind is int and value <= _INTEGER_MAX:
        return value, None
    if kind is float:
        # SQLite would store NaN as NULL.
        return ("NaN", 1) if math.isnan(value) else (value, None)
    return msgspec.json.encode(value).decode(), 1


def as_json(stored: Any, json: int | None) -> str:
    """A stored value as JSON text; bytes become base64, as msgspec does it."""
    if json:
        return str(stored)
    if isinstance(stored, float) and math.isinf(stored):
        return "Infinity" if stored > 0 else "-Infinity"
    return msgspec.json.encode(stored).decode()
