"""`doctor` in front of set-ups that are really broken: it names the true cause first."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from common import __version__
from common.doctor import command, ledger_file, machine, modules, network
from common.doctor.checks import OF_ROLE, Verdict, examine
from common.doctor.facts import Facts
from common.doctor.ledger_server import ledger_server
from common.doctor.sink_checks import OF_SINK
from common.errors import OperatorError
from common.protocol import handshake
from common.protocol.users import OBSERVER, VENTILATOR, WORKER
from common.transport.key_folder import KeyFolder
from common.transport.sockets import listener
from common.worker.cores import usable_cores
from tests.conftest import TOP, Pipeline, Process
from tests.namespaces import network_of


def free_port() -> int:
    with listener() as made:
        return int(made.getsockname()[1])


class Sink:
    """A running sink, and what doctor says of the way to it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.process = pipeline.sink()
        self.keys = pipeline.folder / "keys"
        self.port = int(KeyFolder(self.keys).certificate(WORKER).sink.rpartition(":")[2])

    def enrol(self, role: str, name: str) -> Path:
        """A key file of another machine's, which knows this sink by its right address."""
        out = self.pipeline.folder / f"{name}.key_secret"
        KeyFolder(self.keys).enrol(role, name, f"tcp://127.0.0.1:{self.port}", out)
        return out

    def first(self, key: Path, role: str = WORKER, sink: str | None = None) -> Verdict:
        """The first verdict on a machine that has this key."""
        facts = command._reached(Facts(), key, role, sink)
        return examine(facts, OF_ROLE[role])[0]

    def own(self) -> list[Verdict]:
        """The verdicts on the sink's machine."""
        place = str(self.pipeline.folder / "results.db")
        facts = Facts(ledger=ledger_file.ledger_file(place), folder=ledger_file.key_folder(self.keys))
        return examine(command._reached(facts, self.keys / "observer.key_secret", OBSERVER, None), OF_SINK)


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with closing(Pipeline(tmp_path_factory.mktemp("sink"))) as pipeline:
        yield Sink(pipeline)


@contextmanager
def listening(says: bytes) -> Iterator[int]:
    """The port of a program that says this to whoever connects, and then nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", port := free_port()))
        server.listen()
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(says)
                kept.append(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def said(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.check, verdict.state, f"{verdict.what}: {verdict.do}"


def test_a_good_key_finds_all_well(sink: Sink) -> None:
    facts = command._reached(Facts(), sink.enrol(WORKER, "good"), WORKER, None)
    assert {verdict.state for verdict in examine(facts, OF_ROLE[WORKER])} == {"ok"}


def test_no_worker(sink: Sink) -> None:
    check, state, text = said(sink.first(sink.enrol(VENTILATOR, "lonely"), VENTILATOR))
    assert (check, state) == ("crew", "warn")
    assert "no worker is here" in text


def test_the_key_of_another_sink(sink: Sink, tmp_path: Path) -> None:
    other = KeyFolder(tmp_path / "keys")
    other.prepare()
    other.enrol(WORKER, "foreign", f"tcp://127.0.0.1:{sink.port}", tmp_path / "foreign.key_secret")
    check, state, text = said(sink.first(tmp_path / "foreign.key_secret"))
    assert (check, state) == ("handshake", "FAIL")
    assert "has another key than" in text


def test_a_revoked_key(sink: Sink) -> None:
    key = sink.enrol(WORKER, "gone")
    KeyFolder(sink.keys).revoke("gone")
    check, state, text = said(sink.first(key))
    assert (check, state) == ("handshake", "FAIL")
    assert "refuses this key" in text
    assert "it is not enrolled there, or was revoked" in text


def test_a_revoked_key_beside_its_sink(sink: Sink, tmp_path: Path) -> None:
    """Where the sink's own folder is, doctor can tell which of the two it is."""
    shutil.copytree(sink.keys, tmp_path / "keys")
    KeyFolder(tmp_path / "keys").revoke("worker")
    check, state, text = said(sink.first(tmp_path / "keys" / "worker.key_secret"))
    assert (check, state) == ("key file", "FAIL")
    assert "was revoked" in text


