"""The verdicts of `doctor`: facts in, verdicts out. No socket, no file.

A check whose prerequisite is not ok is unknown, never FAIL: so what fails first is the root cause.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .. import causes
from ..pace import duration
from ..plain_text import counted, host_port
from ..protocol.settings import (
    CONTROL_PORT,
    MORE_TASKS_PORTS,
    RELAY_PORT,
    RELAYED_TASKS_PORT,
    RESULTS_PORT,
    TASKS_PORT,
)
from ..protocol.sink_addresses import is_here
from ..protocol.users import OBSERVER, VENTILATOR, WORKER
from .facts import Facts, KeyFile, Port

State = Literal["ok", "warn", "FAIL", "unknown"]
CLOCK_MAX_S = 2.0
FILES_LEAST, FILES_FEW = 64, 1_024
_MEMORY_FEW_BYTES = 256 * 1024 * 1024
_IMPORT_SLOW_S = 20.0
_SINKS_PORTS = {
    WORKER: (CONTROL_PORT, RESULTS_PORT, RELAYED_TASKS_PORT),
    VENTILATOR: (CONTROL_PORT, RELAY_PORT),
    OBSERVER: (CONTROL_PORT,),
}
"""To which ports of the sink's machine a role connects."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`what` is one line about how it is, `do` one about what to do, empty when that is nothing."""

    check: str
    state: State
    what: str
    do: str = ""


Judged = tuple[State, str, str]
"""State, what, do."""


@dataclass(frozen=True, slots=True)
class Check:
    """`judge` gives None where the check does not apply."""

    name: str
    judge: Callable[[Facts], Judged | None]
    needs: tuple[str, ...] = ()


def examine(facts: Facts, checks: Sequence[Check]) -> list[Verdict]:
    """All verdicts, what fails first and its root before its consequences."""
    found: dict[str, Verdict] = {}
    for check in checks:
        missing = [need for need in check.needs if need in found and found[need].state in ("FAIL", "unknown")]
        judged = check.judge(facts) if not missing else ("unknown", f"needs: {missing[0]}", "")
        if judged is not None:
            found[check.name] = Verdict(check.name, *judged)
    order = ("FAIL", "warn", "unknown", "ok")
    return sorted(found.values(), key=lambda verdict: order.index(verdict.state))


def fails(verdicts: Iterable[Verdict]) -> bool:
    """Whether anything fails."""
    return any(verdict.state == "FAIL" for verdict in verdicts)


def ok(what: str) -> Judged:
    """Nothing to do."""
    return "ok", what, ""


def said(state: State, cause: causes.Cause | str) -> Judged:
    """A cause of the table, or an error whose line has the same form."""
    if isinstance(cause, causes.Cause):
        return state, cause.what, cause.do
    what, _, do = cause.partition(": ")
    return state, what, do


# -- this machine -------------------------------------------------------------------------------------------------


def _software(facts: Facts) -> Judged | None:
    if facts.software is None:
        return None
    versions = ", ".join(f"{name} {version}" for name, version in facts.software.versions)
    if not facts.software.has_curve:
        return (
            "FAIL",
            f"this libzmq was built without CURVE ({versions})",
            "install the wheel of pyzmq: pip install --force-reinstall --only-binary pyzmq pyzmq",
        )
    return ok(versions)


def _cores(facts: Facts) -> Judged | None:
    if facts.machine is None:
        return None
    machine, count = facts.machine, counted(facts.machine.cores, "slot")
    if machine.quota is not None and machine.quota < 1:
        return (
            "warn",
            f"{machine.cores_why}: {count} at {machine.quota:g} of a core",
            "give the container or service a larger CPU quota, or expect tasks to take longer",
        )
    return ok(f"{count}: {machine.cores_why}")


def _threads(facts: Facts) -> Judged | None:
    if facts.machine is None:
        return None
    many = [f"{name}={value}" for name, value in facts.machine.threads if value.isdecimal() and int(value) > 1]
    if many and facts.machine.cores > 1:
        return (
            "warn",
            f"each of {facts.machine.cores} slots may start several threads: {', '.join(many)}",
            "unset that, so that slots share the cores, or start the worker with fewer --slots",
        )
    return ok("numeric libraries start as many threads as a slot has cores")


def _memory(facts: Facts) -> Judged | None:
    if facts.machine is None or facts.machine.memory_bytes is None:
        return None
    each = facts.machine.memory_bytes / facts.machine.cores
    text = f"the control group may use {facts.machine.memory_bytes / 1024**2:,.0f} MB, for {facts.machine.cores} slots"
    if each < _MEMORY_FEW_BYTES:
        return "warn", text, "start the worker with fewer --slots, or raise that limit"
    return ok(text)


