"""Three machines, each a network namespace with its own address: the worker joins by its enrolment file alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TOP, Process

HOSTS = {"sink": "10.203.77.1", "worker": "10.203.77.2", "ventilator": "10.203.77.3"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """One namespace a host, joined by a bridge in a namespace of its own."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        ip("netns", "add", self.name("hub"))
        ip("-n", self.name("hub"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self.name("hub"), "link", "set", "bridge", "up")
        for host, address in HOSTS.items():
            ip("netns", "add", self.name(host))
            ip("-n", self.name("hub"), "link", "add", host, "type", "veth", "peer", "eth0", "netns", self.name(host))
            ip("-n", self.name("hub"), "link", "set", host, "master", "bridge", "up")
            ip("-n", self.name(host), "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", self.name(host), "link", "set", "lo", "up")
            ip("-n", self.name(host), "link", "set", "eth0", "up")

    def name(self, host: str) -> str:
        return f"tw{self._tag}{host[:4]}"

    def command(self, host: str, script: str, *arguments: str) -> list[str]:
        inside = ["ip", "netns", "exec", self.name(host)]
        return [*inside, sys.executable, str(TOP / f"{script}.py"), *arguments]

    def close(self) -> None:
        for host in ("hub", *HOSTS):
            subprocess.run(["ip", "netns", "delete", self.name(host)], check=False, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    made = None
    try:
        if sys.platform != "linux" or os.geteuid() or not shutil.which("ip"):
            pytest.skip("network namespaces need Linux, root and iproute2")
        tag = str(os.getpid())
        try:
            made = Network(tag)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
        yield made
    finally:
        if made is not None:
            made.close()


def test_a_worker_on_another_machine_joins_by_its_enrolment_file_alone(network: Network, tmp_path: Path) -> None:
    folders = {host: tmp_path / host for host in HOSTS}
    for folder in folders.values():
        folder.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRADEWIND_")}
    started: list[Process] = []

    def start(host: str, script: str, *arguments: str) -> Process:
        command = network.command(host, script, *arguments)
        started.append(Process(command, folders[host], f"{script}-{len(started)}", env, subprocess.DEVNULL))
        return started[-1]

    try:
        sink = start("sink", "sink")
        sink.wait_for("listening at all addresses, ports 5559 and 5558")
        for role, machine in [("worker", "lab1"), ("ventilator", "desk")]:
            enrol = start("sink", "sink", "enrol", role, machine, "--address", f"tcp://{HOSTS['sink']}:5559")
            assert enrol.wait() == 0, enrol.err
            shutil.move(folders["sink"] / f"{machine}.key_secret", folders[role])
        (folders["worker"] / "squares.py").write_text("def square(n):\n    return n * n\n")
        start("worker", "worker", "squares", "--key", "lab1.key_secret")
        ventilator = start("ventilator", "ventilator", "squares:square", "--range", "5000", "--key", "desk.key_secret")
        assert ventilator.wait() == 0, ventilator.err
        sink.wait_for(rf"worker \S+ at {HOSTS['worker']} joined")
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
