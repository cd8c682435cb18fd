"""Peers that need a server or much software, each in its own environment: rate, round trip, tail (`--all`)."""

from benchmarks.farm import Farm, farm
from benchmarks.measuring import MAKESPAN, OURS, RATE, Contender, Figure, Measure, Plan, interleave, round_trip
from benchmarks.peers.environments import PEERS, Peer, contest
from benchmarks.scenarios import roundtrip, tail

TASKS, TRIPS, ROUNDS_MAX = 1_000_000, 500, 3
EQUAL = [1.0] * tail.WORKERS


def _ours(two: Farm, eight: Farm, count: int, seed: int) -> dict[Measure, float]:
    return {
        RATE: count / two.squares(count).seconds,
        **round_trip(roundtrip.ours(two, TRIPS)),
        MAKESPAN: tail.ours(eight, seed, EQUAL)[MAKESPAN],
    }


def _theirs(peer: Peer, versions: dict[str, str], plan: Plan, seed: int) -> dict[Measure, float]:
    times = tail.sleep_times(seed)
    found = contest(peer, plan.scaled(peer.rate_tasks), plan.scaled(TRIPS), times)
    name, *rest = peer.name.split(",")
    versions[peer.name] = ",".join([f"{name} {found['version']}", *rest])
    return {
        RATE: found["rate"],
        **round_trip(found["round_trips"]),
        MAKESPAN: found["makespan"] / tail.greedy(times, EQUAL),
    }


def measure(plan: Plan) -> list[Figure]:
    """Two workers for rate and round trip, eight for the tail. Tradewind sizes its batches; the peers have none."""
    versions: dict[str, str] = {}
    with farm(slots=2) as two, farm(slots=1, workers=[{}] * tail.WORKERS) as eight:
        two.squares(plan.scaled(100_000))
        contenders: dict[str, Contender] = {OURS: lambda n: _ours(two, eight, plan.scaled(TASKS), n + 1)}
        for peer in PEERS:
            contenders[peer.name] = lambda n, peer=peer: _theirs(peer, versions, plan, n + 1)  # type: ignore[misc]
        figures = interleave("servers", min(plan.rounds, ROUNDS_MAX), contenders)
    for figure in figures:
        figure.who = versions.get(figure.who, figure.who)
    return figures
