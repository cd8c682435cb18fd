"""Why a host has failed: what ssh and shells say, and the words for it."""

import pytest

from common.crew.remote import Way
from common.crew.why import SSH_FAILED, why

WAY = Way(program="tw")
CHANGED = """@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Host key for lab1 has changed and you have requested strict checking.
Host key verification failed."""


@pytest.mark.parametrize(
    ("code", "said", "what", "do"),
    [
        (SSH_FAILED, "Host key verification failed.", "the host key of lab1 is not known here", "run `ssh lab1` once"),
        (SSH_FAILED, CHANGED, "lab1 has another host key than before", "ssh-keygen -R lab1"),
        (SSH_FAILED, "ann@lab1: Permission denied (publickey).", "refuses to let you in (publickey)", "ssh-copy-id"),
        (
            SSH_FAILED,
            "ssh: Could not resolve hostname lab1: Name or service not known",
            "the name of lab1 has no address (lab1: Name or service not known)",
            "check the name",
        ),
        (
            SSH_FAILED,
            "ssh: connect to host 10.0.0.9 port 22: Connection refused",
            "nobody listens for ssh at lab1",
            "start sshd",
        ),
        (
            SSH_FAILED,
            "ssh: connect to host 10.0.0.9 port 22: Connection timed out",
            "lab1 is not reached (Connection timed out)",
            "firewall",
        ),
        (
            SSH_FAILED,
            "Error: remote port forwarding failed for listen port 5559",
            "no room for the tunnel (remote port forwarding failed for listen port 5559)",
            "leave --tunnel out",
        ),
        (
            SSH_FAILED,
            "kex_exchange_identification: Connection closed by remote host",
            "lab1 hangs up before it asks who you are",
            "MaxStartups",
        ),
        (SSH_FAILED, "cfg: line 3: Bad configuration option: hst", "ssh here does not start", "~/.ssh/config"),
        (SSH_FAILED, "something new", "ssh to lab1 fails (something new)", "see what `ssh lab1` says"),
        (SSH_FAILED, "", "ssh to lab1 fails", "see what `ssh lab1` says"),
        (127, "bash: line 1: exec: tw: not found", "lab1 does not find tw (bash: line 1: exec: tw: not found)", "PATH"),
        (126, "bash: tw: Permission denied", "lab1 cannot run tw", "Python"),
        (72, "sh: 1: cd: can't cd to /farm", "lab1 has no folder /farm", "--cwd"),
        (1, "/usr/bin/python3: No module named tradewind", "the Python of lab1 has no Tradewind", "pip"),
        (137, "", "was ended by signal 9 (SIGKILL)", "see why"),
        (1, "MemoryError", "ended with exit code 1 (MemoryError)", "its last lines"),
    ],
)
def test_the_cause_and_what_to_do(code: int, said: str, what: str, do: str) -> None:
    cause = why("lab1", Way(program="tw", folder="/farm"), code, said.splitlines(), was_up=False)
    assert what in cause.what
    assert do in cause.do


def test_a_connection_that_was_there_is_lost() -> None:
    lines = ["2026-11-26T06:40:34Z INFO worker: joined the sink", "Timeout, server lab1 not responding."]
    cause = why("lab1", WAY, SSH_FAILED, lines, was_up=True)
    assert cause.what == "the connection to lab1 is lost (Timeout, server lab1 not responding.)"
    assert why("lab1", WAY, SSH_FAILED, lines[:1], True).what == "the connection to lab1 is lost"
    killed = why("lab1", WAY, -9, lines[:1], True).what
    assert killed == "the connection to lab1 is lost (ssh was ended by signal 9 (SIGKILL))"


def test_what_tasks_print_is_not_taken_for_words_of_ssh() -> None:
    lines = ["2026-11-26T06:40:34Z INFO worker: job j task 1: Connection refused"]
    assert why("lab1", WAY, SSH_FAILED, lines, was_up=True).what == "the connection to lab1 is lost"


def test_a_host_that_a_shell_would_take_apart_is_quoted() -> None:
    assert "`ssh 'a b'`" in why("a b", WAY, SSH_FAILED, ["Host key verification failed."], False).do


