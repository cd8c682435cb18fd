"""Which formats of results go with which options."""

import pytest

from common.sink.result_formats import Format, misuse


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        ("values", "--failed", "a failed task has no value: leave out --failed"),
        ("text", "--failed", "a failed task has no value: leave out --failed"),
        ("csv", "--arguments", "leave out --follow, --columns and --format"),
        ("values", "--arguments", "leave out --follow, --columns and --format"),
        ("parquet", "--arguments", "leave out --follow, --columns and --format"),
        ("jsonl", "--arguments --follow", "leave out --follow, --columns and --format"),
        ("jsonl", "--arguments --columns", "leave out --follow, --columns and --format"),
        ("jsonl", "--columns", "--columns is for tables: give --format csv or --format parquet"),
        ("values", "--columns", "--columns is for tables: give --format csv or --format parquet"),
        ("parquet", "--follow", "a Parquet file needs all results before its first row: leave out --follow"),
        ("csv", "--columns --follow", "--columns needs all results before the first line"),
        ("jsonl", "--output --follow", "leave out --follow, or redirect with >"),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_words(format: str, options: str, said: str) -> None:
    assert said in (misuse(Format(format), options.split()) or "")


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("jsonl", "--failed --follow"),
        ("jsonl", "--arguments --failed --output"),
        ("csv", "--failed --follow"),
        ("csv", "--failed --columns --output"),
        ("values", "--follow"),
        ("values", "--output"),
        ("text", "--follow"),
        ("text", "--output"),
        ("parquet", "--failed --columns --output"),
    ],
)
def test_what_makes_sense_is_not_refused(format: str, options: str) -> None:
    assert misuse(Format(format), options.split()) is None
