"""Which formats of results go with which options."""

import pytest

from common.sink.result_formats import Format, misuse


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        ("values", "--failed", "a failed task has no value: leave out --failed"),
        ("csv", "--arguments", "leave out --follow and --format"),
        ("values", "--arguments", "leave out --follow and --format"),
        ("jsonl", "--arguments --follow", "leave out --follow and --format"),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_words(format: str, options: str, said: str) -> None:
    assert said in (misuse(Format(format), options.split()) or "")


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("jsonl", "--failed --follow"),
        ("jsonl", "--arguments --failed"),
        ("csv", "--failed --follow"),
        ("values", "--follow"),
    ],
)
def test_what_makes_sense_is_not_refused(format: str, options: str) -> None:
    assert misuse(Format(format), options.split()) is None
