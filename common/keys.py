"""Key files and the sink's key folder.

Certificates are in the ZeroMQ certificate format that `zmq.auth.load_certificate` reads. `zmq.auth` itself would write
secrets that everybody may read and overwrite without a word, so the files are made here: mode 0600, never over
another file, and whole or not at all.

    keys/sink.key_secret                   the sink's own pair
    keys/{worker,ventilator,observer}.key_secret   pairs for this machine
    keys/roster/ROLE/NAME.key              public keys of all who are enrolled
    keys/revoked/NAME.key                  public keys that were struck out
"""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import zmq

from common.errors import OperatorError
from common.roster import ROLES, User

log = logging.getLogger(__name__)

_LINE = re.compile(r"\s*([a-z-]+)\s*=\s*\"?([^\"\n]*)\"?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key file: a pair (or only its public half), whose it is, and where its sink is."""

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
    """Read a key file. Raises OperatorError when it is missing, unreadable, no key file, or a secret open to others."""
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OperatorError(f"cannot read the key file {path}: {reason}") from None
    fields = {}
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _LINE.match(line)
        if match:
            fields[match[1]] = match[2].strip()
    secret = fields.get("secret-key")
    if secret and mode & 0o077:
        raise OperatorError(f"others can read the secret in {path}: run `chmod 600 {path}`, or have it enrolled anew")
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
        raise OperatorError(f"{path} is a {certificate.role}'s key: a {role} needs one from `enrol {role} NAME`")
    return certificate


def is_missing(path: Path) -> bool:
    """Whether there is no such file; False when its folder may not be looked into."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def is_name(name: str) -> bool:
    """Whether this can name a key: letters, digits, dot, dash, underscore; at most 60."""
    return _NAME.fullmatch(name) is not None


class KeyFolder:
    """The sink's keys. Every change is visible to a running sink, which looks at `stamp`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> Certificate:
        """Make the folder and the sink's own pair if they are missing; returns the pair. Raises OperatorError."""
        try:
            folders = [self.path, self.path / "revoked", self.path / "roster"]
            for folder in (*folders, *(self.path / "roster" / role for role in ROLES)):
                # Each by itself: the mode of parents that mkdir makes on the way is the umask's.
                folder.mkdir(mode=0o700, parents=folder == self.path, exist_ok=True)
                if folder.stat().st_mode & 0o022:
                    raise OperatorError(f"others can write the key folder {folder}: run `chmod -R go-rwx {self.path}`")
            if not (self.path / "sink.key_secret").exists():
                public, secret = _pair()
                _write(self.path / "sink.key_secret", _text(public, secret, {"name": "sink", "role": "sink"}))
                _write(
                    self.path / "sink.key",
                    _text(public, None, {"name": "sink", "role": "sink"}),
                    replace=True,
                )
        except OSError as error:
            raise self._unwritable(error) from None
        return self.sink()

    def prepare_local(self, address: str) -> None:
        """Make this machine's key files, or let them say that the sink is at `address` now. Raises OperatorError."""
        try:
            for role in ROLES:
                self._prepare_local(role, address)
        except OSError as error:
            raise self._unwritable(error) from None

    def sink(self) -> Certificate:
        """The sink's own pair. Raises OperatorError."""
        return load(self.path / "sink.key_secret")

    def certificate(self, role: str) -> Certificate:
        """The pair of this machine's worker, ventilator or observer. Raises OperatorError."""
        return load(self.local(role))

    def local(self, role: str) -> Path:
        """The key file of this machine's worker, ventilator or observer."""
        return self.path / f"{role}.key_secret"

    def made(self) -> "KeyFolder":
        """This folder. Raises OperatorError when it is not there."""
        if is_missing(self.path):
            raise OperatorError(
                f"there is no key folder {self.path}: start the sink in this folder first (python sink.py), or name its"
                " key folder with --keys"
            )
        if not os.access(self.path / "roster", os.R_OK | os.X_OK):
            raise OperatorError(f"cannot read the key folder {self.path}: Permission denied")
        return self

    def local_made(self, role: str) -> Path:
        """The same, once a sink has made it. Raises OperatorError when none has."""
        path = self.local(role)
        if is_missing(path):
            raise OperatorError(
                f"there is no key file {path}: start the sink in this folder first (python sink.py), or name its key"
                " folder with --keys, or a key file with --key"
            )
        return path

    def enrol(self, role: str, name: str, address: str, out: Path) -> None:
        """Make a pair for another machine, enter it in the roster and write it to the file `out`."""
        if role not in ROLES:
            raise OperatorError(f"there is no role {role}: enrol {', '.join(ROLES[:-1])} or {ROLES[-1]}")
        if not is_name(name):
            raise OperatorError(f"{name!r} cannot name a key: use letters, digits, dot, dash and underscore")
        if name in {user.name for user in self.roster().values()}:
            raise OperatorError(f"{name} is enrolled already: take another name, or revoke it first")
        public, secret = _pair()
        metadata = {"name": name, "role": role, "sink": address, "sink-key": self.sink().public}
        try:
            _write(out, _text(public, secret, metadata))
            self._enter(role, name, public)
        except FileExistsError:
            raise OperatorError(f"{out} exists: move it away first") from None
        except OSError as error:
            raise OperatorError(f"cannot write {out}: {error.strerror}") from None

    def revoke(self, name: str) -> User:
        """Strike a name out of the roster. Raises OperatorError when it is not in it."""
        for user in self.roster().values():
            if user.name == name:
                (self.path / "roster" / user.role / f"{name}.key").replace(self.path / "revoked" / f"{name}.key")
                return user
        raise OperatorError(f"{name} is not enrolled: `python sink.py roster` lists who is")

    def roster(self) -> dict[str, User]:
        """All who are enrolled, by public key."""
        users = {}
        for role in ROLES:
            for path in sorted((self.path / "roster" / role).glob("*.key")):
                certificate = _loaded(path)
                if certificate is not None:
                    users[certificate.public] = User(role, path.stem, certificate.public)
        return users

    def revoked(self) -> dict[str, str]:
        """The names of revoked keys, by public key."""
        found = ((_loaded(path), path.stem) for path in (self.path / "revoked").glob("*.key"))
        return {certificate.public: name for certificate, name in found if certificate is not None}

    def stamp(self) -> tuple[int, ...]:
        """A value that changes whenever the roster does."""
        folders = [self.path / "roster" / role for role in ROLES]
        return tuple(folder.stat().st_mtime_ns for folder in folders)

    def _prepare_local(self, role: str, address: str) -> None:
        path = self.local(role)
        sink_key = self.sink().public
        if path.exists():
            have = load(path)
            if (have.sink, have.sink_key) != (address, sink_key) and have.secret:
                metadata = {"name": have.name, "role": role, "sink": address, "sink-key": sink_key}
                _write(path, _text(have.public, have.secret, metadata), replace=True)
            return
        public, secret = _pair()
        self._enter(role, role, public)
        _write(path, _text(public, secret, {"name": role, "role": role, "sink": address, "sink-key": sink_key}))

    def _unwritable(self, error: OSError) -> OperatorError:
        return OperatorError(f"cannot write the key folder {self.path}: {error.strerror}")

    def _enter(self, role: str, name: str, public: str) -> None:
        path = self.path / "roster" / role / f"{name}.key"
        _write(path, _text(public, None, {"name": name, "role": role}), replace=True)


def _loaded(path: Path) -> Certificate | None:
    """A file of the roster; None when it was revoked in this moment, or is broken: that must not end a sink."""
    try:
        return load(path)
    except OperatorError as error:
        if path.exists():
            log.warning("left out of the roster: %s", error)
        return None


def _pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _text(public: str, secret: str | None, metadata: dict[str, str]) -> str:
    lines = ["#   Tradewind key file (ZeroMQ CURVE certificate)"]
    if secret:
        lines.append("#   It holds a secret: do not show it, and copy it only to the machine that it is for.")
    lines += ["", "metadata", *(f'    {key} = "{value}"' for key, value in metadata.items())]
    lines += ["curve", f'    public-key = "{public}"']
    if secret:
        lines.append(f'    secret-key = "{secret}"')
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, replace: bool = False) -> None:
    """Write the file with mode 0600, so that nobody sees a part of it. Raises FileExistsError unless `replace`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if replace:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
