"""What the commands share on the command line and the terminal: log lines, errors, exit codes, the version."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from common import __version__
from common.errors import ExitCode, OperatorError

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


def run(app: typer.Typer, name: str) -> None:
    """Run the command line; an operator's error becomes one line on stderr and exit code 2."""
    try:
        app(prog_name=name)
    except OperatorError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(ExitCode.WRONG_USE)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


@contextmanager
def pipe_may_close() -> Iterator[None]:
    """Whoever reads our standard output may leave early, as `head` does: that ends the printing, and is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go when the interpreter flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parent_is_gone() -> bool:
    """True when the process that `TRADEWIND_PARENT` names, which started this one for itself, has died."""
    parent = os.environ.get("TRADEWIND_PARENT")
    return parent is not None and parent != str(os.getppid())
