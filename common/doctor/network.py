"""Finds out how this machine reaches its sink: the key file, the name, the ports, and what the sink says."""

import contextlib
import errno
import os
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ..errors import OperatorError, SinkGone
from ..protocol.messages import Query, Report, Welcome
from ..protocol.sink_addresses import is_loopback
from ..protocol.users import ROLES
from ..transport import clock, sockets
from ..transport.key_files import STDIN, Certificate, load, load_pair
from ..transport.sink_link import sink_addresses
from ..transport.sink_talk import SinkTalk
from .facts import Joining, KeyFile, Port, PortState, ResolvedName

_CONNECT_S = 2.0
_GREETING_S = 0.5
_SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"
"""What a ZeroMQ peer says first (ZeroMQ RFC 23)."""
_JOIN_S = 4.5
"""Less than after which a link complains by itself."""


def key_file(path: Path, role: str, override: str | None) -> KeyFile:
    """The key file, as a command of this role would use it, and the first sink that it names."""
    try:
        certificate = load_pair(path, role)
        (host, port), *others = sink_addresses(certificate, override)
    except OperatorError as error:
        return KeyFile(str(path), str(error))
    folder = path.parent
    is_sinks_own = (folder / "sink.key_secret").exists()
    address = sockets.endpoint(host, port)
    shown = "the key file" if path == STDIN else str(path)
    names = shown, "", role, certificate.name
    found = KeyFile(*names, host, port, address, tuple(others), not override, is_sinks_own)
    return found if not is_sinks_own else _with_standing(found, certificate, folder)


def _with_standing(found: KeyFile, certificate: Certificate, folder: Path) -> KeyFile:
    if _is_among(certificate.public, [folder / "roster" / role for role in ROLES]):
        return replace(found, standing="enrolled")
    return replace(found, standing="revoked" if _is_among(certificate.public, [folder / "revoked"]) else "unknown")


def _is_among(key: str, folders: list[Path]) -> bool:
    for file in (file for folder in folders for file in folder.glob("*.key")):
        with contextlib.suppress(OperatorError):
            if load(file).public == key:
                return True
    return False


def at(key: KeyFile, host: str, number: int) -> tuple[KeyFile, ResolvedName, Port | None]:
    """The same with this sink of those that it names, and what is met there."""
    key = replace(key, host=host, port=number, address=sockets.endpoint(host, number))
    name = resolved(host)
    return key, name, port(host, number) if name.addresses else None


def resolved(host: str) -> ResolvedName:
    """The addresses of the host."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return ResolvedName(host, (), False)
    addresses = tuple(sorted(found))
    return ResolvedName(host, addresses, all(map(is_loopback, addresses)))


def port(host: str, number: int) -> Port:
    """What it meets that connects there."""
    try:
        with socket.create_connection((host, number), _CONNECT_S) as connection:
            return Port(host, number, "open", is_foreign=_is_foreign(connection))
    except OSError as error:
        return Port(host, number, _state(error), os.strerror(error.errno) if error.errno else "")


def _is_foreign(connection: socket.socket) -> bool:
    """Whether it says anything but what a ZeroMQ peer says first, which a sink does at once unless it is stopped."""
    connection.settimeout(_GREETING_S)
    try:
        connection.sendall(_SIGNATURE)
        heard = connection.recv(1)
    except OSError:
        return False
    return heard not in (b"", _SIGNATURE[:1])


def _state(error: OSError) -> PortState:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return "filtered"
    return "unreachable"


def joining(path: Path, role: str, override: str | None) -> tuple[Joining, Welcome | None]:
    """How the sink answers a greeting and a question; and its welcome."""
    try:
        with closing(SinkTalk(path, (role,), override, _JOIN_S)) as talk:
            report = talk.ask(Query(), Report, by=clock.now() + 2 * _JOIN_S)
            welcome = talk.welcome
            assert welcome is not None
    except SinkGone as error:
        return Joining(str(error)), None
    except OperatorError as error:
        return Joining(str(error), is_final=True), None
    ahead_s = welcome.time - time.time() if welcome.time else None
    return Joining("", False, ahead_s, report.is_stuck, len(report.workers), len(report.jobs)), welcome


def is_free(number: int) -> bool:
    """Whether a port of this machine can be listened at."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", number))
        except OSError:
            return False
    return True
