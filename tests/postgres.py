"""A PostgreSQL server for the tests: made by initdb in a temporary folder, with fsync as users have it, no password."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_USER = "postgres"
"""Who runs the server where the tests run as root, which it refuses."""
_PORT = 5432
"""Only the name of its socket: it listens at no address."""


def binaries() -> Path | None:
    """The folder of the newest server's programs; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def missing() -> str | None:
    """Why there can be no server here; None when there can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    if binaries() is None:
        return "there is no PostgreSQL server here (apt-get install postgresql)"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return None


class Server:
    """A server that can be killed, stopped and started again."""

    def __init__(self, folder: Path, inside: Sequence[str] = (), listen: str = "") -> None:
        """`inside` stands before its commands, and `listen` is an address where anybody may connect besides."""
        self._inside = inside
        self._listen = listen
        found = binaries()
        assert found is not None
        self._bin = found
        self.folder = folder
        self.data = folder / "data"
        folder.chmod(0o755)
        self.own(folder)
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", _USER, "-E", "UTF8", "--no-locale", "--no-sync")
        if listen:
            with (self.data / "pg_hba.conf").open("a") as file:
                file.write("host all all all trust\n")

    def address(self, database: str = "postgres", by_network: bool = False) -> str:
        """The name of a ledger there."""
        if by_network:
            return f"postgresql://{_USER}@{self._listen}:{_PORT}/{database}"
        return f"postgresql:///{database}?host={self.folder}&port={_PORT}&user={_USER}"

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """A connection to it, each statement a transaction."""
        import psycopg

        with psycopg.connect(self.address(), autocommit=True) as db:
            yield db

    def own(self, folder: Path) -> None:
        """Give the folder to it."""
        if os.getuid() == 0:
            shutil.chown(folder, _USER)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} -p {_PORT} -c listen_addresses={self._listen} -c max_connections=40"
        self._run("pg_ctl", "-D", self.data, "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it; with `immediate` it is like a crash."""
        self._run("pg_ctl", "-D", self.data, "-m", how, "-w", "stop")

    @property
    def pid(self) -> int:
        """That of its first process."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        children = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True).stdout.split()
        for pid in (self.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *arguments: object) -> None:
        before = ["runuser", "-u", _USER, "--"] if os.getuid() == 0 else []
        command = [*self._inside, *before, str(self._bin / program), *map(str, arguments)]
        # pg_ctl's server inherits the outputs: a pipe would be read until that ends.
        with (self.folder / "commands").open("ab") as out:
            subprocess.run(command, cwd="/", check=True, stdout=out, stderr=out, timeout=60)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests that do not harm it."""
    with HarmedServer() as server:
        yield server


@pytest.fixture(scope="module")
def harmed() -> Iterator[Server]:
    """A server of the module's own, which each test leaves running."""
    with HarmedServer() as server:
        yield server


@pytest.fixture
def server(harmed: Server) -> Iterator[Server]:
    """The same, without a ledger."""
    yield harmed
    with harmed.asked() as db:
        db.execute("DROP SCHEMA IF EXISTS tradewind CASCADE")


class HarmedServer:
    """`with` it: a server for one test alone."""

    def __init__(self, inside: Sequence[str] = (), listen: str = "") -> None:
        self._inside = inside
        self._listen = listen

    def __enter__(self) -> Server:
        if reason := missing():
            pytest.skip(reason)
        # Short, because the path of a Unix socket is limited to 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="tw-pg-"))
        self._server = Server(self._folder, self._inside, self._listen)
        self._server.start()
        return self._server

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self._server.signal(signal.SIGCONT)
            self._server.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)
