"""What `doctor` says of made-up facts: the root cause first, and nothing false about what it does not know."""

from dataclasses import replace

import pytest

from common import causes
from common.doctor.checks import OF_ROLE, Check, Verdict, examine, fails
from common.doctor.facts import (
    Facts,
    Folder,
    Joining,
    KeyFile,
    LedgerFile,
    LedgerServer,
    Machine,
    Port,
    Program,
    ResolvedName,
    Served,
    Software,
)
from common.doctor.sink_checks import OF_SINK
from common.protocol.handshake import Fail, Handshake, LinkEvent
from common.protocol.settings import HANDSHAKES_A_MINUTE_MAX, Timing
from common.protocol.users import OBSERVER, ROLES, VENTILATOR, WORKER

KEY = KeyFile("lab.key_secret", "", WORKER, "lab", "sinkhost", 5559, "tcp://sinkhost:5559")
SINK = Program(17, "python")
LEDGER = LedgerFile("results.db", True, "", "ext4", 10**12, 8_192, 0, 0.001)
FACTS = Facts(
    software=Software((("pyzmq", "27.3.0"),), True),
    machine=Machine(2, "this machine has 2 cores", None, 8 * 1024**3, 20_000),
    key=KEY,
    name=ResolvedName("sinkhost", ("10.0.0.7",), False),
    control=Port("sinkhost", 5559, "open"),
    results=Port("sinkhost", 5558, "open"),
    relay=Port("sinkhost", 5555, "open"),
    joining=Joining(ahead_s=0.1, workers=2, jobs=1),
    served=Served(["mine"], ["mine:square"], seconds=0.1),
    folder=Folder("keys", True, enrolled=3),
    ledger=replace(LEDGER, sink=SINK),
    tasks_port_free=True,
)


def of_machine(**changes: object) -> Facts:
    assert FACTS.machine is not None
    return replace(FACTS, machine=replace(FACTS.machine, **changes))  # type: ignore[arg-type]


def of_ledger(**changes: object) -> Facts:
    return replace(FACTS, ledger=replace(LEDGER, sink=SINK, **changes))  # type: ignore[arg-type]


def stopped_at(**changes: object) -> Facts:
    """What is known when the way ends early: what is behind that was not looked at."""
    behind = {"name": None, "control": None, "results": None, "relay": None, "joining": None}
    return replace(FACTS, **behind | changes)  # type: ignore[arg-type]


def joining(fault: str = "", is_final: bool = False, **changes: object) -> Facts:
    return replace(FACTS, results=None, relay=None, joining=replace(Joining(fault, is_final), **changes))  # type: ignore[arg-type]


def no_sink_facts() -> Facts:
    return replace(FACTS, ledger=LEDGER, control=Port("sinkhost", 5559, "refused"), results=None, joining=None)


