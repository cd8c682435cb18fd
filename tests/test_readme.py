"""The README and the pages for users: their commands are run, or at least parsed, as they stand."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from common import help_page
from common.crew.command import app as crew_app
from common.doctor.command import app as doctor_app
from common.errors import ExitCode
from common.sink.command import app as sink_app
from common.ventilator.command import app as ventilator_app
from common.worker.command import app as worker_app
from tests.conftest import PATIENCE_S, TOP, Pipeline

README = TOP / "README.md"
PAGES = [README, TOP / "docs" / "OPERATIONS.md", TOP / "docs" / "CLUSTERS.md", *(TOP / "docs").glob("[a-z]*.md")]
COMMANDS = {
    name: typer.main.get_command(app)
    for name, app in (
        ("sink", sink_app),
        ("worker", worker_app),
        ("ventilator", ventilator_app),
        ("doctor", doctor_app),
        ("crew", crew_app),
    )
}
SECTIONS = {"doctor": "tradewind doctor", "crew": "tradewind crew"}
"""How the options page names a command that is no script."""
FOREIGN = {
    "createdb",
    "psql",
    *("kubectl", "podman"),
    *(
        "cp",
        "make",
        "parallel",
        "pip",
        "python",
        "scp",
        "rsync",
        "find",
        "head",
        "mkfifo",
        "sqlite3",
        "tail",
        "ssh",
        "tradewind",
    ),
}


def blocks(page: Path, heading: str, language: str = "sh") -> list[str]:
    """The fenced blocks below a heading of a page."""
    text = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert text, f"{page.name} has no section {heading!r}"
    return re.findall(rf"^```{language}\n(.*?)^```", text[1], re.MULTILINE | re.DOTALL)


def typed(line: str) -> list[str]:
    """A line as one role's name and its arguments; what is not one of ours as it stands."""
    words = shlex.split(line, comments=True)
    if words[:1] == [".venv/bin/python"]:
        assert (TOP / words[1]).is_file(), line
        return [words[1].removesuffix(".py"), *words[2:]]
    if words[:2] == ["tradewind", "web"]:
        return ["sink", *words[1:]]
    return words[1:] if words[:1] == ["tradewind"] and len(words) > 1 and words[1] in COMMANDS else words


def lines(block: str) -> list[str]:
    """The commands of a block, those of a pipe one by one, without what a command reads from the block."""
    block = re.sub(r"<< 'END'\n.*?^END$", "", block, flags=re.MULTILINE | re.DOTALL)
    return [part.strip() for line in block.splitlines() for part in re.split(r"\|(?=(?:[^']*'[^']*')*[^']*$)", line)]


