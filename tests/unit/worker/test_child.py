"""Which functions of a module a child takes, and what it says where it takes none."""

import importlib
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from common.worker import child
from tests.conftest import PATIENCE_S

TOOLS = "def deco(f):\n    def inner(x):\n        return f(x)\n    return inner\ndef helper(x):\n    return x\n"
RICH = """
from functools import lru_cache, partial
from json import dumps
from {tools} import deco, helper
from subprocess import run

run_it = run

class Caller:
    def __init__(self, f=None):
        pass
    def __call__(self, x):
        return x

caller = Caller()
_hidden = partial(pow, 2)
twice = partial(pow, 2)

def plain(x): return x

@deco
def wrapped(x): return x

@Caller
def called(x): return x

@lru_cache
def cached(x): return x

if True:
    def inside(x): return x

try:
    pass
except ImportError:
    pass
else:
    @deco
    def otherwise(x): return x

also = lru_cache(plain)
Number = list[int]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(tmp_path))

    def _write(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return _write


def _names(module: ModuleType) -> set[str]:
    return {name.partition(":")[2] for name in child._public_functions(module)[0]}


def test_a_module_exposes_what_it_makes_decorated_and_partial_too(write) -> None:  # type: ignore[no-untyped-def]
    write("tw_tools", TOOLS)
    rich = write("tw_rich", RICH.format(tools="tw_tools"))
    assert _names(rich) == {"plain", "wrapped", "called", "cached", "inside", "otherwise", "also", "twice", "caller"}


def test_what_is_made_elsewhere_is_left_out_with_a_word_unless_it_is_imported(write) -> None:  # type: ignore[no-untyped-def]
    write("tw_tools", TOOLS)
    rich = write("tw_rich", RICH.format(tools="tw_tools"))
    assert child._public_functions(rich)[1] == ["tw_rich:run_it"]


def test_all_names_what_is_exposed_wherever_it_was_made(write) -> None:  # type: ignore[no-untyped-def]
    module = write("tw_all", "from json import dumps, loads\n__all__ = ['dumps', 'Own', 'none']\nclass Own: pass\n")
    assert _names(module) == {"dumps"}


def test_a_module_without_a_function_is_told_the_truth(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LookupError, match=r"tw_none makes no public function itself: .* as tw_none:FUNCTION"):
        child._public_functions(write("tw_none", "from json import dumps\nclass A: pass\n"))
    with pytest.raises(LookupError, match="__all__ of module tw_none names no function"):
        child._public_functions(write("tw_none", "__all__ = ['A']\nclass A: pass\ndef f(x): return x\n"))


def test_modules_without_source_expose_what_says_that_it_is_theirs() -> None:
    assert "sqrt" in _names(importlib.import_module("math"))


# -- names that this program or Python has imported before ----------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {top!r})
import runpy
child = runpy.run_path({child!r}, run_name="child")
sys.path.insert(0, "")
child["_forget_namesakes"]()
try:
    print(sorted(child["Exposed"](sys.argv[1:]).functions))
except BaseException as error:
    print(child["_broken"](error, sys.argv[1:]))
"""
CHILD = Path(child.__file__)


def _exposed(folder: Path, *specs: str) -> str:
    program = PROGRAM.format(top=str(CHILD.parents[2]), child=str(CHILD))
    command = [sys.executable, "-P", "-c", program, *specs]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_users_module_is_found_though_the_child_has_one_of_its_name(tmp_path: Path) -> None:
    names = ("signal", "select", "resource", "mmap", "traceback", "msgspec", "queue")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"def own_{name}(x): return x\n")
    (tmp_path / "mine.py").write_text("from signal import own_signal\nfrom resource import own_resource as other\n"
                                      "def both(x): return own_signal(other(x))\n")  # fmt: skip
    assert _exposed(tmp_path, *names, "mine") == str(sorted(["mine:both", *(f"{name}:own_{name}" for name in names)]))


def test_a_package_and_a_mere_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "select").mkdir()
    (tmp_path / "signal").mkdir()
    (tmp_path / "signal" / "__init__.py").touch()
    (tmp_path / "signal" / "mine.py").write_text("import select\ndef poll(x): return select.poll()\n")
    assert _exposed(tmp_path, "signal.mine") == "['signal.mine:poll']"


@pytest.mark.parametrize("name", ["sys", "time", "os", "itertools", "abc"])
def test_a_name_that_python_keeps_for_itself_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("def own(x): return x\n")
    said = f"Python finds a module {name} of its own before {tmp_path / f'{name}.py'}: rename that file"
    assert _exposed(tmp_path, name) == said
    assert _exposed(tmp_path, f"{name}:own") == said
    (tmp_path / "mine.py").write_text(f"from {name} import own\n")
    said_of_import = _exposed(tmp_path, "mine")
    assert said_of_import.startswith(f"module mine cannot be imported: cannot import name 'own' from '{name}'")
    assert said_of_import.endswith(said)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (["whole", "broken"], r"module broken cannot be imported:\n.*/broken.py.*SyntaxError: .*"),
        (["whole", "needs:f"], r"module needs cannot be imported:\n.*import absent\nModuleNotFoundError: .*"),
        (["whole:squar"], r"module whole has no function squar; it has square, cube"),
        (["many:f"], r"module many has no function f; it has f0, f1, f2, f3, f4, \.\.\."),
        (["empty:f"], r"module empty has no function f"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_named(tmp_path: Path, specs: list[str], said: str) -> None:
    (tmp_path / "whole.py").write_text("def square(x): return x * x\ndef cube(x): return x ** 3\n")
    (tmp_path / "many.py").write_text("".join(f"def f{n}(x): return x\n" for n in range(6)))
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "needs.py").write_text("import absent\n")
    (tmp_path / "empty.py").touch()
    assert re.fullmatch(said, _exposed(tmp_path, *specs), re.DOTALL)


def test_a_limit_that_is_kept_waits_for_whoever_has_lifted_it() -> None:
    """So that a command inherits it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    count = 2**46
    limit = child.MemoryLimit(count)
    lifted, goes_on = threading.Event(), threading.Event()

    def lift() -> None:
        with limit:
            lifted.set()
            goes_on.wait(PATIENCE_S)

    thread = threading.Thread(target=lift)
    try:
        thread.start()
        assert lifted.wait(PATIENCE_S)
        threading.Timer(0.05, goes_on.set).start()
        with limit.kept():
            assert goes_on.is_set()
            assert resource.getrlimit(resource.RLIMIT_AS)[0] == count
    finally:
        thread.join()
        resource.setrlimit(resource.RLIMIT_AS, before)
