"""Reads key files, which are in the ZeroMQ certificate format that `zmq.auth.load_certificate` reads.

`zmq.auth` itself writes secrets that everyone can read, and overwrites files silently. So `key_folder.py` makes
the files: with mode 0600, whole or not at all, and a new key never over another file.

    keys/sink.key_secret                   the sink's own pair
    keys/{worker,ventilator,observer}.key_secret   pairs for this machine
    keys/roster/ROLE/NAME.key              the public keys of the enrolled
    keys/revoked/NAME.key                  the public keys that were revoked
"""

import os
import re
import select
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import OperatorError
from ..protocol.users import OBSERVER

_LINE = re.compile(r"\s*([a-z-]+)\s*=\s*\"?([^\"\n]*)\"?")
STDIN = Path("-")
"""The key file that is standard input."""
_STDIN_BYTES_MAX = 16_384
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key file: a pair or only its public half, its owner, and the address of its sink."""

    path: Path
    public: str
    secret: str | None = None
    name: str = ""
    role: str = ""
    sink: str = ""
    sink_key: str = ""

    def __repr__(self) -> str:
        return f"Certificate({str(self.path)!r})"


def as_text(certificate: Certificate) -> str:
    """The content of its key file."""
    lines = ["#   Tradewind key file (ZeroMQ CURVE certificate)"]
    if certificate.secret:
        lines.append("#   It holds a secret: do not show it, and copy it only to the machine that it is for.")
    metadata = {"name": certificate.name, "role": certificate.role}
    if certificate.sink_key:
        metadata |= {"sink": certificate.sink, "sink-key": certificate.sink_key}
    lines += ["", "metadata", *(f'    {key} = "{value}"' for key, value in metadata.items())]
    lines += ["curve", f'    public-key = "{certificate.public}"']
    if certificate.secret:
        lines.append(f'    secret-key = "{certificate.secret}"')
    return "\n".join(lines) + "\n"


def load(path: Path) -> Certificate:
    """Read a key file. Raises OperatorError when it is missing, not a key file, or a secret that others can read."""
    if path == STDIN:
        return _standard_input()
    try:
        text = path.read_text(encoding="utf-8")
        status = path.stat()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OperatorError(f"cannot read the key file {path}: {reason}") from error
    certificate = _parsed(path, text)
    # What root owns may be readable for a group of ours: so systemd and Kubernetes hand over secrets.
    is_roots = status.st_uid == 0 and os.geteuid() != 0
    if certificate is not None and certificate.secret and status.st_mode & (0o037 if is_roots else 0o077):
        raise OperatorError(f"others can read the secret in {path}: run `chmod 600 {shlex.quote(str(path))}`")
    if certificate is None:
        raise OperatorError(f"{path} is not a key file: have the sink's operator enrol this machine again")
    return certificate


@cache
def _standard_input() -> Certificate:
    """The key file that comes first in standard input, up to a blank line below its secret. What follows is left."""
    content = line = b""
    while len(content) < _STDIN_BYTES_MAX:
        # A terminal that another process has made non-blocking is waited for.
        select.select([0], [], [])
        # Byte by byte: a buffer would take what follows.
        byte = os.read(0, 1)
        content, line = content + byte, line + byte
        if not byte or (byte == b"\n" and not line.strip() and b"secret-key" in content):
            break
        if byte == b"\n":
            line = b""
    certificate = _parsed(Path("standard input"), content.decode(errors="replace"))
    if certificate is None:
        raise OperatorError("no key file comes from standard input: send one that `enrol` wrote, then a blank line")
    return certificate


def _parsed(path: Path, text: str) -> Certificate | None:
    """What the text of a key file says; None when it is none."""
    fields = {}
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _LINE.match(line)
        if match:
            fields[match[1]] = match[2].strip()
    secret = fields.get("secret-key")
    if not all(len(key) == 40 and key.isascii() for key in (fields.get("public-key", ""), secret or "x" * 40)):
        return None
    return Certificate(
        path,
        fields["public-key"],
        secret,
        fields.get("name", ""),
        fields.get("role", ""),
        fields.get("sink", ""),
        fields.get("sink-key", ""),
    )


def load_pair(path: Path, role: str) -> Certificate:
    """Read a key file that this command can use to reach a sink. Raises OperatorError."""
    if is_missing(path):
        raise OperatorError(
            f"cannot read the key file {path}: No such file; name the one that `enrol {role} NAME` wrote"
        )
    certificate = load(path)
    if not certificate.secret or not certificate.sink_key:
        raise OperatorError(
            f"{certificate.path} has no secret key and sink address: use the file that `enrol {role} NAME` wrote"
        )
    if certificate.role != role:
        have, need = (f"an {each}" if each == OBSERVER else f"a {each}" for each in (certificate.role, role))
        raise OperatorError(f"{certificate.path} is {have}'s key: {need} needs one from `enrol {role} NAME`")
    return certificate


def load_one_of(path: Path, roles: tuple[str, ...]) -> Certificate:
    """The same for a command of several roles; one of the first role is missed."""
    role = roles[0] if is_missing(path) or (found := load(path).role) not in roles else found
    return load_pair(path, role)


def is_missing(path: Path) -> bool:
    """True when there is no such file; False when its folder cannot be read."""
    if path == STDIN:
        return False
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def is_name(name: str) -> bool:
    """Whether this can name a key, a worker or a command: letters, digits, dot, dash, underscore; at most 60."""
    return _NAME.fullmatch(name) is not None
