"""The formats of `results`, and which options make sense with which."""

from collections.abc import Collection
from enum import StrEnum


class Format(StrEnum):
    """How `results` prints."""

    jsonl = "jsonl"
    csv = "csv"
    values = "values"
    text = "text"
    parquet = "parquet"


def misuse(format: Format, options: Collection[str]) -> str | None:
    """What is wrong with this format and these options, such as `--failed`, together; None when nothing is."""
    if "--arguments" in options and (format is not Format.jsonl or {"--follow", "--columns"} & set(options)):
        return "--arguments prints lines of input: leave out --follow, --columns and --format"
    if "--columns" in options and format not in (Format.csv, Format.parquet):
        return "--columns is for tables: give --format csv or --format parquet with it"
    if format in (Format.values, Format.text) and "--failed" in options:
        return "a failed task has no value: leave out --failed, or give another --format"
    if "--follow" not in options:
        return None
    if format is Format.parquet:
        return "a Parquet file needs all results before its first row: leave out --follow, or give another --format"
    if "--columns" in options:
        return "--columns needs all results before the first line: leave out --follow or --columns"
    if "--output" in options:
        return "--output makes its file when all results are there: leave out --follow, or redirect with >"
    return None
