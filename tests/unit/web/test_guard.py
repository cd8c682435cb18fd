"""Who may see the page."""

import pytest

from common.protocol.sink_addresses import is_loopback
from common.web.guard import HEADERS, OPEN_PATHS, Asked, Guard, bearer

TOKEN = "a token that nobody guesses"
GUARD = Guard(TOKEN, ["10.0.0.7", "Farm.example.org"])


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("*", False), ("::", False), ("10.0.0.7", False), ("farm.example.org", False), ("", False),
        ("localhost.example.org", False),
    ],
)  # fmt: skip
def test_only_loopback_is_loopback(listen: str, expected: bool) -> None:
    assert is_loopback(listen) is expected


HOSTS = {
    "127.0.0.1:5550": True,
    "localhost:5550": True,
    "localhost": True,
    "LOCALHOST:5550": True,
    "localhost.:5550": True,
    "[::1]:5550": True,
    "[::1]": True,
    "10.0.0.7:5550": True,
    "farm.example.org": True,
    "farm.example.org:443": True,
    "evil.example.org": False,
    "farm.example.org.evil.org": False,
    "evil.org/farm.example.org": False,
    "localhost@evil.org": False,
    "evil.org:5550@localhost": False,
    "localhost:5550:5550": False,
    "localhost evil.org": False,
    "localhost\r\nx: y": False,
    "127.0.0.1.nip.io": False,
    "2130706433": False,
    "0": False,
    "[::1%eth0]": False,
    "[::ffff:7f00:1]": False,
    "": False,
    "*": False,
    "<script>alert(1)</script>": False,
}
"""The hosts that were tried, and whether the page answers to them. The browser test sends some of them again."""


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_must_be_known(host: str) -> None:
    refused = GUARD.wrong_host(Asked("/", host))
    assert (refused is None) is HOSTS[host]
    assert refused is None or "<" not in refused


def test_a_refused_host_is_told_what_to_do() -> None:
    refused = GUARD.wrong_host(Asked("/", "lab.example.org:5550"))
    assert refused == "this page is not known as lab.example.org: start it with --allow-host lab.example.org"


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_probes_need_no_name_and_no_token(path: str) -> None:
    assert GUARD.wrong_host(Asked(path, "10.1.2.3:5550")) is None
    assert GUARD.may_see(Asked(path, "10.1.2.3:5550"))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, False),
        ({"cookie": GUARD.cookie}, True),
        ({"cookie": TOKEN}, False),
        ({"cookie": ""}, False),
        ({"cookie": "ä"}, False),
        ({"bearer": TOKEN}, True),
        ({"bearer": TOKEN[:-1]}, False),
        ({"bearer": ""}, False),
        ({"bearer": "ä" * 100}, False),
        ({"bearer": "wrong", "cookie": GUARD.cookie}, False),
    ],
)
def test_the_token_opens_and_nothing_else(shown: dict[str, str], expected: bool) -> None:
    for path in ("/", "/jobs/x", "/api/state", "/metrics", "/static", "/healthz/..", "/staticx/"):
        assert GUARD.may_see(Asked(path, "localhost", **shown)) is expected, path


def test_a_cookie_does_not_tell_the_token_and_is_not_that_of_another_token() -> None:
    assert TOKEN not in GUARD.cookie
    assert Guard(TOKEN + "x", []).cookie != GUARD.cookie


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("abc", None), ("Bearer", "")],
)
def test_the_token_of_a_header(header: str, token: str | None) -> None:
    assert bearer({"authorization": header}) == token
    assert bearer({}) is None


def test_the_browser_is_forbidden_what_the_page_does_not_need() -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert HEADERS["cache-control"] == "no-store"
