"""How long nothing is recorded when a sink is lost and its standby takes over.

    python -m benchmarks.takeover [TRIES] [--write]

Five machines, a network namespace each: PostgreSQL, two sinks of one site, a worker, a ventilator. In the middle of a
job the sink that serves is SIGKILLed, or its machine is cut off, or the process is stopped and goes on after the
take-over. What is measured is the time until the other sink has recorded results. Each try is a job of its own, which
must end by itself with every task recorded once; afterwards the sink that was lost stands by for the next try.
"""

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks import machine
from benchmarks.farm import TOP, wait_for
from benchmarks.measuring import say
from common.sink.ledgers import open_care
from common.transport.key_folder import KeyFolder
from tests.namespaces import Network, network_of
from tests.postgres import HarmedServer, Server

TASKS = "import time\ndef work(n):\n    time.sleep(0.05)\n    return n\n"
COUNT = 240
SLOTS = 4
HOSTS = ("db", "one", "two", "crew", "desk")
PAGE = TOP / "docs" / "CLUSTERS.md"
TABLE = re.compile(r"(<!-- takeover -->\n).*?(<!-- end of takeover -->)", re.DOTALL)


@dataclass
class Loss:
    """One way to lose a sink, and what came of it."""

    name: str
    lose: Callable[["Site", "Sink"], None]
    restore: Callable[["Site", "Sink"], None]
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Of each try that was not as it should be."""


class Sink:
    """One of the two sinks."""

    def __init__(self, host: str, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What all its processes have logged."""
        path = self.folder / "sink.log"
        return path.read_text() if path.exists() else ""


