"""Reads key files, which are in the ZeroMQ certificate format that `zmq.auth.load_certificate` reads.

`zmq.auth` itself writes secrets that everyone can read, and overwrites files silently. So `key_folder.py` makes
the files: with mode 0600, whole or not at all, and a new key never over another file.

    keys/sink.key_secret                   the sink's own pair
    keys/{worker,ventilator,observer}.key_secret   pairs for this machine
    keys/roster/ROLE/NAME.key              the public keys of the enrolled
    keys/revoked/NAME.key                  the public keys that were revoked
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import OperatorError
from ..protocol.users import OBSERVER

_LINE = re.compile(r"\s*([a-z-]+)\s*=\s*\"?([^\"\n]*)\"?")
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


def load(path: Path) -> Certificate:
    """Read a key file. Raises OperatorError when it is missing, not a key file, or a secret that others can read."""
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OperatorError(f"cannot read the key file {path}: {reason}") from error
    fields = {}
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _LINE.match(line)
        if match:
            fields[match[1]] = match[2].strip()
    secret = fields.get("secret-key")
    if secret and mode & 0o077:
        raise OperatorError(f"others can read the secret in {path}: run `chmod 600 {shlex.quote(str(path))}`")
    if not all(len(key) == 40 and key.isascii() for key in (fields.get("public-key", ""), secret or "x" * 40)):
        raise OperatorError(f"{path} is not a key file: have the sink's operator enrol this machine again")
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
        raise OperatorError(f"{path} has no secret key and sink address: use the file that `enrol {role} NAME` wrote")
    if certificate.role != role:
        have, need = (f"an {each}" if each == OBSERVER else f"a {each}" for each in (certificate.role, role))
        raise OperatorError(f"{path} is {have}'s key: {need} needs one from `enrol {role} NAME`")
    return certificate


def load_one_of(path: Path, roles: tuple[str, ...]) -> Certificate:
    """The same for a command of several roles; one of the first role is missed."""
    role = roles[0] if is_missing(path) or (found := load(path).role) not in roles else found
    return load_pair(path, role)


def is_missing(path: Path) -> bool:
    """True when there is no such file; False when its folder cannot be read."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def is_name(name: str) -> bool:
    """Whether this can name a key, a worker or a command: letters, digits, dot, dash, underscore; at most 60."""
    return _NAME.fullmatch(name) is not None
