"""Which values of a command line go around the library that checks them, and that no value changes by it."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from common import console, options
from common.log_writer import LogFormat
from tests.conftest import TOP

app = console.application()


@app.command(**console.look())
def take(
    text: Annotated[str, options.argument("A", "TEXT", "A text.")],
    number: Annotated[int | None, options.count("A", "T_NUMBER", "A number.", 1, 9)] = None,
    time_s: Annotated[float, options.seconds("A", "T_TIME", "A time.", 0.5)] = 30.0,
    file: Annotated[Path, options.file("A", "T_FILE", "A file.")] = Path("a"),
    flag: Annotated[bool, options.flag("A", None, "A flag.", "--flag")] = False,
    kind: options.Log = LogFormat.text,
    names: Annotated[list[str] | None, options.option("A", None, "NAME", "Names.", "--name")] = None,
) -> None:
    took.append((text, number, time_s, file, flag, kind, names or []))


took: list[tuple[Any, ...]] = []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["x"], ("x", None, 30.0, Path("a"), False, LogFormat.text, [])),
        (["7", "--number", "9"], ("7", 9, 30.0, Path("a"), False, LogFormat.text, [])),
        (["x", "--time-s", "1.5", "--flag"], ("x", None, 1.5, Path("a"), True, LogFormat.text, [])),
        (["x", "--time-s", "2", "--file", "b/c"], ("x", None, 2.0, Path("b/c"), False, LogFormat.text, [])),
        (["x", "--time-s", "1e3"], ("x", None, 1000.0, Path("a"), False, LogFormat.text, [])),
        (["x", "--log-format", "json", "--name", "a", "--name", "b"],
         ("x", None, 30.0, Path("a"), False, LogFormat.json, ["a", "b"])),
    ],
)  # fmt: skip
def test_values_are_what_they_were(typed: list[str], expected: tuple[Any, ...]) -> None:
    took.clear()
    typer.main.get_command(app).main(typed, prog_name="take", standalone_mode=False)
    assert took == [expected]
    assert list(map(type, took[0])) == list(map(type, expected))


def test_a_value_of_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    took.clear()
    monkeypatch.setenv("T_NUMBER", "3")
    typer.main.get_command(app).main(["x"], prog_name="take", standalone_mode=False)
    assert took[0][1] == 3


@pytest.mark.parametrize(
    "typed",
    [[], ["x", "--number", "10"], ["x", "--number", "0"], ["x", "--number", "1.5"], ["x", "--number", "one"],
     ["x", "--time-s", "0.1"], ["x", "--time-s", "-1"], ["x", "--time-s", "nan"], ["x", "--log-format", "xml"]],
)  # fmt: skip
def test_what_is_wrong_is_refused(typed: list[str]) -> None:
    with pytest.raises(typer.BadParameter.__base__):  # type: ignore[arg-type]
        typer.main.get_command(app).main(typed, prog_name="take", standalone_mode=False)


@pytest.mark.parametrize(
    "typed",
    [
        ("ventilator.py", "m.py", "--range", "1", "--local", "1"),
        ("sink.py", "jobs", "--help"),
        ("sink.py", "results", "--ledger", "nosuch"),
    ],
)
def test_the_library_that_checks_values_is_not_imported(typed: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(TOP / typed[0]), *typed[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert " typer\n" in done.stderr
    assert "pydantic" not in done.stderr
