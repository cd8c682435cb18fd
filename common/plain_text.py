"""Text of others, made harmless for terminals and logs: what controls or reorders the screen is shown as an escape."""

import re
import signal
from collections.abc import Callable

_HARMFUL = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: escape sequences begin with these, and \r hides what stands before it
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, or reorder text
    "\ud800-\udfff"  # halves of characters, which no encoding has
    "\U000e0000-\U000e007f"
    "]"
)
"""The joiners U+200C and U+200D are not here: scripts and emoji need them, and they move nothing."""


def one_line(text: str) -> str:
    """The text on one line, as a table's cell shows it."""
    return _harmless(text, _escape)


def indented(text: str) -> str:
    """The text as a log line shows it: further lines are indented, so that no text can pass for the next log line."""
    if text.isprintable():
        return text
    return "\n    ".join(_HARMFUL.sub(_escape_but_tab, line) for line in re.split("\r?\n", text.rstrip()))


def counted(count: int, one: str, many: str = "") -> str:
    """The count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def host_port(host: str, port: int) -> str:
    """The host with its port; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def signal_text(number: int) -> str:
    """The signal's number, and its name where it has one: most real-time signals have none."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def how_ended(code: int) -> str:
    """How a process has ended whose return code this is."""
    return f"killed by signal {signal_text(-code)}" if code < 0 else f"exit code {code}"


def in_json(text: str) -> str:
    """JSON with the same value, whose strings have escapes of JSON for such characters."""
    return _harmless(text, _escape_in_json)


def ascii_json(text: str) -> str:
    """JSON with the same value in ASCII."""
    harmless = in_json(text)
    return harmless if harmless.isascii() else re.sub("[^\x00-\x7f]", _escape_in_json, harmless)


def _harmless(text: str, escape: Callable[[re.Match[str]], str]) -> str:
    return text if text.isprintable() else _HARMFUL.sub(escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _escape_but_tab(found: re.Match[str]) -> str:
    return "\t" if found[0] == "\t" else _escape(found)


def _escape_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
