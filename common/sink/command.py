"""The command line of the sink.

What a command needs is imported when it runs, so that `--help` and the shell's completion are quick.
"""

import socket
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, options, own_process
from ..default_files import DEFAULT_KEYS, DEFAULT_LEDGER
from ..doctor.command import sink_doctor
from ..errors import ExitCode, OperatorError
from ..help_page import ARGUMENTS, CONNECTION, FILES, PRINT, Group
from ..log_writer import LogFormat
from ..protocol.settings import CONTROL_PORT, RESULTS_PORT
from ..protocol.users import OBSERVER, READERS, VENTILATOR, WORKER
from ..web.command import web
from .copy_command import copy_ledger
from .postgres_place import with_site
from .result_formats import Format, misuse

if TYPE_CHECKING:
    from .remote_reader import RemoteReader
    from .store import Reader

app = console.application()


Listen = Annotated[
    str, options.option(CONNECTION, "TRADEWIND_LISTEN", "HOST", "The address to listen at; * means all addresses.")
]
ControlPort = Annotated[int, options.port("TRADEWIND_CONTROL_PORT", "The port of the control link.")]
ResultsPort = Annotated[int, options.port("TRADEWIND_RESULTS_PORT", "The port of the results link.")]
AsJson = Annotated[bool, options.flag(PRINT, None, "Print JSON, for scripts.", "--json")]
Watch = Annotated[bool, options.flag(PRINT, None, "Show it on the whole terminal, anew each second.", "--watch")]
RelayPort = Annotated[
    int | None,
    options.port(
        "TRADEWIND_RELAY_PORT", "The port where ventilators push to the relay.", default="5556, or a free one"
    ),
]
RelayedTasksPort = Annotated[
    int | None,
    options.port("TRADEWIND_TASKS_PORT", "The port where workers pull from the relay.", default="5555, or a free one"),
]
LastJob = Annotated[str | None, options.argument(PRINT, "JOB", "The job. Without it, the last one is printed.")]
FormatOption = Annotated[
    Format,
    options.option(
        PRINT,
        None,
        "jsonl|csv|values|text|parquet",
        "How to print: JSON lines, CSV, the values only, the output of commands as it was, or a Parquet file.",
    ),
]
Failed = Annotated[bool, options.flag(PRINT, None, "Print only tasks that failed.", "--failed")]
Follow = Annotated[bool, options.flag(PRINT, None, "Print results as they arrive, until the job ends.", "--follow")]
Arguments = Annotated[
    bool, options.flag(PRINT, None, "Print only the tasks' arguments, one a line: an input again.", "--arguments")
]
Columns = Annotated[
    bool,
    options.flag(
        PRINT, None, "With --format csv or parquet: make a column for each key of results and arguments that are maps.",
        "--columns",
    ),
]  # fmt: skip
Output = Annotated[
    Path | None,
    options.option(
        PRINT, None, "FILE", "Write to this file, which appears when it is complete.", default="standard output"
    ),
]
ReadersKey = Annotated[
    Path | None,
    options.file(CONNECTION, "TRADEWIND_KEY", "Ask the sink with this key file.", default="the ledger is read"),
]
AnyKey = Annotated[
    Path | None,
    options.file(CONNECTION, "TRADEWIND_KEY", "The key file to ask with.", default="one from the key folder"),
]
VentilatorsKey = Annotated[
    Path | None,
    options.file(
        CONNECTION, "TRADEWIND_KEY", "The ventilator's key file to ask with.", default="one from the key folder"
    ),
]
OldJobs = Annotated[list[str] | None, options.argument(ARGUMENTS, "JOB...", "The jobs to forget.")]
Done = Annotated[bool, options.flag(ARGUMENTS, None, "Forget all jobs that are done.", "--done")]
OlderThan = Annotated[
    str | None,
    options.option(ARGUMENTS, None, "AGE", "Forget jobs that ended longer ago than this, like 30d, 12h or 90m."),
]
Yes = Annotated[bool, options.flag(ARGUMENTS, None, "Do not ask.", "--yes")]
OwnLedger = Annotated[
    str | None,
    options.option(FILES, None, "FILE", "The ledger, when no sink runs.", default="the sink is asked"),
]
Copy = Annotated[Path, options.argument(ARGUMENTS, "FILE", "The copy to write.")]
Job = Annotated[str, options.argument(ARGUMENTS, "JOB", "The job to cancel.")]
ExplainedJob = Annotated[str, options.argument(ARGUMENTS, "JOB", "The job to explain.")]
ExplainedTask = Annotated[int | None, options.argument(ARGUMENTS, "TASK", "A task of it, by its number from 0.")]
Role = Annotated[str, options.argument(ARGUMENTS, "ROLE", "What the machine may be: worker, ventilator or observer.")]
NewName = Annotated[str, options.argument(ARGUMENTS, "NAME", "What the key is called in the roster and in the log.")]
Name = Annotated[str, options.argument(ARGUMENTS, "NAME", "The name of the key, as `roster` lists it.")]
Address = Annotated[
    str | None,
    options.option(
        CONNECTION,
        None,
        "tcp://HOST:PORT",
        "The address under which that machine finds the sink, or several separated by commas.",
        default="the name of this host",
    ),
]


