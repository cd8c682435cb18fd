"""A crew through ssh, with a real sshd: it works, leaves nothing secret, and ends with its link."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.transport.key_files import load
from common.transport.key_folder import KeyFolder
from tests.conftest import TOP, Pipeline, Process, is_gone, wait_until
from tests.namespaces import network_of
from tests.sshd import PROGRAM, Sshd, sshd_in
from tests.test_readme import blocks, lines, typed

GATE = """
import os, time
def wait(n):
    open(f"started{n}", "w").close()
    while n and not os.path.exists("open"):
        time.sleep(0.01)
    return n
"""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Sshd]:
    """Another machine, which has modules and no key. Its hosts are those of the page, and some that cannot be used."""
    with sshd_in(tmp_path / "there", "lab1", "lab2", "a", "unknown", "changed", "denied", "shut") as made:
        yield made


PAGE = TOP / "docs" / "CLUSTERS.md"
CHECK, RUN = [typed(line)[2:] for block in blocks(PAGE, "ssh") for line in lines(block)]
"""What the page says to type, without `tradewind crew ssh`."""


def crew(pipeline: Pipeline, there: Sshd, *arguments: str, inside: tuple[str, ...] = ()) -> Process:
    """Start `tradewind crew ssh`."""
    ways = ["--ssh", there.ssh, "--program", PROGRAM]
    command = [*inside, sys.executable, "-m", "common", "crew", "ssh", *ways, *arguments]
    env = pipeline.env | {"PYTHONPATH": str(TOP)}
    process = Process(command, pipeline.folder, f"crew-{len(pipeline.processes)}", env, subprocess.DEVNULL)
    pipeline.processes.append(process)
    return process


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        # It has ended.
        return b""


def children(process: Process, *words: str) -> list[int]:
    """Its children whose command line has these words."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if {*words} <= {*readable(Path("/proc", pid, "cmdline")).decode().split("\0")}]


def joined(process: Process, host: str) -> int:
    """Wait until the host's worker has joined; returns its process id."""
    return int(process.wait_for(rf"{host}: .*joined the sink at \S+ as \S+\.(\d+)-")[1])


def test_a_crew_works_and_leaves_nothing_secret_and_ends_with_its_link(pipeline: Pipeline, there: Sshd) -> None:
    (there.folder / "mine.py").write_text(GATE)
    port = pipeline.sink().wait_for(r"ports (\d+) and")[1]
    # As on the page, with a key whose secret is known here.
    other = {"farm": str(there.folder), "4": "1"}
    words = [other.get(word, word) for word in RUN if word != "--enrol"]
    both = crew(pipeline, there, *words, "--sink", f"127.0.0.1:{port}")
    hosts = ("lab1", "lab2")
    first = {host: joined(both, host) for host in hosts}
    secret = load(pipeline.folder / "keys" / "worker.key_secret").secret
    assert secret
    for process in [path for path in Path("/proc").iterdir() if path.name.isdigit()]:
        for name in ("cmdline", "environ"):
            assert secret.encode() not in readable(process / name), process
    assert not any(secret.encode() in path.read_bytes() for path in there.folder.rglob("*") if path.is_file())

    ventilator = pipeline.ventilator("mine:wait", "--range", "4", "--batch", "1", "--job", "j")
    wait_until(lambda: len(list(there.folder.glob("started*"))) == 3, "both have a task that does not end")
    [ssh] = children(both, "lab1")
    os.kill(ssh, signal.SIGKILL)
    both.wait_for("connection to lab1 is lost.*; trying again in 1 s")
    assert not is_gone(first["lab1"])
    (there.folder / "open").touch()
    wait_until(lambda: is_gone(first["lab1"]), "the worker leaves when its link is gone")
    assert ventilator.wait() == 0
    assert pipeline.query("SELECT task, value FROM results ORDER BY task") == [(n, n) for n in range(4)]
    wait_until(lambda: len(re.findall("lab1: .*joined the sink", both.err)) == 2, "it is back")

    # As a terminal does, which sends it to all that it has started.
    os.killpg(both.pid, signal.SIGINT)
    assert both.wait() == 0, both.err
    both.wait_for("SIGINT: waiting for 2 workers to finish what runs; again to leave at once")
    for host in hosts:
        both.wait_for(f"{host}: .*standard input has ended")
        both.wait_for(f"{host}: its worker has left")
    assert is_gone(first["lab2"])


