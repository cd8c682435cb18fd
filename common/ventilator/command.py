"""The command line of the ventilator.

What the command needs is imported when it runs, so that `--help` and the shell's completion are quick.
"""

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, job_names, options, own_process
from ..default_files import DEFAULT_LEDGER, key_file, ledger_file
from ..errors import ExitCode, OperatorError
from ..help_page import CONNECTION, FAILURES, RUN, TUNING
from ..log_writer import LogFormat
from ..protocol.settings import BATCH_TASKS_MAX, COMMAND, ROOM_MAX, SECONDS_MAX
from ..protocol.users import VENTILATOR
from .settings import DispatchSettings, RelayUse

if TYPE_CHECKING:
    from .inputs import Input as OpenedInput
    from .loop import VentilatorOptions

app = console.application()
_NOT_TO_APPEND = ("--range", "--stream")
DEFAULT_KEY = key_file(VENTILATOR)

Function = Annotated[str | None, options.argument(RUN, "MODULE:FUNCTION", "The function to call with each task.")]
Input = Annotated[
    str | None,
    options.argument(
        RUN, "INPUT", "A file with a task per line (.jsonl, .ndjson: a JSON value per line), or - for stdin."
    ),
]
Json = Annotated[
    bool,
    options.flag(
        RUN,
        None,
        "Each line of the input is a JSON value, also where the file is not named .jsonl or .ndjson.",
        "--json",
    ),
]
Stream = Annotated[
    bool,
    options.flag(RUN, None, "The input goes on and never brings the same again: keep what is read of it.", "--stream"),
]
NulEnds = Annotated[bool, options.flag(RUN, None, "Tasks end with NUL, as `find -print0` writes them.", "-0")]
Range = Annotated[
    str | None, options.option(RUN, None, "START:STOP", "Use the integers from START to STOP - 1 as tasks.", "--range")
]
JobName = Annotated[
    str | None,
    options.option(
        RUN,
        "TRADEWIND_JOB",
        "NAME",
        "The name of the job. Under the name of an earlier job, that job is resumed.",
        default="the function and the time",
    ),
]
Cancelled = Annotated[
    str | None, options.option(RUN, None, "JOB", "Only cancel this job, with its running tasks.", "--cancel")
]
Local = Annotated[
    int | None,
    options.option(
        RUN, None, "SLOTS", "Also start a private sink and a worker with this many slots.", min=1, max=ROOM_MAX
    ),
]
LocalCommand = Annotated[
    str | None,
    options.option(RUN, None, "NAME=COMMAND", "With --local: what command:NAME is, as for the worker.", "--command"),
]
LocalLedger = Annotated[
    str, options.option(RUN, "TRADEWIND_LEDGER", "FILE", "With --local: the ledger to write, an SQLite file.")
]
"""Not a path, like the sink's own."""
Retries = Annotated[
    int, options.count(FAILURES, "TRADEWIND_RETRIES", "How many times a failed task is retried.", least=0, most=1_000)
]
Timeout = Annotated[
    float | None,
    options.seconds(
        FAILURES, "TRADEWIND_TIMEOUT", "How long a task may run before it is stopped.", least=0.001, most=SECONDS_MAX
    ),
]
QuarantineAfter = Annotated[
    int,
    options.count(
        FAILURES,
        "TRADEWIND_QUARANTINE_AFTER",
        "Give up on a task after this many workers died while running it.",
        least=1,
    ),
]
MaxFails = Annotated[
    int | None,
    options.count(
        FAILURES, "TRADEWIND_MAX_FAILS", "Halt the job when this many tasks have failed; it can be resumed.", least=1
    ),
]
RetryFailed = Annotated[
    bool, options.flag(FAILURES, None, "With --job: run the failed tasks of that job again.", "--retry-failed")
]
Append = Annotated[
    bool, options.flag(RUN, None, "With --job: add the tasks of a new input to a job that is done.", "--append")
]
NoArguments = Annotated[
    bool,
    options.flag(RUN, "TRADEWIND_NO_ARGUMENTS", "Do not keep the tasks' arguments in the ledger.", "--no-arguments"),
]
Port = Annotated[
    int | None, options.port("TRADEWIND_PORT", "The port of the tasks link.", default="5557, or from 5560 on")
]
Relay = Annotated[
    RelayUse,
    options.option(
        CONNECTION,
        "TRADEWIND_RELAY",
        "auto|always|never",
        "When tasks go through the sink's relay. auto: once a worker cannot connect to the port of the tasks link.",
    ),
]
Batch = Annotated[
    int | None,
    options.count(
        TUNING,
        "TRADEWIND_BATCH",
        "How many tasks a batch has.",
        least=1,
        most=BATCH_TASKS_MAX,
        default="chosen from the measured task time",
    ),
]
Speculate = Annotated[
    bool,
    options.flag(
        TUNING,
        "TRADEWIND_SPECULATE",
        "Near the end, run copies of the slowest tasks on idle slots. The first result wins.",
        "--speculate",
    ),
]


