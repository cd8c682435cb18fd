"""Addresses of sinks: one, or several with commas."""

import pytest

from common.protocol.sink_addresses import is_here, parsed


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


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "127.1", "localhost", "[::1]", "[0:0::1]")),
        *((host, False) for host in ("127.example.com", "localhost.example.com", "10.0.0.1", "[fe80::1%lo]")),
    ],
)
def test_only_names_and_addresses_of_the_machine_itself_are_here(host: str, expected: bool) -> None:
    assert is_here(f"tcp://{host}:5559") is expected
