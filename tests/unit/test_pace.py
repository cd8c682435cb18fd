"""Rates and times, measured and written."""

import pytest

from common.pace import Pace, rate_text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0/s"), (333_000.4, "333,000/s"), (12.34, "12.3/s"), (1.0, "1.0/s"), (0.5, "30.0/min"),
     (1 / 60, "1.0/min"), (1 / 3600, "1/h"), (0.0125, "45/h")],
)  # fmt: skip
def test_a_rate_has_a_unit_in_which_it_is_a_number(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_the_pace_is_that_of_the_last_seconds_or_of_the_last_tasks() -> None:
    fast, slow = Pace(), Pace()
    for second in range(100):
        fast.note(second, 1_000 * min(second, 50))
        slow.note(60 * second, second)
    assert fast.rate(50) == pytest.approx(1_000)
    assert fast.rate(99) < 200
    assert slow.rate(60 * 99) == pytest.approx(1 / 60)
    assert Pace().rate(5) == 0
