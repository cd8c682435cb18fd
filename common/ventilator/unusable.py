"""Why a line cannot be a task, and why an input has no lines, in words for the operator. No file, no clock."""

import re

import msgspec

_HEAD_BYTES = 60
_LOOKS_BYTES = 8_000
"""How much of an input is looked at to see that it is no text."""
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\xfd7zXZ": ("xz", "xzcat"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstdcat"),
}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_FINITE = re.compile(rb"\b(NaN|Infinity)\b")


def not_lines(beginning: bytes, nul_ends: bool) -> str | None:
    """Why this beginning of an input cannot be lines of text at all, or None; `nul_ends` with -0."""
    for magic, (kind, reader) in _COMPRESSED.items():
        if beginning.startswith(magic):
            return f"it is compressed ({kind}): give its text, as in `{reader} FILE | ... -`"
    if beginning[:3] == b"BZh" and beginning[4:10] == b"1AY&SY":
        return "it is compressed (bzip2): give its text, as in `bzcat FILE | ... -`"
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is UTF-16 text: convert it, as in `iconv -f UTF-16 -t UTF-8 FILE | ... -`"
    if not nul_ends and b"\0" in beginning[:_LOOKS_BYTES]:
        return "it is not text, for it has NUL bytes; with -0, as `find -print0` writes it, a task ends with NUL"
    return None


def too_long(length: int, length_max: int) -> str:
    """Of a line that no message holds."""
    return (
        f"the line takes {length} bytes, but a message holds {length_max}: pass a path and let the worker read the file"
    )


def reason(line: bytes, error: Exception) -> str:
    """Why this line cannot be a task, from the error that decoding it or encoding its value has raised."""
    return f"{_what(line, error)}: {_shown(line)}"


def _what(line: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return _not_utf8(line)
    if isinstance(error, RecursionError):
        return "the line's JSON is nested too deeply"
    if not isinstance(error, msgspec.DecodeError):
        return f"the value cannot be sent ({error})"
    if "surrogate" in str(error) or (_SURROGATE.search(line) and "truncated" in str(error)):
        return "the line holds a lone surrogate like \\ud800, which is half of a character"
    if _NOT_FINITE.search(line):
        return "the line is not JSON, which has no NaN or Infinity"
    return f"the line is not JSON ({str(error).removeprefix('JSON is malformed: ')})"


def _not_utf8(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        at = error.start
    else:
        return "the line is not UTF-8 text"
    if line[at] == 0xED and line[at + 1 : at + 2] >= b"\xa0":
        return f"the line holds a lone surrogate, which is half of a character, at byte {at + 1}"
    return (
        f"the line is not UTF-8 text (byte 0x{line[at]:02x} at {at + 1}; a file name, or text, in another encoding such"
        " as Latin-1?)"
    )


def _shown(line: bytes) -> str:
    """The beginning of a line, printable and in quotes."""
    text = line[:_HEAD_BYTES].decode("utf-8", "backslashreplace")
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return f'"{text}{"..." if len(line) > _HEAD_BYTES else ""}"'
