"""Tiny tasks, one a message: what a task costs when it cannot share a batch."""

from benchmarks.farm import farm
from benchmarks.measuring import OURS, RATE, Figure, Measure, Plan, interleave
from benchmarks.peers import executor, managers, pool, raw

TASKS, PEER_TASKS = 100_000, 20_000


def measure(plan: Plan) -> list[Figure]:
    """Tasks per second of n·n on two slots with `--batch 1`."""
    count, few = plan.scaled(TASKS), plan.scaled(PEER_TASKS)
    with farm(slots=2) as running:
        running.squares(1_000, "--batch", "1")

        def ours(_: int) -> dict[Measure, float]:
            return {RATE: count / running.squares(count, "--batch", "1").seconds}

        return interleave(
            "single",
            plan.rounds,
            {
                OURS: ours,
                "multiprocessing.managers": lambda _: {RATE: managers.rate(few)},
                "ProcessPoolExecutor, chunk 1": lambda _: {RATE: executor.rate(few, 1)},
                "Pool.imap_unordered, chunk 1": lambda _: {RATE: pool.rate(count, 1)},
                "raw PUSH/PULL, CURVE, 1 a message": lambda _: {RATE: raw.rate(5 * count, 1, curve=True)},
            },
        )
