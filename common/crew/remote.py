"""What is typed: the command line of ssh, and the one that the shell of the other machine gets."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

NO_FOLDER = 72
"""The exit code of a shell that cannot enter the folder."""
_ALWAYS = (
    # Nobody is there to answer a question.
    *("-o", "BatchMode=yes", "-T"),
    # Tasks must reach neither the keys nor the screen of whoever starts them.
    *("-a", "-x"),
    *("-o", "ConnectTimeout=10"),
    # A connection that has gone dark ends after 45 s.
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
)
_OPTION = re.compile(r"-[46AaCfGgKkMNnqsTtVvXxYy]*([BbcDEeFIiJLlmOoPpQRSWw])(.*)", re.DOTALL)
"""A word of ssh with an option that has a value: the rest of the word, or the next one."""


@dataclass(frozen=True, slots=True)
class Way:
    """How hosts are reached, and what is there. `program` goes to the shell there as it is, for ~ and spaces in it."""

    ssh: tuple[str, ...] = ("ssh",)
    jump: str | None = None
    program: str = "tradewind"
    folder: str | None = None
    tunnel: tuple[tuple[int, str, int], ...] = ()
    """Ports there that lead to a host and port here."""

    def command(self, host: str, role: str, words: Sequence[str]) -> list[str]:
        """Lets the host run this command of `tradewind`, which gets a key file through standard input."""
        tunnel = ["-o", "ExitOnForwardFailure=yes"] if self.tunnel else []
        for port, to, to_port in self.tunnel:
            tunnel += ["-R", f"127.0.0.1:{port}:{f'[{to}]' if ':' in to else to}:{to_port}"]
        return [*self.ssh, *_ALWAYS, *self._jump, *tunnel, "--", host, self._line(role, words)]

    def by_hand(self, host: str) -> str:
        """What somebody types to see what ssh has to say."""
        return shlex.join([*self.ssh, *self._jump, host])

    @property
    def config(self) -> str:
        """The file in which this ssh looks for hosts."""
        file, words = "~/.ssh/config", iter(self.ssh)
        for word in words:
            if found := _OPTION.fullmatch(word):
                value = found[2] or next(words, "")
                file = value if found[1] == "F" else file
        return file

    @property
    def _jump(self) -> list[str]:
        return ["-J", self.jump] if self.jump else []

    def _line(self, role: str, words: Sequence[str]) -> str:
        # `exec`: nothing stands between sshd and the worker.
        line = f"exec {self.program} {role} {shlex.join([*words, '--key', '-'])}"
        return line if self.folder is None else f"cd {_quoted(self.folder)} || exit {NO_FOLDER}; {line}"


def _quoted(folder: str) -> str:
    """The folder for a shell, which still expands a ~ at its beginning."""
    home, slash, rest = folder.partition("/")
    if not home.startswith("~"):
        return shlex.quote(folder)
    return home + slash + (shlex.quote(rest) if rest else "")