@app.callback(invoke_without_command=True, **console.look(Group))
def serve(
    context: typer.Context,
    ledger: options.Ledger = str(DEFAULT_LEDGER),
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    listen: Listen = "*",
    control_port: ControlPort = CONTROL_PORT,
    results_port: ResultsPort = RESULTS_PORT,
    relay_port: RelayPort = None,
    tasks_port: RelayedTasksPort = None,
    log_format: options.Log = LogFormat.text,
    version: options.Version = False,
) -> None:
    """Collect the results of all jobs, or with a command look after results and keys.

    Without a command the sink runs until SIGTERM or Ctrl-C. Its first start makes the key folder, with keys for a
    worker, a ventilator and an observer on this machine.
    """
    if context.invoked_subcommand is not None:
        command = context.invoked_subcommand
        if typed := console.typed_options(context):
            raise OperatorError(
                f"{typed[0]} stands before {command}: put it after, if `python sink.py {command} --help` has it"
            )
        return
    from . import serving
    from .loop import SinkOptions

    console.start_log("sink", log_format)
    own_process.prepare()
    ports = control_port, results_port, relay_port, tasks_port
    serving.serve(SinkOptions(with_site(ledger, site), keys, listen, *ports))


@app.command(**console.look())
def results(
    context: typer.Context,
    job: LastJob = None,
    ledger: options.Ledger = str(DEFAULT_LEDGER),
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    key: ReadersKey = None,
    sink: options.Sink = None,
    format: FormatOption = Format.jsonl,
    failed: Failed = False,
    follow: Follow = False,
    arguments: Arguments = False,
    columns: Columns = False,
    output: Output = None,
) -> None:
    """Print the results of a job in task order, or with --follow as they arrive.

    They are read from the ledger's file, or with --key or --sink from the running sink, on any machine.
    """
    from . import tables
    from .output_file import opened
    from .parquet import ParquetFile

    given = {
        "--failed": failed, "--follow": follow, "--arguments": arguments, "--columns": columns, "--output": output
    }  # fmt: skip
    if wrong := misuse(format, [name for name, value in given.items() if value]):
        raise OperatorError(wrong)
    parquet = ParquetFile() if format is Format.parquet else None
    with closing(opened_reader(context, ledger, site, keys, key, sink)) as reader:
        number = reader.job(job)
        in_order = partial(reader.rows, number, failed)
        with opened(output) as out:
            if arguments:
                tables.print_arguments(in_order, out)
            elif parquet:
                parquet.write(in_order, columns, out)
            elif columns:
                tables.print_columns(in_order, out)
            else:
                tables.print_results(reader.follow(number, failed) if follow else in_order(), format, out)


