"""Many results in one array: each comes back as it does alone."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.msgpack import Ext, encode

from common.protocol.value_array import packed, sent_value, unpacked
from common.protocol.values import value_of

COLUMNS = st.lists(
    st.one_of(
        st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(), st.none()),
        st.tuples(
            st.sampled_from(["true", "[1, null]", '{"a": 1e99}', "18446744073709551615", '"NaN"', "NaN"]), st.just(1)
        ),
    ).flatmap(
        lambda pair: st.tuples(
            st.just(pair), st.none() | st.sampled_from([encode(math.inf), encode(Ext(2, encode([1])))])
        )
    ),
    max_size=20,
)


@given(COLUMNS)
@example([])
def test_results_come_back_as_from_their_columns(columns: list[tuple[tuple[Any, int | None], bytes | None]]) -> None:
    rows = [(value, json, exact) for (value, json), exact in columns]
    found = unpacked(packed([sent_value(*row) for row in rows]))
    # By repr: NaN is not equal to itself, and 1 is equal to 1.0.
    assert list(map(repr, found)) == [repr(value_of(*row)) for row in rows]


@pytest.mark.parametrize(
    "bad",
    [Ext(15, b"\xc1"), Ext(15, encode(Ext(99, b""))), Ext(98, b""), Ext(1, b"[" * 100_000 + b"]" * 100_000)],
    ids=["no MessagePack", "unknown inside", "unknown", "too deep"],
)
def test_a_result_that_cannot_be_read_costs_no_other(bad: Ext) -> None:
    found = unpacked(Raw(encode([1, Ext(1, b"[2]"), bad, 4])))
    assert len(found) == 4
    assert list(found[:2]) == [1, [2]]
    assert list(found[3:]) == [4]
    taken = iter(found)
    assert [next(taken), next(taken)] == [1, [2]]
    with pytest.raises(ValueError):
        next(taken)
    with pytest.raises(ValueError):
        list(found[2:3])
