"""The examples, run as a user would: the folder beside one's own files, three commands."""

import ast
import gzip
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from tests.conftest import PATIENCE_S, TOP, Pipeline, start


@pytest.fixture
def with_examples(pipeline: Pipeline) -> Pipeline:
    shutil.copytree(TOP / "examples", pipeline.folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return pipeline


def test_squares(with_examples: Pipeline) -> None:
    with_examples.sink()
    with_examples.worker("examples.squares")
    assert with_examples.ventilator("examples.squares:square", "--range", "100000").wait() == 0
    assert with_examples.query("SELECT count(*), min(value = task * task) FROM results") == [(100_000, 1)]


def test_logs(with_examples: Pipeline) -> None:
    folder = with_examples.folder
    (folder / "a.log").write_text("12:00 INFO up\n12:01 ERROR down\n  at line 3\n12:02 INFO up\n")
    with gzip.open(folder / "b.log.gz", "wt") as file:
        file.write("12:00 WARNING hot\n")
    (folder / "logs.txt").write_text("a.log\nb.log.gz\nmissing.log\n")
    with_examples.sink()
    with_examples.worker("examples.logs")
    ventilator = with_examples.ventilator("examples.logs:levels", "logs.txt")
    assert ventilator.wait() == 1
    ventilator.wait_for(r"task 2 \(missing.log\) failed: FileNotFoundError: .*missing.log")
    values = [
        json.loads(value) for (value,) in with_examples.query("SELECT value FROM results WHERE json ORDER BY task")
    ]
    assert values == [{"INFO": 2, "ERROR": 1, "other": 1}, {"WARNING": 1}]


class Inbox:
    """An SMTP server's handler that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.received.append((envelope.rcpt_tos[0], envelope.content.decode()))  # type: ignore[attr-defined]
        return "250 taken"


def test_mail_reaches_a_real_smtp_server_once(with_examples: Pipeline) -> None:
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        messages = [{"to": f"user{n}@example.org", "subject": f"Hello {n}", "body": f"Text {n}\n"} for n in range(20)]
        (with_examples.folder / "messages.jsonl").write_text("".join(json.dumps(each) + "\n" for each in messages))
        with_examples.sink()
        with_examples.worker("examples.mail", SMTP_HOST="127.0.0.1", SMTP_PORT=str(port))
        ventilator = with_examples.ventilator("examples.mail:send", "messages.jsonl")
        assert ventilator.wait() == 0, ventilator.err
    finally:
        server.stop()
    assert sorted(to for to, _ in inbox.received) == sorted(message["to"] for message in messages)
    assert all(f"Text {to[4:-12]}" in text and "Message-ID: <" in text for to, text in inbox.received)


def test_grid(programs: Pipeline) -> None:
    for name in ("matplotlib", "numpy", "pandas"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    programs.env["MPLBACKEND"] = "agg"
    program = start(programs, "grid", (TOP / "examples" / "grid.py").read_text())
    assert program.wait() == 0, program.err
    lines = program.out.splitlines()
    arrived = re.fullmatch(r"(\d+) of 576 descents arrive; the fastest:", lines[0])
    assert arrived and 0 < int(arrived[1]) < 576
    assert lines[1].split() == ["rate", "momentum", "seed", "steps", "height"]
    assert (programs.folder / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_source_the_main_job(tmp_path: Path) -> None:
    texts = {"one.py": "x = 1\n", "two.py": "def f():\n    return [1, 2]\n", "broken.py": "def f(:\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, str(TOP / "examples" / "source.py"), "--folder", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    nodes = sum(sum(1 for _ in ast.walk(ast.parse(texts[name]))) for name in ("one.py", "two.py"))
    assert ["all", "3", "files", "4", str(sum(map(len, texts.values()))), str(nodes)] in lines
    two = next(line for line in lines if line and line[0].endswith("two.py"))
    assert two[-1] == hashlib.sha256(texts["two.py"].encode()).hexdigest()[:12]
    ledger = Path(done.stdout.rstrip().rpartition("the ledger: ")[2])
    assert ledger.is_file()
    shutil.rmtree(ledger.parent)
