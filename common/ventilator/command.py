"""The command line of the ventilator."""

import re
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..errors import ExitCode, OperatorError
from ..protocol.messages import BATCH_TASKS_MAX, Cancel, Dropped
from ..protocol.users import VENTILATOR
from ..transport import polling
from ..transport import sink_link as link
from .inputs import open_input
from .local_farm import LocalFarm
from .loop import Ventilator, VentilatorOptions
from .settings import DispatchSettings

app = console.application("The ventilator of a Tradewind pipeline.")
DEFAULT_KEY = Path("keys/ventilator.key_secret")
DEFAULT_LEDGER = Path("results.db")


def new_job(function: str) -> str:
    """A name for a job that was given none: its function and the time."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', function)[:60].lstrip('-._')}-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]


@app.command(epilog=console.EXIT_CODES)
def ventilate(
    context: typer.Context,
    function: Annotated[
        str | None, typer.Argument(metavar="MODULE:FUNCTION", help="What to call with each task.")
    ] = None,
    input_: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A file with one task a line (.jsonl: a JSON value a line), or - for stdin.",
        ),
    ] = None,
    key: Annotated[
        Path,
        typer.Option(
            readable=False, envvar="TRADEWIND_KEY", help="This ventilator's key file, as the sink's `enrol` wrote it."
        ),
    ] = DEFAULT_KEY,
    sink: Annotated[
        str | None,
        typer.Option(envvar="TRADEWIND_SINK", metavar="HOST[:PORT]", help="The sink's address, if not the key file's."),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(envvar="TRADEWIND_JOB", metavar="NAME", help="The job's name; an old one is resumed."),
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option("--range", metavar="START:STOP", help="The integers from START to STOP - 1 as tasks."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=BATCH_TASKS_MAX, envvar="TRADEWIND_BATCH", help="Tasks in a batch.  [default: by task time]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            envvar="TRADEWIND_PORT",
            help="Port of the tasks link; 0: a free one.  [default: 5557, or a free one]",
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, max=1_000, envvar="TRADEWIND_RETRIES", help="So often a task that fails is tried again."),
    ] = 0,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, envvar="TRADEWIND_TIMEOUT", metavar="SECONDS", help="A task that runs longer is ended."
        ),
    ] = None,
    quarantine_after: Annotated[
        int,
        typer.Option(min=1, envvar="TRADEWIND_QUARANTINE_AFTER", help="Give a task up that so many workers died with."),
    ] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --job: run the tasks again that are recorded as failed.")
    ] = False,
    speculate: Annotated[
        bool,
        typer.Option(
            "--speculate",
            envvar="TRADEWIND_SPECULATE",
            help="Run a copy of the last stragglers on idle slots; the first result wins.",
        ),
    ] = False,
    cancel: Annotated[
        str | None, typer.Option(metavar="JOB", help="Cancel this job, running tasks included, and nothing else.")
    ] = None,
    local: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="SLOTS",
            help="Bring a sink and a worker of one's own, with so many slots.",
        ),
    ] = None,
    ledger: Annotated[
        Path, typer.Option(readable=False, envvar="TRADEWIND_LEDGER", help="The ledger that --local leaves.")
    ] = DEFAULT_LEDGER,
    version: Annotated[
        bool,
        typer.Option("--version", callback=console.show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run MODULE:FUNCTION for every task of the input, and wait until each has its receipt.

    Lines of white space only are no tasks. The job can be interrupted and run again under the same --job: what is in
    the ledger is skipped.
    """
    console.start_log("ventilator")
    check_together(console.typed_options(context))
    if cancel is not None:
        link.ask_sink(key, VENTILATOR, sink, Cancel(cancel), Dropped)
        print(f"job {cancel} is cancelled")
        return
    if function is None:
        raise OperatorError("name the function as MODULE:FUNCTION; --help says more")
    check_function(function)
    if retry_failed and job is None:
        raise OperatorError("--retry-failed needs --job NAME: the job whose failed tasks are to be run again")
    name = job or new_job(function)
    settings = DispatchSettings(
        batch_tasks=batch,
        retries=retries,
        timeout_s=timeout,
        quarantine_after=quarantine_after,
        speculate=speculate,
    )
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", name) is None:
        raise OperatorError(f"--job {name}: use letters, digits, dot, dash, colon and underscore, at most 100")
    opened = open_input(input_, range_)
    farm: LocalFarm | None = None
    poll, signals = polling.Poll(), polling.Signals()
    poll.register(signals, lambda: None)
    with ExitStack() as stack:
        if local is not None:
            farm = LocalFarm([function], ledger, local)
            key = stack.enter_context(farm)
        certificate = link.wait_for_pair(
            key, VENTILATOR, poll, key == DEFAULT_KEY, lambda: bool(signals.received()), settings.timing
        )
        if certificate is None:
            raise typer.Exit(ExitCode.INTERRUPTED)
        left = ledger if farm and ledger != DEFAULT_LEDGER else None
        options = VentilatorOptions(function, key, None if farm else sink, name, port, retry_failed, settings, left)
        code = Ventilator(options, opened, certificate, poll, signals, farm).run()
    raise typer.Exit(code)


def check_together(typed: list[str]) -> None:
    """Refuse options that would count for nothing beside others. Raises OperatorError."""
    if "--cancel" in typed and (idle := [each for each in typed if each not in ("--cancel", "--key", "--sink")]):
        raise OperatorError(f"--cancel JOB only cancels: leave out {', '.join(idle)}")
    if "--local" in typed and (idle := [each for each in typed if each in ("--key", "--sink")]):
        raise OperatorError(f"--local brings a sink of its own: leave out {', '.join(idle)}")
    if "--ledger" in typed and "--local" not in typed:
        raise OperatorError("--ledger is for --local: where results go otherwise, the sink was told with its --ledger")


def check_function(function: str) -> None:
    """Refuse a function whose name cannot be meant. Raises OperatorError."""
    module, colon, name = function.partition(":")
    if not (module and colon and name) or module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").replace("/", ".").strip(".") or "module"
        raise OperatorError(f"{function}: name the function as MODULE:FUNCTION, like {dotted}:{name or 'function'}")


def main() -> None:
    """The command `ventilator`."""
    console.run(app, "ventilator")
