"""Addresses of sinks: one, or several with commas."""

import pytest

from common.protocol.sink_addresses import parsed


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", [("mine", 5)]),
        ("a", [("a", 5)]),
        ("tcp://a:1", [("a", 1)]),
        (":7", [("mine", 7)]),
        ("tcp://a:1,tcp://b:2", [("a", 1), ("b", 2)]),
        ("a, b:2", [("a", 5), ("b", 2)]),
        ("a:1,b:2,a:1", [("a", 1), ("b", 2)]),
        ("::1,[fe80::7%eth0]:9", [("::1", 5), ("fe80::7%eth0", 9)]),
    ],
)
def test_addresses(text: str, addresses: list[tuple[str, int]]) -> None:
    assert parsed(text, ("mine", 5)) == addresses


@pytest.mark.parametrize("text", ["a b", "a,", ",a", "a,,b", "a:x", "a:99999", "tcp://a b:1,c", "[::1", ","])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parsed(text)