NO_WAY = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535"


@pytest.mark.parametrize(
    ("jump", "said", "what", "do"),
    [
        (
            "gate",
            "ssh: Could not resolve hostname gate: Name or service not known",
            "the name of gate (on the way to lab1) has no address (gate: Name or service not known)",
            "check the name, or give it an entry in ~/.ssh/config",
        ),
        (
            "first,ann@gate:22",
            "ann@gate: Permission denied (publickey).",
            "ann@gate:22 (on the way to lab1) refuses to let you in (publickey)",
            "make `ssh -J first ssh://ann@gate:22` work without a password: with ssh-copy-id, or a key in ssh-agent",
        ),
        (
            "gate",
            "Host key verification failed.",
            "the host key of gate (on the way to lab1) is not known here",
            "run `ssh gate` once, and compare the key that it shows",
        ),
        (
            "gate",
            "channel 0: open failed: connect failed: Name or service not known\nstdio forwarding failed",
            "the name of lab1 has no address (Name or service not known)",
            "check the name, or give it an entry in ~/.ssh/config",
        ),
        (
            "gate",
            "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed",
            "nobody listens for ssh at lab1 (Connection refused)",
            "start sshd there, or name its port in ~/.ssh/config",
        ),
    ],
)
def test_a_host_on_the_way_is_told_from_the_one_behind_it(jump: str, said: str, what: str, do: str) -> None:
    cause = why("lab1", Way(jump=jump), SSH_FAILED, [*said.splitlines(), *NO_WAY.splitlines()], was_up=False)
    assert (cause.what, cause.do) == (what, do)


@pytest.mark.parametrize(
    ("jump", "said", "lost", "what", "do"),
    [
        # Each ssh behind the one that failed says that it has lost its connection.
        ("gw,gw-inner", "ann@gw-inner: Permission denied (publickey).", 1, "gw-inner (on", "`ssh -J gw gw-inner`"),
        ("gw,gw-inner", "ann@gw: Permission denied (publickey).", 2, "gw (on", "`ssh gw`"),
        ("gw1,gw2,gw3", "Host key verification failed.", 2, "key of gw2 (on", "`ssh -J gw1 gw2`"),
        ("gw1,ssh://gw2:23,gw3", "Host key verification failed.", 1, "of gw3 (on", "`ssh -J gw1,ssh://gw2:23 gw3`"),
        # Of more hosts than were given: the configuration has some.
        ("gw1", "Host key verification failed.", 3, "key of gw1 (on", "`ssh gw1`"),
        ("ssh://me@gw:2222", "Host key verification failed.", 1, "of me@gw:2222 (on", "`ssh ssh://me@gw:2222`"),
        ("gw1,gw2", "channel 0: open failed: connect failed: Connection refused", 2, "at gw2 (on", "start sshd there"),
        ("gw1,gw2", "channel 0: open failed: connect failed: Connection refused", 1, "at lab1 (", "start sshd there"),
    ],
)
def test_of_several_hosts_on_the_way_it_is_the_one_that_failed(
    jump: str, said: str, lost: int, what: str, do: str
) -> None:
    cause = why("lab1", Way(jump=jump), SSH_FAILED, [said, *NO_WAY.splitlines() * lost], was_up=False)
    assert what in cause.what
    assert do in cause.do


@pytest.mark.parametrize(
    ("jump", "lost", "what"),
    [
        ("gate", 1, "gate does not lead to lab1"),
        ("gw1,gw2", 1, "gw2 does not lead to lab1"),
        ("gw1,ssh://gw2:23", 2, "gw1 does not lead to gw2:23 (on the way to lab1)"),
        (None, 1, "a host on the way does not lead to lab1"),
    ],
)
def test_a_host_on_the_way_that_forbids_forwarding_is_named(jump: str | None, lost: int, what: str) -> None:
    lines = ["channel 0: open failed: administratively prohibited: open failed\r", "stdio forwarding failed"]
    cause = why("lab1", Way(jump=jump), SSH_FAILED, [*lines, *NO_WAY.splitlines() * lost], was_up=False)
    assert cause.what == f"{what} (administratively prohibited: open failed)"
    assert cause.do == "its sshd may forbid forwarding (AllowTcpForwarding, PermitOpen): allow it there"


