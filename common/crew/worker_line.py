"""What the workers of a crew are given: the words behind `--`, as `tradewind worker` would be given them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ..errors import OperatorError
from ..help_page import Command
from ..protocol.users import WORKER

_WORDS = "tradewind.crew.words"
_OURS = {
    "key": "the crew's own --key does that, before --",
    "version": "`tradewind --version` says it",
}
"""Options of the worker that a crew sets itself."""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """The words, and what a recipe must know of them."""

    words: tuple[str, ...]
    modules: tuple[str, ...]
    slots: int | None
    grace_s: float
    sink: str | None = None
    """Where the workers look for the sink, if not where the key file says."""
    commands: tuple[str, ...] = ()
    """The names of the commands that are served."""
    typed: frozenset[str] = frozenset()
    """Which of the worker's parameters are among the words."""


class CrewCommand(Command):
    """A command that takes, behind `--`, what `tradewind worker` would be given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed before the first `--`, and keep the rest."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_WORDS] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command's name in the first line."""
        return [*super().collect_usage_pieces(ctx), "--", "MODULE...", "[WORKER OPTIONS]"]


def worker_line(context: typer.Context) -> WorkerLine:
    """What was typed behind `--`, checked as the worker would. Raises OperatorError."""
    return read(context.meta[_WORDS])


def read(words: Sequence[str]) -> WorkerLine:
    """These words, checked as the worker would. Raises OperatorError, or what typer raises."""
    from ..worker.command import app
    from ..worker.start import check_names

    command: Any = typer.main.get_command(app)
    parsed = command.make_context("tradewind worker", [*words], resilient_parsing="--version" in words)
    typed = {
        name: value for name, value in parsed.params.items() if parsed.get_parameter_source(name).name == "COMMANDLINE"
    }
    for name, instead in _OURS.items():
        if name in typed:
            raise OperatorError(f"--{name} cannot stand behind --: {instead}")
    modules = tuple(typed.get("modules") or ())
    if not modules and not typed.get("command"):
        raise OperatorError(f"name the modules that the workers serve, behind --: `-- MODULE [{WORKER} options]`")
    check_names([*modules], typed.get("name"))
    grace_s = next(each.default for each in command.params if each.name == "grace")
    commands = tuple(each.partition("=")[0] for each in typed.get("command") or ())
    given = frozenset(typed)
    slots, grace = typed.get("slots"), typed.get("grace", grace_s)
    return WorkerLine(tuple(words), modules, slots, grace, typed.get("sink"), commands, given)
