"""Counts over time, in bounded memory, and what is drawn of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.series import BUCKETS_MAX, Series, histogram, line, nice_top, quantile


def test_a_chart_has_rates_from_the_first_count_to_the_last_whole_bucket() -> None:
    series = Series(10)
    series.add([(1_000, 50), (1_005, 50), (1_020, 30)])
    chart = series.chart(1_034)
    assert (chart.width_s, chart.times, chart.rates) == (10, [1_000, 1_010, 1_020], [10.0, 0.0, 3.0])


def test_the_bucket_of_now_is_left_out_until_it_is_over_or_its_job_is() -> None:
    series = Series(10)
    series.add([(1_000, 50), (1_010, 5)])
    assert series.chart(1_019).times == [1_000]
    assert series.chart(1_019, is_live=False).times == [1_000, 1_010]
    assert series.chart(series.last_at(), is_live=False).times == [1_000, 1_010]


def test_a_chart_is_at_least_so_long() -> None:
    assert Series(10).chart(1_000, least_s=50).rates == [0.0] * 5


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), min_size=1, max_size=50))
def test_memory_is_bounded_and_nothing_is_lost(points: list[tuple[int, int]]) -> None:
    series = Series()
    series.add(points)
    chart = series.chart(max(at for at, _ in points), is_live=False)
    assert len(chart.times) <= BUCKETS_MAX
    total = sum(rate * chart.width_s for rate in chart.rates)
    assert total == pytest.approx(sum(count for _, count in points))


def test_a_span_forgets_what_is_older() -> None:
    series = Series(10, 100)
    series.add([(0, 1), (500, 1), (990, 1)])
    series.forget(1_000)
    assert sum(series.chart(1_001).rates) == pytest.approx(0.1)
    assert len(series.chart(1_000).times) <= 11


@pytest.mark.parametrize(("most", "top"), [(0, 1), (0.3, 0.3), (1, 1), (1.2, 1.5), (7, 8), (95, 100), (123456, 150000)])
def test_an_axis_ends_at_a_round_number(most: float, top: float) -> None:
    assert nice_top(most) == pytest.approx(top)


def test_a_line_spans_the_width() -> None:
    assert line([0, 5, 10], 100, 20, 10) == "0.0,20.0 50.0,10.0 100.0,0.0"
    assert line([], 100, 20, 10) == ""
    assert line([3], 100, 20, 10) == "0.0,14.0"


def test_a_histogram_has_round_bounds_and_no_gaps() -> None:
    bins = histogram([0.15, 0.15, 0.3, 3.0])
    assert [(round(each.low, 9), round(each.high, 9), each.count) for each in bins] == [
        (0.1, 0.2, 2), (0.2, 0.5, 1), (0.5, 1.0, 0), (1.0, 2.0, 0), (2.0, 5.0, 1),
    ]  # fmt: skip
    assert [each.share for each in bins] == [1.0, 0.5, 0.0, 0.0, 0.5]
    assert histogram([]) == []


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_each_run_time_is_in_one_bin(seconds: list[float]) -> None:
    bins = histogram(seconds)
    assert sum(each.count for each in bins) == len(seconds)
    assert bins[0].low <= max(1e-6, min(seconds)) * 1.00001
    assert bins[-1].high >= max(seconds) * 0.99999


def test_quantiles() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([1], 0.95) == 1
    assert quantile(list(range(100)), 0.95) == 95
