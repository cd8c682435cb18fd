"""The addresses of a site's sinks, as key files and options name them: HOST[:PORT], separated by commas."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from .settings import CONTROL_PORT

Address = tuple[str, int]
"""Host and control port."""
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]+){1,3}")
"""With the short forms that systems take, like 127.1."""
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
    """Whether this address, as sockets take it, is one of the machine itself."""
    return is_loopback(urlsplit(address).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether this name or address of a host means, on each machine, the machine itself."""
    if _LOOPBACK.fullmatch(host):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _parsed(text: str, default: Address) -> Address:
    rest = text.removeprefix("tcp://")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    parts = urlsplit(f"tcp://{rest}")
    host, port = parts.hostname or default[0], parts.port or default[1]
    if _HOST.fullmatch(host) is None:
        raise ValueError(text)
    return host, port
