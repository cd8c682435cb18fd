"""Three machines, each a network namespace with its own address: the worker joins by its enrolment file alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TOP, Process
from tests.namespaces import Network, network_of


@pytest.fixture
def network() -> Iterator[Network]:
    with network_of("sink", "worker", "ventilator") as made:
        yield made


def test_a_worker_on_another_machine_joins_by_its_enrolment_file_alone(network: Network, tmp_path: Path) -> None:
    folders = {host: tmp_path / host for host in network.addresses}
    for folder in folders.values():
        folder.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRADEWIND_")}
    started: list[Process] = []

    def start(host: str, script: str, *arguments: str) -> Process:
        command = [*network.inside(host), sys.executable, str(TOP / f"{script}.py"), *arguments]
        started.append(Process(command, folders[host], f"{script}-{len(started)}", env, subprocess.DEVNULL))
        return started[-1]

    try:
        sink = start("sink", "sink")
        sink.wait_for("listening at all addresses, ports 5559 and 5558")
        for role, machine in [("worker", "lab1"), ("ventilator", "desk")]:
            enrol = start(
                "sink", "sink", "enrol", role, machine, "--address", f"tcp://{network.addresses['sink']}:5559"
            )
            assert enrol.wait() == 0, enrol.err
            shutil.move(folders["sink"] / f"{machine}.key_secret", folders[role])
        (folders["worker"] / "squares.py").write_text("def square(n):\n    return n * n\n")
        start("worker", "worker", "squares", "--key", "lab1.key_secret")
        ventilator = start("ventilator", "ventilator", "squares:square", "--range", "5000", "--key", "desk.key_secret")
        assert ventilator.wait() == 0, ventilator.err
        sink.wait_for(rf"worker \S+ at {network.addresses['worker']} joined")
        results = start("sink", "sink", "results", "--format", "csv")
        assert results.wait() == 0
        assert len(results.out.splitlines()) == 5001

        # A ventilator on the sink's own machine: workers elsewhere find it at the sink's address.
        beside = start("sink", "ventilator", "squares:square", "--range", "100")
        assert beside.wait() == 0, beside.err
    finally:
        for process in started:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
