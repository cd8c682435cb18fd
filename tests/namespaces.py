"""Machines for tests: a network namespace each, with its own address, behind one switch; links are cut and healed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

_NOBODY = "02:00:00:00:00:99"
"""A hardware address that no machine has: packets to it are gone without a trace."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """One namespace a host, joined by a bridge in a namespace of its own."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.addresses = {host: f"10.203.77.{number}" for number, host in enumerate(hosts, 1)}

    def make(self) -> None:
        ip("netns", "add", self.name("hub"))
        ip("-n", self.name("hub"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self.name("hub"), "link", "set", "bridge", "up")
        for host, address in self.addresses.items():
            ip("netns", "add", self.name(host))
            ip("-n", self.name("hub"), "link", "add", host, "type", "veth", "peer", "eth0", "netns", self.name(host))
            ip("-n", self.name("hub"), "link", "set", host, "master", "bridge", "up")
            ip("-n", self.name(host), "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", self.name(host), "link", "set", "lo", "up")
            ip("-n", self.name(host), "link", "set", "eth0", "up")

    def name(self, host: str) -> str:
        """The host's namespace."""
        return f"tw{os.getpid()}{host}"

    def inside(self, host: str) -> list[str]:
        """The beginning of a command that runs on the host."""
        return ["ip", "netns", "exec", self.name(host)]

    def silence(self, host: str, from_hosts: Sequence[str]) -> None:
        """Packets between the host and the others vanish, and nobody is told."""
        self._neighbour(host, from_hosts, "replace", "lladdr", _NOBODY, "nud", "permanent")

    def unplug(self, host: str) -> None:
        """The host's plug is pulled at the switch: it notices nothing but that nobody answers."""
        ip("-n", self.name("hub"), "link", "set", host, "nomaster")

    def take_down(self, host: str) -> None:
        """The host's link loses its carrier."""
        ip("-n", self.name("hub"), "link", "set", host, "down")

    def heal(self, host: str) -> None:
        """Undo whatever was done to the host."""
        self._neighbour(host, [other for other in self.addresses if other != host], "delete", may_fail=True)
        ip("-n", self.name("hub"), "link", "set", host, "master", "bridge", "up")

    def _neighbour(self, host: str, others: Sequence[str], verb: str, *rest: str, may_fail: bool = False) -> None:
        for other in others:
            for here, there in ((host, other), (other, host)):
                command = ["ip", "-n", self.name(here), "neighbour", verb, self.addresses[there], "dev", "eth0", *rest]
                subprocess.run(command, check=not may_fail, capture_output=True)

    def close(self) -> None:
        for host in ("hub", *self.addresses):
            subprocess.run(["ip", "netns", "delete", self.name(host)], check=False, capture_output=True)


@contextmanager
def network_of(*hosts: str) -> Iterator[Network]:
    """A network of these hosts; the test is skipped, in words, where none can be made."""
    if sys.platform != "linux" or os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    made = Network(hosts)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
        yield made
    finally:
        made.close()
