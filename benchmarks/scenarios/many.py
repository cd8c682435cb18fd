"""Many tiny tasks: n·n on two slots, batches as they size themselves."""

from benchmarks.farm import Measured, farm
from benchmarks.measuring import OURS, RATE, Contender, Figure, Measure, Plan, interleave
from benchmarks.peers import executor, joblib_batches, managers, pool, raw, sqlite_alone

TASKS = 2_000_000
VENTILATOR_MEMORY = Measure("ventilator's memory", "MiB")
SINK_MEMORY = Measure("sink's memory", "MiB")


def peers(plan: Plan) -> dict[str, Contender]:
    """All who need no server."""
    few, some, lots = plan.scaled(20_000), plan.scaled(200_000), plan.scaled(TASKS)
    found: dict[str, Contender] = {
        "joblib": lambda _: {RATE: joblib_batches.rate(lots)},
        "multiprocessing.managers": lambda _: {RATE: managers.rate(few)},
        "ProcessPoolExecutor, chunk 1": lambda _: {RATE: executor.rate(few, 1)},
        "ProcessPoolExecutor, chunk 1000": lambda _: {RATE: executor.rate(lots, 1000)},
        "Pool.imap_unordered, chunk 1": lambda _: {RATE: pool.rate(some, 1)},
        "Pool.imap_unordered, chunk 1000": lambda _: {RATE: pool.rate(lots, 1000)},
        "raw PUSH/PULL, plain, 1 a message": lambda _: {RATE: raw.rate(lots, 1, curve=False)},
        "raw PUSH/PULL, CURVE, 1 a message": lambda _: {RATE: raw.rate(lots, 1, curve=True)},
        "raw PUSH/PULL, plain, 100 a message": lambda _: {RATE: raw.rate(2 * lots, 100, curve=False)},
        "raw PUSH/PULL, CURVE, 100 a message": lambda _: {RATE: raw.rate(2 * lots, 100, curve=True)},
    }
    return found


def measure(plan: Plan) -> list[Figure]:
    """Tasks per second, and the memory that it took."""
    with farm(slots=2) as running:
        running.squares(plan.scaled(100_000))
        jobs: list[Measured] = []

        def ours(_: int) -> dict[Measure, float]:
            jobs.append(running.squares(plan.scaled(TASKS)))
            mebi = 2**20
            return {
                RATE: plan.scaled(TASKS) / jobs[-1].seconds,
                VENTILATOR_MEMORY: jobs[-1].rss_bytes / mebi,
                SINK_MEMORY: jobs[-1].sink_rss_bytes / mebi,
            }

        def alone(number: int) -> dict[Measure, float]:
            if not jobs:
                ours(number)
            return {RATE: sqlite_alone.rate(running.ledger, jobs[-1].job)}

        return interleave("many", plan.rounds, {OURS: ours, "SQLite alone": alone, **peers(plan)})