def test_the_key_of_another_role(sink: Sink) -> None:
    check, state, text = said(sink.first(sink.enrol(VENTILATOR, "pusher"), WORKER))
    assert (check, state) == ("key file", "FAIL")
    assert "is a ventilator's key: a worker needs one" in text


def test_a_key_that_others_can_read(sink: Sink) -> None:
    key = sink.enrol(WORKER, "open")
    key.chmod(0o644)
    check, state, text = said(sink.first(key))
    assert (check, state) == ("key file", "FAIL")
    assert "others can read the secret" in text
    assert "chmod 600" in text


def test_a_port_where_nobody_listens(sink: Sink) -> None:
    check, state, text = said(sink.first(sink.keys / "worker.key_secret", sink=f"127.0.0.1:{free_port()}"))
    assert (check, state) == ("sink's port", "FAIL")
    assert "connection refused" in text
    assert "start it" in text


def test_a_loopback_name_in_a_key_of_another_machine(sink: Sink, tmp_path: Path) -> None:
    KeyFolder(sink.keys).enrol(WORKER, "far", f"tcp://localhost:{free_port()}", tmp_path / "far.key_secret")
    check, state, text = said(sink.first(tmp_path / "far.key_secret"))
    assert (check, state) == ("sink's name", "FAIL")
    assert "is this machine itself (localhost is 127.0.0.1" in text


def test_a_name_that_does_not_resolve(sink: Sink) -> None:
    check, state, text = said(sink.first(sink.enrol(WORKER, "lost"), sink="nosuchhost.invalid"))
    assert (check, state) == ("sink's name", "FAIL")
    assert "does not resolve" in text


