"""How messages name the commands: as one would type them, given how this one was typed."""

import sys
from pathlib import Path

import pytest

from common import console

MESSAGE = "there is no job j: `python sink.py jobs` lists them; start one with `python worker.py squares`"


@pytest.mark.parametrize(
    ("typed", "sink", "worker"),
    [
        ([".venv/bin/python", "ventilator.py"], ".venv/bin/python sink.py", ".venv/bin/python worker.py"),
        (["python3", "./ventilator.py"], "python3 sink.py", "python3 worker.py"),
        (["python", "a b/sink.py"], "python 'a b/sink.py'", "python 'a b/worker.py'"),
    ],
)
def test_in_a_checkout(monkeypatch: pytest.MonkeyPatch, typed: list[str], sink: str, worker: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.setattr(sys, "argv", typed[1:])
    expected = MESSAGE.replace("python sink.py", sink).replace("python worker.py", worker)
    assert console.as_typed(MESSAGE) == expected


@pytest.mark.parametrize("in_path", [True, False])
def test_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_path: bool) -> None:
    for role in ("sink", "worker"):
        (tmp_path / f"tradewind-{role}").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path if in_path else tmp_path / "elsewhere"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "tradewind-ventilator")])
    where = "" if in_path else f"{tmp_path}/"
    expected = MESSAGE.replace("python sink.py", f"{where}tradewind-sink")
    assert console.as_typed(MESSAGE) == expected.replace("python worker.py", f"{where}tradewind-worker")
