"""The wheel, as a machine without a checkout installs it, in a folder that has modules with our names."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common import __version__
from tests.conftest import PATIENCE_S, TOP

ROLES = ("sink", "worker", "ventilator")
COMMANDS = ("tradewind", *(f"tradewind-{role}" for role in ROLES))
NOT_OURS = "raise SystemExit('the module of the user was imported')\n"


class Installed:
    """The installed package, and a project folder with a `common` and scripts of its own."""

    def __init__(self, site: Path, project: Path) -> None:
        self.site = site
        self.project = project
        path = f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRADEWIND_")}
        self.env = kept | {"PATH": path, "PYTHONPATH": str(site), "HOME": str(project / "home")}
        (project / "home").mkdir(parents=True)
        (project / "common").mkdir()
        (project / "common" / "__init__.py").write_text("MINE = 7\n")
        (project / "mine.py").write_text("from common import MINE\ndef add(n):\n    return n + MINE\n")
        for role in ROLES:
            (project / f"{role}.py").write_text(NOT_OURS)

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project folder."""
        return subprocess.run(
            command, cwd=self.project, env=self.env | env, capture_output=True, text=True, timeout=PATIENCE_S
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel") / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder, TOP], check=True, timeout=PATIENCE_S)
    return folder


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> Installed:
    return Installed(site, tmp_path / "project")


def test_the_wheel_brings_its_commands_and_no_module_that_a_user_could_want(site: Path) -> None:
    info = f"tradewind-{__version__}.dist-info"
    assert sorted(path.name for path in site.iterdir()) == ["bin", "tradewind", info]
    assert sorted(path.name for path in (site / "bin").iterdir()) == sorted(COMMANDS)
    web = site / "tradewind" / "web"
    assert {path.name for path in (web / "static").iterdir()} >= {"page.css", "page.js", "uplot-LICENSE.txt"}
    assert (web / "templates" / "overview.html").is_file()


def test_the_package_is_imported_beside_modules_with_our_names(installed: Installed) -> None:
    program = "import sys, tradewind, mine; print(tradewind.__version__, mine.MINE, *sys.modules)"
    done = installed.run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    version, mine, *modules = done.stdout.split()
    assert (version, mine) == (__version__, "7")
    assert {"typer", "click", "rich", *ROLES} & set(modules) == set()
    assert [each for each in modules if each.startswith("tradewind.")] == []


@pytest.mark.parametrize(
    ("command", "results"),
    [
        ("tradewind ventilator", "tradewind sink results"),
        ("python -m tradewind ventilator", "python -m tradewind sink results"),
    ],
)
def test_local_works_beside_modules_with_our_names(installed: Installed, command: str, results: str) -> None:
    typed = [sys.executable if word == "python" else word for word in command.split()]
    # The user's modules come first in every process.
    path = f"{installed.project}{os.pathsep}{installed.site}"
    done = installed.run(*typed, "mine:add", "--range", "3", "--local", "1", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "3 tasks ok, 0 failed" in done.stderr
    assert f"results: {results.replace('python', sys.executable)} mine-add-" in done.stderr
    printed = done.stderr.rpartition("results: ")[2]
    rows = installed.run(*shlex.split(printed), PYTHONPATH=path)
    assert (rows.returncode, rows.stdout.count("\n")) == (0, 3), rows.stderr


def imported(installed: Installed, *command: str) -> set[str]:
    """The modules that a command imports."""
    script = installed.site / "bin" / command[0]
    done = installed.run(sys.executable, "-X", "importtime", script, *command[1:])
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))


def test_a_command_imports_only_what_it_needs(installed: Installed) -> None:
    version = imported(installed, "tradewind", "--version")
    assert "tradewind" in version
    assert version & {"typer", "rich", "zmq", "msgspec"} == set()
    for command in (["tradewind"], ["tradewind", "worker"], ["tradewind-ventilator"], ["tradewind", "sink", "jobs"]):
        help_page = imported(installed, *command, "--help")
        assert "typer" in help_page
        assert help_page & {"rich", "zmq", "sqlite3", "msgspec", "pydantic"} == set()
    assert not any(name.startswith(("tradewind.sink", "tradewind.ventilator")) for name in imported(
        installed, "tradewind", "worker", "--help"
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tradewind ", ["sink", "worker", "ventilator", "web", "crew", "doctor"]),
        ("tradewind wor", ["worker"]),
        ("tradewind worker --sl", ["--slots"]),
        ("tradewind sink re", ["results", "revoke"]),
        ("tradewind sink results --format ", ["jsonl", "csv", "values", "text", "parquet"]),
        ("tradewind-sink en", ["enrol"]),
        ("tradewind-worker --grac", ["--grace"]),
        ("tradewind-ventilator --re", ["--retries", "--retry-failed", "--relay"]),
    ],
)
def test_the_shell_completes(installed: Installed, typed: str, offered: list[str]) -> None:
    words = typed.split(" ")
    variable = f"_{words[0].replace('-', '_').upper()}_COMPLETE"
    # As the script of --show-completion asks.
    env = {variable: "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    # Typed with its path, the command is asked for with its path.
    done = installed.run(installed.site / "bin" / words[0], **env)
    assert (done.stdout.split(), done.returncode) == (offered, 0), done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_installs_itself(installed: Installed, command: str) -> None:
    # Which shell it is would else be asked of the processes above.
    done = installed.run(command, "--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    script = installed.project / "home" / ".bash_completions" / f"{command}.sh"
    assert f"_{command.replace('-', '_').upper()}_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (installed.project / "home" / ".bashrc").read_text()


@pytest.mark.skipif((TOP / ".venv").is_symlink(), reason="the virtual environment belongs to another checkout")
def test_the_checkout_is_imported_as_tradewind(tmp_path: Path) -> None:
    program = "import tradewind.errors; print(tradewind.errors.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert Path(done.stdout.strip()).resolve() == TOP / "common" / "errors.py", done.stderr