def parse(command: Any, name: str, arguments: list[str]) -> None:
    """Let the command line be checked as the command itself would; raises what it would say."""
    context = command.make_context(name, list(arguments), resilient_parsing="--help" in arguments)
    if subcommand := [*context._protected_args, *context.args] if hasattr(command, "commands") else []:
        parse(command.commands[subcommand[0]], subcommand[0], subcommand[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for line in [line for block in found for line in lines(block) if line and not line.startswith(("#", "cat >"))]:
        name, *arguments = typed(line)
        if name in COMMANDS:
            parse(COMMANDS[name], name, arguments)
        else:
            assert name in FOREIGN or name.startswith("examples/"), line


@pytest.fixture(scope="module")
def pasted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the README's block to paste was pasted, and what that printed."""
    folder = tmp_path_factory.mktemp("pasted")
    for name in ("sink.py", "worker.py", "ventilator.py", "common"):
        (folder / name).symlink_to(TOP / name)
    (folder / ".venv").symlink_to(sys.prefix)
    setup, paste, _ = blocks(README, "Try it")
    assert [line.split()[:2] for line in setup.splitlines()] == [["make", "run"], ["make", "test"]]
    assert paste.count("\n") <= 10
    return folder, shell(paste, folder)


def shell(script: str, folder: Path) -> str:
    """Run the lines in the folder, as bash does; returns their standard output."""
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_readme_says_to_paste(pasted: tuple[Path, str]) -> None:
    *results, _, job = pasted[1].splitlines()
    assert [json.loads(line)["value"] for line in results] == [0, 1, 4]
    assert job.startswith("first\tmine:square\tdone\t100000\t0\t100000\t")


@pytest.mark.parametrize("page", ["README.md", "docs/get-started.md"])
def test_the_three_terminals(pipeline: Pipeline, page: str) -> None:
    pipeline.module("mine", "def square(n):\n    return n * n\n")
    if page == "README.md":
        commands = lines(blocks(README, "Try it")[2])
    else:
        [defined] = blocks(TOP / page, "The three roles", "python")
        pipeline.module("mine", defined)
        commands = [line for block in blocks(TOP / page, "The three roles") for line in lines(block)]
    sink, worker, ventilator = map(typed, commands)
    assert sink == ["sink"]
    pipeline.sink()
    pipeline.start(*worker)
    assert pipeline.start(*ventilator, TRADEWIND_PORT="0").wait() == 0
    if page == "README.md":
        return
    results, _, jobs, status = map(typed, lines(blocks(TOP / page, "Look at the results")[0]))
    outputs = [pipeline.run(*command) for command in (results, jobs, status)]
    assert [process.wait() for process in outputs] == [0, 0, 0]
    assert outputs[0].out.count("\n") == 100_000
    assert "\tdone\t100000\t0\t100000\t" in outputs[1].out
    assert "mine:square" not in outputs[2].err
    [local] = blocks(TOP / page, "All in one command")
    assert pipeline.run(*typed(local)).wait() == 0
    assert (pipeline.folder / "other.db").is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/several-machines.md"])
def test_another_machine(pipeline: Pipeline, page: str) -> None:
    pipeline.module("mine", "def square(n):\n    return n * n\n")
    text = (TOP / page).read_text()
    [enrol] = re.findall(r"^tradewind sink enrol worker .*$", text, re.MULTILINE)
    [start] = re.findall(r"^tradewind worker .*$", text, re.MULTILINE)
    pipeline.sink()
    assert pipeline.run(*typed(enrol)).wait() == 0
    [copied] = re.findall(r"^scp -p (\S+) lab1:$", text, re.MULTILINE)
    assert (pipeline.folder / copied).is_file()
    port = re.search(r"127.0.0.1:(\d+)", (pipeline.folder / "keys" / "worker.key_secret").read_text())
    assert port
    worker = pipeline.start(*typed(start.replace("~/", "")), "--sink", f"127.0.0.1:{port[1]}")
    worker.wait_for("joined the sink")
    if "roster" in text:
        [revoke] = blocks(TOP / page, "Cut a machine off")
        assert pipeline.run(*typed(revoke)).wait() == 0
        assert worker.wait() == 2
        assert "revoked" in worker.err


def test_the_results_page(pasted: tuple[Path, str]) -> None:
    folder, _ = pasted
    page = TOP / "docs" / "results.md"
    ways = blocks(page, "Print them")[0].replace("tradewind sink", ".venv/bin/python sink.py")
    assert shell(ways, folder).count("\n") == 1 + 1 + 100_000 + (1 + 100_000) + 3 * 100_000
    [example] = blocks(page, "Print them", "json")
    printed = json.loads(shell(".venv/bin/python sink.py results", folder).splitlines()[2])
    assert [*json.loads(example)] == [*printed]
    [program] = blocks(page, "Use SQL", "python")
    shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(program + 'assert total == 333328333350000')}", folder)
    [program] = blocks(page, "Get the results back", "python")
    program = f"import sys; sys.path.insert(0, {str(TOP)!r})\n" + program.replace(
        "tradewind.protocol", "common.protocol"
    )
    shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(program + 'assert results[99] == 9801')}", folder)
    query = shlex.split(blocks(page, "Use SQL")[0])[2]
    read = f"import sqlite3; print(*sqlite3.connect('results.db').execute({query!r}))"
    assert shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(read)}", folder) == "(0, 0) (1, 1) (2, 4)\n"


