"""The command line of the worker."""

import os
import re
import resource
import socket
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..errors import ExitCode, OperatorError
from ..protocol.users import WORKER
from ..transport import polling
from ..transport import sink_link as link
from ..transport.key_files import is_name
from .child_process import Limits
from .loop import Worker, WorkerOptions
from .settings import HoldingSettings

app = console.application("The worker of a Tradewind pipeline.")
DEFAULT_KEY = Path("keys/worker.key_secret")
EXTRA_MAX = 1_000
"""Batches beyond the default prefetch that a worker holds of a job whose batches are done in no time."""


def default_slots() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def default_name() -> str:
    """The host's name, as far as it can name a worker."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in socket.gethostname())
    return name.strip("-")[:40] or "worker"


@app.command(epilog=console.EXIT_CODES)
def work(
    modules: Annotated[
        list[str],
        typer.Argument(metavar="MODULE...", help="Modules, or MODULE:FUNCTION, looked for in this folder first."),
    ],
    key: Annotated[
        Path,
        typer.Option(
            readable=False, envvar="TRADEWIND_KEY", help="This worker's key file, as the sink's `enrol` wrote it."
        ),
    ] = DEFAULT_KEY,
    sink: Annotated[
        str | None,
        typer.Option(envvar="TRADEWIND_SINK", metavar="HOST[:PORT]", help="The sink's address, if not the key file's."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, envvar="TRADEWIND_SLOTS", help="Child processes.  [default: the usable cores]"),
    ] = None,
    prefetch: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=10_000,
            envvar="TRADEWIND_PREFETCH",
            help="Batches to hold beyond the slots.  [default: as slots]",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(envvar="TRADEWIND_NAME", help="The worker's name.  [default: the host's]")
    ] = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(min=0, envvar="TRADEWIND_EXIT_WHEN_IDLE", metavar="SECONDS", help="Leave after so long idle."),
    ] = None,
    stop_after: Annotated[
        float | None,
        typer.Option(min=0, envvar="TRADEWIND_STOP_AFTER", metavar="SECONDS", help="Leave in order after so long."),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(min=0, envvar="TRADEWIND_GRACE", metavar="SECONDS", help="How long running tasks may go on then."),
    ] = 30.0,
    max_tasks_per_child: Annotated[
        int | None,
        typer.Option(min=1, envvar="TRADEWIND_MAX_TASKS_PER_CHILD", help="Replace a child after so many tasks."),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            envvar="TRADEWIND_MEMORY_LIMIT", metavar="SIZE", help="Address space of a child, like 500M or 2G."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=console.show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run the public functions of MODULES (or just MODULE:FUNCTION) for the ventilators of a sink.

    The sink may be started later: the worker waits for it and says so. On SIGTERM or Ctrl-C it returns what has not
    started, finishes what runs (for --grace seconds at most) and leaves; a second signal ends it at once.
    """
    console.start_log("worker")
    for module in modules:
        if module.endswith(".py") or "/" in module:
            dotted = module.removesuffix(".py").replace("/", ".").lstrip(".")
            raise OperatorError(f"{module}: name the module as Python imports it from this folder, like {dotted}")
    if name is not None and not is_name(name):
        raise OperatorError(f"--name {name}: use letters, digits, dot, dash and underscore")
    count = slots or default_slots()
    options = WorkerOptions(
        modules=modules,
        key=key,
        sink=sink,
        name=name or default_name(),
        exit_when_idle_s=exit_when_idle,
        stop_after_s=stop_after,
        limits=Limits(size_bytes(memory_limit), max_tasks_per_child),
        holding=HoldingSettings(
            slots=count,
            prefetch=count if prefetch is None else prefetch,
            extra_max=EXTRA_MAX if prefetch is None else 0,
            grace_s=grace,
        ),
    )
    raise typer.Exit(run(options))


def run(options: WorkerOptions) -> ExitCode:
    """Wait for the key file, then work."""
    poll, signals = polling.Poll(), polling.Signals()
    poll.register(signals, lambda: None)
    certificate = link.wait_for_pair(
        options.key,
        WORKER,
        poll,
        options.key == DEFAULT_KEY,
        lambda: bool(signals.received()),
        options.holding.timing,
    )
    if certificate is None:
        return ExitCode.OK
    return Worker(options, certificate, poll, signals).run()


def main() -> None:
    """The command `worker`."""
    console.run(app, "worker")