@app.command(**console.look())
def ventilate(
    context: typer.Context,
    function: Function = None,
    input_: Input = None,
    range_: Range = None,
    json: Json = False,
    nul_ends: NulEnds = False,
    stream: Stream = False,
    job: JobName = None,
    append: Append = False,
    no_arguments: NoArguments = False,
    cancel: Cancelled = None,
    local: Local = None,
    ledger: LocalLedger = str(DEFAULT_LEDGER),
    command: LocalCommand = None,
    retries: Retries = 0,
    timeout: Timeout = None,
    max_fails: MaxFails = None,
    quarantine_after: QuarantineAfter = 3,
    retry_failed: RetryFailed = False,
    key: options.Key = DEFAULT_KEY,
    sink: options.Sink = None,
    port: Port = None,
    relay: Relay = RelayUse.auto,
    batch: Batch = None,
    speculate: Speculate = False,
    log_format: options.Log = LogFormat.text,
    version: options.Version = False,
) -> None:
    """Run MODULE:FUNCTION for every task of the input, and wait until all results are recorded.

    Blank lines are ignored. An interrupted job goes on when it is started again with the same --job: tasks that are in
    the ledger are skipped.
    """
    console.start_log("ventilator", log_format)
    own_process.prepare()
    check_together(console.typed_options(context), relay)
    if cancel is not None:
        return cancel_job(key, sink, cancel)
    function = checked_function(function, local, command)
    name = job_name(job, function, retry_failed, append)
    if append and no_arguments:
        raise OperatorError("--append knows new tasks by their arguments: leave out --no-arguments")
    settings = DispatchSettings(
        batch_tasks=batch,
        retries=retries,
        timeout_s=timeout,
        quarantine_after=quarantine_after,
        keep_arguments=not no_arguments,
        speculate=speculate,
    )
    from .inputs import InputRequest, open_input
    from .loop import VentilatorOptions
    from .spool import SpoolPlace

    spool = (Path() if local is None else ledger_file(ledger, "--ledger").parent) / "spool"
    more = settings, append, results_options(key, sink), spool
    run = VentilatorOptions(function, key, sink, name, port, retry_failed, *more, relay=relay, max_fails=max_fails)
    opened = open_input(InputRequest(input_, range_, json, nul_ends, stream, append), SpoolPlace(spool, name))
    raise typer.Exit(run_job(run, opened, local, ledger, command))


def run_job(
    options: "VentilatorOptions", opened: "OpenedInput", local: int | None, ledger: str, command: str | None
) -> ExitCode:
    """Run the job, with `local` on a private sink and worker that write this ledger and serve this command."""
    from ..transport import polling
    from ..transport.sink_link import wait_for_pair
    from .local_farm import LocalFarm
    from .loop import Ventilator, log_line
    from .progress import ProgressDisplay
    from .summary import Workers

    farm: LocalFarm | None = None
    poll, signals = polling.Poll(), polling.Signals()
    poll.register(signals, lambda: None)
    is_default = local is None and options.key == DEFAULT_KEY
    with ExitStack() as stack:
        if local is not None:
            served = ["--", options.function] if command is None else ["--command", command]
            farm = LocalFarm(served, ledger, local, console.log_format())
            key = stack.enter_context(farm)
            where = () if ledger == str(DEFAULT_LEDGER) else ("--ledger", ledger)
            options = replace(options, key=key, sink=None, results_options=where, workers=Workers.OURS)
            options = replace(options, relay=RelayUse.never)
        elif not is_default:
            options = replace(options, workers=Workers.ELSEWHERE)
        timing = options.dispatch.timing
        certificate = wait_for_pair(options.key, VENTILATOR, poll, is_default, lambda: bool(signals.received()), timing)
        if certificate is None:
            return ExitCode.INTERRUPTED
        end = Ventilator(options, opened, certificate, poll, signals, farm, ProgressDisplay(options.job)).run()
        for line in end.lines:
            log_line(line)
        if end.error is not None:
            raise end.error
        return end.code


