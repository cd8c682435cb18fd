"""The command line of the worker.

What the command needs is imported when it runs, so that `--help` and the shell's completion are quick.
"""

import logging
import os
import re
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from .. import console, options, own_process
from ..default_files import key_file
from ..errors import OperatorError
from ..help_page import CONNECTION, LEAVING, RUN, TUNING
from ..log_writer import LogFormat
from ..protocol.settings import COMMAND, ROOM_MAX, SECONDS_MAX
from ..protocol.users import WORKER
from .settings import HoldingSettings

log = logging.getLogger(__name__)

app = console.application()
DEFAULT_KEY = key_file(WORKER)

Modules = Annotated[
    list[str] | None,
    options.argument(RUN, "MODULE...", "The modules, or MODULE:FUNCTION, to serve. This folder is searched first."),
]
CommandTexts = Annotated[
    list[str] | None,
    options.option(
        RUN,
        None,
        "NAME=COMMAND",
        "Serve a command as command:NAME, without a shell. The argument takes the place of {}. Can be given again.",
        "--command",
        default="none",
    ),
]
OutputDir = Annotated[
    Path | None,
    options.file(
        RUN,
        "TRADEWIND_OUTPUT_DIR",
        "Also write all that commands print to files, FOLDER/JOB/TASK.stdout and .stderr.",
        metavar="FOLDER",
        default="none",
    ),
]
Name = Annotated[
    str | None,
    options.option(CONNECTION, "TRADEWIND_NAME", "NAME", "The name of the worker.", default="the name of the host"),
]
ExitWhenIdle = Annotated[
    float | None,
    options.seconds(LEAVING, "TRADEWIND_EXIT_WHEN_IDLE", "Leave after this long without a task.", most=SECONDS_MAX),
]
StopAfter = Annotated[
    float | None, options.seconds(LEAVING, "TRADEWIND_STOP_AFTER", "Leave after this long.", most=SECONDS_MAX)
]
StopWithStdin = Annotated[
    bool,
    options.flag(LEAVING, None, "Leave when standard input ends, as with the connection of ssh.", "--stop-with-stdin"),
]
Grace = Annotated[
    float,
    options.seconds(
        LEAVING, "TRADEWIND_GRACE", "How long running tasks may go on when the worker leaves.", most=SECONDS_MAX
    ),
]
Slots = Annotated[
    int | None,
    options.count(
        TUNING, "TRADEWIND_SLOTS", "How many child processes run tasks.", 1, ROOM_MAX, default="the usable cores"
    ),
]
Prefetch = Annotated[
    int | None,
    options.count(
        TUNING,
        "TRADEWIND_PREFETCH",
        "How many batches of each job to hold beyond the slots.",
        0,
        ROOM_MAX,
        default="as many as slots",
    ),
]
MaxTasksPerChild = Annotated[
    int | None,
    options.count(TUNING, "TRADEWIND_MAX_TASKS_PER_CHILD", "Replace a child process after this many tasks.", 1),
]
Reload = Annotated[
    bool,
    options.flag(
        TUNING, "TRADEWIND_RELOAD", "Import edited modules again before the next job.", "--reload/--no-reload"
    ),
]
MemoryLimit = Annotated[
    str | None,
    options.option(
        TUNING, "TRADEWIND_MEMORY_LIMIT", "SIZE", "How much memory a child process may use, like 500M or 2G."
    ),
]


