"""A sink whose ledger has 100,000,000 rows, and one whose ledger is empty: nothing may grow with what went before."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

from benchmarks.farm import TOP, Farm, farm, wait_for
from benchmarks.measuring import OURS, RATE, Figure, Measure, Plan, interleave, say

JOBS, TASKS = 10, 10_000_000
NEW_TASKS = 1_000_000
START = Measure("start to listening", "s")
LIST = Measure("sink.py jobs", "s")
HEAD = Measure("sink.py results | head", "s")
FORGET = Measure("sink.py forget", "s")
MEMORY = Measure("memory of the sink", "MB")
SIZE = Measure("size", "bytes a row")
_STEP = 1_000_000
_ROWS = """
INSERT INTO task_rows (job, task, status, value, attempt, worker, seconds)
    WITH RECURSIVE tasks(task) AS (SELECT :first UNION ALL SELECT task + 1 FROM tasks WHERE task < :last)
    SELECT :job, task, 'ok', task * task, 1, 'somewhere', 1e-6 FROM tasks
"""
_RECEIPTS = """
INSERT INTO receipts (job, first, count, seconds, failed, at)
    WITH RECURSIVE runs(first) AS (SELECT :first UNION ALL SELECT first + 1000 FROM runs WHERE first + 1000 <= :last)
    SELECT :job, first, 1000, 1e-3, 0, 1790000000 FROM runs
"""


def _fill(running: Farm, count: int) -> None:
    """Write ten finished jobs into the ledger of a sink that does not run, as a sink writes them."""
    with closing(sqlite3.connect(running.ledger, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute(f"PRAGMA cache_size=-{256 * 1024}")
        for job in range(1, JOBS + 1):
            db.execute(
                "INSERT INTO jobs (job, name, function, source, state, total, done, opened_at, ended_at, ticket_key)"
                " VALUES (?, ?, 'work:square', ?, 'done', ?, ?, '2026-11-26T00:00:00+00:00',"
                " '2026-11-26T01:00:00+00:00', randomblob(32))",
                (job, f"old-{job}", f"range 0 {count}", count, count),
            )
            for first in range(0, count, _STEP):
                bounds = {"job": job, "first": first, "last": min(first + _STEP, count) - 1}
                db.execute("BEGIN")
                db.execute(_ROWS, bounds)
                db.execute(_RECEIPTS, bounds)
                db.execute("COMMIT")
            say(f"full: {job * count:,} rows")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _restart(running: Farm) -> float:
    """Seconds from the start of the sink until it listens."""
    before, joined = running.said().count("listening at"), running.said().count(" joined with ")
    # A worker that has joined looks for its sink where it was.
    ports = running.ports()
    started_at = time.perf_counter()
    running.start_sink(*ports)
    wait_for(lambda: running.said().count("listening at") > before, "the sink", 600, look_s=0.005)
    seconds = time.perf_counter() - started_at
    running.wait_for_crew(joined + 1)
    return seconds


def _stop(running: Farm) -> None:
    running.sink.terminate()
    running.sink.wait()


def _command_s(running: Farm, shell: str) -> float:
    """Seconds of a line of the shell, in which $SINK is the command."""
    env = os.environ | {"SINK": f"{sys.executable} {TOP / 'sink.py'}"}
    started_at = time.perf_counter()
    subprocess.run(shell, shell=True, cwd=running.folder, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started_at


def _round(running: Farm, job: str, forgotten: str) -> dict[Measure, float]:
    _stop(running)
    start_s = _restart(running)
    return {
        START: start_s,
        LIST: _command_s(running, "$SINK jobs"),
        HEAD: _command_s(running, f"$SINK results {job} | head -n 10"),
        RATE: NEW_TASKS / running.squares(NEW_TASKS).seconds,
        FORGET: _command_s(running, f"$SINK forget --yes {forgotten}"),
        MEMORY: running.sink_rss_bytes() / 2**20,
    }


def measure(plan: Plan) -> list[Figure]:
    """Each round restarts the sink, looks, runs a job of 1,000,000 tiny tasks, and forgets an old job."""
    count = plan.scaled(TASKS)
    rounds = min(plan.rounds, 3)
    with farm(slots=2) as full, farm(slots=2) as empty:
        _stop(full)
        _fill(full, count)
        size = full.ledger.stat().st_size / (JOBS * count)
        _restart(full)
        for number in range(rounds + 1):
            empty.start("work:square", "--range", "10", job=f"small-{number}").finish(empty.sink_rss_bytes)
        figures = interleave(
            "full",
            rounds,
            {
                OURS: lambda n: _round(full, f"old-{JOBS}", f"old-{n + 1}"),
                "an empty ledger": lambda n: _round(empty, f"small-{rounds}", f"small-{n}"),
            },
        )
    return [*figures, Figure("full", SIZE, OURS, [size])]