def results_options(key: Path, sink: str | None) -> tuple[str, ...]:
    """How results are read here: from the ledger, where the sink's own key and its ledger are; else from the sink."""
    if key == DEFAULT_KEY and sink is None and DEFAULT_LEDGER.exists():
        return ()
    return ("--key", str(key), *(("--sink", sink) if sink else ()))


def cancel_job(key: Path, sink: str | None, job: str) -> None:
    """Ask the sink to cancel the job."""
    from ..protocol.messages import Cancel, Dropped
    from ..transport.sink_talk import ask_sink

    ask_sink(key, (VENTILATOR,), sink, Cancel(job), Dropped)
    print(f"job {job} is cancelled")


def job_name(job: str | None, function: str, retry_failed: bool, append: bool) -> str:
    """The name of the job, which has to be given where it is an earlier one. Raises OperatorError."""
    if retry_failed and job is None:
        raise OperatorError("--retry-failed needs --job NAME: the job whose failed tasks to run again")
    if append and job is None:
        raise OperatorError("--append needs --job NAME: the job that the tasks are added to")
    name = job or new_job(function)
    check_job(name)
    return name


def new_job(function: str) -> str:
    """The name of a job that was given none: its function and the time."""
    return f"{job_names.base(function)}-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]


def check_together(typed: list[str], relay: RelayUse = RelayUse.auto) -> None:
    """Refuse options that have no effect beside others. Raises OperatorError."""
    if "--cancel" in typed and (idle := [each for each in typed if each not in ("--cancel", "--key", "--sink")]):
        raise OperatorError(f"--cancel JOB only cancels: leave out {', '.join(idle)}")
    if "--local" in typed and (idle := [each for each in typed if each in ("--key", "--sink")]):
        raise OperatorError(f"--local starts its own sink: leave out {', '.join(idle)}")
    if "--local" in typed and "--relay" in typed:
        raise OperatorError("--local pushes tasks to its own worker: leave out --relay")
    if relay is RelayUse.always and "--relay" in typed and "--port" in typed:
        raise OperatorError("--relay always listens nowhere: leave out --port")
    if "--append" in typed and (idle := [each for each in typed if each in _NOT_TO_APPEND]):
        raise OperatorError(f"--append adds the new tasks of a file or of standard input: leave out {', '.join(idle)}")
    if "--ledger" in typed and "--local" not in typed:
        raise OperatorError("--ledger is for --local: without it, the sink's own --ledger says where results go")


def checked_function(function: str | None, local: int | None, command: str | None) -> str:
    """The name of a function, if it can be one, and these options fit to it. Raises OperatorError."""
    if function is None:
        raise OperatorError("name the function as MODULE:FUNCTION; `python ventilator.py --help` says more")
    module, colon, name = function.partition(":")
    if not (module and colon and name) or module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").replace("/", ".").strip(".") or "module"
        raise OperatorError(f"{function}: name the function as MODULE:FUNCTION, like {dotted}:{name or 'function'}")
    check_command(function, local, command)
    return function


def check_command(function: str, local: int | None, command: str | None) -> None:
    """Refuse --command where no worker of this ventilator runs it, and --local without it. Raises OperatorError."""
    module, _, name = function.partition(":")
    if command is not None and local is None:
        raise OperatorError("--command is for --local: without it, the worker's own --command says what a command is")
    if command is not None and (module != COMMAND or command.partition("=")[0] != name):
        raise OperatorError(f"--command {command}: the job runs {function}; give both the same name")
    if command is None and local is not None and module == COMMAND and not Path(f"{COMMAND}.py").exists():
        raise OperatorError(f"{function}: say what the command is, with --command {name}='PROGRAM {{}}'")


def check_job(name: str) -> None:
    """Refuse what cannot be the name of a job. Raises OperatorError."""
    if not job_names.is_job(name):
        raise OperatorError(f"--job {name}: use letters, digits, dot, dash, colon and underscore, at most 100")


def main() -> None:
    """The command `ventilator`."""
    console.run(app, "ventilator")
