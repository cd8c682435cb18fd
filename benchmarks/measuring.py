"""Rounds, interleaved so that a machine that grows slower or faster does so for all, and the figures they give."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

OURS = "Tradewind"


class Skipped(Exception):
    """A contender cannot be had here; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    rounds: int = 5
    quick: bool = False
    speculate: bool = False

    def scaled(self, count: int) -> int:
        """This many, or a twentieth in a quick run."""
        return max(1, count // 20) if self.quick else count


@dataclass(frozen=True)
class Measure:
    """What a number means."""

    name: str
    unit: str
    more_is_better: bool = False


RATE = Measure("rate", "tasks/s", more_is_better=True)
MEDIAN = Measure("median", "ms")
P99 = Measure("99 of 100 below", "ms")
MAKESPAN = Measure("makespan", "× greedy")


@dataclass
class Figure:
    """One measure of one contender, a value a round."""

    scenario: str
    measure: Measure
    who: str
    values: list[float] = field(default_factory=list)
    skipped: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)


Contender = Callable[[int], Mapping[Measure, float]]
"""TaskRanges once; takes the number of the round, from 0."""


def interleave(scenario: str, rounds: int, contenders: Mapping[str, Contender]) -> list[Figure]:
    """Run all contenders in turn, `rounds` times, every second round backwards."""
    figures: dict[tuple[Measure, str], Figure] = {}
    skipped: dict[str, Figure] = {}
    for number in range(rounds):
        names = list(contenders)
        for who in names if number % 2 == 0 else reversed(names):
            if who in skipped:
                continue
            try:
                found = contenders[who](number)
            except Skipped as reason:
                skipped[who] = Figure(scenario, Measure("skipped", ""), who, skipped=str(reason))
                say(f"{scenario}: {who} is skipped: {reason}")
                continue
            for measure, value in found.items():
                figures.setdefault((measure, who), Figure(scenario, measure, who)).values.append(value)
            words = ", ".join(f"{each.name} {spelled(value)} {each.unit}" for each, value in found.items())
            say(f"{scenario}, round {number + 1} of {rounds}: {who}: {words}")
    return [*figures.values(), *skipped.values()]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, round by round; the medians of both when the rounds do not match."""
    if len(ours) == len(theirs):
        return [a / b for a, b in zip(ours, theirs, strict=True) if b]
    return [statistics.median(ours) / statistics.median(theirs)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of all lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def round_trip(seconds: Sequence[float]) -> dict[Measure, float]:
    """Median and tail of round trips, in milliseconds."""
    return {MEDIAN: statistics.median(seconds) * 1000, P99: percentile(seconds, 0.99) * 1000}


def spelled(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def say(text: str) -> None:
    """Progress goes to standard error; the table to standard output."""
    print(text, file=sys.stderr, flush=True)
