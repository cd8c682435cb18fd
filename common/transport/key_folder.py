"""The sink's key folder: its own pair, the roster, what was revoked."""

import errno
import fcntl
import logging
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import zmq

from ..default_files import DEFAULT_KEYS, key_file
from ..errors import OperatorError
from ..protocol.users import ROLES, User
from .key_files import Certificate, as_text, is_missing, is_name, load

log = logging.getLogger(__name__)

_FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""What keeps a file from being read without being its own fault."""


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
                    change = f"chmod -R go-rwx {shlex.quote(str(self.path))}"
                    raise OperatorError(f"others can write the key folder {folder}: run `{change}`")
            with self._held():
                self._prepare_sink()
        except OSError as error:
            raise self._unwritable(error) from None
        return self.sink()

    def prepare_local(self, address: str) -> None:
        """Make this machine's key files, or let them say that the sink is at `address` now. Raises OperatorError."""
        try:
            with self._held():
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
        return key_file(role, self.path)

    @property
    def _start_first(self) -> str:
        keys = "" if self.path == DEFAULT_KEYS else f" --keys {shlex.quote(str(self.path))}"
        return f"start the sink in this folder first (python sink.py{keys})"

    def made(self) -> "KeyFolder":
        """This folder. Raises OperatorError when it is not there."""
        if is_missing(self.path):
            raise OperatorError(
                f"there is no key folder {self.path}: {self._start_first}, or name its key folder with --keys"
            )
        if not os.access(self.path / "roster", os.R_OK | os.X_OK):
            raise OperatorError(f"cannot read the key folder {self.path}: Permission denied")
        return self

    def local_made(self, role: str) -> Path:
        """The key file of this machine's role. Raises OperatorError when no sink has made it."""
        path = self.local(role)
        if is_missing(path):
            raise OperatorError(
                f"there is no key file {path}: {self._start_first}, or name its key folder with --keys, or a key file"
                " with --key"
            )
        return path

    def enrol(self, role: str, name: str, address: str, out: Path) -> None:
        """Make a pair for another machine, enter it in the roster and write it to the file `out`."""
        if role not in ROLES:
            raise OperatorError(f"there is no role {role}: enrol {', '.join(ROLES[:-1])} or {ROLES[-1]}")
        if not is_name(name):
            raise OperatorError(f"{name!r} is not a name for a key: use letters, digits, dot, dash and underscore")
        made = self._new(role, name, address)
        try:
            with self._held():
                if name in {user.name for user in self.enrolled().values()}:
                    raise OperatorError(f"{name} is enrolled already: use another name, or revoke it first")
                _write(out, as_text(made))
                self._enter(role, name, made.public)
        except FileExistsError:
            raise OperatorError(f"{out} exists: move it away first") from None
        except OSError as error:
            raise OperatorError(f"cannot write {out}: {error.strerror}") from None

    def lend(self, role: str, name: str, address: str) -> Certificate:
        """A pair that no file has, under a name that is new: it is in the roster until it is revoked."""
        made = self._new(role, name, address)
        try:
            with self._held():
                self._enter(role, name, made.public)
        except OSError as error:
            raise self._unwritable(error) from None
        return made

    def _new(self, role: str, name: str, address: str) -> Certificate:
        public, secret = _pair()
        return Certificate(Path(f"{name}.key_secret"), public, secret, name, role, address, self.sink().public)

    def revoke(self, name: str) -> User:
        """Strike a name out of the roster. Raises OperatorError when it is not in it."""
        for user in self.enrolled().values():
            if user.name == name:
                (self.path / "roster" / user.role / f"{name}.key").replace(self.path / "revoked" / f"{name}.key")
                return user
        raise OperatorError(f"{name} is not enrolled: `python sink.py roster` lists the enrolled keys")

    def roster(self) -> dict[str, User]:
        """All who are enrolled, by public key. Raises OSError when the machine cannot read it now."""
        users = {}
        for role in ROLES:
            for path in _key_files(self.path / "roster" / role):
                certificate = _loaded(path)
                if certificate is not None:
                    users[certificate.public] = User(role, path.stem, certificate.public)
        return users

    def enrolled(self) -> dict[str, User]:
        """The same for a command. Raises OperatorError."""
        try:
            return self.roster()
        except OSError as error:
            raise OperatorError(f"cannot read the key folder {self.path}: {error.strerror}") from None

    def revoked(self) -> dict[str, str]:
        """The names of revoked keys, by public key. Raises OSError."""
        found = ((_loaded(path), path.stem) for path in _key_files(self.path / "revoked"))
        return {certificate.public: name for certificate, name in found if certificate is not None}

    def stamp(self) -> tuple[int, ...]:
        """A value that changes whenever the roster does."""
        folders = [self.path / "roster" / role for role in ROLES]
        return tuple(folder.stat().st_mtime_ns for folder in folders)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep others from changing the folder: of two sinks that start at once, one makes the keys."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Some network file systems lock no folders: then the two must not start at once.
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _prepare_sink(self) -> None:
        path = self.path / "sink.key_secret"
        if not path.exists():
            public, secret = _pair()
            _write(path, as_text(Certificate(path, public, secret, "sink", "sink")))
        if not (self.path / "sink.key").exists():
            shown = Certificate(path, load(path).public, None, "sink", "sink")
            _write(self.path / "sink.key", as_text(shown), replace=True)

    def _prepare_local(self, role: str, address: str) -> None:
        path = self.local(role)
        sink_key = self.sink().public
        if path.exists():
            have = load(path)
            # It may name a standby too.
            is_right = address in have.sink.split(",") and have.sink_key == sink_key
            if not is_right and have.secret:
                _write(path, as_text(replace(have, role=role, sink=address, sink_key=sink_key)), replace=True)
            return
        made = self._new(role, role, address)
        self._enter(role, role, made.public)
        _write(path, as_text(made))

    def _unwritable(self, error: OSError) -> OperatorError:
        return OperatorError(f"cannot write the key folder {self.path}: {error.strerror}")

    def _enter(self, role: str, name: str, public: str) -> None:
        path = self.path / "roster" / role / f"{name}.key"
        _write(path, as_text(Certificate(path, public, None, name, role)), replace=True)


def _key_files(folder: Path) -> list[Path]:
    # Not `glob`: it takes a folder that cannot be read for an empty one, and everyone in it for revoked.
    return sorted(each for each in folder.iterdir() if each.suffix == ".key")


def _loaded(path: Path) -> Certificate | None:
    """A file of the roster; None when it was revoked in this moment, or is broken: that must not end a sink.

    Raises OSError when the machine is out of descriptors or memory: no key is lost by that.
    """
    try:
        return load(path)
    except OperatorError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FOR_NOW:
            raise error.__cause__ from None
        if path.exists():
            log.warning("left out of the roster: %s", error)
        return None


def _pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _write(path: Path, text: str, replace: bool = False) -> None:
    """Write the file with mode 0600, so that nobody sees a part of it. Raises FileExistsError unless `replace`."""
    # Not the process's number: a container gives the same one again, and a killed process may have left its draft.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
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
