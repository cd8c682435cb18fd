"""Results checked and turned into what SQLite stores: numbers, text and bytes as such, everything else as JSON text.

Where that cannot give a result back, its exact value is stored beside it, as its worker has encoded it (`values.py`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.msgpack import Ext

from ..errors import ProtocolError
from ..protocol.arguments import UNFIT
from ..protocol.codec import decode_outcomes, decode_value
from ..protocol.fields import CALL
from ..protocol.messages import Quarantine, Results
from ..protocol.values import JSON_EXT
from .arguments import from_results, of_one

RECEIPT_TASKS_MAX = 1_000_000
"""A receipt covers at most this many tasks: so those that reach behind a task are found by their first one."""
_INTEGER_MAX = 2**63 - 1
_json = msgspec.json.Decoder(Raw)
"""Checks JSON and makes nothing of it: 16 MiB of brackets would take a gigabyte."""
_ARGUMENT_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class RowSet:
    """One results message, ready for the ledger. Sequences go by offset from `results.first`."""

    results: Results
    stored: Sequence[Any]
    """The `value` column."""
    json: Sequence[int | None] | None
    """The `json` column, or None when it is NULL for all."""
    seconds: Sequence[float]
    errors: dict[int, str]
    again: frozenset[int] = frozenset()
    """Offsets of failed tasks that are retried: they get no row."""
    replaced_attempts: int = 0
    """A failed row of an attempt up to this one is replaced; all other rows stay."""
    exact: dict[int, bytes] = field(default_factory=dict)
    """The `exact` column by offset; NULL for all others."""
    arguments: Sequence[str | bytes | None] | None = None
    """The `argument` column, or None when it is NULL for all."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """The `argument_digest` column by offset; NULL for all others."""

    @property
    def has_forms(self) -> bool:
        """Its rows have the columns `json` and `exact`."""
        return bool(self.json)

    @property
    def has_arguments(self) -> bool:
        """Its rows have the column `argument`."""
        return self.arguments is not None

    def rows(self, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        """(task, value, seconds[, json, exact][, argument]) for the offsets from `low` to `high - 1`."""
        columns = [range(self.results.first + low, self.results.first + high), self.stored[low:high]]
        columns += [self.seconds[low:high]]
        if self.json:
            columns += [self.json[low:high], [self.exact.get(at) for at in range(low, high)]]
        if self.arguments is not None:
            columns += [self.arguments[low:high]]
        return zip(*columns, strict=True)

    def picked(self, offsets: Iterable[int]) -> Iterator[tuple[Any, ...]]:
        """The same for these offsets."""
        return (row for offset in offsets for row in self.rows(offset, offset + 1))


def recording(results: Results, attempts_before: int = 0, attempts_max: int = 1, form: str = "") -> RowSet:
    """Decode the outcomes, and the arguments where the job keeps them. Raises ProtocolError when outcomes do not fit.

    A failure is recorded at attempt `attempts_max`, or when it is final. Before that the task is retried. A failure in
    an earlier run of the job, at one of the `attempts_before`, is always retried, and a failed row of these attempts
    is replaced. A value that cannot be stored is a final failure of its task.
    """
    outcomes = decode_outcomes(results)
    exact = dict(outcomes.exact)
    unfit: dict[int, str] = {}
    try:
        stored, json = columns(outcomes.values, exact)
    except ProtocolError:
        unfit = dict(_unfit(outcomes.values))
        stored, json = columns([None if at in unfit else value for at, value in enumerate(outcomes.values)], exact)
    failed = {offset: error for offset, error, _ in outcomes.errors} | unfit
    final = {offset for offset, _, is_final in outcomes.errors if is_final} | unfit.keys()
    if results.attempt <= attempts_before:
        final = set()
    elif results.attempt >= attempts_max:
        final = set(failed)
    errors = {offset: error for offset, error in failed.items() if offset in final}
    again = frozenset(failed.keys() - final)
    if exact and not json:
        json = [None] * results.count
    replaced, kept = _replaced(results, attempts_before), from_results(results, form)
    return RowSet(results, stored, json, outcomes.seconds, errors, again, replaced, exact, *kept)


def failing(results: Results, reason: str, attempts_before: int = 0, attempts_max: int = 1, form: str = "") -> RowSet:
    """Every task of a message whose outcomes cannot be read fails: refused, they would be run and sent for ever."""
    count = results.count
    failed = dict.fromkeys(range(count), f"the worker's outcomes cannot be read: {reason}")
    is_last = attempts_before < results.attempt >= attempts_max
    errors, again = (failed, frozenset[int]()) if is_last else ({}, frozenset(failed))
    nothing = [None] * count
    replaced, kept = _replaced(results, attempts_before), from_results(results, form)
    return RowSet(results, nothing, None, [0.0] * count, errors, again, replaced, {}, *kept)


def _replaced(results: Results, attempts_before: int) -> int:
    """The first result wins, except that a failure of an earlier run is replaced by a later attempt."""
    return min(attempts_before, results.attempt - 1)


def _unfit(values: list[Any]) -> Iterator[tuple[int, str]]:
    """The offsets of the values that cannot be stored, and why."""
    for at, value in enumerate(values):
        try:
            _column(value)
        except ProtocolError as error:
            yield at, f"the result cannot be stored: {error}"


def _as_text(value: Any) -> str:
    """An extension inside an argument, which JSON has no form for."""
    if type(value) is not Ext:
        # A key of a map.
        raise TypeError(f"{type(value).__qualname__} cannot be written as JSON")
    return bytes(value.data).decode("utf-8", "replace")


def _argument_text(argument: Any) -> str:
    """An argument as JSON, or as Python writes it when a map in it has keys that JSON cannot have."""
    if type(argument) is Ext and argument.code == CALL:
        try:
            argument = msgspec.msgpack.decode(argument.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # It is shown as text, like other extensions.
    try:
        return msgspec.json.encode(argument, enc_hook=_as_text).decode()
    except UNFIT:
        return repr(argument)


def quarantined(quarantine: Quarantine, attempts_before: int = 0, form: str = "") -> RowSet:
    """The failed row of a task that its ventilator has given up on.

    Raises ProtocolError when its argument cannot be read: no worker runs that.
    """
    try:
        argument = msgspec.msgpack.decode(quarantine.argument, type=list[Any])[0]
        shown = _argument_text(argument)
    except (*UNFIT, IndexError) as error:
        raise ProtocolError(f"the argument cannot be read: {error}") from None
    task, worker = quarantine.task, quarantine.worker
    text = (
        f"argument: {shown[:_ARGUMENT_CHARACTERS]}\n"
        f"quarantined: {quarantine.lost_count} workers died while running it, the last of them {worker}"
    )
    results = Results(
        job=quarantine.job,
        worker=worker,
        serial=0,
        first=task,
        count=1,
        batch=(task, 1, quarantine.attempt),
        ticket=bytes(16),
        outcomes=b"",
    )
    kept = of_one(argument, form)
    replaced = _replaced(results, attempts_before)
    return RowSet(results, [None], None, [0.0], {0: text}, frozenset(), replaced, {}, *kept)


def columns(values: list[Any], exact: dict[int, bytes]) -> tuple[Sequence[Any], list[int | None] | None]:
    """The `value` column for these values, and the `json` column, or None when that is NULL for all.

    Lists of one plain type, the common case, are passed on without checking each value. NaN is added to `exact`.
    Raises ProtocolError.
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
    for at, value in enumerate(values):
        if type(value) is float and math.isnan(value):
            exact[at] = msgspec.msgpack.encode(value)
    pairs = [_column(value) for value in values]
    return [stored for stored, _ in pairs], [json for _, json in pairs]


