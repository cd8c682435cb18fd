"""Arguments as the ledger keeps them: whatever a worker sends, and so that they are compared and printed rightly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import replace

from common.protocol.arguments import digest
from common.sink.arguments import digest_of, from_results, is_line, of_one, of_range, shown
from tests.unit.builders import results

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
"""What a line of JSON can be."""


@given(values=st.lists(JSON, min_size=1, max_size=5))
def test_what_is_kept_of_json_has_the_digest_of_what_was_pushed(values: list[Any]) -> None:
    lines, digests = from_results(results(values, arguments=values), "json")
    assert lines is not None
    found = [digest_of(line, digests.get(at), "json") for at, line in enumerate(lines)]
    assert found == [digest(msgpack.encode(value)) for value in values]


@given(values=st.lists(st.text() | st.text(min_size=1_500, max_size=6_000), min_size=1, max_size=5))
def test_what_is_kept_of_text_has_the_digest_of_what_was_pushed(values: list[str]) -> None:
    lines, digests = from_results(results(values, arguments=values), "text")
    assert lines is not None
    found = [digest_of(line, digests.get(at), "text") for at, line in enumerate(lines)]
    assert found == [digest(msgpack.encode(value)) for value in values]


def test_a_cut_argument_has_the_digest_that_its_worker_says() -> None:
    seal = bytes(range(16))
    said = results([1, 2], arguments=[None, "b"], cuts=[(0, seal, "x" * 5_000)])
    assert from_results(said, "text") == (["x" * 4_096, "b"], {0: seal})


@pytest.mark.parametrize(
    "arguments", [None, b"\xc1", b"", b"\x01", msgpack.encode(["one"]), msgpack.encode(["a", "b", "c"])]
)
def test_arguments_that_are_none_cost_their_rows_nothing_else(arguments: bytes | None) -> None:
    assert from_results(replace(results([1, 2]), arguments=arguments), "text") == (None, {})


def test_what_has_no_form_as_a_line_is_not_kept() -> None:
    odd = {(1, 2): 3}
    assert from_results(results([1, 2], arguments=["a", odd]), "json")[0] in (['"a"', None], None)
    assert of_one({1.5: object()}, "json") == ([None], {})


def test_a_line_that_could_not_be_a_task_is_known_by_its_digest_only() -> None:
    bad = msgpack.Ext(7, b"in.txt:3: not UTF-8")
    assert from_results(results([1], arguments=[bad]), "text") == ([None], {0: digest(msgpack.encode(bad))})


def test_without_a_form_nothing_is_kept() -> None:
    assert from_results(results([1], arguments=["a"]), "") == (None, {})
    assert of_one("a", "") == ([None], {})
    assert of_one("a", "text") == (["a"], {})


@pytest.mark.parametrize(
    ("source", "argument"),
    [
        ("range 0:9", 2),
        ("range -5:9", -3),
        ("lines of text", None),
        ("lines of JSON", None),
        ("", None),
        ("range", None),
        ("range x:", None),
    ],
)
def test_the_argument_of_a_range_follows_from_its_source(source: str, argument: int | None) -> None:
    assert of_range(source, 2) == argument


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        (None, None),
        (0, "0"),
        ("a b", "a b"),
        ("a\nb\x1b[31m\u202e", "a\\nb\\x1b[31m\\u202e"),
        (b"caf\xe9", "caf\\xe9"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 100 + "..."),
    ],
)
def test_what_a_line_of_the_log_shows(argument: Any, line: str | None) -> None:
    assert shown(argument) == line


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\0b", "a\r", "\ufeffa", "\x0b", b"a\nb"])
def test_a_text_that_would_be_read_as_another_is_no_line(text: str | bytes) -> None:
    assert not is_line(text)


@pytest.mark.parametrize("text", ["a", " a ", "a\rb", "\u2028", "\u00a0", b"\xff"])
def test_any_other_text_is_a_line(text: Any) -> None:
    assert is_line(text)
