"""What the commands share on the command line and the terminal: log lines, errors, exit codes, the version."""

import logging
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from . import __version__
from .errors import ExitCode, OperatorError

_UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a wrong command line; it is public in click, which newer typers have inside."""
EXIT_CODES = "Exit codes: 0 all went well, 1 tasks failed, 2 wrong use (the message says what to do), 130 interrupted."


def application(help_text: str) -> typer.Typer:
    """A typer application as all three commands want it: plain help, plain errors."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def show_version(wanted: bool) -> None:
    """Callback of `--version`."""
    if wanted:
        print(f"tradewind {__version__}")
        raise typer.Exit


def command(role: str) -> str:
    """What to type for the command of `role`, in the way in which this one was typed."""
    typed = Path(sys.argv[0])
    if typed.suffix == ".py":
        return shlex.join([sys.orig_argv[0], str(typed.with_name(f"{role}.py"))])
    name = f"tradewind-{role}"
    return name if shutil.which(name) else shlex.quote(str(typed.with_name(name)))


def as_typed(text: str, percent: str = "%") -> str:
    """The text with the commands in it as one would type them here, their percent signs as `percent`.

    All messages, those that come from another machine included, name them as `python sink.py`.
    """
    names = r"\bpython (sink|worker|ventilator)\.py\b"
    return re.sub(names, lambda found: command(found[1]).replace("%", percent), text)


def typed_options(context: typer.Context) -> list[str]:
    """The parameters that stand on the command line, options as `--option`, arguments by their metavar."""
    found = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            found.append(parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or "")
    return found


def start_log(role: str) -> None:
    """Log lines to stderr; `TRADEWIND_LOG_LEVEL` (debug, info, warning, error) says from which level on."""
    level = os.environ.get("TRADEWIND_LOG_LEVEL", "info").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise OperatorError(f"TRADEWIND_LOG_LEVEL is {level}: set it to debug, info, warning or error")
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format=f"%(asctime)s {role}: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.getLogger().handlers[0].addFilter(_name_commands)


def _name_commands(record: logging.LogRecord) -> bool:
    # The arguments are left alone: what tasks print is among them.
    record.msg = as_typed(str(record.msg), "%%" if record.args else "%")
    return True


def run(app: typer.Typer, role: str) -> None:
    """Run the command line; an operator's error becomes one line on stderr and exit code 2."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = app(prog_name=command(role), standalone_mode=False)
    except OperatorError as error:
        print(f"{role}: {as_typed(str(error))}", file=sys.stderr)
        code = ExitCode.WRONG_USE
    except _UsageError as error:
        print(f"{role}: {_said_in_one_line(error, role)}", file=sys.stderr)
        code = ExitCode.WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def _said_in_one_line(error: Any, role: str) -> str:
    help_of = error.ctx.command_path if error.ctx else command(role)
    return f"{' '.join(error.format_message().split()).rstrip('.')}; `{help_of} --help` says more"


@contextmanager
def pipe_may_close() -> Iterator[None]:
    """Whoever reads our standard output may leave early, as `head` does: that ends the printing, and is no error.

    Raises OperatorError when there is no standard output, or no room for it.
    """
    if sys.stdout is None:
        raise OperatorError("standard output is closed: give the command a terminal, a file or a pipe to print to")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered has nowhere to go when the interpreter flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OperatorError(f"cannot write to standard output: {error.strerror}; print to another place") from None


def parent_is_gone() -> bool:
    """True when the process that `TRADEWIND_PARENT` names, which started this one for itself, has died."""
    parent = os.environ.get("TRADEWIND_PARENT")
    return parent is not None and parent != str(os.getppid())
