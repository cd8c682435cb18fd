"""What the commands share on the command line and the terminal: how they run, log lines, errors, exit codes.

The library for command lines takes longer to import than a short job runs: it is imported where one is read.
"""

import io
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import own_process
from .errors import ExitCode, OperatorError, with_commands
from .log_writer import LogFormat, LogHandler
from .plain_text import indented

if TYPE_CHECKING:
    import typer

ROLES = ("sink", "worker", "ventilator")
_LIBRARIES = ("zmq", "msgspec", "rich")
_EPILOG = """Exit codes: 0 success, 1 tasks failed (of `verify`: the ledger is damaged;
of `doctor` and of `crew ssh --check`: something fails), 2 wrong use (the message
says what to do), 3 the job was cancelled (of `status`: no worker is here), 130 interrupted.

The environment variable TRADEWIND_LOG_LEVEL is debug, info, warning or error."""


def look(kind: type | None = None) -> dict[str, Any]:
    """What all commands have, as keywords of typer's decorators."""
    from .help_page import Command

    return {"cls": kind or Command, "epilog": _EPILOG}


def application() -> "typer.Typer":
    """A typer application as all commands want it: plain help, plain errors, completion for the shell."""
    import typer

    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        subcommand_metavar="[COMMAND]",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def without_completion(command: Any) -> Any:
    """The command without the options that install completion: the shell completes installed commands by name."""
    command.params = [each for each in command.params if each.name not in ("install_completion", "show_completion")]
    return command


def command(role: str) -> str:
    """What to type for the command of `role`, in the same form as this command was typed."""
    typed = Path(sys.argv[0])
    if _is_module():
        return shlex.join([sys.orig_argv[0], "-m", typed.parent.name, *([role] if role else [])])
    if _is_script():
        return shlex.join([sys.orig_argv[0], str(typed.with_name(f"{role}.py"))])
    name, rest = (f"tradewind-{role}", "") if typed.name.startswith("tradewind-") else ("tradewind", f" {role}")
    if shutil.which(name):
        return name + rest
    if (beside := typed.with_name(name)).is_file():
        return shlex.quote(str(beside)) + rest
    # As in a process of --local, or in a program that uses the package.
    return shlex.join([sys.executable, "-m", __package__, role])


def _is_module() -> bool:
    typed = Path(sys.argv[0])
    return typed.name == "__main__.py" and typed.parent.name == __package__


def _is_script() -> bool:
    typed = Path(sys.argv[0])
    return typed.suffix == ".py" and typed.stem in ROLES


def as_typed(text: str, percent: str = "%") -> str:
    """The text with its commands in the form to type here; `percent` replaces their percent signs."""
    return with_commands(text, lambda role: command(role).replace("%", percent))


def typed_options(context: "typer.Context") -> list[str]:
    """The parameters that were typed: options as `--option`, arguments as their metavar."""
    found = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            found.append(parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or "")
    return found


def start_log(role: str, kind: LogFormat = LogFormat.text) -> None:
    """Log lines to stderr; `TRADEWIND_LOG_LEVEL` (debug, info, warning, error) sets the lowest level shown."""
    level = os.environ.get("TRADEWIND_LOG_LEVEL", "info").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise OperatorError(f"TRADEWIND_LOG_LEVEL is {level}: set it to debug, info, warning or error")
    # Not by way of sys.stderr: its lock would stop the loop when the log stops.
    handler = LogHandler(role, kind, 2, sys.stderr.encoding)
    handler.addFilter(_name_commands)
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _log() -> LogHandler | None:
    return next((each for each in logging.getLogger().handlers if isinstance(each, LogHandler)), None)


def log_format() -> LogFormat:
    """How log lines look here."""
    log = _log()
    return LogFormat.text if log is None else log.kind


def show_status(line: str) -> None:
    """Show a line below the log on the terminal, in place of the last one."""
    log = _log()
    assert log is not None
    log.writer.show(line)


def pass_on(line: str) -> None:
    """Show a line of another process, which has its own time and level. JSON lines have it as their message."""
    log = _log()
    assert log is not None
    if log.kind is LogFormat.text:
        log.writer.write(line)
    else:
        logging.getLogger(__name__).info("%s", line)


