"""Every `--help`: its words, its groups, and that the command line stands as it was."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer

from common import console
from common.command import app
from common.crew.command import app as crew_app
from common.doctor.command import app as doctor_app

ROLES = ("sink", "worker", "ventilator")
OLD_WORDS = r"so (many|often|long|few|much)|who|whom|whose|one's own|said again|mend\w*|nobody|somebody|beside"
NO_SENTENCE = re.compile(r"<[\w |\[\]]+>|\[\[|\{(?!\})|[<>]=|\bx\b|\blist\[|(?i:\b(" + OLD_WORDS + r")\b)")
TYPES = {"TEXT", "INTEGER", "FLOAT", "PATH", "BOOLEAN", "RANGE"}


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for each in getattr(command, "commands", {}):
        yield from commands(command.commands[each], f"{name} {each}")


COMMANDS: dict[str, Any] = {
    name: command
    for role in ROLES
    for name, command in commands(typer.main.get_command(import_module(f"common.{role}.command").app), role)
} | {
    "tradewind": typer.main.get_command(app),
    "doctor": typer.main.get_command(doctor_app),
    **dict(commands(console.without_completion(typer.main.get_command(crew_app)), "crew")),
}


def page(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    COMMANDS[name].main(["--help"], prog_name=name, standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_plain_english(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = page(name, capsys)
    assert NO_SENTENCE.search(text) is None
    assert set(text.split()) & TYPES == set()
    assert "\x1b" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_parameter_has_a_metavar_a_group_and_a_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = page(name, capsys)
    for each in COMMANDS[name].params:
        assert each.help, each.name
        assert each.help[0].isupper(), each.help
        assert each.help[-1] == ".", each.help
        if each.name in ("install_completion", "show_completion"):
            continue
        assert each.rich_help_panel, each.name
        assert f"\n{each.rich_help_panel}:\n" in text
        assert each.metavar or each.is_flag, each.name
        assert (each.metavar if each.param_type_name == "argument" else each.opts[0]) in text


def test_the_groups_stand_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    groups = re.findall(r"^(\w[\w ]*):$", page("ventilator", capsys), re.MULTILINE)
    assert groups == ["What to run", "What to do with failures", "Connection", "Tuning", "Other"]


def test_the_first_line_of_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    first = {name: page(name, capsys).partition("\n")[0] for name in COMMANDS}
    assert first == {
        "tradewind": "Usage: tradewind [OPTIONS] COMMAND",
        "sink": "Usage: sink [OPTIONS] [COMMAND]",
        "sink results": "Usage: sink results [OPTIONS] [JOB]",
        "sink jobs": "Usage: sink jobs [OPTIONS]",
        "sink status": "Usage: sink status [OPTIONS]",
        "sink cancel": "Usage: sink cancel [OPTIONS] JOB",
        "sink explain": "Usage: sink explain [OPTIONS] JOB [TASK]",
        "sink forget": "Usage: sink forget [OPTIONS] [JOB...]",
        "sink backup": "Usage: sink backup [OPTIONS] FILE",
        "sink copy-ledger": "Usage: sink copy-ledger [OPTIONS] FROM TO",
        "sink verify": "Usage: sink verify [OPTIONS]",
        "sink doctor": "Usage: sink doctor [OPTIONS]",
        "sink enrol": "Usage: sink enrol [OPTIONS] ROLE NAME",
        "sink roster": "Usage: sink roster [OPTIONS]",
        "sink revoke": "Usage: sink revoke [OPTIONS] NAME",
        "sink web": "Usage: sink web [OPTIONS]",
        "worker": "Usage: worker [OPTIONS] [MODULE...]",
        "ventilator": "Usage: ventilator [OPTIONS] [MODULE:FUNCTION] [INPUT]",
        "doctor": "Usage: doctor [OPTIONS] [MODULE...]",
        "crew": "Usage: crew [OPTIONS] COMMAND",
        "crew ssh": "Usage: crew ssh [OPTIONS] HOST... -- MODULE... [WORKER OPTIONS]",
        "crew keep": "Usage: crew keep [OPTIONS] slurm|local -- MODULE... [WORKER OPTIONS]",
        "crew slurm": "Usage: crew slurm [OPTIONS] -- MODULE... [WORKER OPTIONS]",
        "crew systemd": "Usage: crew systemd [OPTIONS] -- MODULE... [WORKER OPTIONS]",
        "crew kubernetes": "Usage: crew kubernetes [OPTIONS] -- MODULE... [WORKER OPTIONS]",
        "crew container": "Usage: crew container [OPTIONS] -- MODULE... [WORKER OPTIONS]",
    }


def test_defaults_and_environment_variables_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(page("worker", capsys).split())
    assert "[default: the usable cores; env: TRADEWIND_SLOTS]" in text
    assert "[default: 30; env: TRADEWIND_GRACE]" in text
    assert "Blank lines are ignored." in page("ventilator", capsys)
