"""The floors of the project: who may import whom, and what only one file may do."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SCRIPTS = {"sink", "worker", "ventilator"}

FLOORS: list[set[str]] = [
    {"errors", "roster", "settings", "runs", "child", "child_output"},  # they know nothing of the rest
    {"messages", "batching", "pacing", "retries"},
    {"flights", "muster", "unreceipted", "held", "room"},
    {"beats", "orders", "turns"},
    {"speculation"},
    {"recording", "joining", "crew", "outputs", "holding", "dispatch"},  # rules
    {"conversation"},
    {"ledger", "keys", "inputs", "gate", "slots", "local", "progress", "console"},  # the outside
    {"store", "reading", "sockets"},  # the sink's rules know the ledger's types
    {"commits", "jobs", "link", "listing"},
    {"collection"},
    SCRIPTS,
    {"entry"},
]
"""From the ground up. A file imports from lower floors only."""

PURE = sorted(
    {
        "dispatch",
        "flights",
        "muster",
        "retries",
        "speculation",
        "batching",
        "holding",
        "held",
        "orders",
        "turns",
        "room",
        "beats",
        "pacing",
        "unreceipted",
        "collection",
        "commits",
        "jobs",
        "store",
        "outputs",
        "crew",
        "conversation",
        "joining",
    }
    | {"runs", "messages", "settings", "recording", "roster", "errors"}
)
OUTSIDE = {"zmq", "time", "os", "random", "threading", "logging", "socket", "subprocess", "sqlite3", "asyncio"}
KNOW_LEDGER_TYPES = {"store", "commits", "jobs"}
"""The only pure files that import an outer one, the ledger: for the types of its rows and refusals."""

ONLY = {
    "zmq": {"sockets", "gate", "link", "keys", *SCRIPTS},
    "sqlite3": {"ledger", "reading"},
    "subprocess": {"slots", "local"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
    "dill": set(),
    "cloudpickle": set(),
}


def path_of(name: str) -> Path:
    return TOP / f"{name}.py" if name in SCRIPTS else TOP / "common" / f"{name}.py"


NAMES = sorted({path.stem for path in (TOP / "common").glob("*.py")} - {"__init__"} | SCRIPTS)
TREES = {name: ast.parse(path_of(name).read_text(encoding="utf-8")) for name in NAMES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in the file, with dots; `from common import x` is `common.x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"common.{alias.name}" for alias in node.names) if module == "common" else (module,)


def ours(name: str) -> set[str]:
    """The files of `common` that this file imports; `__version__` stands in none of them."""
    found = {module.removeprefix("common.") for module in imported(TREES[name]) if module.startswith("common.")}
    return found - {"__version__"}


def foreign(name: str) -> set[str]:
    return {module.partition(".")[0] for module in imported(TREES[name])} - {"common"}


def test_every_file_has_its_floor() -> None:
    placed = [name for floor in FLOORS for name in floor]
    assert sorted(placed) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_file_imports_from_lower_floors_only(name: str) -> None:
    height = {each: number for number, floor in enumerate(FLOORS) for each in floor}
    assert [each for each in sorted(ours(name)) if height[each] >= height[name]] == []


@pytest.mark.parametrize("name", PURE)
def test_a_pure_file_reaches_nothing_outside(name: str) -> None:
    reached, open_names = set(), [name]
    while open_names:
        each = open_names.pop()
        assert foreign(each) & OUTSIDE == set(), f"{name} reaches it by way of {each}"
        reached.add(each)
        known = reached | ({"ledger"} if each in KNOW_LEDGER_TYPES else set())
        open_names += ours(each) - known


def test_the_sinks_rules_take_only_types_of_the_ledger() -> None:
    names = {
        alias.name
        for each in KNOW_LEDGER_TYPES
        for node in ast.walk(TREES[each])
        if isinstance(node, ast.ImportFrom) and node.module == "common.ledger"
        for alias in node.names
    }
    assert names <= {"Job", "Page", "LedgerRefused", "LedgerStuck"}


@pytest.mark.parametrize("module", ONLY)
def test_only_these_files_import_it(module: str) -> None:
    assert {name for name in NAMES if module in foreign(name)} <= ONLY[module]


def test_keys_take_nothing_of_zmq_but_the_making_of_a_pair() -> None:
    used = {
        node.attr
        for node in ast.walk(TREES["keys"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "zmq"
    }
    assert used == {"curve_keypair"}


def test_only_sockets_makes_sockets_but_for_the_gates_own() -> None:
    makers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "socket"
        and "zmq" in foreign(name)
    }
    assert makers == {"sockets", "gate"}


def test_no_socket_sets_heartbeats() -> None:
    """libzmq 4.3.5 can abort when one meets a full receive queue."""
    words = {
        getattr(node, "attr", getattr(node, "id", "")).lower() for tree in TREES.values() for node in ast.walk(tree)
    }
    assert not any(word.startswith("heartbeat") for word in words)


def test_the_child_imports_nothing_of_ours() -> None:
    assert ours("child") == set()
    assert foreign("child") <= set(sys.stdlib_module_names) | {"msgspec"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_received_is_evaluated(name: str) -> None:
    called = {
        node.func.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"eval", "exec", "__import__"} == set()
