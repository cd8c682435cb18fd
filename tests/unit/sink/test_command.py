"""Where `results` and `jobs` read: the ledger's file, or its sink."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from common import console
from common.errors import OperatorError
from common.sink import command
from common.sink.command import asks_sink

KEY = Path("desk.key_secret")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was typed, and where the ledger's name comes from."""
    monkeypatch.chdir(tmp_path)
    made = SimpleNamespace(typed=[], ledger_from="DEFAULT")
    made.get_parameter_source = lambda name: SimpleNamespace(name=made.ledger_from)
    monkeypatch.setattr(console, "typed_options", lambda given: given.typed)
    return made


@pytest.mark.parametrize(
    ("typed", "asks"),
    [
        ([], False),
        (["JOB", "--format"], False),
        (["--ledger"], False),
        (["--key"], True),
        (["JOB", "--sink"], True),
        (["--keys", "--follow"], True),
    ],
)
def test_what_is_typed_counts(context: Any, typed: list[str], asks: bool) -> None:
    context.typed = typed
    for key in (KEY, None):
        Path("results.db").touch()
        assert asks_sink(context, "results.db", key) is asks


@pytest.mark.parametrize("other", ["--key", "--sink", "--keys"])
def test_a_file_and_a_sink_are_too_much(context: Any, other: str) -> None:
    context.typed = ["--ledger", other]
    with pytest.raises(OperatorError, match=f"--ledger reads a file, {other} asks a sink: leave one of them out"):
        asks_sink(context, "results.db", KEY)


@pytest.mark.parametrize(
    ("key", "ledger_from", "is_there", "asks"),
    [
        (KEY, "DEFAULT", False, True),
        (KEY, "DEFAULT", True, False),
        (KEY, "ENVIRONMENT", False, False),
        (None, "DEFAULT", False, False),
    ],
)
def test_a_key_in_the_environment_counts_where_no_ledger_is(
    context: Any, key: Path | None, ledger_from: str, is_there: bool, asks: bool
) -> None:
    context.ledger_from = ledger_from
    if is_there:
        Path("results.db").touch()
    assert asks_sink(context, "results.db", key) is asks


@pytest.mark.parametrize("printed", [["jobs"], ["results"], ["results", "--follow"]], ids=" ".join)
def test_the_sink_is_told_when_there_is_nothing_more_to_ask(
    monkeypatch: pytest.MonkeyPatch, printed: list[str]
) -> None:
    said: list[str] = []
    reader = SimpleNamespace(jobs=list, job=lambda name: 1, close=lambda: said.append("goodbye"))
    reader.rows = reader.follow = lambda job, failed: iter(())
    monkeypatch.setattr(command, "open_remote", lambda keys, key, sink: reader)
    result = CliRunner().invoke(command.app, [*printed, "--key", "desk.key_secret"])
    assert (result.exit_code, said) == (0, ["goodbye"])
