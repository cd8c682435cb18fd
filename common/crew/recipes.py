"""What the recipes say: text that other programs take."""

import math
import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9@/:=,.+_-]+")
AFTER_GRACE_S = 15
"""How long a worker may take after its grace until its results are recorded."""


def stop_s(grace_s: float) -> int:
    """How long to wait for a worker that was told to leave."""
    return math.ceil(grace_s) + AFTER_GRACE_S


def unit(program: str, words: Sequence[str], key: str, folder: str, grace_s: float) -> str:
    """A unit for systemd. The key reaches the worker as a credential: only root must be able to read the file."""
    start = " ".join([*map(_unit_word, [program, "worker", *words]), "--key", "%d/key"])
    return f"""\
[Unit]
Description=Tradewind worker
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={start}
WorkingDirectory={_unit_path(folder)}
LoadCredential=key:{_unit_path(key)}
DynamicUser=yes
KillMode=mixed
TimeoutStopSec={stop_s(grace_s)}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2

[Install]
WantedBy=multi-user.target
"""


def _unit_word(word: str) -> str:
    """A word of ExecStart, in which systemd would expand % and $."""
    text = _unit_path(word).replace("$", "$$")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unit_path(path: str) -> str:
    return path.replace("%", "%%")
