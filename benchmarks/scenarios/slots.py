"""A large crew: 500 slots of one worker until all are busy, and 100 workers that join at once."""

import time
from pathlib import Path

from benchmarks.farm import SQUARED, Farm, farm, wait_for
from benchmarks.measuring import OURS, Figure, Measure, Plan, say

SLOTS, WORKERS, PATIENCE_S = 500, 100, 600


def measure(plan: Plan) -> list[Figure]:
    """One round each: most of it is the start of processes."""
    return [*_slots(max(20, plan.scaled(SLOTS))), *_workers(max(10, plan.scaled(WORKERS)))]


def _figure(who: str, name: str, seconds: float) -> Figure:
    say(f"slots: {who}: {name}: {seconds:.2f} s")
    return Figure("slots", Measure(name, "s"), who, [seconds])


def _slots(count: int) -> list[Figure]:
    who = f"{OURS}, {count} slots"
    with farm(slots=1, workers=()) as running:
        started_at = time.perf_counter()
        running.start_worker(count)
        running.wait_for_crew(1, PATIENCE_S)
        joined_s = time.perf_counter() - started_at
        first, again = (_busy_s(running, count, f"{running.folder}/{name}") for name in ("first", "again"))
    return [
        _figure(who, "worker joined", joined_s),
        _figure(who, "all busy, first job", first),
        _figure(who, "all busy, second job", again),
    ]


def _busy_s(running: Farm, count: int, folder: str) -> float:
    """Seconds from the start of a ventilator until every slot is in a task."""
    place = Path(folder)
    place.mkdir()
    (running.folder / "holds.txt").write_text(f"{folder}\n" * count)
    started_at = time.perf_counter()
    job = running.start("work:hold", "holds.txt")
    busy = place / "busy"
    wait_for(lambda: busy.exists() and busy.stat().st_size == count, f"{count} busy slots", PATIENCE_S)
    seconds = time.perf_counter() - started_at
    (place / "release").touch()
    measured = job.finish(running.sink_rss_bytes)
    running.check_values(measured.job, [folder] * count)
    return seconds


def _workers(count: int) -> list[Figure]:
    """All workers wait for the sink, so that they join in the moment when it is there."""
    who = f"{OURS}, {count} workers"
    with farm(slots=1, workers=()) as running:
        wait_for(lambda: "listening" in running.said(), "the sink")
        ports = running.ports()
        running.sink.terminate()
        running.sink.wait()
        for _ in range(count):
            running.start_worker(1)
        wait_for(lambda: all(_has_child(worker.pid) for worker in running.workers), "the workers", PATIENCE_S)
        running.start_sink(*ports)
        wait_for(lambda: running.said().count("listening") == 2, "the sink", look_s=0.002)
        started_at = time.perf_counter()
        wait_for(lambda: " joined with " in running.said(), "the first worker", PATIENCE_S, 0.002)
        first_at = time.perf_counter()
        running.wait_for_crew(count, PATIENCE_S)
        joined_at = time.perf_counter()
        measured = running.run("work:square", "--range", "100000")
        running.check(measured.job, 100_000, SQUARED)
    return [
        _figure(who, "first to last join", joined_at - first_at),
        _figure(who, "sink listens to last join", joined_at - started_at),
        _figure(who, "100,000 tasks n·n", measured.seconds),
    ]


def _has_child(pid: int) -> bool:
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())
