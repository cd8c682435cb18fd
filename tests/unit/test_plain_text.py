"""What others have written is harmless on a terminal, and still says the same."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.plain_text import ascii_json, how_ended, in_json, indented, one_line

HARMFUL = ["\x1b[2J\x1b]0;owned\x07", "\x9b31m", "\x9d0;title\x9c", "\rforged", "\u202egnp.exe", "a\x85b", "a\u2028b",
           "sq\u200buare", "\x7f", "\0", "\ud800", "\ufeff", "\U000e0041", "\t"]  # fmt: skip


ISOLATES_AND_EMBEDDINGS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_harmless(text: str) -> bool:
    """By Unicode's own classes: no control, and nothing that reorders the text."""
    return not any(
        unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(each) in ISOLATES_AND_EMBEDDINGS
        for each in text
    )


def test_no_character_that_controls_is_left_out() -> None:
    assert is_harmless(one_line("".join(map(chr, range(0x10000)))))


@pytest.mark.parametrize("text", HARMFUL)
def test_what_moves_the_cursor_or_the_order_is_shown_as_an_escape(text: str) -> None:
    for shown in (one_line(f"a{text}"), indented(f"a{text}").replace("\t", "")):
        assert is_harmless(shown)
    assert one_line("a\x1b\u202e\r\n") == r"a\x1b\u202e\r\n"


@pytest.mark.parametrize("text", ["plain", "größer \u00a0\u3000東京", "👩‍🔬 می‌خواهم", "[/x] [red]"])
def test_what_people_write_stays(text: str) -> None:
    assert one_line(text) == indented(text) == text


def test_no_text_passes_for_the_next_log_line() -> None:
    text = "Traceback:\r\n  File\n\t2026-11-26T06:40:34Z INFO sink: all is well\rthe same\n\n"
    assert indented(text).split("\n") == [
        "Traceback:", "      File", "    \t2026-11-26T06:40:34Z INFO sink: all is well\\rthe same"
    ]  # fmt: skip


@given(st.text())
def test_json_keeps_its_value(text: str) -> None:
    encoded = json.dumps({text: text}, ensure_ascii=False)
    for escaped in (in_json(encoded), ascii_json(encoded)):
        assert json.loads(escaped) == {text: text}
        assert is_harmless(escaped)
    assert ascii_json(encoded).isascii()


def test_how_a_process_has_ended() -> None:
    assert [how_ended(code) for code in (3, -9, -60)] == [
        "exit code 3",
        "killed by signal 9 (SIGKILL)",
        "killed by signal 60",
    ]
