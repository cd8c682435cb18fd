"""The two networks on which chaos plays: proxies on loopback, and a namespace a machine."""

import random
import socket
from collections.abc import Sequence

from tests.chaos.proxy import TARGET, Proxy
from tests.conftest import Pipeline, Process
from tests.namespaces import Network

WORKERS = ("worker1", "worker2", "worker3")
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at any loopback address, below those that systems give to clients."""
    found: list[int] = []
    for port in random.Random().sample(_PORTS, 200):
        with socket.socket() as trial:
            if trial.connect_ex((TARGET, port)) and len(found) < count:
                found.append(port)
    return found


class Proxies:
    """One machine. Each peer sees the sink, and workers the ventilator, at a loopback address of its own: a proxy's.

    A fault is of all three links of a peer, or (`fault@link`) of one.
    """

    faults = tuple(
        f"{fault}@{link}"
        for fault in ("delay", "stall", "cut", "reset", "half_close")
        for link in ("all", "control", "results", "tasks")
    )
    _DELAY_S = 0.2

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._ports = dict(zip(("control", "results", "tasks"), free_ports(3), strict=True))
        self._proxies: dict[str, Proxy] = {}
        for number, host in enumerate((*WORKERS, "ventilator"), 2):
            self._proxies[host] = Proxy(f"127.0.0.{number}", list(self._ports.values()))

    def start(self, host: str, *arguments: str) -> Process:
        """Start the host's program: `sink`, `ventilator` or a worker."""
        control, results, tasks = (str(port) for port in self._ports.values())
        if host == "sink":
            ports = ["--control-port", control, "--results-port", results]
            return self._pipeline.start("sink", "--listen", TARGET, *ports, *arguments)
        script = host.rstrip("123")
        own = ["--port", tasks] if script == "ventilator" else []
        return self._pipeline.start(script, *arguments, *own, "--sink", f"{self._proxies[host].host}:{control}")

    def hosts(self) -> Sequence[str]:
        """Who can be struck."""
        return list(self._proxies)

    def strike(self, host: str, fault: str) -> bool:
        """Do it; true when it lasts until `heal`."""
        mode, _, link = fault.partition("@")
        self._proxies[host].fault(mode, self._DELAY_S, self._ports.get(link))
        return mode not in ("reset", "half_close")

    def heal(self, host: str) -> None:
        """No more faults for this host."""
        self._proxies[host].heal()

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()


class Machines:
    """A namespace for each: what is cut is cut for all links, and silently."""

    faults = ("silence", "unplug", "take_down")

    def __init__(self, pipeline: Pipeline, network: Network) -> None:
        self._pipeline = pipeline
        self._network = network

    def start(self, host: str, *arguments: str) -> Process:
        """Start the host's program: `sink`, `ventilator` or a worker."""
        script = host.rstrip("123")
        own = [] if script == "sink" else ["--sink", self._network.addresses["sink"]]
        return self._pipeline.start(script, *arguments, *own, inside=self._network.inside(host))

    def hosts(self) -> Sequence[str]:
        """Who can be struck."""
        return list(self._network.addresses)

    def strike(self, host: str, fault: str) -> bool:
        """Do it; it lasts until `heal`."""
        if fault == "silence":
            self._network.silence(host, [other for other in self.hosts() if other != host])
        elif fault == "unplug":
            self._network.unplug(host)
        else:
            self._network.take_down(host)
        return True

    def heal(self, host: str) -> None:
        """No more faults for this host."""
        self._network.heal(host)

    def close(self) -> None:
        """The network's maker closes it."""


Roads = Proxies | Machines
