"""The house: which folder may import which, which files may touch the outside, and what only one file may do."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "": set(),
    "protocol": {""},
    "transport": {"", "protocol"},
    "ventilator": {"", "protocol", "transport"},
    "worker": {"", "protocol", "transport"},
    # Of the page and of doctor only their command lines, for `sink.py web` and `sink.py doctor`.
    "sink": {"", "protocol", "transport", "web", "doctor"},
    "web": {"", "protocol", "transport", "sink"},
    "doctor": {"", "protocol", "transport", "worker", "sink"},
    "farm": {"", "protocol", "transport", "ventilator", "sink"},
    "crew": {"", "protocol", "transport", "worker"},
}
"""By folder of common/; the files beside the folders are "". No role imports another one.

`farm`, `web`, `doctor` and `crew` are no roles.
"""
SHELL = {
    *("__main__", "command", "console", "descriptors", "folders", "help_page", "log_writer", "options", "own_process"),
    *(
        f"transport.{name}"
        for name in (
            "clock",
            "polling",
            "monitor",
            "sockets",
            "zap",
            "sink_link",
            "sink_talk",
            "link_pool",
            "key_files",
            "key_folder",
            "parent",
            "door",
            "connections",
        )
    ),
    *(f"ventilator.{name}" for name in ("command", "loop", "inputs", "sources", "spool", "progress", "local_farm")),
    "ventilator.appended_input",
    "ventilator.tasks_link",
    *(
        f"worker.{name}"
        for name in (
            "command",
            "start",
            "private",
            "loop",
            "slots",
            "child_process",
            "child_output",
            "child",
            "cores",
            "edits",
            "command_run",
        )
    ),
    *(
        f"sink.{name}"
        for name in ("command", "loop", "private", "relay", "serving", "roster_watch", "tables", "status_screen")
    ),
    *(f"web.{name}" for name in ("app", "books", "command", "metrics", "observer", "render", "server", "token_file")),
    *(f"doctor.{name}" for name in ("command", "ledger_file", "ledger_server", "machine", "modules", "network")),
    *(f"crew.{name}" for name in ("cluster", "keep", "keep_loop", "local_workers", "slurm")),
    *(f"crew.{name}" for name in ("command", "ssh", "ssh_loop", "crew_key", "check", "recipe_commands", "worker_line")),
    *(f"sink.{name}" for name in ("sqlite_care", "forget_command")),
    *(
        f"sink.{name}"
        for name in (
            "ledgers",
            "sqlite_file",
            "sqlite_ledger",
            "sqlite_pages",
            "sqlite_writes",
            "whole_write",
            "store_thread",
            "following",
            "ledger_reader",
            "remote_reader",
            "parquet",
            "output_file",
            "postgres_care",
            "postgres_ledger",
            "postgres_reader",
            "postgres_reads",
            "postgres_session",
            "postgres_site",
            "postgres_standby",
            "postgres_state",
            "postgres_writer",
            "copy_command",
            "postgres_transfer",
            "sqlite_transfer",
        )
    ),
    *(
        f"farm.{name}"
        for name in (
            "farm",
            "job",
            "job_run",
            "outcomes",
            "arguments",
            "bell",
            "executor",
            "talk_pool",
            "aio",
            "names",
            "private_farm",
            "progress_bar",
            "entry",
            "import_guard",
        )
    ),
}
"""What touches sockets, clock, files, processes or the terminal. All other files are pure, and stay so."""
OUTSIDE = {"zmq", "time", "os", "random", "threading", "logging", "socket", "subprocess", "sqlite3", "asyncio"}
ONLY = {
    "zmq": {"transport.sockets", "transport.polling", "transport.monitor", "transport.zap", "transport.sink_link",
            "transport.sink_talk", "transport.link_pool", "transport.door", "doctor.machine",
            "transport.key_folder", "ventilator.loop", "ventilator.tasks_link", "worker.loop", "sink.loop",
            "sink.relay"},
    "sqlite3": {"sink.sqlite_file", "sink.sqlite_care", "sink.ledger_reader", "sink.sqlite_pages",
                "sink.sqlite_writes", "sink.sqlite_ledger", "sink.sqlite_transfer"},
    "psycopg": {"sink.postgres_care", "sink.postgres_ledger", "sink.postgres_place", "sink.postgres_reader",
                "sink.postgres_reads", "sink.postgres_session", "sink.postgres_site", "sink.postgres_standby",
                "sink.postgres_state", "sink.postgres_transfer", "sink.postgres_writer"},
    "subprocess": {"worker.slots", "worker.child_process", "ventilator.local_farm",
                   "farm.private_farm", "crew.cluster", "crew.local_workers"},
    "pickle": set(), "marshal": set(), "shelve": set(), "dill": set(), "cloudpickle": set(),
}  # fmt: skip
FILES = {
    ".".join(path.relative_to(TOP / "common").with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((TOP / "common").rglob("*.py"))
    if path.name != "__init__.py"
}


def ours(name: str) -> Iterator[str]:
    """The files of common/ that this file imports."""
    here = name.split(".")[:-1]
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                for found in (".".join(base), ".".join([*base, alias.name])):
                    if found in FILES:
                        yield found


def foreign(name: str) -> set[str]:
    modules = [
        module
        for node in ast.walk(FILES[name])
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    ]
    return {module.partition(".")[0] for module in modules}


def folder(name: str) -> str:
    return name.rpartition(".")[0]


@pytest.mark.parametrize("name", FILES)
def test_a_folder_imports_only_folders_below_it(name: str) -> None:
    assert {folder(each) for each in ours(name)} - {folder(name)} <= MAY_IMPORT[folder(name)]


@pytest.mark.parametrize("name", FILES)
def test_imports_run_in_no_circle(name: str) -> None:
    reached, open_names = set(), list(ours(name))
    while open_names:
        each = open_names.pop()
        if each not in reached:
            reached.add(each)
            open_names += ours(each)
    assert name not in reached


@pytest.mark.parametrize("name", sorted(FILES.keys() - SHELL))
def test_a_pure_file_reaches_nothing_outside(name: str) -> None:
    assert foreign(name) & OUTSIDE == set()
    assert set(ours(name)) & SHELL == set()


@pytest.mark.parametrize("name", FILES)
def test_the_package_goes_by_no_name_of_its_own(name: str) -> None:
    """It is `common` in a checkout and `tradewind` where it is installed."""
    assert foreign(name) & {"common", "tradewind", "ventilator", "worker", "sink"} == set()


@pytest.mark.parametrize("module", ONLY)
def test_only_these_files_import_it(module: str) -> None:
    assert {name for name in FILES if module in foreign(name)} <= ONLY[module]


def test_the_child_imports_nothing_of_ours() -> None:
    """Neither do the files that it loads by their paths."""
    for name in ("worker.child", "worker.command_template", "worker.command_run", "protocol.values"):
        assert list(ours(name)) == []
        assert foreign(name) <= set(sys.stdlib_module_names) | {"msgspec"}


def test_keys_take_nothing_of_zmq_but_the_making_of_a_pair() -> None:
    used = {
        node.attr
        for node in ast.walk(FILES["transport.key_folder"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "zmq"
    }
    assert used == {"curve_keypair"}


def test_only_two_files_make_sockets_and_a_monitors_own_pair() -> None:
    makers = {
        name
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "socket"
        and "zmq" in foreign(name)
    }
    assert makers == {"transport.sockets", "transport.zap", "transport.monitor"}


def test_one_file_reads_the_clock_and_a_child_for_itself() -> None:
    readers = {
        name
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"monotonic", "perf_counter"}
    }
    assert readers == {"transport.clock", "worker.child"}


def test_no_socket_sets_heartbeats() -> None:
    """libzmq 4.3.5 can abort when one meets a full receive queue."""
    words = {
        getattr(node, "attr", getattr(node, "id", "")).lower() for tree in FILES.values() for node in ast.walk(tree)
    }
    assert not any(word.startswith("heartbeat") for word in words)


@pytest.mark.parametrize("name", FILES)
def test_nothing_received_is_evaluated(name: str) -> None:
    called = {
        node.func.id for node in ast.walk(FILES[name]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"eval", "exec", "__import__"} == set()


# -- the limits of size and names ---------------------------------------------------------------------------------

LINES_MAX, FUNCTION_LINES_MAX, ATTRIBUTES_MAX = 450, 60, 20
LONG_FILES = {"worker.child"}
"""It imports nothing of ours, and loads `protocol/values.py` by its path. So it is one file."""


@pytest.mark.parametrize("name", sorted(FILES.keys() - LONG_FILES))
def test_no_file_is_long(name: str) -> None:
    path = TOP / "common" / (name.replace(".", "/") + ".py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("name", FILES)
def test_no_function_is_long(name: str) -> None:
    functions = [node for node in ast.walk(FILES[name]) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {each: length for each, length in lengths.items() if length > FUNCTION_LINES_MAX} == {}


@pytest.mark.parametrize("name", FILES)
def test_no_class_has_many_attributes(name: str) -> None:
    found = {}
    for owner in [node for node in ast.walk(FILES[name]) if isinstance(node, ast.ClassDef)]:
        attributes = {
            node.attr
            for node in ast.walk(owner)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
        if len(attributes) > ATTRIBUTES_MAX:
            found[owner.name] = len(attributes)
    assert found == {}


def test_no_class_name_stands_in_two_files() -> None:
    places: dict[str, set[str]] = {}
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, set()).add(name)
    # What a program sees has the plain name.
    assert {each: names for each, names in places.items() if len(names) > 1 and each not in {"Job", "Outcome"}} == {}


PATHS = re.compile(r"(?<![\w/.<])((?:common|tests|docs|examples|benchmarks|\.ci)/[\w./-]*\w)(?![*\w])")


@pytest.mark.parametrize(
    "path",
    [*TOP.glob("*.py"), *TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), TOP / "common" / "__init__.py"],
    ids=lambda path: path.name,
)
def test_the_paths_that_are_named_exist(path: Path) -> None:
    """In the documents and on the door signs of the scripts; the CHANGELOG also names what was."""
    if path.name != "CHANGELOG.md":
        named = PATHS.findall(path.read_text(encoding="utf-8"))
        assert [each for each in named if not (TOP / each).exists()] == []


def test_the_map_has_every_file() -> None:
    """Each file has its row in `docs/ARCHITECTURE.md`, and is called shell there when it is."""
    text = (TOP / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### `common/(\w*)/?`.*?\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    rows = {
        ".".join(filter(None, (part, name))): is_shell
        for part, table in sections
        for name, is_shell in re.findall(r"^\| `(\w+)\.py`(, shell)? \|", table, re.MULTILINE)
    }
    assert rows == {name: ", shell" if name in SHELL else "" for name in FILES}
