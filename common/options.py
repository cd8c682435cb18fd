"""The options that more than one command has, and how a command declares its own: group, metavar, environment, help.

A help text is a sentence about the value, or about what the command does with it.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .help_page import CONNECTION, FILES, OTHER
from .log_writer import LogFormat
from .quick_values import limits

_VALUES = {"N": "a whole number", "SLOTS": "a whole number", "PORT": "a port number", "SECONDS": "a number of seconds"}
"""What stands for a metavar in an error message."""


def argument(group: str, metavar: str, text: str) -> Any:
    """A value that has no name on the command line, only a place."""
    return typer.Argument(metavar=metavar, help=text, rich_help_panel=group)


def flag(group: str, env: str | None, text: str, *names: str) -> Any:
    """An option that is there or not."""
    return typer.Option(*names, envvar=env, help=text, rich_help_panel=group)


def option(
    group: str, env: str | None, metavar: str, text: str, *names: str, default: str | None = None, **more: Any
) -> Any:
    """An option with a value; `default` says in words what counts when it is left out."""
    return typer.Option(
        *names, envvar=env, metavar=metavar, help=text, show_default=default or True, rich_help_panel=group, **more
    )


def file(group: str, env: str | None, text: str, metavar: str = "FILE", default: str | None = None) -> Any:
    """An option that names a file or a folder."""
    # Not checked by typer: it would refuse a default that is not used, and our own words say what to do.
    return option(group, env, metavar, text, default=default, readable=False)


def count(group: str, env: str, text: str, least: int, most: int | None = None, default: str | None = None) -> Any:
    """An option that is a whole number."""
    return option(group, env, "N", text, default=default, min=least, max=most)


def seconds(group: str, env: str, text: str, least: float = 0, most: float | None = None) -> Any:
    """An option that is a length of time."""
    return option(group, env, "SECONDS", text, min=least, max=most)


def port(env: str, text: str, default: str | None = None) -> Any:
    """An option that is a TCP port to listen at."""
    return option(CONNECTION, env, "PORT", f"{text} 0 takes a free port.", default=default, min=0, max=65535)


def expected(parameter: Any) -> str:
    """The values that an option takes, to say when it was given another one; empty when no words are known."""
    choices = ", ".join(parameter.metavar.split("|")[:-1]) + " or " + parameter.metavar.rpartition("|")[2]
    text = _VALUES.get(parameter.metavar, choices if "|" in parameter.metavar else "")
    least, most = limits(parameter)
    if most is not None:
        return f"{text} from {least} to {most:.15g}"
    return text if least is None else f"{text}, at least {least}"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tradewind {__version__}")
        raise typer.Exit


Key = Annotated[
    Path, file(CONNECTION, "TRADEWIND_KEY", "The key file that `enrol` wrote for this machine; - is standard input.")
]
Sink = Annotated[
    str | None,
    option(
        CONNECTION,
        "TRADEWIND_SINK",
        "HOST[:PORT]",
        "The address of the sink, or several separated by commas.",
        default="the one in the key file",
    ),
]
Ledger = Annotated[
    str,
    option(
        FILES, "TRADEWIND_LEDGER", "FILE", "The ledger: an SQLite file, or postgresql://USER@HOST/DATABASE.", "--ledger"
    ),
]
"""Not a path: that would spoil an address such as postgresql://host/name."""
Site = Annotated[
    str | None,
    option(
        FILES,
        "TRADEWIND_SITE",
        "NAME",
        "Which ledger of a PostgreSQL database: each site has its own jobs, and one sink.",
        default="main",
    ),
]
Keys = Annotated[Path, file(FILES, "TRADEWIND_KEYS", "The folder with the sink's keys.", metavar="FOLDER")]
Log = Annotated[
    LogFormat,
    option(
        OTHER, "TRADEWIND_LOG_FORMAT", "text|json", "How log lines look: text, or a JSON object each.", "--log-format"
    ),
]
Version = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.", rich_help_panel=OTHER),
]