CASES: list[tuple[str, Facts, tuple[Check, ...], str, str, str]] = [
    (
        "a standby's machine is not reached",
        replace(FACTS, others=[(ResolvedName("b", ("10.0.0.8",), False), Port("b", 5559, "filtered"))]),
        OF_ROLE[WORKER],
        "other sinks",
        "warn",
        "a standby is not reached at b:5559",
    ),
    (
        "a standby's name is wrong",
        replace(FACTS, others=[(ResolvedName("b", (), False), None)]),
        OF_ROLE[OBSERVER],
        "other sinks",
        "warn",
        "the name in b does not resolve",
    ),
    (
        "libzmq without CURVE",
        replace(FACTS, software=Software((), False)),
        OF_ROLE[WORKER],
        "software",
        "FAIL",
        "CURVE",
    ),
    ("ulimit -n 32", of_machine(files=32), OF_ROLE[WORKER], "open files", "FAIL", "ulimit -n 1024"),
    ("ulimit -n 256", of_machine(files=256), OF_ROLE[WORKER], "open files", "warn", "only 256 files"),
    (
        "half a core",
        of_machine(cores=1, quota=0.5, cores_why="the CPU quota of its control group is 0.5 cores"),
        OF_ROLE[WORKER],
        "cores",
        "warn",
        "0.5 cores",
    ),
    ("memory", of_machine(memory_bytes=256 * 1024**2), OF_ROLE[WORKER], "memory", "warn", "256 MB, for 2 slots"),
    (
        "threads",
        of_machine(threads=(("OMP_NUM_THREADS", "8"),)),
        OF_ROLE[WORKER],
        "threads",
        "warn",
        "OMP_NUM_THREADS=8",
    ),
    (
        "no key file",
        stopped_at(key=KeyFile("k", "cannot read the key file k: No such file; name the one")),
        OF_ROLE[WORKER],
        "key file",
        "FAIL",
        "cannot read the key file k",
    ),
    (
        "a key revoked beside the sink",
        replace(joining("x: y", True), key=replace(KEY, standing="revoked", is_sinks_own=True)),
        OF_ROLE[WORKER],
        "key file",
        "FAIL",
        "was revoked",
    ),
    (
        "a name without an address",
        stopped_at(name=ResolvedName("sinkhost", (), False)),
        OF_ROLE[WORKER],
        "sink's name",
        "FAIL",
        "does not resolve",
    ),
    (
        "a loopback address in another machine's key",
        stopped_at(name=ResolvedName("sinkhost", ("127.0.1.1",), True), control=Port("sinkhost", 5559, "refused")),
        OF_ROLE[WORKER],
        "sink's name",
        "FAIL",
        "is this machine itself (sinkhost is 127.0.1.1)",
    ),
    (
        "refused",
        stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "refused")),
        OF_ROLE[WORKER],
        "sink's port",
        "FAIL",
        "connection refused",
    ),
    (
        "filtered",
        stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "filtered")),
        OF_ROLE[VENTILATOR],
        "sink's port",
        "FAIL",
        "firewall",
    ),
    (
        "no route",
        stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "unreachable", "Network is unreachable")),
        OF_ROLE[OBSERVER],
        "sink's port",
        "FAIL",
        "Network is unreachable",
    ),
    (
        "a port that systems use",
        replace(FACTS, control=Port("sinkhost", 40_000, "open")),
        OF_ROLE[WORKER],
        "sink's port",
        "warn",
        "below 32768",
    ),
    ("nobody answers", joining("no sink answers: start it"), OF_ROLE[WORKER], "handshake", "FAIL", "connected to"),
    ("refused by the sink", joining("it refuses: do it", True), OF_ROLE[WORKER], "handshake", "FAIL", "it refuses"),
    (
        "only the results port is shut",
        replace(FACTS, results=Port("sinkhost", 5558, "filtered")),
        OF_ROLE[WORKER],
        "results port",
        "FAIL",
        "sinkhost:5558",
    ),
    (
        "only the relay's port is shut",
        replace(FACTS, relay=Port("sinkhost", 5555, "filtered")),
        OF_ROLE[WORKER],
        "relay port",
        "warn",
        "the relay's port is not reached at sinkhost:5555",
    ),
    (
        "something refuses the relay's port",
        replace(FACTS, relay=Port("sinkhost", 5556, "refused")),
        OF_ROLE[VENTILATOR],
        "relay port",
        "warn",
        "refuses connections at sinkhost:5556",
    ),
    ("the clock is behind", joining(ahead_s=300.0, workers=1), OF_ROLE[WORKER], "clock", "warn", "5 min 00 s behind"),
    ("the clock is ahead", joining(ahead_s=-7200.0, workers=1), OF_ROLE[WORKER], "clock", "warn", "2 h 00 min ahead"),
    (
        "the sink records nothing",
        joining(ahead_s=0.0, is_stuck=True),
        OF_ROLE[WORKER],
        "ledger",
        "FAIL",
        "records nothing",
    ),
    ("no worker", joining(ahead_s=0.0), OF_ROLE[VENTILATOR], "crew", "warn", "no worker is here"),
    (
        "a module",
        replace(FACTS, served=Served(["m"], error="No module m")),
        OF_ROLE[WORKER],
        "modules",
        "FAIL",
        "No module",
    ),
    (
        "an import that hangs",
        replace(FACTS, served=Served(["m"], seconds=60, ended=False)),
        OF_ROLE[WORKER],
        "modules",
        "warn",
        "not imported after 1 min",
    ),
    ("5557 in use", replace(FACTS, tasks_port_free=False), OF_ROLE[VENTILATOR], "tasks port", "warn", "5560 to 5599"),
    (
        "the key folder",
        replace(FACTS, folder=Folder("keys", True, "cannot read the key file keys/sink.key_secret: No such file")),
        OF_SINK,
        "key folder",
        "FAIL",
        "sink.key_secret",
    ),
    ("NFS", of_ledger(file_system="nfs4"), OF_SINK, "ledger's disk", "FAIL", "network file system (nfs4)"),
    ("sshfs", of_ledger(file_system="fuse.sshfs"), OF_SINK, "ledger's disk", "FAIL", "fuse.sshfs"),
    (
        "a full disk",
        replace(of_ledger(free_bytes=4096, write_error="No space left"), joining=Joining(is_stuck=True)),
        OF_SINK,
        "room",
        "FAIL",
        "the disk is full",
    ),
    ("little room", of_ledger(free_bytes=1024**3), OF_SINK, "room", "warn", "1,024 MB are free"),
    (
        "no ledger",
        of_ledger(fault="x is another program's: give another"),
        OF_SINK,
        "ledger",
        "FAIL",
        "another program",
    ),
    (
        "a lock",
        replace(of_ledger(locker=Program(9, "sqlite3")), joining=Joining(is_stuck=True)),
        OF_SINK,
        "ledger's lock",
        "FAIL",
        "sqlite3 (process 9) has the ledger",
    ),
    (
        "no database",
        replace(FACTS, server=LedgerServer("postgresql://host/db", fault="cannot use the ledger: start the server")),
        OF_SINK,
        "server",
        "FAIL",
        "cannot use the ledger",
    ),
    (
        "a database without fsync",
        replace(FACTS, server=LedgerServer("postgresql://host/db", is_durable=False, version="15.18")),
        OF_SINK,
        "server",
        "warn",
        "PostgreSQL 15.18 runs with fsync or full_page_writes off",
    ),
    ("a huge log", of_ledger(log_bytes=5 * 1024**3), OF_SINK, "ledger's log", "warn", "5,120 MB"),
    ("a slow disk", of_ledger(sync_s=0.2), OF_SINK, "disk's speed", "warn", "200.0 ms"),
    ("a sink that stands still", joining("no sink: start it"), OF_SINK, "answer", "FAIL", "kill -CONT 17"),
    (
        "another program at the port",
        replace(joining("no sink: start it"), ledger=LEDGER),
        OF_SINK,
        "answer",
        "FAIL",
        "another program listens",
    ),
    (
        "another program that speaks",
        replace(FACTS, control=Port("sinkhost", 5559, "open", is_foreign=True), joining=None, ledger=LEDGER),
        OF_SINK,
        "sink's port",
        "FAIL",
        "another program listens",
    ),
    (
        "a web server",
        stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "open", is_foreign=True)),
        OF_ROLE[WORKER],
        "sink's port",
        "FAIL",
        "is not a Tradewind sink",
    ),
    ("no sink runs", no_sink_facts(), OF_SINK, "sink's port", "warn", "start it"),
    (
        "the sink's own port is shut",
        replace(FACTS, control=Port("sinkhost", 5559, "filtered"), joining=None, results=None),
        OF_SINK,
        "sink's port",
        "FAIL",
        "the sink runs, and is not reached",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_true_cause_comes_first(case: tuple[str, Facts, tuple[Check, ...], str, str, str]) -> None:
    _, facts, checks, name, state, words = case
    first = examine(facts, checks)[0]
    assert (first.check, first.state) == (name, state)
    assert words in f"{first.what}: {first.do}"
    assert first.what and first.do, "each says what, and what to do"
    assert "\n" not in first.what + first.do


@pytest.mark.parametrize("checks", [*OF_ROLE.values(), OF_SINK], ids=[*OF_ROLE, "sink"])
def test_where_all_is_well_nothing_is_said_to_do(checks: tuple[Check, ...]) -> None:
    assert {(verdict.state, verdict.do) for verdict in examine(FACTS, checks)} == {("ok", "")}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_behind_a_fault_is_unknown(role: str) -> None:
    facts = stopped_at(key=KeyFile("k", "cannot read: it"))
    found = {verdict.check: verdict for verdict in examine(facts, OF_ROLE[role])}
    assert found["sink's name"] == Verdict("sink's name", "unknown", "needs: key file")
    assert found["handshake"].what == "needs: sink's port"
    assert [verdict.check for verdict in found.values() if verdict.state == "FAIL"] == ["key file"]


def test_only_a_port_that_refuses_is_said_to_refuse() -> None:
    for state, is_said in (("refused", True), ("filtered", False)):
        facts = replace(no_sink_facts(), control=Port("sinkhost", 5559, state))  # type: ignore[arg-type]
        found = {verdict.check: verdict for verdict in examine(facts, OF_SINK)}["sink's port"]
        assert found.what.startswith("no sink answers at tcp://sinkhost:5559")
        assert ("connection refused" in found.what) is is_said


@pytest.mark.parametrize(
    ("role", "ports"),
    [(WORKER, "ports 5559, 5558 and 5555,"), (VENTILATOR, "ports 5559 and 5556,"), (OBSERVER, "port 5559,")],
)
def test_a_port_that_is_filtered_is_named_with_the_others_of_the_role(role: str, ports: str) -> None:
    shut = stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "filtered"))
    assert shut.key is not None
    facts = replace(shut, key=replace(shut.key, role=role))
    assert ports in examine(facts, OF_ROLE[role])[0].do


