"""Results as they are shown and as they are: whatever a function may return comes back equal, floats bit for bit."""

import collections
import dataclasses
import enum
import json
import math
import re
import struct
import sys
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from common.protocol import values
from common.protocol.values import LEVELS_MAX, Unsendable, forms, restored, value_of
from common.sink.rows import as_json
from common.sink.sqlite_ledger import Ledger
from tests.conftest import TOP
from tests.unit.builders import record
from tests.unit.writing import commit, open_job


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    made = Ledger(":memory:")
    open_job(made, "job", "m:f", "range")
    return made


def stored(ledger: Ledger, value: Any) -> tuple[Any, int | None, bytes | None]:
    """The columns of a result, once it was recorded."""
    readable, exact = forms(value)
    ledger.inspect("DELETE FROM task_rows")
    commit(ledger, [record([readable], exact={} if exact is None else {0: exact})])
    [(stored_value, is_json, stored_exact)] = ledger.inspect("SELECT value, json, exact FROM results")
    return stored_value, is_json, stored_exact


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down, floats bit for bit."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return bits(one) == bits(other)
        case complex():
            return bits(one.real) + bits(one.imag) == bits(other.real) + bits(other.imag)
        case Decimal():
            return str(one) == str(other)
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return same(list(one.items()), list(other.items()))
        case datetime() | time():
            return bool(one == other and one.utcoffset() == other.utcoffset())
    return bool(one == other)


ZONES = st.none() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | ANY_TEXT
    | st.binary(max_size=6)
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.uuids()
)
LEAVES = (
    HASHABLE
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 2**64 - 1).map(lambda number: struct.unpack(">d", number.to_bytes(8, "big"))[0])
    | st.decimals()
    | st.complex_numbers()
)
KEYS = st.recursive(HASHABLE, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=3)
RESULTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(ANY_TEXT | KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=3)
        | st.frozensets(KEYS, max_size=3)
    ),
    max_leaves=10,
)
"""Any nesting of the types that come back as they are."""
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
"""What JSON gives back by itself."""


@given(value=RESULTS)
@example(value=math.nan)
@example(value=[-0.0, math.nan, -math.inf])
@example(value={"a": {1: (b"\0", {2.5: None})}})
@example(value=[10**4299, -(10**5000)])
@example(value=10**5000)
@example(value="\ud800")
@example(value=datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=1))))
@example(value=time(1, tzinfo=timezone(-timedelta(hours=1, microseconds=1))))
@example(value={("\udcff", 1): {frozenset([(1, 2)])}})
@example(value=[[{"a": "\ud800"}]])
@settings(max_examples=300)
def test_any_result_comes_back_equal_and_is_readable_as_json(ledger: Ledger, value: Any) -> None:
    try:
        columns = stored(ledger, value)
    except Unsendable as error:
        assert error.reason.startswith("another key of this map is the same as JSON text")
        return
    assert same(value_of(*columns), value)
    if type(value) is not bytes:
        json.loads(as_json(*columns[:2]), parse_constant=pytest.fail)


@given(value=PLAIN)
@settings(max_examples=200)
def test_what_json_gives_back_has_no_second_form(ledger: Ledger, value: Any) -> None:
    _, is_json, exact = columns = stored(ledger, value)
    assert exact is None
    assert same(value_of(*columns), value)
    if is_json:
        assert same(json.loads(columns[0]), value), "whatever reads it"


# -- the table in the document ------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Fit:
    slope: float
    parts: Any


class Point(NamedTuple):
    x: int
    y: int


class Reading(msgspec.Struct):
    at: date
    value: Any


class Name(str):
    pass


class Metres(float):
    pass


NAMES = {
    **{
        each.__name__: each
        for each in (Colour, Level, Fit, Point, Reading, Name, Metres, Path, PurePath, Decimal, UUID)
    },
    **{each.__name__: each for each in (date, datetime, time, timedelta, timezone, deque, array)},
    "UTC": UTC,
    "nan": math.nan,
    "inf": math.inf,
    "Counter": collections.Counter,
    "math": math,
}
DOCUMENT = (TOP / "docs" / "your-functions.md").read_text()
TABLE = DOCUMENT.split("\n| your function returns |")[1].split("\n\n")[0]
ROWS = re.findall(r"^\| `([^|]*)` \| `([^|]*)` \| `([^|]*)` \|$", TABLE, re.MULTILINE)


def test_the_table_has_no_other_rows() -> None:
    assert len(ROWS) == TABLE.count("\n") - 1 >= 30


