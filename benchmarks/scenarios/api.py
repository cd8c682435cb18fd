"""From Python: values of `farm.map` and of an executor, back in the program that wants them."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.farm import TOP, Farm, children, cpu_s, farm
from benchmarks.measuring import OURS, Contender, Figure, Measure, Plan, interleave
from benchmarks.peers import joblib_batches
from benchmarks.peers.environments import PEERS, Peer, contest
from benchmarks.scenarios import roundtrip
from common.farm.entry import connect
from common.farm.farm import Farm as Connected

TASKS, CALLS, TRIPS, MAPS = 1_000_000, 10_000, 500, 30
MAP = Measure("map, as they come", "tasks/s", more_is_better=True)
ORDERED = Measure("map, in order", "tasks/s", more_is_better=True)
SUBMIT = Measure("submit", "calls/s", more_is_better=True)
TRIP = Measure("there and back", "ms")
ONE = Measure("a job of one task", "ms")
LOCAL = Measure("local(), first value", "s")
PEERS_HERE = ("dask", "ray", "ipyparallel")
VENTILATOR = "its ventilator alone"


def _mapped(connected: Connected, count: int, ordered: bool) -> float:
    """Values a second; each is checked."""
    started = time.perf_counter()
    values = list(connected.map("work:square", range(count), ordered=ordered))
    seconds = time.perf_counter() - started
    if not ordered:
        values.sort()
    if values != [n * n for n in range(count)]:
        sys.exit("a mapped value is wrong")
    return count / seconds


def _submitted(connected: Connected, count: int) -> float:
    """Calls a second."""
    with connected.executor() as executor:
        executor.submit("work:square", 1).result()
        started = time.perf_counter()
        futures = [executor.submit("work:square", n) for n in range(count)]
        values = [future.result() for future in futures]
        seconds = time.perf_counter() - started
    if values != [n * n for n in range(count)]:
        sys.exit("a value of a future is wrong")
    return count / seconds


def _trips(connected: Connected, count: int) -> list[float]:
    """Seconds of a call and its result."""
    with connected.executor() as executor:
        return _timed(lambda n: executor.submit("work:square", n).result(), count + roundtrip.WARM_UP)


def _timed(call: Callable[[int], int], count: int) -> list[float]:
    found = []
    for n in range(count):
        started = time.perf_counter()
        value = call(n)
        found.append(time.perf_counter() - started)
        if value != n * n:
            sys.exit("a value is wrong")
    return found[min(roundtrip.WARM_UP, count // 10) :]


def _local_s() -> float:
    """Seconds from the call of `local` to its first value, in a program of its own."""
    program = (
        "import time, common\n"
        "started = time.perf_counter()\n"
        "with common.local() as farm:\n"
        "    values = iter(farm.map('benchmarks.work:square', range(100)))\n"
        "    assert next(values) == 0\n"
        "    print(time.perf_counter() - started)\n"
        "    assert len(list(values)) == 99\n"
    )
    env = os.environ | {"PYTHONPATH": str(TOP)}
    found = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, check=True)
    return float(found.stdout)


@contextmanager
def _processor_time(running: Farm, count: int, found: dict[Measure, float]) -> Iterator[None]:
    """What a value costs each process, in the mean."""
    worker = running.workers[0].pid
    groups = {"sink": [running.sink.pid], "worker": [worker], "slots": children(worker)}
    groups["program"] = [os.getpid()]
    before = {name: sum(map(cpu_s, pids)) for name, pids in groups.items()}
    yield
    for name, pids in groups.items():
        measure = Measure(f"{name}'s time", "µs a value")
        found[measure] = (sum(map(cpu_s, pids)) - before[name]) / count * 1e6


def _ours(running: Farm, connected: Connected, plan: Plan) -> dict[Measure, float]:
    count = plan.scaled(TASKS)
    found: dict[Measure, float] = {}
    with _processor_time(running, count, found):
        found[MAP] = _mapped(connected, count, ordered=False)
    found[ORDERED] = _mapped(connected, count, ordered=True)
    found[SUBMIT] = _submitted(connected, plan.scaled(CALLS))
    found[TRIP] = statistics.median(_trips(connected, TRIPS)) * 1000
    found[ONE] = statistics.median(_timed(lambda n: sum(connected.map("work:square", [n])), MAPS)) * 1000
    found[LOCAL] = _local_s()
    return found


def _ventilators_own(running: Farm, connected: Connected, count: int) -> dict[Measure, float]:
    """The same way without the last step: from the push to the receipt, and from the start of a job to its end."""
    found = {TRIP: statistics.median(roundtrip.ours(running, TRIPS)) * 1000}

    def one(n: int) -> int:
        connected.start("work:square", [n])._run.wait()
        return n * n

    found[ONE] = statistics.median(_timed(one, MAPS)) * 1000
    found[MAP] = found[ORDERED] = count / running.squares(count).seconds
    return found


def _theirs(peer: Peer, plan: Plan) -> dict[Measure, float]:
    found = contest(peer, plan.scaled(peer.rate_tasks), plan.scaled(TRIPS), [], plan.scaled(CALLS))
    return {
        MAP: found["rate"],
        ORDERED: found["rate"],
        SUBMIT: found["submit_rate"],
        TRIP: statistics.median(found["round_trips"]) * 1000,
    }


def measure(plan: Plan) -> list[Figure]:
    """Two slots or processes each. What peers give is in order; where they cannot do a million, they do fewer."""
    count = plan.scaled(TASKS)
    with farm(slots=2) as running:
        running.squares(plan.scaled(100_000))
        with connect(running.folder / "keys" / "ventilator.key_secret", port=0) as connected:

            def joblib(_: int) -> dict[Measure, float]:
                rate = joblib_batches.rate(count)
                return {MAP: rate, ORDERED: rate}

            contenders: dict[str, Contender] = {
                OURS: lambda _: _ours(running, connected, plan),
                VENTILATOR: lambda _: _ventilators_own(running, connected, count),
                "joblib": joblib,
            }
            for peer in PEERS:
                if peer.module in PEERS_HERE:
                    contenders[peer.name] = lambda _, peer=peer: _theirs(peer, plan)  # type: ignore[misc]
            return interleave("api", plan.rounds, contenders)