def test_what_a_task_could_not_open_is_no_host_on_the_way() -> None:
    lines = ["worker: joined the sink", "open failed: no such file", "Timeout, server lab1 not responding."]
    assert why("lab1", WAY, SSH_FAILED, lines, was_up=True).what.startswith("the connection to lab1 is lost")


def test_who_is_silent_on_the_way_is_not_known() -> None:
    lines = ["Connection timed out during banner exchange", "Connection to UNKNOWN port 65535 timed out"]
    cause = why("lab1", Way(jump="gw1,gw2"), SSH_FAILED, lines, was_up=False)
    assert cause.what == "lab1 or a host on the way to it is not reached (Connection timed out)"


def test_behind_a_host_on_the_way_it_is_the_host_itself_that_refuses() -> None:
    cause = why("lab1", Way(jump="gate"), SSH_FAILED, ["ann@gate: Permission denied (publickey)."], was_up=False)
    assert cause.what == "lab1 refuses to let you in (publickey)"
    assert "`ssh -J gate lab1`" in cause.do


@pytest.mark.parametrize(
    ("said", "do"),
    [
        ("Host key verification failed.", "run `ssh -F 'my file' lab1` once, and compare the key that it shows"),
        ("something new", "see what `ssh -F 'my file' lab1` says"),
        ("ssh: Could not resolve hostname lab1: x", "check the name, or give it an entry in my file"),
        ("my file: line 3: Bad configuration option: hst", "correct my file, or what --ssh says"),
    ],
)
def test_advice_names_the_ssh_and_the_file_that_were_given(said: str, do: str) -> None:
    assert why("lab1", Way(("ssh", "-F", "my file")), SSH_FAILED, [said], was_up=False).do == do


@pytest.mark.parametrize(("host", "name"), [("ann@lab1", "lab1"), ("::1", "::1"), ("ann@fe80::1%eth0", "fe80::1%eth0")])
def test_the_old_host_key_is_that_of_the_host_whoever_goes_there(host: str, name: str) -> None:
    said = CHANGED.replace("lab1", name)
    assert f"run `ssh-keygen -R {name}`" in why(host, WAY, SSH_FAILED, said.splitlines(), was_up=False).do


@pytest.mark.parametrize(
    ("host", "file", "name", "do"),
    [
        # An alias, another port, and a file that ssh was told.
        ("gw1", "/farm/known", "[127.0.0.1]:39222", "ssh-keygen -f /farm/known -R '[127.0.0.1]:39222'"),
        ("gw1", "/my farm/a:b", "gw1", "ssh-keygen -f '/my farm/a:b' -R gw1"),
        ("ssh://lab1:2222", None, "[lab1]:2222", "ssh-keygen -R '[lab1]:2222'"),
        ("ssh://ann@lab1:2222", None, None, "ssh-keygen -R '[lab1]:2222'"),
        ("ann@fe80::1%eth0", None, None, "ssh-keygen -R fe80::1%eth0"),
        ("ssh://lab1:22", None, None, "ssh-keygen -R lab1"),
        ("ssh://ann@[::1]", None, None, "ssh-keygen -R ::1"),
    ],
)
def test_the_old_host_key_is_taken_from_where_ssh_has_found_it(
    host: str, file: str | None, name: str | None, do: str
) -> None:
    lines = ["@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"]
    lines += [f"Offending ED25519 key in {file}:12\r"] if file else []
    lines += [f"Host key for {name} has changed and you have requested strict checking.\r"] if name else []
    cause = why(host, WAY, SSH_FAILED, [*lines, "Host key verification failed."], was_up=False)
    assert f"run `{do}`, then" in cause.do


def test_a_changed_host_key_is_known_by_the_last_lines_alone() -> None:
    cause = why("lab1", WAY, SSH_FAILED, CHANGED.splitlines()[1:], was_up=False)
    assert cause.what == "lab1 has another host key than before"
