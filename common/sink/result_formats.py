"""The formats of `results`, and which options make sense with which."""

from collections.abc import Collection
from enum import StrEnum


class Format(StrEnum):
    """How `results` prints."""

    jsonl = "jsonl"
    csv = "csv"
    values = "values"


def misuse(format: Format, options: Collection[str]) -> str | None:
    """What is wrong with this format and these options, such as `--failed`, together; None when nothing is."""
    if "--arguments" in options and ("--follow" in options or format is not Format.jsonl):
        return "--arguments prints lines of input: leave out --follow and --format"
    if format is Format.values and "--failed" in options:
        return "a failed task has no value: leave out --failed, or give another --format"
    return None
