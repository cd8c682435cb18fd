"""Another machine for tests: sshd on a port of the loopback interface, with keys and configuration of its own."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import TOP, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PROGRAM = f"env PYTHONPATH={shlex.quote(str(TOP))} {shlex.quote(sys.executable)} -m common"
"""What to type there for `tradewind`."""
_PRIVATE = Path("/run/sshd")
"""Where an sshd of root imprisons what is not let in yet."""


class Sshd:
    """The server, and the configuration for ssh that leads to it under any name of its hosts."""

    def __init__(
        self, folder: Path, hosts: Sequence[str], inside: Sequence[str] = (), address: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        self.config = folder / "ssh_config"
        self._inside = inside
        self._address = address
        self.port = _free_port() if address == "127.0.0.1" else 2222
        for name in ("host_key", "user_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
        self.learn((folder / "host_key.pub").read_text())
        self.config.write_text(
            f"Host {' '.join(hosts)}\n"
            f"  HostName {address}\n  Port {self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {folder / 'user_key'}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
        )
        (folder / "sshd_config").write_text(
            f"ListenAddress {address}\nPort {self.port}\nHostKey {folder / 'host_key'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nPasswordAuthentication no\n"
            # What the user's own shell does at its start is not looked at.
            f"KbdInteractiveAuthentication no\nMaxStartups 100\nSetEnv HOME={folder}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ssh(self) -> str:
        """For --ssh."""
        return f"ssh -F {shlex.quote(str(self.config))}"

    def learn(self, public: str) -> None:
        """Let ssh know this host key."""
        kind, key, *_ = public.split()
        (self.folder / "known_hosts").write_text(f"[{self._address}]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        """Start it, also once more."""
        assert SSHD
        command = [*self._inside, SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        wait_until(lambda: "Server listening" in (self.folder / "sshd.log").read_text(), "sshd listens")

    def stop(self) -> None:
        """No further connection is taken. Those that are there go on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            (self.folder / "sshd.log").write_text("")


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextmanager
def sshd_in(folder: Path, *hosts: str, inside: Sequence[str] = (), address: str = "127.0.0.1") -> Iterator[Sshd]:
    """An sshd that runs. The test is skipped, in words, where there is none."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed (openssh-server)")
    is_ours = not os.geteuid() and not _PRIVATE.exists()
    if is_ours:
        _PRIVATE.mkdir(mode=0o755)
    folder.mkdir()
    made = Sshd(folder, hosts, inside, address)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        if is_ours:
            with suppress(OSError):
                _PRIVATE.rmdir()