def _say_error(role: str, text: str) -> None:
    """The last words of a command that ends by an error."""
    log = _log()
    if log is None:
        print(f"{role}: {indented(text)}", file=sys.stderr)
    else:
        log.say_error(text)


def _close_log() -> None:
    log = _log()
    if log is not None:
        logging.getLogger().removeHandler(log)
        log.writer.close()


def _name_commands(record: logging.LogRecord) -> bool:
    # The arguments stay as they are, because the output of tasks is among them.
    record.msg = as_typed(str(record.msg), "%%" if record.args else "%")
    return True


def run(app: "typer.Typer | Any", role: str = "") -> None:
    """Run the command line of `role`; without a role, that of the command `tradewind`, which has all of them below it.

    An operator's error becomes one line on stderr and exit code 2.
    """
    import typer

    # It is public in click, which newer typers have inside.
    wrong_use: Any = typer.BadParameter.__base__
    name = command(role) if _is_module() or _is_script() else Path(sys.argv[0]).name

    def code_of() -> Any:
        command_line = typer.main.get_command(app) if isinstance(app, typer.Typer) else app
        if " " in name:
            without_completion(command_line)
        try:
            return command_line.main(prog_name=name, standalone_mode=False)
        except wrong_use as error:
            raise OperatorError(_in_one_line(error, name)) from None
        except typer.Abort:
            return ExitCode.INTERRUPTED

    _run(role or next((each for each in sys.argv[1:2] if each in ROLES), "tradewind"), code_of)


def run_private(role: str, work: Callable[[], ExitCode]) -> None:
    """Run a role that another process has started for itself, with the log that its environment asks for."""

    def code_of() -> ExitCode:
        start_log(role, LogFormat(os.environ.get("TRADEWIND_LOG_FORMAT", LogFormat.text)))
        own_process.prepare()
        return work()

    try:
        _run(role, code_of)
    except SystemExit as end:
        # Whoever has started it waits for its end. Nothing is left to do, and an interpreter takes long to leave.
        os._exit(int(end.code or 0))


def _run(said_by: str, code_of: Callable[[], Any]) -> None:
    """Do what gives the exit code, and end this process with it. An error is said in one line."""
    own_process.take_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_standard_streams()
    try:
        code = code_of()
    except OperatorError as error:
        _say_error(said_by, as_typed(str(error)))
        code = error.code
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        _say_error(said_by, f"this Python ({sys.executable}) has no module {error.name}: {_how_to_install()}")
        code = ExitCode.WRONG_USE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    finally:
        _close_log()
    sys.exit(code)


def _how_to_install() -> str:
    if _is_script():
        top = Path(sys.argv[0]).parent
        return f"run `make run` in {top} once, and start `{top / '.venv/bin/python'} {sys.argv[0]}`"
    return "install Tradewind again with pip, which brings what it needs"


def _in_one_line(error: Any, name: str) -> str:
    import typer

    from . import options

    help_of = error.ctx.command_path if error.ctx else name
    text = " ".join(error.format_message().split()).rstrip(".")
    parameter: Any = getattr(error, "param", None)
    if parameter is not None and type(error) is typer.BadParameter and (values := options.expected(parameter)):
        option = parameter.opts[0] + (f" (or {parameter.envvar})" if parameter.envvar else "")
        text = f"{option}: give {values}"
    return f"{text}{' ' if text.endswith('?') else '; '}`{help_of} --help` says more"


def _open_standard_streams() -> None:
    """Let no file or socket become a standard stream that is closed, and no character end the printing."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def pipe_may_close() -> Iterator[None]:
    """A reader of standard output may close it early, as `head` does. That ends the printing and is not an error.

    Raises OperatorError when standard output is closed, or its disk is full.
    """
    if sys.stdout is None:
        raise OperatorError("standard output is closed: give the command a terminal, a file or a pipe to print to")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes the rest of the buffer when it ends; it must not fail then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OperatorError(f"cannot write to standard output: {error.strerror}; print to another place") from None