def size_bytes(text: str | None) -> int | None:
    """A size like 500M or 2G (powers of 1024) in bytes. Raises OperatorError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    size = int(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else 0
    if size < 64 * 1024 * 1024:
        raise OperatorError(f"--memory-limit {text}: give a size of at least 64M, like 500M or 2G")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY and size > hard:
        raise OperatorError(f"--memory-limit {text}: processes here may have {hard} bytes (ulimit -v); give no more")
    return size


@app.command(**console.look())
def work(
    modules: Modules = None,
    command: CommandTexts = None,
    output_dir: OutputDir = None,
    key: options.Key = DEFAULT_KEY,
    sink: options.Sink = None,
    name: Name = None,
    exit_when_idle: ExitWhenIdle = None,
    stop_after: StopAfter = None,
    stop_with_stdin: StopWithStdin = False,
    grace: Grace = 30.0,
    slots: Slots = None,
    prefetch: Prefetch = None,
    max_tasks_per_child: MaxTasksPerChild = None,
    memory_limit: MemoryLimit = None,
    reload: Reload = True,
    log_format: options.Log = LogFormat.text,
    version: options.Version = False,
) -> None:
    """Run the public functions of modules, single functions, or commands, for the ventilators of a sink.

    The worker waits until the sink is there. On SIGTERM or Ctrl-C it returns what has not started, finishes what runs
    (for --grace seconds at most) and leaves. A second signal ends it at once.
    """
    console.start_log("worker", log_format)
    own_process.prepare()
    from . import start
    from .child_process import Limits
    from .loop import WorkerOptions

    start.check_names(modules or [], name)
    commands = named_commands(command or [], modules or [])
    outputs = output_folder(output_dir, bool(commands))
    count, threads = start.slots_and_threads(slots)
    options = WorkerOptions(
        modules=modules or [],
        key=key,
        sink=sink,
        name=name or start.default_name(),
        exit_when_idle_s=exit_when_idle,
        stop_after_s=stop_after,
        stops_with_stdin=stop_with_stdin,
        limits=Limits(size_bytes(memory_limit), max_tasks_per_child, threads, commands, outputs),
        reloads=reload,
        holding=HoldingSettings(
            slots=count,
            prefetch=count if prefetch is None else prefetch,
            prefetch_max=start.PREFETCH_MAX if prefetch is None else 0,
            grace_s=grace,
        ),
    )
    raise typer.Exit(start.run(options))


def named_commands(texts: list[str], modules: list[str]) -> dict[str, tuple[str, str]]:
    """By function, the program and the template of each `--command`. Raises OperatorError."""
    from ..transport.key_files import is_name
    from .command_template import Template, TemplateError

    found: dict[str, tuple[str, str]] = {}
    if not texts and not modules:
        raise OperatorError(
            "name a module to serve, or a command with --command NAME='PROGRAM {}'; `python worker.py --help` says more"
        )
    for text in texts:
        name, equals, command = text.partition("=")
        function = f"{COMMAND}:{name}"
        if not equals or not is_name(name):
            raise OperatorError(
                f"--command {text}: give it as NAME='PROGRAM {{}}'; NAME has letters, digits, dot, dash and underscore"
            )
        if function in found:
            raise OperatorError(f"--command {name}= stands there twice: give each command a name of its own")
        try:
            program = Template(command).program
        except TemplateError as error:
            raise OperatorError(f"--command {name}: {error}") from None
        path = shutil.which(program)
        if path is None:
            raise OperatorError(f"--command {name}: {program} {_why_not_found(program)}")
        found[function] = str(Path(path).absolute()), command
        log.info("%s runs %s", function, found[function][0])
    if found and (namesake := [each for each in modules if each.partition(":")[0] == COMMAND]):
        raise OperatorError(f"{namesake[0]}: a module of this name cannot be served beside --command: rename it")
    return found


def _why_not_found(program: str) -> str:
    if "/" not in program:
        return f"is not found in any folder of PATH ({os.environ.get('PATH', 'which is not set')})"
    path = Path(program)
    if path.is_dir():
        return "is a folder: name a program"
    return "may not be executed: chmod +x it" if path.exists() else f"is not there (looked from {Path.cwd()})"


def output_folder(folder: Path | None, has_commands: bool) -> str | None:
    """The folder for the outputs of commands, made if it is not there. Raises OperatorError."""
    if folder is None:
        return None
    if not has_commands:
        raise OperatorError("--output-dir is for what commands print: give --command too, or leave it out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder.absolute())
    except OSError as error:
        raise OperatorError(f"--output-dir {folder} cannot be written: {error.strerror}") from None


def main() -> None:
    """The command `worker`."""
    console.run(app, "worker")
