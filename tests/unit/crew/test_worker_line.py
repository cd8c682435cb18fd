"""What stands behind `--`: it is checked here as the worker would check it there."""

import pytest
import typer

from common.crew.worker_line import WorkerLine, read
from common.errors import OperatorError


def test_it_is_kept_as_it_was_typed() -> None:
    words = ["work", "other:one", "--slots", "4", "--grace", "7.5", "--command", "x=echo {}"]
    typed = frozenset({"modules", "slots", "grace", "command"})
    assert read(words) == WorkerLine(tuple(words), ("work", "other:one"), 4, 7.5, commands=("x",), typed=typed)
    assert read(["work"]) == WorkerLine(("work",), ("work",), None, 30.0, typed=frozenset({"modules"}))
    assert read(["--command", "x=echo {}"]).modules == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the modules that the workers serve, behind --"),
        (["--slots", "4"], "name the modules"),
        (["work.py"], "name the module as Python imports it"),
        (["work", "--name", "a b"], "--name a b"),
        (["work", "--key", "-"], "--key cannot stand behind --: the crew's own --key does that"),
        (["work", "--version"], "--version cannot stand behind --"),
    ],
)
def test_what_no_worker_would_take_is_said_before_any_is_started(words: list[str], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        read(words)


def test_a_wrong_option_is_the_workers_own_misuse() -> None:
    with pytest.raises(typer.BadParameter.__base__, match="slotz"):  # type: ignore[arg-type]
        read(["work", "--slotz", "4"])


def test_the_environment_of_this_machine_is_not_that_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEWIND_SLOTS", "9")
    monkeypatch.setenv("TRADEWIND_KEY", "elsewhere")
    assert read(["work"]).slots is None
