"""Numbers and times for people."""

import pytest

from common.web import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 µs"), (0.0000123, "12.3 µs"), (0.0009999, "1 ms"), (0.285, "285 ms"), (0.9999, "1 s"), (61, "1 min 01 s")],
)
def test_run_times(seconds: float, text: str) -> None:
    assert words.brief(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, ""), (0, "0 %"), (0.0001, "0.0 %"), (0.054, "5.4 %"), (0.5, "50 %"), (0.9999, "99.9 %"), (1, "100 %")],
)
def test_shares(share: float | None, text: str) -> None:
    assert words.percent(share) == text


def test_counts_on_axes() -> None:
    assert [words.short_count(each) for each in (0.5, 20, 1_500, 2e6, 3e9)] == ["0.5", "20", "1.5 k", "2 M", "3 G"]


def test_instants_are_in_utc() -> None:
    assert words.instant("2026-11-26T08:40:34+02:00") == "2026-11-26 06:40"
    assert words.instant(None) == ""
    assert words.clock_time(3_600) == "01:00"
