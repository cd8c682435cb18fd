"""What one task there and back is made of: the wire, a commit with its sync and without, each role's processor time."""

import tempfile
import time
from contextlib import closing
from pathlib import Path

from msgspec.msgpack import encode

from benchmarks.farm import Farm, children, cpu_s, farm
from benchmarks.measuring import MEDIAN, OURS, P99, Figure, Measure, Plan, Skipped, interleave, percentile, round_trip
from benchmarks.peers import managers, raw
from benchmarks.scenarios.roundtrip import TASKS, WARM_UP, trips
from common.protocol.messages import Results
from common.sink.ledgers import open_ledger
from common.sink.rows import recording
from common.sink.store import Opening, Recording
from common.sink.whole_write import write_and_wait

_MEMORY = "/dev/shm"
_TENTH = Measure("a tenth below", "ms")
"""Of a busy machine this says more than the median."""


def measure(plan: Plan) -> list[Figure]:
    """Milliseconds; `processor` is that of all threads, for one trip."""
    count = max(500, plan.scaled(TASKS))

    def alone(inside: str | None) -> dict[Measure, float]:
        _check(inside)
        with farm(slots=1, inside=inside) as running:
            trips(running, count)
            return _trip(running, count)

    def commits(inside: str | None) -> dict[Measure, float]:
        _check(inside)
        with tempfile.TemporaryDirectory(dir=inside) as folder:
            return _measures(_commits(Path(folder) / "results.db", count))

    return interleave(
        "trip",
        plan.rounds,
        {
            OURS: lambda _: alone(None),
            "the same, its ledger in memory": lambda _: alone(_MEMORY),
            "a commit alone, as the sink makes it": lambda _: commits(None),
            "a commit alone, in memory": lambda _: commits(_MEMORY),
            "raw CURVE, three links": lambda _: _measures(raw.round_trips(count)),
            "multiprocessing.managers": lambda _: _measures(managers.round_trips(count)),
        },
    )


def _check(inside: str | None) -> None:
    if inside is not None and not Path(inside).is_dir():
        raise Skipped(f"there is no {inside}")


def _measures(seconds: list[float]) -> dict[Measure, float]:
    found = round_trip(seconds)
    return {_TENTH: percentile(seconds, 0.1) * 1000, MEDIAN: found[MEDIAN], P99: found[P99]}


def _trip(running: Farm, count: int) -> dict[Measure, float]:
    worker = running.workers[0].pid
    roles = {"sink": running.sink.pid, "worker": worker, "child": children(worker)[0]}
    before = {role: cpu_s(pid) for role, pid in roles.items()}
    seconds, ventilator_s = trips(running, count)
    spent = {role: (cpu_s(pid) - before[role]) / (count + WARM_UP) for role, pid in roles.items()}
    spent["ventilator"] = ventilator_s
    return _measures(seconds) | {Measure(f"{role}, processor", "ms"): each * 1000 for role, each in spent.items()}


def _commits(path: Path, count: int) -> list[float]:
    """Seconds of each commit of one row, with its receipt and the job's counters; its thread makes it."""
    found = []
    with closing(open_ledger(str(path))) as ledger:
        write_and_wait(ledger, Opening("job", "work:square", "a range"))
        for task in range(count + WARM_UP):
            outcomes = encode({"values": [task * task], "seconds": [0.0001], "errors": [], "exact": []})
            rows = recording(Results("job", "ada", task, task, 1, (task, 1, 1), b"", outcomes))
            began_at = time.perf_counter()
            write_and_wait(ledger, Recording([rows]))
            found.append(time.perf_counter() - began_at)
    return found[WARM_UP:]