class Site:
    """The machines, and what runs on them."""

    def __init__(self, network: Network, server: Server, folder: Path, stack: ExitStack) -> None:
        self._network = network
        self._stack = stack
        self.server = server
        self.folder = folder
        self.ledger = server.address(by_network=True)
        self.sinks = [Sink(host, folder / host) for host in HOSTS[1:3]]
        for host in HOSTS:
            (folder / host).mkdir()
        (folder / "crew" / "takeover_tasks.py").write_text(TASKS)
        self.start(self.sinks[0])
        self.await_sink(self.sinks[0], "listening at")
        keys = KeyFolder(self.sinks[0].folder / "keys")
        both = ",".join(f"tcp://{network.addresses[sink.host]}:5559" for sink in self.sinks)
        keys.enrol("worker", "crew", both, folder / "crew" / "key")
        keys.enrol("ventilator", "desk", both, folder / "desk" / "key")
        shutil.copytree(keys.path, self.sinks[1].folder / "keys")
        self.start(self.sinks[1])
        self.await_sink(self.sinks[1], "standby")
        self.db = stack.enter_context(psycopg.connect(server.address(), autocommit=True))
        self._run("crew", "worker", "takeover_tasks", "--slots", str(SLOTS), "--key", "key")

    def _run(self, host: str, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*self._network.inside(host), sys.executable, str(TOP / f"{script}.py"), *arguments]
        with (self.folder / host / f"{script}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder / host, stderr=log, stdin=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def start(self, sink: Sink) -> None:
        """Start it; if the other one serves, it stands by."""
        sink.process = self._run(sink.host, "sink", "--ledger", self.ledger)

    def await_sink(self, sink: Sink, words: str, count: int = 1) -> None:
        """Wait until it has logged this `count` times."""
        wait_for(lambda: sink.log.count(words) >= count, f"{sink.host}: {words}")

    def serving(self) -> Sink:
        """The sink that serves."""
        first, second = self.sinks
        is_first = first.log.rfind("listening at") > first.log.rfind("standby")
        return first if is_first else second

    def cut(self, sink: Sink) -> None:
        """Its machine: packets vanish."""
        self._network.unplug(sink.host)

    def cut_from_server(self, sink: Sink) -> None:
        """Packets between its machine and that of the server vanish, and no others."""
        self._network.silence(sink.host, ["db"])

    def heal(self, sink: Sink) -> None:
        """Plug it in again."""
        self._network.heal(sink.host)

    def recorded(self, job: str) -> tuple[str, int]:
        """Who holds the site, and how many tasks of the job are recorded."""
        found = self.db.execute(
            "SELECT holder, coalesce(max(done), 0) FROM tradewind.sites LEFT JOIN tradewind.jobs"
            " ON jobs.site = sites.site AND jobs.name = %s WHERE sites.name = 'main' GROUP BY holder",
            [job],
        ).fetchone()
        assert found is not None
        return str(found[0]), int(found[1])

    def attempt(self, loss: Loss, job: str) -> None:
        """One try."""
        lost = self.serving()
        stood_by = lost.log.count("standby: ")
        ventilator = self._run(
            "desk", "ventilator", "takeover_tasks:work", "--range", str(COUNT), "--job", job, "--key", "key"
        )
        wait_for(lambda: self.recorded(job)[1] > COUNT // 8, "the job is on its way")
        holder, _ = self.recorded(job)
        loss.lose(self, lost)
        lost_at = time.monotonic()
        wait_for(lambda: self.recorded(job)[0] != holder, "the take-over", look_s=0.01)
        done = self.recorded(job)[1]
        wait_for(lambda: self.recorded(job)[1] > done, "a result at the other sink", look_s=0.01)
        loss.seconds.append(time.monotonic() - lost_at)
        code = ventilator.wait(120)
        loss.restore(self, lost)
        wait_for(lambda: lost.log.count("standby: ") > stood_by, f"{lost.host} stands by")
        self.check(loss, job, code)
        say(f"{loss.name}: {loss.seconds[-1]:.2f} s")

    def check(self, loss: Loss, job: str, code: int) -> None:
        """Every task is recorded once, with its value."""
        rows = self.db.execute(
            "SELECT count(*), count(DISTINCT task), bool_and(value::text = task::text) FROM tradewind.task_results"
            " WHERE job = %s",
            [job],
        ).fetchone()
        receipts = self.db.execute(
            "SELECT sum(count) FROM tradewind.receipts JOIN tradewind.jobs USING (job) WHERE jobs.name = %s", [job]
        ).fetchone()
        if rows != (COUNT, COUNT, True) or receipts != (COUNT,) or code:
            loss.wrong.append(f"{job}: {rows}, {receipts}, exit code {code}")


def losses() -> list[Loss]:
    """The ways to lose a sink."""

    def signalled(number: signal.Signals) -> Callable[[Site, Sink], None]:
        def send(site: Site, sink: Sink) -> None:
            assert sink.process is not None
            sink.process.send_signal(number)

        return send

    return [
        Loss("its process is killed (SIGKILL)", signalled(signal.SIGKILL), Site.start),
        Loss("its machine is cut off, and comes back", Site.cut, Site.heal),
        Loss("its machine is cut off from the server only", Site.cut_from_server, Site.heal),
        Loss("its process is stopped (SIGSTOP), and goes on", signalled(signal.SIGSTOP), signalled(signal.SIGCONT)),
    ]


@contextmanager
def site() -> Iterator[Site]:
    """The machines, with two sinks, one of which serves."""
    with ExitStack() as stack:
        network = stack.enter_context(network_of(*HOSTS))
        server = stack.enter_context(HarmedServer(network.inside("db"), network.addresses["db"]))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradewind-bench-")))
        yield Site(network, server, folder, stack)


def row(loss: Loss) -> str:
    """A row of the table."""
    seconds = sorted(loss.seconds)
    figures = f"{statistics.median(seconds):.1f} s", f"{seconds[0]:.1f} to {seconds[-1]:.1f} s"
    return f"| {loss.name} | {len(seconds)} | {' | '.join(figures)} | {len(loss.wrong)} |"


def main() -> None:
    """Try each way this many times, in turn; print the table, and write it into the page if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takeover", description=__doc__)
    parser.add_argument("tries", nargs="?", type=int, default=30, help="how many tries of each kind (default: 30)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/CLUSTERS.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ways = losses()
    with site() as running:
        for number in range(options.tries):
            for loss in ways:
                running.attempt(loss, f"try{number}-{ways.index(loss)}")
        faults = open_care(running.server.address()).faults()
    for fault in (*faults, *(wrong for loss in ways for wrong in loss.wrong)):
        say(fault)
    head = "| what happens to the sink | tries | median until results are recorded again | range | tries with a fault |"
    described = machine.described()
    where = ", ".join(f"{name} {described[name]}" for name in ("cores", "kernel", "load"))
    lines = [head, "| --- | --- | --- | --- | --- |", *map(row, ways), "", f"On this machine: {where}.", ""]
    table = "\n".join(lines)
    print(table)
    if options.write:
        PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()))
    sys.exit(1 if faults or any(loss.wrong for loss in ways) else 0)


if __name__ == "__main__":
    main()