@app.command(**console.look())
def jobs(
    context: typer.Context,
    ledger: options.Ledger = str(DEFAULT_LEDGER),
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    key: ReadersKey = None,
    sink: options.Sink = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs of the ledger with their state; with --json as an object a line.

    They are read from the ledger's file, or with --key or --sink from the running sink, on any machine.
    """
    from . import tables

    with closing(opened_reader(context, ledger, site, keys, key, sink)) as reader:
        found = reader.jobs()
    with console.pipe_may_close():
        (tables.print_jobs_as_json if as_json else tables.print_jobs)(found)


def opened_reader(
    context: typer.Context, ledger: str, site: str | None, keys: Path, key: Path | None, sink: str | None
) -> "Reader | RemoteReader":
    """The ledger in its file or of a running sink, as the command line says. Raises OperatorError."""
    if asks_sink(context, ledger, key):
        return open_remote(keys, key, sink)
    from .ledgers import open_reader

    return open_reader(with_site(ledger, site))


def asks_sink(context: typer.Context, ledger: str, key: Path | None) -> bool:
    """Whether to read through the sink: when that was typed, or the environment has a key and no ledger is here.

    Raises OperatorError when both ways were typed.
    """
    typed = [each for each in console.typed_options(context) if each in ("--key", "--sink", "--keys", "--ledger")]
    if "--ledger" in typed and len(typed) > 1:
        raise OperatorError(f"--ledger reads a file, {typed[-1]} asks a sink: leave one of them out")
    if typed:
        return typed != ["--ledger"]
    source = context.get_parameter_source("ledger")
    is_default = source is not None and source.name == "DEFAULT"
    return key is not None and is_default and not Path(ledger).exists()


def open_remote(keys: Path, key: Path | None, sink: str | None) -> "RemoteReader":
    """The ledger of a running sink. Raises OperatorError."""
    from ..transport.key_folder import KeyFolder
    from ..transport.sink_talk import SinkTalk
    from .remote_reader import RemoteReader

    console.start_log("sink")
    return RemoteReader(SinkTalk(key or KeyFolder(keys).local_made(OBSERVER), READERS, sink))


@app.command(**console.look())
def status(
    keys: options.Keys = DEFAULT_KEYS,
    key: AnyKey = None,
    sink: options.Sink = None,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Show the workers and the open jobs of the running sink.

    The exit code is 3 when no worker is here, so that scripts can wait for one. Ctrl-C ends --watch.
    """
    from ..protocol.messages import Query, Report
    from ..transport.key_folder import KeyFolder
    from ..transport.sink_talk import ask_sink
    from . import tables

    if watch and as_json:
        raise OperatorError("--watch is for people, --json for scripts: leave one of them out")
    if watch:
        from .status_screen import watch_status

        watch_status(key or KeyFolder(keys).local_made(OBSERVER), READERS, sink)
        return
    console.start_log("sink")
    report = ask_sink(key or KeyFolder(keys).local_made(OBSERVER), READERS, sink, Query(), Report)
    with console.pipe_may_close():
        (tables.print_report_as_json if as_json else tables.print_report)(report)
    if not report.workers:
        raise typer.Exit(ExitCode.NO_WORKER)


@app.command(**console.look())
def cancel(job: Job, keys: options.Keys = DEFAULT_KEYS, key: AnyKey = None, sink: options.Sink = None) -> None:
    """Cancel a job. Its ventilator ends, and its tasks are dropped, running ones too. Its results stay."""
    from ..protocol.messages import Cancel, Dropped
    from ..transport.key_folder import KeyFolder
    from ..transport.sink_talk import ask_sink

    console.start_log("sink")
    ask_sink(key or KeyFolder(keys).local_made(VENTILATOR), (VENTILATOR,), sink, Cancel(job), Dropped)
    print(f"job {job} is cancelled")


@app.command(**console.look())
def explain(
    job: ExplainedJob,
    task: ExplainedTask = None,
    keys: options.Keys = DEFAULT_KEYS,
    key: AnyKey = None,
    sink: options.Sink = None,
    as_json: AsJson = False,
) -> None:
    """Say why a job, or a task of it, does not move: the first true cause, and where the task is.

    The running sink is asked, and the job's ventilator through it.
    """
    from ..protocol.messages import Explain, Explanation
    from ..transport.key_folder import KeyFolder
    from ..transport.sink_talk import ask_sink
    from . import tables

    if task is not None and task < 0:
        raise OperatorError(f"task {task}: tasks are numbered from 0")
    console.start_log("sink")
    asked = Explain(job, task)
    found = ask_sink(key or KeyFolder(keys).local_made(OBSERVER), READERS, sink, asked, Explanation)
    with console.pipe_may_close():
        (tables.print_explanation_as_json if as_json else tables.print_explanation)(found)


@app.command(**console.look())
def forget(
    jobs: OldJobs = None,
    done: Done = False,
    older_than: OlderThan = None,
    yes: Yes = False,
    ledger: OwnLedger = None,
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    key: VentilatorsKey = None,
    sink: options.Sink = None,
) -> None:
    """Remove jobs from the ledger, with all their results.

    The running sink does it, and gives the room back while it works. With --ledger it is done here, when no sink runs.
    """
    from . import forget_command

    how = forget_command.Choice(jobs or [], done, older_than, yes)
    if ledger is not None:
        if key is not None or sink is not None:
            raise OperatorError("--ledger opens a file, --key and --sink ask a sink: leave one of them out")
        forget_command.forget_here(with_site(ledger, site), how)
        return
    from ..transport.key_folder import KeyFolder

    console.start_log("sink")
    forget_command.ask_to_forget(key or KeyFolder(keys).local_made(VENTILATOR), sink, how)


@app.command(**console.look())
def backup(copy: Copy, ledger: options.Ledger = str(DEFAULT_LEDGER)) -> None:
    """Copy the ledger as it is now into a new file, while the sink runs or not."""
    from .ledgers import open_care

    size = open_care(ledger).back_up(copy)
    print(f"wrote {copy} ({size:,} bytes): a sink started with --ledger {copy} goes on from there")


@app.command(**console.look())
def verify(ledger: options.Ledger = str(DEFAULT_LEDGER), site: options.Site = None) -> None:
    """Read all of the ledger, and say what is damaged. The exit code is 1 then."""
    from .ledgers import open_care, shown

    ledger = with_site(ledger, site)
    found = open_care(ledger).faults()
    for fault in found:
        print(fault)
    if found:
        raise typer.Exit(ExitCode.TASKS_FAILED)
    print(f"{shown(ledger)} is sound")


@app.command(**console.look())
def enrol(role: Role, name: NewName, keys: options.Keys = DEFAULT_KEYS, address: Address = None) -> None:
    """Write one file, NAME.key_secret, with which another machine joins this sink."""
    from ..transport import sockets
    from ..transport.key_folder import KeyFolder
    from ..transport.sink_link import sink_addresses

    folder = KeyFolder(keys)
    folder.prepare()
    if not folder.local(WORKER).exists():
        # No sink has run here yet, or its first start has failed.
        folder.prepare_local(sockets.endpoint("127.0.0.1", CONTROL_PORT))
    ours = folder.certificate(WORKER)
    given = address or sockets.endpoint(socket.gethostname(), sink_addresses(ours, None)[0][1])
    at = ",".join(sockets.endpoint(*each) for each in sink_addresses(replace(ours, sink=""), given))
    out = Path(f"{name}.key_secret")
    folder.enrol(role, name, at, out)
    use = f"ask there with `status --key {out}`" if role == OBSERVER else f"start the {role} there with --key {out}"
    print(f"wrote {out}: copy it to that machine and {use}")
    print(
        f"it will look for this sink at {at}; for another address revoke {name}, remove the file, enrol with --address"
    )


@app.command(**console.look())
def roster(keys: options.Keys = DEFAULT_KEYS) -> None:
    """List the enrolled keys."""
    from ..transport.key_folder import KeyFolder
    from . import tables

    users = KeyFolder(keys).made().enrolled().values()
    with console.pipe_may_close():
        tables.print_roster(users)


@app.command(**console.look())
def revoke(name: Name, keys: options.Keys = DEFAULT_KEYS) -> None:
    """Remove a key from the roster. A running sink cuts it off within seconds."""
    from ..transport.key_folder import KeyFolder

    user = KeyFolder(keys).made().revoke(name)
    print(f"{user.role} {name} is revoked")


app.command("copy-ledger", **console.look())(copy_ledger)
app.command(**console.look())(web)
app.command("doctor", **console.look())(sink_doctor)


def main() -> None:
    """The command `sink`."""
    console.run(app, "sink")
