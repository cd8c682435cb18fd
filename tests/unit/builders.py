"""Short ways to make what these tests need: results messages, and any value of a message type."""

import types
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw
from msgspec import inspect as shape
from msgspec.msgpack import Ext

from common.protocol.arguments import Cut
from common.protocol.messages import Outcomes, Results
from common.protocol.values import JSON_EXT
from common.sink.rows import RowSet, recording

TICKET = b"t" * 16

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
"""Whatever MessagePack can carry with names as keys."""


def results(
    values: list[Any],
    first: int = 0,
    *,
    job: str = "job",
    worker: str = "ada",
    serial: int = 0,
    attempt: int = 1,
    errors: dict[int, str] | None = None,
    batch: tuple[int, int] | None = None,
    ticket: bytes = TICKET,
    exact: dict[int, bytes] | None = None,
    arguments: list[Any] | None = None,
    cuts: list[Cut] | None = None,
) -> Results:
    """A results message with these values; `errors` goes by offset. Each task took a quarter of a second."""
    said = [(at, text, False) for at, text in (errors or {}).items()]
    outcomes = Outcomes(list(map(sent, values)), [0.25] * len(values), said, list((exact or {}).items()))
    return Results(
        job=job,
        worker=worker,
        serial=serial,
        first=first,
        count=len(values),
        batch=(*(batch or (first, len(values))), attempt),
        ticket=ticket,
        outcomes=msgspec.msgpack.encode(outcomes),
        arguments=None if arguments is None else msgspec.msgpack.encode(arguments),
        cuts=tuple(cuts or ()),
    )


def sent(value: Any) -> Any:
    """A value as `Outcomes` has it: arrays and maps are JSON text."""
    return Ext(JSON_EXT, msgspec.json.encode(value)) if isinstance(value, list | dict) else value


def record(values: list[Any], first: int = 0, attempts_before: int = 0, form: str = "", **fields: Any) -> RowSet:
    """The same, ready for the ledger."""
    return recording(results(values, first, **fields), attempts_before, form=form)


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any valid value of a message type or of one of its fields, by what msgspec knows of it."""
    return _any_of(shape.type_info(kind) if isinstance(kind, type | types.UnionType) else kind)


def _any_of(kind: shape.Type) -> st.SearchStrategy[Any]:
    match kind:
        case shape.Metadata():
            return _any_of(kind.type)
        case shape.IntType():
            low, high = kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**64 - 1
            return st.integers(low, high)
        case shape.FloatType():
            return st.floats(min_value=kind.ge, max_value=kind.le, allow_nan=False, allow_infinity=kind.le is None)
        case shape.StrType(pattern=str(pattern)):
            longest = typing.cast(int, kind.max_length)
            return st.from_regex(pattern).filter(lambda text: len(text) <= longest)
        case shape.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 50, 50))
        case shape.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=kind.max_length or 50)
        case shape.BoolType():
            return st.booleans()
        case shape.NoneType():
            return st.none()
        case shape.LiteralType():
            return st.sampled_from(kind.values)
        case shape.AnyType():
            return VALUES
        case shape.RawType():
            return VALUES.map(lambda value: Raw(msgspec.msgpack.encode(value)))
        case shape.UnionType():
            return st.one_of([_any_of(each) for each in kind.types])
        case shape.ListType():
            return st.lists(_any_of(kind.item_type), max_size=3)
        case shape.VarTupleType():
            return st.lists(_any_of(kind.item_type), max_size=3).map(tuple)
        case shape.TupleType():
            return st.tuples(*map(_any_of, kind.item_types))
        case shape.DictType():
            return st.dictionaries(_any_of(kind.key_type), _any_of(kind.value_type), max_size=3)
        case shape.StructType():
            return st.builds(kind.cls, **{field.name: _any_of(field.type) for field in kind.fields})
    raise AssertionError(kind)
