"""How many tasks were recorded when, kept in bounded memory, and how a chart is drawn of it. No clock."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BUCKETS_MAX = 360
"""At most how many points a chart has."""
_BINS = (1.0, 2.0, 5.0)
"""The bounds of a histogram within each power of ten."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Tasks a second over time."""

    width_s: int
    """How long each point lasts."""
    times: list[int]
    """When each begins, in seconds since 1970."""
    rates: list[float]


class Series:
    """Counts by time. With more time than it has room for, each bucket becomes twice as long.

    With a `span_s` it forgets what is older than that, and its buckets stay as they are.
    """

    def __init__(self, width_s: int = 1, span_s: int | None = None) -> None:
        self._width_s = width_s
        self._span_s = span_s
        self._counts: dict[int, int] = {}
        """By number of the bucket since 1970."""

    def add(self, points: Iterable[tuple[int, int]]) -> None:
        """Add counts, each with its instant."""
        for at, count in points:
            bucket = at // self._width_s
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        if self._span_s is None:
            while self._counts and max(self._counts) - min(self._counts) >= BUCKETS_MAX:
                self._widen()

    def last_at(self) -> int:
        """When the last bucket begins."""
        return max(self._counts, default=0) * self._width_s

    def forget(self, now: float) -> None:
        """Forget what is older than the span."""
        assert self._span_s is not None
        oldest = int(now - self._span_s) // self._width_s
        for bucket in [bucket for bucket in self._counts if bucket < oldest]:
            del self._counts[bucket]

    def chart(self, until: float, least_s: int = 0, is_live: bool = True) -> Chart:
        """From the first count to the last bucket that is over at `until`; at least the `least_s` seconds before it."""
        width = self._width_s
        # The bucket of now is not over: drawn, it would look like a drop.
        last = int(until) // width - (1 if is_live else 0)
        first = min(self._counts, default=last)
        first = min(first, (int(until) - least_s) // width)
        if self._span_s is not None:
            first = max(first, (int(until) - self._span_s) // width)
        buckets = range(first, last + 1)
        return Chart(width, [each * width for each in buckets], [self._counts.get(each, 0) / width for each in buckets])

    def _widen(self) -> None:
        self._width_s *= 2
        counts: dict[int, int] = {}
        for bucket, count in self._counts.items():
            counts[bucket // 2] = counts.get(bucket // 2, 0) + count
        self._counts = counts


def nice_top(most: float) -> float:
    """The upper end of an axis that has to show this."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= most * 0.999)


def line(rates: Sequence[float], width: float, height: float, top: float) -> str:
    """The points of an SVG polyline."""
    step = width / max(1, len(rates) - 1)
    return " ".join(f"{at * step:.1f},{height - rate / top * height:.1f}" for at, rate in enumerate(rates))


@dataclass(frozen=True, slots=True)
class Bin:
    """Run times from `low` to `high` seconds."""

    low: float
    high: float
    count: int
    share: float
    """Of the largest bin."""


def histogram(seconds: Sequence[float]) -> list[Bin]:
    """Run times in bins whose bounds are 1, 2 and 5 times the powers of ten."""
    if not seconds:
        return []
    # What takes no time at all has no logarithm.
    counts: dict[int, int] = {}
    for each in seconds:
        number = _bin(max(each, 1e-6))
        counts[number] = counts.get(number, 0) + 1
    most = max(counts.values())
    return [
        Bin(_bound(number), _bound(number + 1), counts.get(number, 0), counts.get(number, 0) / most)
        for number in range(min(counts), max(counts) + 1)
    ]


def _bin(seconds: float) -> int:
    power = math.floor(math.log10(seconds))
    digits = seconds / 10.0**power
    return len(_BINS) * power + sum(digits >= bound * 0.999999 for bound in _BINS) - 1


def _bound(number: int) -> float:
    power, place = divmod(number, len(_BINS))
    return float(_BINS[place] * 10.0**power)


def quantile(seconds: Sequence[float], share: float) -> float:
    """The run time that this share of the tasks stays below."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
