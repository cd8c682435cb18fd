"""Through the sink's relay and straight from the ventilator, in turns: tiny tasks, small batches, large arguments."""

from benchmarks.farm import Farm, farm
from benchmarks.measuring import OURS, Contender, Figure, Measure, Plan, interleave, round_trip
from benchmarks.scenarios import payload, roundtrip

TASKS, SINGLE, TRIPS = 1_000_000, 50_000, 500
MANY = Measure("tiny tasks", "tasks/s", more_is_better=True)
ONE_BY_ONE = Measure("--batch 1", "tasks/s", more_is_better=True)


def measure(plan: Plan) -> list[Figure]:
    """Two worker processes with a slot each, for all of it."""
    loads = payload.scaled(plan)
    with farm(slots=1, workers=[{}, {}]) as running:
        running.squares(plan.scaled(100_000))

        def contender(relay: str) -> Contender:
            return lambda _: _once(running, plan, loads, relay)

        ways = {f"{OURS}, through the relay": contender("always"), f"{OURS}, straight": contender("never")}
        return interleave("relay", plan.rounds, ways)


def _once(running: Farm, plan: Plan, loads: list[payload.Load], relay: str) -> dict[Measure, float]:
    many, single, way = plan.scaled(TASKS), plan.scaled(SINGLE), ("--relay", relay)
    return {
        MANY: many / running.squares(many, *way).seconds,
        ONE_BY_ONE: single / running.squares(single, "--batch", "1", *way).seconds,
        **round_trip(roundtrip.ours(running, plan.scaled(TRIPS), relay)),
        **{load.measure: payload.ours(running, load, *way) for load in loads},
    }