def _files(facts: Facts) -> Judged | None:
    if facts.machine is None:
        return None
    most = facts.machine.files
    if 0 <= most < FILES_LEAST:
        return (
            "FAIL",
            f"only {most} files may be open here",
            "allow more with `ulimit -n 1024` (or LimitNOFILE)",
        )
    if 0 <= most < FILES_FEW:
        return (
            "warn",
            f"only {most:,} files may be open here: a slot takes 6, a worker takes 2 of its sink's",
            "allow more with `ulimit -n 65536` (or LimitNOFILE)",
        )
    return ok("enough" if most < 0 else f"{most:,} may be open")


def _modules(facts: Facts) -> Judged | None:
    served = facts.served
    if served is None:
        return None
    names = " ".join(served.modules)
    if served.error:
        return "FAIL", f"cannot serve {names}", served.error
    if not served.ended:
        return (
            "warn",
            f"{names} is not imported after {duration(served.seconds)}",
            "see what the module does while it is imported: each of the worker's children does that",
        )
    text = f"{names}: {counted(len(served.functions), 'function')}, imported in {served.seconds:.1f} s"
    if served.seconds > _IMPORT_SLOW_S:
        return "warn", text, "move what is slow into the function, or wait: each of the worker's children imports it"
    return ok(text)


# -- the sink, from a worker's or ventilator's machine ------------------------------------------------------------


def _key(facts: Facts) -> Judged | None:
    key = facts.key
    if key is None:
        return None
    if key.error:
        return said("FAIL", key.error)
    if key.standing == "revoked":
        return "FAIL", f"{key.path} was revoked", f"`python sink.py enrol {key.role} NAME` makes a new key file"
    return ok(f"{key.path} is a {key.role}'s, for the sink at {key.address}")


def _file_to_fix(key: KeyFile) -> str | None:
    """The key file, if it is the one that says where the sink is."""
    return key.path if key.gives_address else None


def _name(facts: Facts) -> Judged | None:
    key, name = facts.key, facts.name
    if key is None or name is None:
        return None
    if not name.addresses:
        return said("FAIL", causes.no_such_name(key.address, _file_to_fix(key)))
    text = name.host if name.addresses == (name.host,) else f"{name.host} is {', '.join(name.addresses)}"
    is_refused = facts.control is not None and facts.control.state == "refused"
    if name.is_loopback and not key.is_sinks_own and is_refused:
        source = _file_to_fix(key) or "--sink"
        return (
            "FAIL",
            f"the sink's address in {source} is this machine itself ({text}), where no sink listens",
            "name the sink's machine with --sink, or enrol again there with --address tcp://HOST:PORT; a name must"
            " resolve to that machine here (/etc/hosts, DNS)",
        )
    return ok(text)


def _port(facts: Facts) -> Judged | None:
    key, port = facts.key, facts.control
    if key is None or port is None:
        return None
    if port.is_foreign:
        return said("FAIL", causes.no_tradewind(key.address))
    if port.state == "open":
        low = facts.machine.outgoing_from if facts.machine else 32_768
        if port.port >= low:
            return (
                "warn",
                f"port {port.port} of the sink is one that systems take for outgoing connections ({low} and above)",
                "start the sink with ports below 32768",
            )
        return ok(f"{host_port(port.host, port.port)} takes connections")
    if port.state == "refused":
        return said("FAIL", causes.no_sink(key.address, is_here(key.address), "connection refused"))
    return "FAIL", *unheard(port, "no sink answers", key.role)


def unheard(port: Port, what: str, role: str) -> tuple[str, str]:
    """What and what to do about a port that is not reached, and does not refuse."""
    where = host_port(port.host, port.port)
    if port.state == "filtered":
        *most, last = map(str, _SINKS_PORTS[role])
        ports = f"ports {', '.join(most)} and {last}" if most else f"port {last}"
        return (
            f"{what} at {where}: it does not answer at all, so a firewall drops it, or that machine is off",
            f"let this machine connect there to {ports}, or start that machine",
        )
    return f"{what} at {where}: {port.reason or port.state}", "see how this machine's network leads there (ip route)"


def _others(facts: Facts) -> Judged | None:
    if facts.key is None or not facts.others:
        return None
    for name, port in facts.others:
        if port is None:
            return said("warn", causes.no_such_name(name.host, _file_to_fix(facts.key)))
        if port.is_foreign:
            return said("warn", causes.no_tradewind(host_port(port.host, port.port)))
        if port.state not in ("open", "refused"):
            return "warn", *unheard(port, "a standby is not reached", facts.key.role)
    where = ", ".join(host_port(port.host, port.port) for _, port in facts.others if port is not None)
    return ok(f"{where} refuses connections, as a standby does, or answers too")


