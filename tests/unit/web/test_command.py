"""Where the page reads: in a ledger, or through its sink."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("uvicorn", reason="the libraries of the page are not installed")

from common.transport.key_folder import KeyFolder
from common.web import server
from common.web.command import app
from common.web.server import WebOptions

KEY, SINK, LEDGER = ["--key", "desk.key_secret"], ["--sink", "sinkhost"], ["--ledger", "mine.db"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a sink's keys, another observer's key, and no ledger."""
    monkeypatch.chdir(tmp_path)
    keys = KeyFolder(Path("keys"))
    keys.prepare()
    keys.enrol("observer", "desk", "tcp://127.0.0.1:1", Path("desk.key_secret"))
    shutil.copy("desk.key_secret", keys.local("observer"))
    return tmp_path


def ledger_of(monkeypatch: pytest.MonkeyPatch, arguments: list[str], **environment: str) -> str | None:
    """The ledger that the page would be served with."""
    given: list[WebOptions] = []
    monkeypatch.setattr(server, "serve", given.append)
    done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return given[0].ledger


@pytest.mark.parametrize("typed", [KEY, SINK])
def test_a_sink_that_was_typed_wins_over_a_ledger_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    assert ledger_of(monkeypatch, typed, TRADEWIND_LEDGER="gone.db") is None


@pytest.mark.parametrize("typed", [[], KEY, SINK])
def test_a_ledger_that_was_typed_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]) -> None:
    assert ledger_of(monkeypatch, [*typed, *LEDGER], TRADEWIND_LEDGER="gone.db") == "mine.db"


def test_a_ledger_of_the_environment_is_read_where_no_sink_was_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"TRADEWIND_LEDGER": "gone.db", "TRADEWIND_KEY": "desk.key_secret", "TRADEWIND_SINK": "sinkhost"}
    assert ledger_of(monkeypatch, [], **environment) == "gone.db"


def test_without_any_the_default_is_read_if_it_is_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger_of(monkeypatch, []) is None
    Path("results.db").touch()
    assert ledger_of(monkeypatch, []) == "results.db"
    assert ledger_of(monkeypatch, KEY) is None
