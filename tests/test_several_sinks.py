"""A site with two sinks' addresses: the first one is killed and another one takes over; nobody has to do anything."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from common.transport.key_folder import KeyFolder
from common.transport.sockets import listener
from tests.conftest import PATIENCE_S, TOP, Pipeline, Process, start, wait_until
from tests.test_faults import GATE, executions

SECOND = "127.0.0.2"


class Addresses:
    """Where the sinks of this site are; both have the same keys and ledger, one after the other."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.first = pipeline.sink()
        port = self.first.wait_for(r"ports (\d+) and")[1]
        with listener() as free:
            self._second_port = str(free.getsockname()[1])
        self.both = f"tcp://127.0.0.1:{port},tcp://{SECOND}:{self._second_port}"
        keys = KeyFolder(pipeline.folder / "keys")
        for role in ("worker", "ventilator", "observer"):
            keys.enrol(role, f"{role}2", self.both, pipeline.folder / f"{role}2.key_secret")

    def second(self) -> Process:
        ports = "--control-port", self._second_port, "--results-port", "0", "--relay-port", "0", "--tasks-port", "0"
        process = self._pipeline.start("sink", "--listen", SECOND, *ports)
        process.wait_for("listening at")
        return process


@contextmanager
def watched(pipeline: Pipeline, *arguments: str) -> Iterator[int]:
    """`status --watch` on a terminal of its own; to be read."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    command = [sys.executable, str(TOP / "sink.py"), "status", "--watch", *arguments]
    env = pipeline.env | {"TERM": "xterm"}
    watch = subprocess.Popen(command, cwd=pipeline.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield ours
    finally:
        watch.send_signal(signal.SIGINT)
        watch.wait(PATIENCE_S)
        os.close(ours)


def shows(screen: int, text: bytes) -> None:
    shown, ends_at = b"", time.monotonic() + PATIENCE_S
    while text not in shown:
        assert time.monotonic() < ends_at, shown
        if select.select([screen], [], [], 0.1)[0]:
            shown += os.read(screen, 65536)


def test_all_go_over_to_the_sink_that_takes_over(programs: Pipeline) -> None:
    programs.module("gate", GATE)
    programs.module("squares", "import time\ndef square(n):\n    time.sleep(0.02)\n    return n * n\n")
    site = Addresses(programs)
    # The second one is named first, where nobody listens.
    turned = ",".join(reversed(site.both.split(",")))
    worker = programs.worker("gate", "squares", "--slots", "3", "--key", "worker2.key_secret", "--sink", turned)
    site.first.wait_for("worker .* joined")
    key = ("--key", "ventilator2.key_secret", "--relay", "always")
    ventilator = programs.start("ventilator", "gate:wait", "--range", "2", "--batch", "1", "--job", "j", *key)
    program = start(
        programs,
        "program",
        """
        import tradewind

        with tradewind.connect("ventilator2.key_secret") as farm:
            for value in farm.map("squares:square", range(50), job="squares", batch=1):
                print(value, flush=True)
            print(len(farm.crew()), flush=True)
        """,
    )
    with watched(programs, "--key", "observer2.key_secret") as screen:
        shows(screen, b"1 worker")
        wait_until(lambda: executions(programs) and program.out, "both jobs run")
        site.first.kill()
        second = site.second()
        ventilator.wait_for(f"went over to the sink at tcp://{SECOND}")
        shows(screen, b"1 worker")
    (programs.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    assert program.wait() == 0, program.err
    assert program.out.split() == [*(str(n * n) for n in range(50)), "1"]
    assert sorted(set(executions(programs))) == list(range(2))
    assert programs.query("SELECT count(*), sum(status = 'ok') FROM results") == [(52, 52)]
    assert re.search(f"joined the sink at {SECOND}", worker.err)
    assert second.popen.poll() is None
    assert programs.query("PRAGMA integrity_check") == [("ok",)]


def test_the_page_finds_the_sink_at_the_second_address(pipeline: Pipeline) -> None:
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    from tests.test_web import Site

    site = Addresses(pipeline)
    page = Site(pipeline, "--key", "observer2.key_secret")
    wait_until(lambda: page.get("/readyz")[0] == 200, "the sink is heard")
    site.first.kill()
    site.second()
    wait_until(lambda: page.get("/readyz")[0] == 200, "the other sink is heard")
    pipeline.worker("squares", "--slots", "1", "--key", "worker2.key_secret")
    wait_until(lambda: len(page.state()["workers"]) == 1, "the page shows its worker")