def test_warnings_are_no_failure() -> None:
    assert not fails(examine(of_ledger(log_bytes=5 * 1024**3), OF_SINK))
    assert fails(examine(of_ledger(free_bytes=0), OF_SINK))


def test_what_nobody_knows_is_neither_good_nor_bad() -> None:
    verdicts = {each.check: each.state for each in examine(of_ledger(file_system=""), OF_SINK)}
    assert verdicts["ledger's disk"] == "unknown"
    clock = {each.check: each.state for each in examine(joining(workers=1), OF_ROLE[WORKER])}["clock"]
    assert clock == "unknown", "a sink of an earlier version says no time"


def waiting(*events: LinkEvent) -> str:
    """What a role says that waits for its sink."""
    rules = Handshake(Timing(), WORKER, "lab", [KEY.address], KEY.path)
    for event in events:
        for output in rules.event(0.0, event):
            if isinstance(output, Fail):
                return output.text
    return rules.waiting_for()


def test_doctor_has_the_words_of_the_waits() -> None:
    """Where both know the cause. Doctor may know more: that a connection was refused, or is filtered."""

    def first(facts: Facts) -> str:
        verdict = examine(facts, OF_ROLE[WORKER])[0]
        return f"{verdict.what}: {verdict.do}"

    assert waiting(LinkEvent.NO_SUCH_NAME) == first(stopped_at(name=ResolvedName("sinkhost", (), False)))
    refused = first(stopped_at(name=FACTS.name, control=Port("sinkhost", 5559, "refused")))
    assert waiting(LinkEvent.NOBODY) == refused.replace(" (connection refused)", "")
    assert waiting(LinkEvent.CONNECTED) == first(joining(waiting(LinkEvent.NOBODY)))
    for events in ([LinkEvent.KEY_REFUSED], [LinkEvent.NO_TRADEWIND], [LinkEvent.BAD_HANDSHAKE] * 4):
        assert waiting(*events) == first(joining(waiting(*events), True))
    assert waiting(LinkEvent.KEY_REFUSED) == str(causes.key_refused(KEY.address, KEY.path, WORKER, False))
    assert waiting(*[LinkEvent.BAD_HANDSHAKE] * 4) == str(
        causes.another_key(KEY.address, KEY.path, HANDSHAKES_A_MINUTE_MAX)
    )


def test_a_standby_that_refuses_is_as_it_should_be() -> None:
    facts = replace(FACTS, others=[(ResolvedName("b", ("10.0.0.8",), False), Port("b", 5559, "refused"))])
    assert {verdict.state for verdict in examine(facts, OF_ROLE[WORKER])} == {"ok"}


@pytest.mark.parametrize(
    ("server", "state", "words"),
    [
        (
            LedgerServer("pg", sink="process 7 on one"),
            "ok",
            "closed, as a standby's is: process 7 on one serves the site",
        ),
        (LedgerServer("pg", sink="process 7 on here", sink_is_here=True), "FAIL", "the sink runs, and is not reached"),
        (LedgerServer("pg"), "warn", "no sink answers"),
    ],
    ids=["stands by", "runs here", "runs nowhere"],
)
def test_a_closed_port_on_the_machine_of_a_standby(server: LedgerServer, state: str, words: str) -> None:
    facts = replace(no_sink_facts(), ledger=None, server=server)
    [verdict] = [each for each in examine(facts, OF_SINK) if each.check == "sink's port"]
    assert verdict.state == state
    assert words in verdict.what
