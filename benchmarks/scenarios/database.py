"""Many tiny tasks with the ledger in PostgreSQL, on the same machine, beside a ledger in SQLite."""

from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.farm import Farm, children, cpu_s, farm
from benchmarks.measuring import OURS, RATE, Figure, Measure, Plan, Skipped, interleave

if TYPE_CHECKING:
    from tests.postgres import Server

TASKS = 1_000_000
SINK = Measure("sink's processor time", "µs a task")
SERVER = Measure("server's processor time", "µs a task")


def measure(plan: Plan) -> list[Figure]:
    """Tasks per second, and what they cost sink and server."""
    try:
        # The server of the tests.
        from tests.postgres import HarmedServer, missing
    except ImportError as error:
        return _skipped(plan, str(error))
    if reason := missing():
        return _skipped(plan, reason)

    def measured(running: Farm, server: "Server | None") -> dict[Measure, float]:
        count = plan.scaled(TASKS)
        before = cpu_s(running.sink.pid), _server_s(server)
        rate = count / running.squares(count).seconds
        # The rows are looked at after the job, by another session.
        sink_s, server_s = cpu_s(running.sink.pid) - before[0], _server_s(server) - before[1]
        found = {RATE: rate, SINK: sink_s / count * 1e6}
        return found if server is None else {**found, SERVER: server_s / count * 1e6}

    with HarmedServer() as server, farm(slots=2) as file, farm(slots=2, database=server.address()) as database:
        for running in (file, database):
            running.squares(plan.scaled(100_000))
        contenders = {
            OURS: lambda _: measured(file, None),
            "with PostgreSQL": lambda _: measured(database, server),
        }
        return interleave("database", plan.rounds, contenders)


def _server_s(server: "Server | None") -> float:
    """Processor time of the processes that the server has now; a session that has ended is not among them."""
    if server is None:
        return 0.0
    found = 0.0
    for pid in children(server.pid):
        with suppress(FileNotFoundError):
            found += cpu_s(pid)
    return found


def _skipped(plan: Plan, reason: str) -> list[Figure]:
    def skip(_: int) -> dict[Measure, float]:
        raise Skipped(reason)

    return interleave("database", 1, {OURS: skip})
