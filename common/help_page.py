"""How `--help` looks: plain text, options in groups, one metavar each, no types or ranges."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from .quick_values import spare_checks

RUN, PRINT, ARGUMENTS = "What to run", "What to print", "Arguments"
FAILURES, CONNECTION, FILES = "What to do with failures", "Connection", "Files"
LEAVING, TUNING, OTHER = "When to leave", "Tuning", "Other"


def _usage(command: Any, context: Any) -> list[str]:
    arguments = [each for each in command.get_params(context) if each.param_type_name == "argument"]
    return ["[OPTIONS]", *(each.metavar if each.required else f"[{each.metavar}]" for each in arguments)]


def row(parameter: Any) -> tuple[str, str]:
    """What a parameter is called, and what it does with its default and its environment variable."""
    if parameter.param_type_name == "argument":
        return parameter.metavar, parameter.help
    name = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        name += f" / {parameter.secondary_opts[0]}"
    if not parameter.is_flag and parameter.metavar:
        name += f" {parameter.metavar}"
    more = []
    default = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    if default is not None and not (parameter.is_flag and default is False):
        said = "on" if default is True else f"{default:g}" if isinstance(default, float) else default
        more.append(f"default: {said}")
    if parameter.envvar:
        more.append(f"env: {parameter.envvar}")
    return name, f"{parameter.help}  [{'; '.join(more)}]" if more else parameter.help


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if not parameter.hidden:
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or OTHER, []).append(row(parameter))
    for name in sorted(groups, key=lambda name: name == OTHER):
        with formatter.section(name):
            formatter.write_dl(groups[name])


class Command(TyperCommand):
    """A command with such a `--help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed."""
        spare_checks(self, ctx)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command's name in the first line."""
        return _usage(self, ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The groups."""
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """A command that has others below it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed."""
        spare_checks(self, ctx)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command's name in the first line."""
        return [*_usage(self, ctx), self.subcommand_metavar]

    def summaries(self, ctx: Any) -> list[tuple[str, str]]:
        """Each command below this one, with the first sentence of its help."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        return [(name, command.get_short_help_str(1000)) for name, command in found if command is not None]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands, then the groups."""
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries(ctx))
        _write_options(self, ctx, formatter)
