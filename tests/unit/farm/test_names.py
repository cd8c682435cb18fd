"""Under which name workers find a function."""

import functools
import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.farm.names import check_job, named, new_job
from common.ventilator import summary


def closure() -> Callable[[int], int]:
    def inside(n: int) -> int:
        return n

    return inside


def test_a_function_of_a_module_has_its_name() -> None:
    found = named(summary.cancelled)
    assert (found.name, found.exposed, found.script) == (
        "common.ventilator.summary:cancelled",
        "common.ventilator.summary",
        None,
    )
    assert (named(math.sqrt).name, named(math.sqrt).exposed) == ("math:sqrt", "math:sqrt")
    assert named(re.compile).name == "re:compile"


def test_what_is_not_public_is_exposed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = types.ModuleType("mine")
    exec("def _hidden(n): return n\ndef left_out(n): return n\n__all__ = ['other']", vars(made))
    monkeypatch.setitem(sys.modules, "mine", made)
    assert named(made._hidden).exposed == "mine:_hidden"
    assert named(made.left_out).exposed == "mine:left_out"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n: n, "is a lambda"),
        (closure(), "inside another function"),
        ([].append, "method of an object"),
        (functools.partial(pow, 2), "no function with a module"),
        (3, "no function with a module"),
    ],
)
def test_what_workers_cannot_import_is_refused_in_words(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        named(function)


def test_a_decorated_function_that_is_not_its_modules_is_refused() -> None:
    @functools.wraps(summary.cancelled)
    def wrapper(seconds: float) -> str:
        return ""

    with pytest.raises(TypeError, match="another object"):
        named(wrapper)


def _of_main(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> Callable[..., Any]:
    main = types.ModuleType("__main__")
    exec("def square(n): return n * n", vars(main))
    vars(main).update({"__spec__": None, **attributes})
    monkeypatch.setitem(sys.modules, "__main__", main)
    found: Callable[..., Any] = main.square
    return found


def test_a_script_goes_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "grid.py"
    file.touch()
    found = named(_of_main(monkeypatch, __file__=str(file)))
    assert (found.name, found.exposed, found.script) == ("grid:square", "grid", str(file))


def test_a_module_that_is_run_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = types.SimpleNamespace(name="package.grid")
    assert named(_of_main(monkeypatch, __spec__=spec)).name == "package.grid:square"


@pytest.mark.parametrize("file", [None, "nowhere.py"])
def test_a_notebook_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str | None) -> None:
    attributes = {} if file is None else {"__file__": str(tmp_path / file)}
    with pytest.raises(TypeError, match=r"%%writefile mine\.py"):
        named(_of_main(monkeypatch, **attributes))


@pytest.mark.parametrize(
    ("file", "better"), [("my-grid.py", "my_grid.py"), ("01 grid.py", "_01_grid.py"), ("grid", "grid.py")]
)
def test_a_script_with_a_name_that_no_module_has_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, better: str
) -> None:
    (tmp_path / file).touch()
    with pytest.raises(TypeError, match=rf"square is defined in {file}, which .* like {better}, or put square"):
        named(_of_main(monkeypatch, __file__=str(tmp_path / file)))


def test_names_are_checked() -> None:
    assert named("a.b:c.d").name == "a.b:c.d"
    for wrong in ("square", "a.py", ":f", "a:", "a b:c"):
        with pytest.raises(ValueError, match="MODULE:FUNCTION"):
            named(wrong)
    for wrong in ("", " a", "a/b", "x" * 101, 5):
        with pytest.raises(ValueError, match="letters, digits"):
            check_job(wrong)  # type: ignore[arg-type]
    assert new_job("a.b:c") != new_job("a.b:c")
    assert check_job(new_job("größe.b:" + "c" * 100))
