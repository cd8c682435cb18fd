"""Why the ssh of a host has ended, in words: from its exit code, and from what was said last."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from ..causes import Cause
from ..plain_text import signal_text
from .remote import NO_FOLDER, Way

SSH_FAILED = 255
"""ssh ends with it when it fails itself, and when a signal has ended what it ran."""
WORKERS_OWN = re.compile(r'(\d{4}-\d\d-\d\dT\S+ [A-Z]+ )?worker: |\{"time"')
"""How a line of a worker begins. The rest is of ssh, of the shell there, or a traceback."""
_NOT_FOUND, _NOT_RUN = 127, 126
_SIGNALS = range(129, 193)


def why(host: str, way: Way, code: int, lines: Sequence[str], was_up: bool) -> Cause:
    """The cause; `lines` is what was said last, `was_up` whether the worker had begun."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if code < 0 or code == SSH_FAILED:
        last = f"ssh was ended by signal {signal_text(-code)}" if code < 0 else "" if WORKERS_OWN.match(last) else last
        return _of_connection(host, way, lines, last, was_up)
    if code == NO_FOLDER and not was_up:
        return Cause(f"{host} has no folder {way.folder}", "make it there, or name another one with --cwd")
    if code == _NOT_FOUND:
        return Cause(
            f"{host} does not find {way.program}{_said(last)}",
            "install Tradewind there, or say with --program where it is: a shell that ssh starts has a short PATH",
        )
    if code == _NOT_RUN:
        return Cause(f"{host} cannot run {way.program}{_said(last)}", "see whether its Python is there")
    if "No module named" in last and not was_up:
        return Cause(f"the Python of {host} has no Tradewind{_said(last)}", "install it there with pip")
    if code in _SIGNALS:
        return Cause(f"the worker of {host} was ended by signal {signal_text(code - 128)}", "see why, on that machine")
    return Cause(f"the worker of {host} ended with exit code {code}{_said(last)}", "its last lines say why")


def _said(last: str) -> str:
    return f" ({last})" if last else ""


def _of_connection(host: str, way: Way, lines: Sequence[str], last: str, was_up: bool) -> Cause:
    text = "\n".join(line for line in lines if not WORKERS_OWN.match(line))
    before, met, there, by_hand = _met(host, way, text)
    for pattern, what, advice in _OF_SSH:
        if found := re.search(pattern, text):
            names = {"host": met, "forget": _forget(there, text), "ssh": by_hand, "config": way.config}
            names |= {"before": before, "found": found[found.lastindex or 0].strip()}
            return Cause(what.format(**names), advice.format(**names))
    if was_up:
        return Cause(
            f"the connection to {host} is lost{_said(last)}",
            "its worker leaves by itself; see whether the host is there",
        )
    return Cause(f"ssh to {host} fails{_said(last)}", f"see what `{by_hand}` says")


def _met(host: str, way: Way, text: str) -> tuple[str, str, str, str]:
    """The host that ssh means: the one before it, its name in words, its address, and the command that goes there."""
    hops = way.jump.split(",") if way.jump else []
    if hops and _NO_WAY in text and _SILENT in text:
        return hops[-1], f"{host} or a host on the way to it", host, way.by_hand(host)
    at = max(len(hops) - text.count(_NO_WAY), 0) + ("open failed" in text)
    before = hops[at - 1].removeprefix("ssh://") if 0 < at <= len(hops) else "a host on the way"
    if at >= len(hops):
        return before, host, host, way.by_hand(host)
    there = hops[at].removeprefix("ssh://")
    address = f"ssh://{there}" if ":" in there else there
    by_hand = replace(way, jump=",".join(hops[:at]) or None).by_hand(address)
    return before, f"{there} (on the way to {host})", address, by_hand


def _forget(host: str, text: str) -> str:
    """The command that takes the old key away: of the name, and in the file, that ssh says."""
    name, file = re.search(_CHANGED, text), re.search(r"^Offending .*key in (.+):\d+\s*$", text, re.MULTILINE)
    return shlex.join(["ssh-keygen", *(["-f", file[1]] if file else []), "-R", name[1] if name else _known_as(host)])


def _known_as(host: str) -> str:
    """How ssh names USER@NAME or ssh://USER@NAME:PORT among its known hosts."""
    _, is_uri, rest = host.rpartition("ssh://")
    name, port = rest.rpartition("@")[2], "22"
    if is_uri and (found := re.fullmatch(r"([^:]+|\[.*\])(?::(\d+))?/?", name)):
        name, port = found[1].strip("[]"), found[2] or "22"
    return name if port == "22" else f"[{name}]:{port}"


_CHANGED = r"[Hh]ost key for (\S+) has changed"
_NO_WAY = "UNKNOWN port 65535"
"""The ssh of each host behind the one that failed says it; "open failed" is from the host before that one."""
_SILENT = "timed out during banner"
"""It is the ssh of the last host that says it, whoever on the way is silent."""
_OF_SSH = (
    (
        f"REMOTE HOST IDENTIFICATION HAS CHANGED|{_CHANGED}",
        "{host} has another host key than before",
        "if that is right, run `{forget}`, then `{ssh}` once, and compare the new key",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "the host key of {host} is not known here",
        "run `{ssh}` once, and compare the key that it shows",
    ),
    (
        r"Permission denied \((.*)\)|Too many authentication failures",
        "{host} refuses to let you in ({found})",
        "make `{ssh}` work without a password: with ssh-copy-id, or a key in ssh-agent",
    ),
    (
        r"Could not resolve hostname (.*)|open failed: connect failed: (Name or service not known)",
        "the name of {host} has no address ({found})",
        "check the name, or give it an entry in {config}",
    ),
    (
        r"(Connection refused)",
        "nobody listens for ssh at {host} ({found})",
        "start sshd there, or name its port in {config}",
    ),
    (
        rf"(Connection timed out|Operation timed out|No route to host|Network is unreachable|{_SILENT}.*)",
        "{host} is not reached ({found})",
        "see whether it runs, and whether a firewall lets ssh through; --jump goes by way of another host",
    ),
    (
        r"(remote port forwarding failed for listen port \d+)",
        "{host} has no room for the tunnel ({found})",
        "another crew or sink has that port there, or its sshd forbids forwarding: leave --tunnel out",
    ),
    (
        r"(?m)^channel \d+: open failed: (.*)",
        "{before} does not lead to {host} ({found})",
        "its sshd may forbid forwarding (AllowTcpForwarding, PermitOpen): allow it there",
    ),
    (
        r"(kex_exchange_identification: .*|Connection (?:closed|reset) by .*port \d+.*preauth.*|Exceeded MaxStartups)",
        "{host} hangs up before it asks who you are ({found})",
        "its sshd may have too many connections that begin (MaxStartups), or bans this address",
    ),
    (
        r"(Bad configuration option: .*|Can't open user config file .*|[Uu]nknown option.*)",
        "ssh here does not start ({found})",
        "correct {config}, or what --ssh says",
    ),
)
"""A pattern in what ssh says, and the cause: `found` is the first group, or all of it."""
