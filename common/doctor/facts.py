"""What `doctor` finds out, as data; None where it has not looked. Who finds it out stands in other files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

PortState = Literal["open", "refused", "filtered", "unreachable"]


@dataclass(frozen=True, slots=True)
class Software:
    """The versions that count, and whether libzmq was built with CURVE."""

    versions: tuple[tuple[str, str], ...]
    has_curve: bool


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file; `error` says why it cannot be used, and the rest is empty then."""

    path: str
    error: str = ""
    role: str = ""
    name: str = ""
    host: str = ""
    port: int = 0
    address: str = ""
    """Of the sink, as sockets take it."""
    others: tuple[tuple[str, int], ...] = ()
    """Host and port of further sinks of the site."""
    gives_address: bool = True
    """False when --sink says where the sink is."""
    is_sinks_own: bool = False
    """It lies in the key folder of a sink on this machine."""
    standing: Literal["", "enrolled", "revoked", "unknown"] = ""
    """What that key folder says of the key, if there is one."""


@dataclass(frozen=True, slots=True)
class ResolvedName:
    """The addresses of the sink's host; none when the name does not resolve."""

    host: str
    addresses: tuple[str, ...]
    is_loopback: bool


@dataclass(frozen=True, slots=True)
class Port:
    """What an attempt to connect to it has met."""

    host: str
    port: int
    state: PortState
    reason: str = ""
    is_foreign: bool = False
    """What listens there speaks, and not ZeroMQ."""


@dataclass(frozen=True, slots=True)
class Joining:
    """How the sink has answered: `fault` is empty when it welcomed us, and the words of the wait otherwise."""

    fault: str = ""
    is_final: bool = False
    """Waiting would not help: the sink refuses, or is another one."""
    ahead_s: float | None = None
    """By how much the sink's clock is ahead of ours."""
    is_stuck: bool = False
    workers: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker's child says of the modules."""

    modules: Sequence[str]
    functions: Sequence[str] = ()
    error: str = ""
    seconds: float = 0.0
    """How long the import took; when it did not end, how long it was waited for."""
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """What a process may use here."""

    cores: int
    cores_why: str
    quota: float | None
    """The CPU quota of its control group in cores."""
    memory_bytes: int | None
    """The memory limit of its control group."""
    files: int
    """How many descriptors it may take; -1 without a limit."""
    threads: tuple[tuple[str, str], ...] = ()
    """The variables of the environment that say how many threads numeric libraries start."""
    outgoing_from: int = 32_768
    """The lowest port that the system takes for outgoing connections."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The sink's key folder; `fault` says why it cannot be used."""

    path: str
    exists: bool
    fault: str = ""
    enrolled: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A process."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name or 'a program'} (process {self.pid})"


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """An SQLite ledger and the disk below it; `fault` says why it cannot be read."""

    path: str
    exists: bool
    fault: str = ""
    file_system: str = ""
    """Its type, such as ext4; empty where the system does not say."""
    free_bytes: int | None = None
    file_bytes: int = 0
    log_bytes: int = 0
    sync_s: float | None = None
    """How long a small write takes until the disk has it; None when none succeeded."""
    write_error: str = ""
    has_locks: bool = True
    """Whether the system says who holds locks: without that `sink` and `locker` are not known."""
    sink: Program | None = None
    """Who has it open as its sink."""
    locker: Program | None = None
    """Another program that keeps it from being written."""


@dataclass(frozen=True, slots=True)
class LedgerServer:
    """A ledger in PostgreSQL; `fault` says why it cannot be used, and the rest is empty then."""

    name: str
    fault: str = ""
    driver: str = ""
    version: str = ""
    answer_s: float = 0.0
    """How long it took to connect and to look."""
    is_made: bool = False
    is_durable: bool = True
    """False when the server is set so that a power cut takes back what was committed."""
    size_bytes: int = 0
    sink: str = ""
    """Who holds the site as its sink."""
    sink_is_here: bool = False
    """It runs on this machine."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was found out."""

    software: Software | None = None
    machine: Machine | None = None
    key: KeyFile | None = None
    name: ResolvedName | None = None
    control: Port | None = None
    others: Sequence[tuple[ResolvedName, Port | None]] = ()
    """What is met at the site's other sinks."""
    results: Port | None = None
    relay: Port | None = None
    joining: Joining | None = None
    served: Served | None = None
    folder: Folder | None = None
    ledger: LedgerFile | None = None
    server: LedgerServer | None = None
    tasks_port_free: bool | None = None


def figures(facts: Facts) -> dict[str, Any]:
    """What scripts compare of several machines."""
    return {
        "versions": dict(facts.software.versions) if facts.software else {},
        "slots": facts.machine.cores if facts.machine else None,
        "clock_ahead_s": facts.joining.ahead_s if facts.joining else None,
    }
