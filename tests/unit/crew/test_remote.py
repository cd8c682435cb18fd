"""What is typed: nothing secret, nothing that weakens ssh, and every word as the operator has typed it."""

import subprocess
from pathlib import Path

import pytest

from common.crew.remote import NO_FOLDER, Way

WORDS = ["work", "--command", "x=echo '{}' $HOME \"%s\"", "--slots", "4"]


def test_ssh_asks_nothing_and_trusts_no_host_key() -> None:
    command = Way(("ssh", "-F", "config"), jump="gate").command("ann@lab1", "worker", WORDS)
    assert command[:3] == ["ssh", "-F", "config"]
    assert command[-3:-1] == ["--", "ann@lab1"]
    assert command[command.index("-J") :][:2] == ["-J", "gate"]
    text = " ".join(command)
    assert "BatchMode=yes" in text
    assert {"-a", "-x", "-T"} <= set(command), "no agent, no screen, no terminal"
    assert not any(word in text for word in ("StrictHostKeyChecking", "UserKnownHostsFile", "accept-new", "-R "))


def test_a_tunnel_that_cannot_be_made_ends_ssh() -> None:
    command = Way(tunnel=((5559, "::1", 5559), (5558, "farm", 25558))).command("lab1", "worker", [])
    assert "ExitOnForwardFailure=yes" in command
    forwards = [command[at + 1] for at, word in enumerate(command) if word == "-R"]
    assert forwards == ["127.0.0.1:5559:[::1]:5559", "127.0.0.1:5558:farm:25558"]


@pytest.mark.parametrize(
    ("ssh", "file"),
    [
        (("ssh",), "~/.ssh/config"),
        (("ssh", "-F", "one"), "one"),
        (("ssh", "-F/tmp/cfg"), "/tmp/cfg"),
        (("ssh", "-4F/tmp/cfg"), "/tmp/cfg"),
        (("ssh", "-F", "-F/tmp/cfg"), "-F/tmp/cfg"),
        (("ssh", "-F", "one", "-Ftwo"), "two"),
        (("ssh", "-Fone", "-v", "-F", "two"), "two"),
        (("sshpass", "-e", "ssh", "-F/tmp/cfg"), "/tmp/cfg"),
        (("ssh", "-l", "-Fred"), "~/.ssh/config"),
        (("ssh", "-lFred", "-oForwardAgent=no"), "~/.ssh/config"),
    ],
)
def test_the_file_of_hosts_is_the_one_that_ssh_was_told(ssh: tuple[str, ...], file: str) -> None:
    assert Way(ssh).config == file


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("folder", [None, "far m", "~", "~/far m/$x"])
def test_the_shell_there_hands_on_each_word(tmp_path: Path, shell: str, folder: str | None) -> None:
    place = tmp_path / (folder or ".").replace("~", ".")
    place.mkdir(parents=True, exist_ok=True)
    program = tmp_path / "show"
    program.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    program.chmod(0o700)
    line = Way(program="~/show", folder=folder).command("lab1", "worker", WORDS)[-1]
    done = subprocess.run(
        [shell, "-c", line], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert done.stdout.decode().splitlines() == [str(place.resolve()), "worker", *WORDS, "--key", "-"], done.stderr


def test_a_folder_that_is_not_there_has_its_exit_code(tmp_path: Path) -> None:
    line = Way(program="echo", folder="no/such").command("lab1", "worker", [])[-1]
    assert subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True).returncode == NO_FOLDER