@pytest.mark.parametrize(("result", "shown", "back"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_of_the_table_is_true(ledger: Ledger, result: str, shown: str, back: str) -> None:
    names = dict(NAMES)
    if "np." in result:
        names["np"] = pytest.importorskip("numpy")
    columns = stored(ledger, eval(result, names))  # noqa: S307
    got = as_json(*columns[:2])
    assert got == shown
    assert repr(value_of(*columns)) == repr(eval(back, names))  # noqa: S307


# -- what has no form ---------------------------------------------------------------------------------------------


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Odd(), "result"),
        ({"fit": Fit(1.0, Odd())}, "result['fit'].parts"),
        ([1, (2, {3: Odd()})], "result[1][1][3]"),
        (Reading(date(2026, 1, 1), [Odd()]), "result.value[0]"),
        ({(1, 2): 0, Odd: 0}, f"result[{Odd!r}]"),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_named_with_its_place_and_type(value: Any, place: str) -> None:
    with pytest.raises(Unsendable) as refused:
        forms(value)
    text = str(refused.value)
    assert text.startswith(f"{place}: ")
    assert re.search(r"(\.Odd|: type) cannot be sent; return numbers", text)
    assert "\n" not in text


@pytest.mark.parametrize(
    "value", [{1: 0, "1": 0}, {None: 0, "null": 0}, {b"a": 0, "YQ==": 0}, {(1,): 0, "[1]": 0}], ids=str
)
def test_keys_that_become_one_are_refused(value: Any) -> None:
    with pytest.raises(Unsendable, match="another key of this map is the same as JSON text"):
        forms(value)
    with pytest.raises(Unsendable, match=r"^result\[0\]\["):
        forms([value])


def test_what_contains_itself_is_nested_too_deeply() -> None:
    for loop in ([], {}, deque()):
        for kept in (loop, [loop], (loop,)):
            loop.append(kept) if not isinstance(loop, dict) else loop.update(a=kept)
            with pytest.raises(RecursionError):
                forms(loop)
            loop.clear()


def test_how_deep_a_result_may_be() -> None:
    def nested(leaf: Any, levels: int) -> Any:
        for _ in range(levels):
            leaf = [leaf]
        return leaf

    with ThreadPoolExecutor(1) as child:  # Whose stack is as empty as a child's.
        readable, exact = child.submit(forms, nested(1, 900)).result()
    assert exact is None and readable.data.count(b"[") == 900
    _, exact = forms(nested((), LEVELS_MAX))
    assert exact is not None and same(restored(exact), nested((), LEVELS_MAX))
    deepest: Any = ()
    for _ in range(LEVELS_MAX):
        deepest = (deepest,)
    _, exact = forms(deepest)
    assert exact is not None and same(restored(exact), deepest)
    with pytest.raises(RecursionError):
        forms((deepest,))


def test_an_array_of_masked_values_or_of_objects_has_no_form() -> None:
    numpy = pytest.importorskip("numpy")
    for array_of, name in (
        (numpy.ma.array([1, 2], mask=[False, True]), "numpy.ma.MaskedArray"),
        (numpy.array([Odd()]), "numpy.ndarray of dtype object"),
    ):
        with pytest.raises(Unsendable, match=rf"^result\[0\]: {name} cannot be sent"):
            forms([array_of])


def test_arrays_come_back_with_dtype_shape_and_bytes() -> None:
    numpy = pytest.importorskip("numpy")
    fields = [("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "S3")])]
    for made in (
        numpy.arange(6, dtype=">u2").reshape(2, 3).T,
        numpy.array([[1.5, numpy.nan], [-0.0, numpy.inf]]),
        numpy.zeros((3, 0, 2), "c8"),
        numpy.array(["2026-01-01", "NaT"], "M8[ns]"),
        numpy.array(["a", "bc"]),
        numpy.array([(1, [2, 3], (b"x",))], fields),
        numpy.array(5),
        numpy.random.default_rng(1).random((300, 7)),
    ):
        readable, exact = forms({"array": made})
        assert exact is not None
        back = restored(exact)["array"]
        assert (back.dtype, back.shape, back.tobytes()) == (made.dtype, made.shape, made.tobytes())
        assert back.flags.writeable
        json.loads(bytes(readable.data))
    readable, _ = forms(numpy.zeros((1001,)))
    assert bytes(readable.data) == b'{"dtype":"float64","shape":[1001]}'
    assert bytes(forms(numpy.zeros((1000,)))[0].data).count(b"0.0") == 1000


# -- the way back -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=40))
def test_any_bytes_are_an_exact_value_or_a_value_error(exact: bytes) -> None:
    try:
        restored(exact)
    except ValueError:
        pass


@pytest.mark.parametrize("code", range(16))
@given(payload=st.binary(max_size=20))
@settings(max_examples=30)
def test_any_payload_is_an_exact_value_or_a_value_error(code: int, payload: bytes) -> None:
    try:
        restored(msgspec.msgpack.encode(Ext(code, payload)))
    except ValueError:
        pass


def test_rows_of_ledgers_of_version_1_come_back_too() -> None:
    assert math.isnan(value_of("NaN", 1, None))
    assert value_of("[1]", 1, None) == [1]
    assert value_of("[1]", None, None) == "[1]"


def test_numpy_is_not_imported_where_nobody_has() -> None:
    before = "numpy" in sys.modules
    forms([Decimal(1), (2,)])
    assert ("numpy" in sys.modules) == before


def test_each_extension_type_has_its_row_in_the_protocol_and_a_reader() -> None:
    document = (TOP / "docs" / "PROTOCOL.md").read_text()
    said = dict(re.findall(r"^\| (\d+) \| (\w+)", document, re.MULTILINE))
    codes = {getattr(values, name) for name in vars(values) if name.endswith("_EXT")}
    assert {int(code) for code in said} == codes
    assert set(values._READERS) == codes - {values.JSON_EXT}