def test_another_program_at_the_port(sink: Sink) -> None:
    with listening(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n") as port:
        check, state, text = said(sink.first(sink.enrol(WORKER, "ssh"), sink=f"127.0.0.1:{port}"))
    assert (check, state) == ("sink's port", "FAIL")
    assert "is not a Tradewind sink" in text


def test_a_program_that_says_nothing(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_JOIN_S", 0.5)
    with listening(b"") as port:
        check, state, text = said(sink.first(sink.enrol(WORKER, "mute"), sink=f"127.0.0.1:{port}"))
    assert (check, state) == ("handshake", "FAIL")
    assert "no sink answers there" in text


def test_another_version_of_the_protocol(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PROTOCOL_VERSION", 99)
    check, state, text = said(sink.first(sink.enrol(WORKER, "newer")))
    assert (check, state) == ("handshake", "FAIL")
    assert "this worker 99: install the same version on both" in text


def test_a_clock_that_is_off(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    true_time = network.time.time
    monkeypatch.setattr(network.time, "time", lambda: true_time() - 3600)
    facts = command._reached(Facts(), sink.enrol(WORKER, "late"), WORKER, None)
    check, state, text = said(examine(facts, OF_ROLE[WORKER])[0])
    assert (check, state) == ("clock", "warn")
    assert "is 1 h 00 min behind the sink's" in text or "is 60 min 00 s behind the sink's" in text


def test_a_sink_that_stands_still(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_JOIN_S", 0.5)
    sink.process.signal(signal.SIGSTOP)
    try:
        there = said(sink.first(sink.keys / "worker.key_secret"))
        here = said(sink.own()[0])
    finally:
        sink.process.signal(signal.SIGCONT)
    assert there[:2] == ("handshake", "FAIL")
    assert "it is stopped" in there[2]
    assert here[:2] == ("answer", "FAIL")
    assert f"kill -CONT {sink.process.pid}" in here[2]


def test_a_ledger_that_another_program_has_locked(sink: Sink) -> None:
    ledger = sink.pipeline.folder / "results.db"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        if not Path("/proc/locks").exists():
            pytest.skip("only Linux says who holds a lock")
        check, state, text = said(sink.own()[0])
        db.execute("ROLLBACK")
    assert (check, state) == ("ledger's lock", "FAIL")
    assert f"(process {os.getpid()}) has the ledger" in text
    assert sink.own()[0].check == "crew", "there is no worker, and nothing else is wrong"


def test_where_the_system_names_no_locks_they_are_unknown(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that stands still is not taken for another program either."""
    monkeypatch.setattr(ledger_file, "_LOCKS", Path("/proc/no locks"))
    monkeypatch.setattr(network, "_JOIN_S", 0.5)
    found = {verdict.check: said(verdict) for verdict in sink.own()}
    assert found["ledger's lock"][1] == "unknown"
    assert "does not say which programs hold locks" in found["ledger's lock"][2]
    sink.process.signal(signal.SIGSTOP)
    try:
        check, state, text = said(sink.own()[0])
    finally:
        sink.process.signal(signal.SIGCONT)
    assert (check, state) == ("answer", "FAIL")
    assert "it is stopped, or that is not its control port" in text


# -- what is no matter of the way to the sink -----------------------------------------------------------------------


def of_sink(place: Path) -> tuple[str, str, str]:
    return said(examine(Facts(ledger=ledger_file.ledger_file(str(place))), OF_SINK)[0])


def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is a letter, and no ledger.\n" * 100)
    assert of_sink(tmp_path / "text")[:2] == ("ledger", "FAIL")
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE songs (name)")
    check, state, text = of_sink(tmp_path / "other.db")
    assert (check, state) == ("ledger", "FAIL")
    assert "it is no ledger" in text


def test_a_ledger_that_is_not_finished_is_no_fault(tmp_path: Path) -> None:
    """The sink was interrupted at its first start. Whatever the folder is called, other faults are said."""
    folder = tmp_path / "this is empty"
    folder.mkdir()
    (folder / "results.db").touch()
    assert ledger_file.ledger_file(str(folder / "results.db")).fault == ""
    (folder / "results.db").write_text("This is a letter, and no ledger.\n" * 100)
    assert of_sink(folder / "results.db")[:2] == ("ledger", "FAIL")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: Path) -> os.statvfs_result:
        return os.statvfs_result((*tuple(real(path))[:3], 0, 0, *tuple(real(path))[5:]))

    monkeypatch.setattr(os, "statvfs", full)
    check, state, text = of_sink(tmp_path / "results.db")
    assert (check, state) == ("room", "FAIL")
    assert "the disk is full: 0 MB" in text


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check, state, text = of_sink(tmp_path / "file" / "results.db")
    assert (check, state) == ("ledger", "FAIL")
    assert "cannot write beside the ledger" in text


def test_a_huge_log(sink: Sink, tmp_path: Path) -> None:
    with closing(sqlite3.connect(sink.pipeline.folder / "results.db")) as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / "results.db"),))
    with (tmp_path / "results.db-wal").open("wb") as log:
        log.truncate(1024**3)
    check, state, text = of_sink(tmp_path / "results.db")
    assert (check, state) == ("ledger's log", "warn")
    assert "1,024 MB" in text


def test_a_network_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "31 30 0:51 / /srv/local\\040disk rw - xfs /dev/vdb rw\n"
        "30 22 0:50 / /srv rw,relatime shared:1 - nfs4 nas:/srv rw\n"
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    )
    assert ledger_file.file_system(Path("/srv/farm"), mounts) == "nfs4"
    assert ledger_file.file_system(Path("/srv/local disk/farm"), mounts) == "xfs"
    assert ledger_file.file_system(Path("/srvx"), mounts) == "ext4"
    assert ledger_file.file_system(Path("/srv"), tmp_path / "nothing") == ""


def test_half_a_core_and_little_memory(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/farm\n")
    (tmp_path / "groups" / "farm").mkdir(parents=True)
    (tmp_path / "groups" / "farm" / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "groups" / "farm" / "memory.max").write_text("134217728\n")
    facts = Facts(machine=machine.machine(tmp_path / "own", tmp_path / "groups"))
    cores, memory = examine(facts, OF_ROLE[WORKER])[:2]
    assert said(cores)[:2] == ("cores", "warn")
    assert "0.5 of a core" in cores.what
    assert said(memory)[:2] == ("memory", "warn")
    assert "128 MB" in memory.what


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("nosuchmodule", "module nosuchmodule not found"),
        ("broken", "ZeroDivisionError"),
        ("fine:cube", "module fine has no function cube; it has square"),
        ("fine.py", "name the module as Python imports it"),
    ],
)
def test_modules_that_cannot_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "fine.py").write_text("def square(n):\n    return n * n\n")
    monkeypatch.chdir(tmp_path)
    check, state, text = said(examine(Facts(served=modules.served([module])), OF_ROLE[WORKER])[0])
    assert (check, state) == ("modules", "FAIL")
    assert words in text


def test_an_import_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.chdir(tmp_path)
    check, state, _ = said(examine(Facts(served=modules.served(["hangs"], 0.2)), OF_ROLE[WORKER])[0])
    assert (check, state) == ("modules", "warn")


def test_a_ledger_of_a_kind_that_there_is_not() -> None:
    with pytest.raises(OperatorError, match="cannot use the ledger mysql://host/name"):
        ledger_server("mysql://host/name")


# -- the commands ---------------------------------------------------------------------------------------------------


def doctor(pipeline: Pipeline, *arguments: str, inside: tuple[str, ...] = ()) -> Process:
    """`tradewind doctor` in the pipeline's folder."""
    program = f"import sys; sys.path.insert(0, {str(TOP)!r}); from common.command import run; run()"
    line = [*inside, sys.executable, "-c", program, "doctor", *arguments]
    process = Process(line, pipeline.folder, f"doctor-{len(pipeline.processes)}", pipeline.env, subprocess.DEVNULL)
    pipeline.processes.append(process)
    process.wait()
    return process


def test_the_commands(sink: Sink) -> None:
    pipeline = sink.pipeline
    pipeline.module("squares", "def square(n):\n    return n * n\n")
    well = doctor(pipeline, "squares")
    assert well.wait() == 0, well.err
    assert "ok       modules       squares: 1 function" in well.out
    ill = doctor(pipeline, "--as", "ventilator", "--key", "keys/worker.key_secret", "--json")
    assert ill.wait() == 1
    found = json.loads(ill.out)
    assert found["fails"] is True
    assert (found["facts"]["versions"]["Tradewind"], found["facts"]["clock_ahead_s"]) == (__version__, None)
    assert found["facts"]["slots"] == usable_cores().count
    assert found["checks"][0] == {
        "check": "key file",
        "state": "FAIL",
        "what": "keys/worker.key_secret is a worker's key",
        "do": "a ventilator needs one from `enrol ventilator NAME`",
    }
    wrong = doctor(pipeline, "--as", "sink")
    assert (wrong.wait(), "give worker, ventilator or observer" in wrong.err) == (2, True)
    own = pipeline.run("sink", "doctor")
    assert own.wait() == 0, own.err
    assert own.out.startswith("warn     crew")
    assert f"(process {sink.process.pid})" in own.out


def test_a_port_that_is_filtered(pipeline: Pipeline) -> None:
    """Packets to the sink vanish: nobody says that it is not there."""
    with network_of("sinkhost", "farm") as net:
        folder = KeyFolder(pipeline.folder / "away")
        folder.prepare()
        folder.enrol(WORKER, "lab", f"tcp://{net.addresses['sinkhost']}:5559", pipeline.folder / "lab.key_secret")
        net.silence("sinkhost", ["farm"])
        found = doctor(pipeline, "--key", "lab.key_secret", inside=tuple(net.inside("farm")))
    assert found.wait() == 1, found.err
    first, advice = found.out.splitlines()[:2]
    assert first.startswith("FAIL     sink's port")
    assert "firewall" in first
    assert "5559, 5558 and 5555" in advice
