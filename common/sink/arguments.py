"""The arguments of tasks as the ledger keeps them: read from results, compared, shown, and printed as input again.

A job's form says how: "text" as it is, "json" as JSON text, "" not at all. Arguments of a range need not be kept.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..plain_text import one_line
from ..protocol.arguments import KEPT_BYTES_MAX, UNFIT, digest, head, text
from ..protocol.messages import Results

_SURE_CHARACTERS = KEPT_BYTES_MAX // 4
"""A text of this many characters is short enough in any case."""
_SHOWN_CHARACTERS = 100

Kept = tuple[Sequence[str | bytes | None] | None, dict[int, bytes]]
"""By offset: the arguments, None where none is known, and the digests of those that are only beginnings."""


def from_results(results: Results, form: str) -> Kept:
    """What is kept of the arguments that came with these results."""
    if results.arguments is None or not form:
        return None, {}
    try:
        values = msgspec.msgpack.decode(results.arguments, type=list[Any])
    except UNFIT:
        return None, {}
    if len(values) != results.count:
        return None, {}
    if form == "text" and set(map(type, values)) == {str} and max(map(len, values)) <= _SURE_CHARACTERS:
        return values, {}
    return _kept(values, results, form == "json")


def of_one(argument: Any, form: str) -> Kept:
    """The same of a single task's argument."""
    lines: list[str | bytes | None] = [None]
    digests: dict[int, bytes] = {}
    if form:
        _keep(argument, 0, form == "json", lines, digests)
    return lines, digests


def _kept(values: list[Any], results: Results, is_json: bool) -> Kept:
    lines: list[str | bytes | None] = [None] * len(values)
    digests: dict[int, bytes] = {}
    cut = {offset: (seal, start) for offset, seal, start in results.cuts if offset < len(values)}
    for at, value in enumerate(values):
        if at in cut:
            digests[at], start = cut[at]
            lines[at] = head(start)
        else:
            _keep(value, at, is_json, lines, digests)
    return lines, digests


def _keep(value: Any, at: int, is_json: bool, lines: list[str | bytes | None], digests: dict[int, bytes]) -> None:
    try:
        if isinstance(value, msgspec.msgpack.Ext):
            # No argument: a line that cannot be a task. Its digest tells that it was there.
            digests[at] = digest(msgspec.msgpack.encode(value))
            return
        line = text(value, is_json)
        if len(line) > _SURE_CHARACTERS and len(line.encode() if isinstance(line, str) else line) > KEPT_BYTES_MAX:
            digests[at] = digest(msgspec.msgpack.encode(value))
            line = head(line)
        lines[at] = line
    except UNFIT:
        # Of a worker that does not send what it was given.
        pass


def digest_of(kept: str | bytes | None, seal: bytes | None, form: str) -> bytes | None:
    """The digest of an argument that is kept; None when it is not."""
    if kept is None or seal is not None:
        return seal
    try:
        value = msgspec.json.decode(kept) if form == "json" else kept
    except UNFIT:
        return None
    return digest(msgspec.msgpack.encode(value))


def of_range(source: str, task: int) -> int | None:
    """The argument of a task of a range, which is not kept; None for other sources."""
    start = re.match(r"range (-?\d{1,20}):", source)
    return None if start is None else int(start[1]) + task


def shown(kept: Any) -> str | None:
    """The argument for a line of the log; None when it is not known."""
    if kept is None:
        return None
    line = kept.decode(errors="backslashreplace") if isinstance(kept, bytes) else str(kept)
    return one_line(line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "...")


def is_line(argument: str | bytes) -> bool:
    """True when this text, on a line of its own, is read as the same task again."""
    line = argument.encode() if isinstance(argument, str) else argument
    if b"\n" in line or b"\0" in line or line.endswith(b"\r") or line.startswith(b"\xef\xbb\xbf"):
        return False
    return bool(line) and not line.isspace()
