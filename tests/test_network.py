"""Three machines, each a network namespace with its own address: the worker joins by its enrolment file alone."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TOP, Process
from tests.namespaces import Network, network_of

SQUARES = (
    "import os, time\n"
    "def square(n):\n    return n * n\n"
    "def wait(n):\n    while not os.path.exists('open'):\n        time.sleep(.01)\n"
)


CONNECT = (
    "import tradewind\n"
    "with tradewind.connect('desk.key_secret') as farm:\n"
    "    print(sum(farm.map('squares:square', range(10))))\n"
)


@pytest.fixture
def network() -> Iterator[Network]:
    with network_of("sink", "worker", "ventilator") as made:
        yield made


class Machines:
    """Commands that run on the hosts of a network, a folder each. A worker and a ventilator are enrolled."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self.folders = {host: folder / host for host in network.addresses}
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("TRADEWIND_")}
        self._started: list[Process] = []
        for each in self.folders.values():
            each.mkdir()
        self.sink = self.start("sink", "sink")
        self.sink.wait_for("listening at all addresses, ports 5559 and 5558")
        address = f"tcp://{network.addresses['sink']}:5559"
        for role, machine in [("worker", "lab1"), ("worker", "lab2"), ("ventilator", "desk")]:
            enrol = self.start("sink", "sink", "enrol", role, machine, "--address", address)
            assert enrol.wait() == 0, enrol.err
            shutil.move(self.folders["sink"] / f"{machine}.key_secret", self.folders[role])
        (self.folders["worker"] / "squares.py").write_text(SQUARES)

    def start(self, host: str, script: str, *arguments: str) -> Process:
        command = [*self._network.inside(host), sys.executable, str(TOP / f"{script}.py"), *arguments]
        tag = f"{script}-{len(self._started)}"
        self._started.append(Process(command, self.folders[host], tag, self._env, subprocess.DEVNULL))
        return self._started[-1]

    def run(self, host: str, program: str) -> Process:
        """A program that uses Tradewind, as it is in this checkout."""
        package = self.folders[host] / "tradewind"
        if not package.exists():
            package.symlink_to(TOP / "common")
        command = [*self._network.inside(host), sys.executable, "-c", program]
        self._started.append(
            Process(command, self.folders[host], f"program-{len(self._started)}", self._env, subprocess.DEVNULL)
        )
        return self._started[-1]

    def close(self) -> None:
        for process in self._started:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()


@pytest.fixture
def machines(network: Network, tmp_path: Path) -> Iterator[Machines]:
    made = Machines(network, tmp_path)
    yield made
    made.close()


def test_a_worker_on_another_machine_joins_by_its_enrolment_file_alone(machines: Machines, network: Network) -> None:
    machines.start("worker", "worker", "squares", "--key", "lab1.key_secret")
    job = ["squares:square", "--range", "5000", "--key", "desk.key_secret"]
    ventilator = machines.start("ventilator", "ventilator", *job)
    assert ventilator.wait() == 0, ventilator.err
    machines.sink.wait_for(rf"worker \S+ at {network.addresses['worker']} joined")
    results = machines.start("sink", "sink", "results", "--format", "csv")
    assert results.wait() == 0
    assert len(results.out.splitlines()) == 5001

    # A ventilator on the sink's own machine: workers elsewhere find it at the sink's address.
    beside = machines.start("sink", "ventilator", "squares:square", "--range", "100")
    assert beside.wait() == 0, beside.err


def test_a_ventilator_that_a_worker_cannot_reach_is_said_at_both_ends(machines: Machines, network: Network) -> None:
    network.silence("ventilator", ["worker"])
    worker = machines.start("worker", "worker", "squares", "--key", "lab1.key_secret")
    job = ["squares:square", "--range", "50", "--key", "desk.key_secret", "--job", "far", "--relay", "never"]
    ventilator = machines.start("ventilator", "ventilator", *job)
    address = rf"{re.escape(network.addresses['ventilator'])}:5557"
    ventilator.wait_for(rf"worker \S+ cannot connect to this ventilator at {address}: let workers connect to that port")
    worker.wait_for(rf"cannot reach the tasks of job \S+ at {address}: nothing answers there")
    assert "pulling" not in worker.err
    explained = machines.start("sink", "sink", "explain", "far")
    assert explained.wait() == 0, explained.err
    assert re.match(rf"worker \S+ cannot connect to this ventilator at {address}\n-> let workers", explained.out)
    network.heal("ventilator")
    worker.wait_for(rf"pulling the tasks of job \S+ from {address}")
    assert ventilator.wait() == 0, ventilator.err


def test_tasks_of_a_ventilator_that_no_worker_can_reach_go_through_the_relay(
    machines: Machines, network: Network
) -> None:
    network.silence("ventilator", ["worker"])
    worker = machines.start("worker", "worker", "squares", "--key", "lab1.key_secret")
    job = ["squares:square", "--range", "5000", "--key", "desk.key_secret"]
    falls_back = machines.start("ventilator", "ventilator", *job)
    at_once = machines.start("ventilator", "ventilator", *job, "--relay", "always")
    program = machines.run("ventilator", CONNECT)
    assert program.wait() == 0, program.err
    assert program.out == "285\n"
    assert at_once.wait() == 0, at_once.err
    assert falls_back.wait() == 0, falls_back.err
    address = rf"{re.escape(network.addresses['ventilator'])}:5557"
    way = "tasks go through the sink's relay from now on"
    assert len(re.findall(rf"worker \S+ cannot connect to this ventilator at {address}: {way}", falls_back.err)) == 1
    assert "WARN" not in at_once.err
    # Neither it nor the program has told workers another place than the sink's.
    places = set(re.findall(r"pulling the tasks of job \S+ from (\S+)", worker.err))
    assert places == {f"{network.addresses['sink']}:5555"}


def test_a_ventilator_at_all_addresses_outlives_a_revoked_key(machines: Machines) -> None:
    for machine in ("lab1", "lab2"):
        worker = machines.start("worker", "worker", "squares", "--key", f"{machine}.key_secret")
        worker.wait_for("exposing")
    ventilator = machines.start("ventilator", "ventilator", "squares:wait", "--range", "4", "--key", "desk.key_secret")
    worker.wait_for("pulling the tasks")
    assert machines.start("sink", "sink", "revoke", "lab2").wait() == 0
    # The ventilator has been told before.
    assert worker.wait() == 2, worker.err
    (machines.folders["worker"] / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