@pytest.mark.parametrize("table", ["jobs", "results", "receipts"])
def test_the_columns_of_the_ledger(pasted: tuple[Path, str], table: str) -> None:
    text = (TOP / "docs" / "results.md").read_text().split(f"`{table}` has a row")[1].split("\n\n")[1]
    named = re.findall(r"`(\w+)`", "\n".join(line.split(" | ")[0] for line in text.splitlines()))
    read = f"import sqlite3; print(*sqlite3.connect('results.db').execute('SELECT * FROM {table}').description)"
    columns = re.findall(r"'(\w+)'", shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(read)}", pasted[0]))
    # The other columns of `jobs` are for the sink itself.
    assert named == (columns[: len(named)] if table == "jobs" else columns)


def options(command: Any) -> dict[str, str]:
    """The environment variable of each option, an empty text where it has none."""
    return {each.opts[0]: each.envvar or "" for each in command.params if each.param_type_name == "option"}


def row(parameter: Any) -> str:
    """An option as the options page has it: in the words of `--help`."""
    text, _, more = help_page.row(parameter)[1].partition("  [")
    default = re.search(r"default: ([^;\]]*)", more)
    cells = (
        f"`{parameter.opts[0]}`",
        f"`{parameter.envvar}`" if parameter.envvar else "",
        text,
        default[1] if default else "",
    )
    return "| " + " | ".join(cells) + " |"


def options_section(name: str) -> str:
    """What the options page says of this command."""
    heading = SECTIONS.get(name, f"{name}.py")
    return (TOP / "docs" / "options.md").read_text().split(f"\n## `{heading}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_page_has_the_words_of_the_help(name: str) -> None:
    # Besides there may be a link to more, in brackets.
    section = re.sub(r" \(\[[^]]*\]\([^)]*\)\)", "", options_section(name))
    found = {re.sub(r"\| +\|", "|  |", line) for line in section.splitlines() if line.startswith("| `-")}
    shared = ("version", "install_completion", "show_completion")
    wanted = {
        row(each) for each in COMMANDS[name].params if each.param_type_name == "option" and each.name not in shared
    }
    assert wanted - found == found - wanted == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_page_has_all_options(name: str) -> None:
    section = options_section(name)
    rows = dict(re.findall(r"^\| `(--?[\w-]+)` \| (?:`(\w+)`)? *\|", section, re.MULTILINE))
    common = {"--version", "--install-completion", "--show-completion"}
    wanted = options(COMMANDS[name])
    assert rows == {each: variable for each, variable in wanted.items() if each not in common}
    for line, subcommand in re.findall(r"^(\| `([a-z][a-z-]*)[^|]*\|[^|]*\|)", section, re.MULTILINE):
        assert set(re.findall(r"`(--[\w-]+)`", line)) == options(COMMANDS[name].commands[subcommand]).keys()
    listed = set(re.findall(r"^\| `([a-z][a-z-]*)", section, re.MULTILINE))
    assert listed == set(getattr(COMMANDS[name], "commands", {}))


def test_the_exit_codes_are_in_the_pages_and_in_every_help() -> None:
    [table] = re.findall(r"^## Exit codes\n(.*)", (TOP / "docs" / "when-something-stops.md").read_text(), re.M | re.S)
    codes = {code.value for code in ExitCode}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == codes
    for command in COMMANDS.values():
        assert {int(code) for code in re.findall(r"(\d+) [a-z]", command.epilog.split("\n\n")[0])} == codes


@pytest.mark.parametrize("page", [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / path).exists(), path
    for path, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        target = (page.parent / path if path else page).read_text()
        headings = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_the_figures_of_the_readme_are_measured() -> None:
    [sentence] = re.findall(r"about ([\d,]+) tiny tasks a second .*? ([\d.]+) ms", README.read_text(), re.DOTALL)
    measured = (TOP / "docs" / "PERFORMANCE.md").read_text()
    assert all(f"**{figure}**" in measured for figure in sentence)


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    tables = (TOP / "docs" / "glossary.md").read_text().split("\n## ")[1:]
    words = [[word.lower() for word in re.findall(r"^\| \*\*([^*]+)\*\*", table, re.MULTILINE)] for table in tables]
    assert all(each and each == sorted(each) for each in words)
    assert len(set(words[0] + words[1])) == len(words[0] + words[1])
    designed = "task job batch slot prefetch return beat lost ledger receipt crew roster"
    assert set(words[0]) >= set(designed.split())
