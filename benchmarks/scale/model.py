"""Messages and processor time of a sink a second, by kind: how often each kind comes, times what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.scale.costs import TOGETHER, Cost
from benchmarks.scale.rates import Rates
from benchmarks.scale.wire import Wire


@dataclass(frozen=True)
class Load:
    """What one kind of message is to a sink."""

    kind: str
    per_s: float
    answers_per_s: float
    cores: float


def micros_of(costs: Sequence[Cost]) -> dict[str, float]:
    """By name."""
    return {cost.what: cost.micros for cost in costs}


def wire_micros(wire: Wire, alone: float) -> float:
    """Of one message through a CURVE socket, all threads: half of a beat and its answer, less what the rules cost."""
    return max(0.0, (wire.rules_micros + wire.io_micros - alone) / 2)


def beat_micros(costs: dict[str, float], names: float) -> float:
    """Of a beat that names this many batches of each job: between those that were measured."""
    known = sorted((int(what.split()[1]), micros) for what, micros in costs.items() if what.startswith("beat, "))
    for (low, at_low), (high, at_high) in pairwise(known):
        if low <= names <= high:
            return at_low + (at_high - at_low) * (names - low) / (high - low)
    return known[-1][1] * names / max(1, known[-1][0])


def loads(rates: Rates, workers: int, costs: dict[str, float], a_message: float) -> list[Load]:
    """What this many workers are to a sink, where each is like those of the simulation."""

    def per_s(count: int) -> float:
        return rates.per_worker(count) * workers

    beats, results = per_s(rates.received["Beat"]), per_s(rates.received["Results"])
    returned, asks = per_s(rates.received["Returned"]), rates.jobs * min(20.0, max(1.0, results))
    # What a busy sink reads together goes to each ventilator as one message.
    crews = rates.jobs * beats / TOGETHER
    micros = {
        "beat": beat_micros(costs, rates.names_a_beat),
        "results": costs["results, 1 tasks, and their receipts"],
        "returned": costs["returned, 1 batch"],
        "ask": costs["ask, and its receipts"],
    }
    rows = [
        ("beat → heard, crew", "beat", beats, beats + crews),
        ("results → recorded", "results", results, results),
        ("returned → returned", "returned", returned, returned),
        ("ask → receipts", "ask", asks, asks),
    ]
    return [
        Load(name, often, answers, (often * micros[kind] + (often + answers) * a_message) / 1e6)
        for name, kind, often, answers in rows
    ]
