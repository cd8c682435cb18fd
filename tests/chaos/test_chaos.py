"""A job while everything that runs it is killed, stopped, cut off and started again, by a schedule that a seed makes.

`CHAOS_KILLS` and `CHAOS_TASKS` set the long form (`make soak`); the seed is `CHAOS_SEED` (2 strikes hard enough to show
results that replace others, and leases that do not end).
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.chaos.roads import WORKERS, Machines, Proxies, Roads
from tests.chaos.scene import Scene
from tests.chaos.schedule import KILLS, schedule
from tests.conftest import Pipeline
from tests.namespaces import network_of

KILL_COUNT = int(os.environ.get("CHAOS_KILLS", "7"))
TASKS = int(os.environ.get("CHAOS_TASKS", "3000"))
SEED = int(os.environ.get("CHAOS_SEED", "2"))
CUT_S = 60.0 if KILL_COUNT >= 100 else 8.0
"""How long each fifth fault of the network lasts."""


@contextmanager
def told(scene: Scene) -> Iterator[None]:
    """Should the test fail, show what was done."""
    try:
        yield
    except BaseException:
        print(*scene.journal, sep="\n")
        raise


def is_whole(pipeline: Pipeline, tasks: int) -> None:
    """The ledger holds every task once, with the right value."""
    rows = pipeline.query("SELECT task, status, value FROM results ORDER BY task")
    lost = set(range(tasks)) - {task for task, _, _ in rows}
    print(f"lost {len(lost)}, double {len(rows) - len({task for task, _, _ in rows})}")
    assert rows == [(n, "ok", n * 7) for n in range(tasks)]
    assert pipeline.query("PRAGMA integrity_check") == [("ok",)]
    assert pipeline.query("SELECT state, done, failed, total FROM jobs") == [("done", tasks, 0, tasks)]


def play(pipeline: Pipeline, roads: Roads, kill_count: int, tasks: int) -> None:
    """The whole scene, and its numbers."""
    print(f"\nseed {SEED} (CHAOS_SEED), {kill_count} kills, {tasks} tasks", flush=True)
    started = time.monotonic()
    scene = Scene(pipeline, roads, tasks)
    with told(scene):
        scene.run(schedule(SEED, roads.faults, CUT_S), kill_count)
        struck_s, struck_count = time.monotonic() - started, scene.recorded_count()
        assert struck_count < tasks
        scene.finish()
        is_whole(pipeline, tasks)
    ran = sum(len(path.read_bytes().splitlines()) for path in (pipeline.folder / "executions").iterdir())
    assert ran >= tasks
    print(f"{scene.kill_count} kills:", ", ".join(f"{kind} {scene.done[kind]}" for kind in KILLS))
    others = [f"{kind} {count}" for kind, count in sorted(scene.done.items()) if kind not in (*KILLS, "network")]
    print("other faults:", ", ".join(others))
    print(f"{ran} executions of {tasks} tasks: {ran - tasks} beyond one each ({ran / tasks - 1:.2%})")
    print(f"{time.monotonic() - started:.0f} s; {struck_count} tasks recorded in the {struck_s:.0f} s of the strikes")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without being asked")
def test_nothing_is_lost_and_nothing_recorded_twice_whatever_is_killed(pipeline: Pipeline) -> None:
    roads = Proxies(pipeline)
    try:
        play(pipeline, roads, KILL_COUNT, TASKS)
    finally:
        roads.close()


def test_nothing_is_lost_and_nothing_recorded_twice_whoever_is_cut_off(pipeline: Pipeline) -> None:
    with network_of("sink", "ventilator", *WORKERS) as network:
        try:
            play(pipeline, Machines(pipeline, network), max(4, KILL_COUNT // 4), max(1500, TASKS // 4))
        finally:
            pipeline.close()
