"""The addresses of a site's sinks, as key files and options name them: HOST[:PORT], separated by commas."""

import re
from urllib.parse import urlsplit

from .settings import CONTROL_PORT

Address = tuple[str, int]
"""Host and control port."""
_LOOPBACK = re.compile(r"tcp://(127\.|localhost:|\[::1\])")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:%_-]*")


def parsed(text: str, default: Address = ("127.0.0.1", CONTROL_PORT)) -> list[Address]:
    """The addresses, each once; where one leaves out host or port, those of `default` count. Raises ValueError.

    >>> parsed("tcp://a:5559,b")
    [('a', 5559), ('b', 5559)]
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and "" in parts:
        raise ValueError(text)
    return list(dict.fromkeys(_parsed(part, default) for part in parts))


def is_here(address: str) -> bool:
    """Whether this address is one of the machine itself."""
    return _LOOPBACK.match(address) is not None


def _parsed(text: str, default: Address) -> Address:
    rest = text.removeprefix("tcp://")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    parts = urlsplit(f"tcp://{rest}")
    host, port = parts.hostname or default[0], parts.port or default[1]
    if _HOST.fullmatch(host) is None:
        raise ValueError(text)
    return host, port