def test_what_is_wrong_with_each_host_is_said_in_words(pipeline: Pipeline, there: Sshd) -> None:
    (there.folder / "gate.py").write_text(GATE)
    port = pipeline.sink().wait_for(r"ports (\d+) and")[1]
    other = there.folder / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    lie = there.folder / "lie"
    lie.write_text((there.folder / "known_hosts").read_text().rpartition(" ")[0])
    lie.write_text(f"{lie.read_text()} {other.with_suffix('.pub').read_text().split()[1]}\n")
    mine = there.config.read_text()
    there.config.write_text(  # What comes first counts.
        "Host unknown\n  UserKnownHostsFile /dev/null\n"
        f"Host changed\n  UserKnownHostsFile {lie}\n"
        f"Host denied\n  IdentityFile {other}\nHost shut\n  Port 1\n" + mine.replace("  IdentityFile", "  #", 1)
        + f"Host a unknown changed shut\n  IdentityFile {there.folder / 'user_key'}\n"
    )  # fmt: skip
    hosts = ["unknown", "changed", "denied", "shut"]
    options = ["--cwd", str(there.folder), "--", "--sink", f"127.0.0.1:{port}", "--slots", "1"]
    table = crew(pipeline, there, "a", *hosts, "--check", *options, "gate:wait")
    bad = crew(pipeline, there, "a", *hosts, *options, "nosuch")
    causes = {
        "unknown": "the host key of unknown is not known here",
        "changed": "changed has another host key than before",
        "denied": r"denied refuses to let you in \(publickey\)",
        "shut": r"nobody listens for ssh at shut \(Connection refused\)",
    }
    old = shlex.join(["ssh-keygen", "-f", str(lie), "-R", f"[127.0.0.1]:{there.port}"])
    bad.wait_for(re.escape(f"run `{old}`, then `{there.ssh} changed` once"))
    for cause in causes.values():
        bad.wait_for(rf" WARNING crew: {cause}.*: .*; trying again in 1 s\n")
    bad.wait_for("a: worker: module nosuch not found")
    bad.wait_for("ERROR crew: a: its worker ends, and is not started again")
    bad.signal(signal.SIGTERM)
    assert bad.wait() == 2

    assert table.wait() == 1, table.err
    assert re.search(r"^a +ok +3\.\d+\.\d+ +\S+ +\d+ +[+-]\d+\.\d s +ok +ok$", table.out, re.MULTILINE), table.out
    for host, cause in causes.items():
        assert re.search(rf"^{host} +FAIL$", table.out, re.MULTILINE), table.out
        assert re.search(rf"^FAIL  {host}: {cause}", table.out, re.MULTILINE), table.out


def test_what_a_host_lacks_is_said(pipeline: Pipeline, there: Sshd) -> None:
    folder = KeyFolder(pipeline.folder / "keys")
    folder.prepare()
    folder.prepare_local("tcp://127.0.0.1:1")
    other = f"{shlex.quote(sys.executable)} -I -m no_tradewind"
    lacks = {
        "a does not find /nowhere/tradewind": ["--program", "/nowhere/tradewind"],
        "a has no folder /nowhere": ["--cwd", "/nowhere"],
        "the Python of a has no Tradewind": ["--program", other],
        "sink's name: the sink's address in --sink is this machine itself": [],
    }
    rest = ["--check", "--", "squares", "--sink", "127.0.0.1"]
    for said, found in [(said, crew(pipeline, there, "a", *more, *rest)) for said, more in lacks.items()]:
        assert found.wait() == 1, found.err
        assert f"FAIL  a: {said}" in found.out


def test_ssh_carries_the_connection_to_a_sink_that_hosts_cannot_reach(pipeline: Pipeline, tmp_path: Path) -> None:
    """The sink listens at the loopback address of one machine; the worker is on another one."""
    with network_of("desk", "lab") as network:
        inside, address = tuple(network.inside("desk")), network.addresses["lab"]
        with sshd_in(tmp_path / "there", "lab", inside=network.inside("lab"), address=address) as there:
            (there.folder / "gate.py").write_text(GATE)
            (there.folder / "open").touch()
            sink = pipeline.start("sink", "--listen", "127.0.0.1", "--tasks-port", "7555", inside=inside)
            sink.wait_for("listening")
            lab = crew(
                pipeline, there, "lab", "--enrol", "--tunnel", "--cwd", str(there.folder), "--", "gate", inside=inside
            )
            lab.wait_for("lab: .*joined the sink at 127.0.0.1")
            assert re.search(r"^crew-\w{8}\tworker\t", pipeline.run("sink", "roster").out, re.MULTILINE)
            ventilator = pipeline.start("ventilator", "gate:wait", "--range", "9", "--relay", "always", inside=inside)
            assert ventilator.wait() == 0, ventilator.err
            lab.signal(signal.SIGTERM)
            assert lab.wait() == 0, lab.err
            assert "crew-" not in pipeline.run("sink", "roster").out