def _column(value: Any) -> tuple[Any, int | None]:
    if type(value) is Raw:
        value = decode_value(value)
    kind = type(value)
    if kind in (str, bytes, type(None)) or (kind is int and value <= _INTEGER_MAX):
        return value, None
    if kind is float:
        # SQLite would store NaN as NULL.
        return ('"NaN"', 1) if math.isnan(value) else (value, None)
    if kind is Ext:
        return _json_text(value), 1
    return msgspec.json.encode(value).decode(), 1


def _json_text(value: Ext) -> str:
    """JSON text on one line. Raises ProtocolError."""
    if value.code != JSON_EXT:
        raise ProtocolError(f"MessagePack extension type {value.code} is no value")
    try:
        _json.decode(value.data)
        text = bytes(value.data).decode()
    except RecursionError:
        raise ProtocolError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"it is not JSON: {error}") from None
    # In JSON these are white space between tokens; whoever prints results prints one a line.
    return text.replace("\n", " ").replace("\r", " ")


def as_json(stored: Any, json: int | None) -> str:
    """A stored value as JSON text. What JSON has no form for is a string: bytes as base64, NaN, Infinity, -Infinity."""
    # A ledger of version 1 has NaN without quotation marks.
    if json and stored != "NaN":
        return str(stored)
    if isinstance(stored, float) and math.isinf(stored):
        stored = "Infinity" if stored > 0 else "-Infinity"
    return msgspec.json.encode(stored).decode()
