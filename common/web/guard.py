"""Who may see the page: names of the host, the token, and the headers that all answers have. No socket, no clock."""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OPEN_PATHS = ("/healthz", "/readyz")
"""They say nothing, and whoever asks has neither a token nor the name of the host."""
SHOWN_TO_ALL = "/static/"
COOKIE_S = 30 * 86_400
HEADERS = {
    # uPlot sets styles at its elements; scripts are files of ours only.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says about whoever sends it."""

    path: str
    host: str
    token: str | None = None
    """From the query."""
    cookie: str | None = None
    bearer: str | None = None


class Guard:
    """Lets a request in or not."""

    def __init__(self, token: str, hosts: Iterable[str]) -> None:
        self._token = token.encode()
        # The cookie goes to every port of this host: whoever sees it there does not learn the token.
        self.cookie = hmac.digest(self._token, b"cookie", "sha256").hex()
        self._hosts = {host.lower().strip("[]") for host in (*_LOOPBACK, *hosts)}

    def wrong_host(self, asked: Asked) -> str | None:
        """Why this name of the host is refused; None when it is known.

        A page of others whose name leads here too could read ours (https://en.wikipedia.org/wiki/DNS_rebinding).
        """
        if asked.path in OPEN_PATHS:
            return None
        found = _HOST.fullmatch(asked.host)
        if found is None:
            return "the request has no valid Host"
        name = found[1].lower().strip("[]").rstrip(".")
        return None if name in self._hosts else f"this page is not known as {name}: start it with --allow-host {name}"

    def may_see(self, asked: Asked) -> bool:
        """Whether whoever asks has shown the token."""
        if asked.path in OPEN_PATHS or asked.path.startswith(SHOWN_TO_ALL):
            return True
        if asked.bearer is not None:
            return self.is_token(asked.bearer)
        return asked.cookie is not None and hmac.compare_digest(asked.cookie.encode(), self.cookie.encode())

    def is_token(self, given: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(given.encode(), self._token)


def bearer(headers: Mapping[str, str]) -> str | None:
    """The token of an `Authorization` header."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
