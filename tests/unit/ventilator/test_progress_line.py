"""The progress line: what counts most is there at any width, and rates are such that people can use them."""

import re

import pytest

from common.ventilator.progress import ProgressDisplay
from common.ventilator.progress_line import Style, for_terminal, in_words
from common.ventilator.summary import Standing

JOB = "statistics-median-20261126-064034-123"
MANY = Standing(12_345_678, 0, 100_000_000, 40, 12, 480)
SOME = Standing(1_234, 2, 100_000, 8, 2, 4)


def shown(standing: Standing, rate: float, columns: int, **style: bool) -> str:
    line = for_terminal(standing, rate, JOB, Style(columns, **style))
    plain = re.sub(r"\x1b\[\d+m", "", line)
    assert len(plain) < columns
    return plain


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    ("standing", "rate", "first"),
    [
        (SOME, 4_321.0, "1,234/100,000  1%  4,321/s  23 s left  "),
        (MANY, 333_000.0, "12,345,678/100,000,000  12%  333,000/s  4 min 23 s left"),
        (Standing(3, 0, 40, 2, 1, 1), 0.0125, "3/40  7%  45/h  49 min 20 s left"),
    ],
)
def test_counts_percent_rate_and_time_left_come_first(
    columns: int, standing: Standing, rate: float, first: str
) -> None:
    assert shown(standing, rate, columns).startswith(first)


def test_at_80_columns_there_is_a_bar_and_a_part_of_the_name() -> None:
    line = shown(SOME, 4_321.0, 80)
    assert line.endswith("  " + JOB[:7] + "…") or JOB[:8] in line
    assert re.search("━{6,}  2 failed", line)
    assert re.search("━{6,}", shown(SOME, 4_321.0, 60))
    assert shown(MANY, 333_000.0, 200).endswith(f"━  12 workers with 480 slots  40 batches outstanding  {JOB}")


@pytest.mark.parametrize("style", [{}, {"ascii": True}, {"colours": False}], ids=str)
def test_it_fits_every_terminal(style: dict[str, bool]) -> None:
    for standing in (SOME, MANY, Standing(5, 0, None, 1, 0, 0), Standing(0, 0, 0, 0, 0, 0)):
        for columns in range(1, 220):
            shown(standing, 7.0, columns, **style)


def test_a_bar_without_colours_shows_how_full_it_is() -> None:
    half = Standing(5, 0, 10, 1, 1, 1)
    assert "  ##########----------  " in shown(half, 1.0, 200, colours=False)
    assert shown(half, 1.0, 200, ascii=True).isascii()


def test_an_unknown_total_and_an_estimated_one() -> None:
    assert shown(Standing(5, 0, None, 1, 0, 0), 2.0, 80).startswith("5 done  2.0/s  no worker  1 batch outstanding")
    assert shown(Standing(5, 0, 10, 1, 0, 0, is_estimate=True), 2.0, 80).startswith("5/~10  50%")


def test_in_words() -> None:
    assert (
        in_words(Standing(0, 0, 1, 1, 1, 3), 0.0)
        == "0/1, 0%, 0/s, 0 failed, 1 worker with 3 slots, 1 batch outstanding"
    )


def test_what_earlier_runs_have_recorded_is_not_this_runs_pace(caplog: pytest.LogCaptureFixture) -> None:
    display = ProgressDisplay("j")
    caplog.set_level("INFO")
    display.show(0.0, Standing(0, 0, 9_000, 0, 1, 1, is_counted=False))
    display.show(8.0, Standing(8_000, 0, 9_000, 0, 1, 1))
    display.show(10.0, Standing(8_004, 0, 9_000, 1, 1, 1))
    [line] = caplog.messages
    assert line.startswith("job j: 8,004/9,000, 88%, 2.0/s, 8 min 18 s left, 0 failed, ")