def _joining(facts: Facts) -> Judged | None:
    key, joining = facts.key, facts.joining
    if key is None or joining is None:
        return None
    if not joining.fault:
        return ok(f"the sink at {key.address} welcomes {key.role} {key.name}")
    if joining.is_final:
        return said("FAIL", joining.fault)
    # The port takes connections: somebody is there.
    return said("FAIL", causes.silent_port(key.address))


def _results_port(facts: Facts) -> Judged | None:
    port = facts.results
    if port is None:
        return None
    if port.state == "open":
        return ok(f"{host_port(port.host, port.port)} takes connections")
    if port.state == "refused":
        where = host_port(port.host, port.port)
        return (
            "FAIL",
            f"the results port refuses connections at {where}",
            f"the sink listens there itself: let what is between pass port {port.port} on as it does the control port",
        )
    return "FAIL", *unheard(port, "the results port is not reached", WORKER)


def _relay_port(facts: Facts) -> Judged | None:
    """Where tasks go through the sink, if workers cannot connect to their ventilator: no job needs it otherwise."""
    key, port = facts.key, facts.relay
    if key is None or port is None:
        return None
    where = host_port(port.host, port.port)
    if port.state == "open":
        return ok(f"{where} takes connections")
    what = f"the relay's port {'refuses connections' if port.state == 'refused' else 'is not reached'} at {where}"
    return "warn", what, f"let this machine connect there to port {port.port}, or no task comes through the relay"


def _clock(facts: Facts) -> Judged | None:
    if facts.joining is None:
        return None
    ahead_s = facts.joining.ahead_s
    if ahead_s is None:
        return "unknown", "the sink does not say what time it has", ""
    if abs(ahead_s) > CLOCK_MAX_S:
        which = "behind" if ahead_s > 0 else "ahead of"
        return (
            "warn",
            f"this machine's clock is {duration(abs(ahead_s))} {which} the sink's",
            "set it by NTP: nothing depends on it but the times in the logs",
        )
    return ok("differs by less than 2 seconds from the sink's")


def records(facts: Facts) -> Judged | None:
    """Whether the sink says that its ledger accepts results."""
    if facts.joining is None:
        return None
    if facts.joining.is_stuck:
        return said("FAIL", causes.records_nothing())
    return ok("the sink records results")


def crew(facts: Facts) -> Judged | None:
    """Whether workers are here."""
    if facts.joining is None:
        return None
    if not facts.joining.workers:
        return said("warn", causes.no_worker_at_all())
    return ok(f"{counted(facts.joining.workers, 'worker')}, {counted(facts.joining.jobs, 'open job')}")


def _tasks_port(facts: Facts) -> Judged | None:
    if facts.tasks_port_free is None:
        return None
    if not facts.tasks_port_free:
        ports = f"{MORE_TASKS_PORTS.start} to {MORE_TASKS_PORTS.stop - 1}"
        return "warn", f"port {TASKS_PORT} is in use here", f"let workers connect to ports {ports} too: one is taken"
    return ok(f"port {TASKS_PORT} is free; whether workers reach it is said while a job runs")


HERE = (Check("software", _software), Check("open files", _files))
_REACH = (
    Check("key file", _key),
    Check("sink's name", _name, ("key file",)),
    Check("sink's port", _port, ("sink's name",)),
    Check("handshake", _joining, ("sink's port",)),
    Check("other sinks", _others, ("sink's port",)),
)
_SINK = (Check("clock", _clock, ("handshake",)), Check("ledger", records, ("handshake",)))
_RESULTS = Check("results port", _results_port, ("handshake",))
_RELAY = Check("relay port", _relay_port, ("handshake",))
_WORK = (
    Check("modules", _modules),
    Check("cores", _cores),
    Check("threads", _threads),
    Check("memory", _memory),
)
OF_ROLE: dict[str, tuple[Check, ...]] = {
    WORKER: (*HERE, *_REACH, _RESULTS, _RELAY, *_SINK, *_WORK),
    VENTILATOR: (*HERE, *_REACH, _RELAY, *_SINK, Check("crew", crew, ("handshake",)), Check("tasks port", _tasks_port)),
    OBSERVER: (*HERE, *_REACH, *_SINK, Check("crew", crew, ("handshake",))),
}
