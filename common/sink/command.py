"""The command line of the sink."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..errors import OperatorError
from ..protocol.messages import Cancel, Dropped, Query, Report
from ..protocol.settings import CONTROL_PORT, RESULTS_PORT
from ..protocol.users import OBSERVER, VENTILATOR, WORKER
from ..transport import sockets
from ..transport.sink_link import ask_sink, sink_address
from . import tables as listing
from .key_folder import KeyFolder
from .ledgers import open_ledger, open_reader
from .loop import Sink, SinkOptions

app = console.application("The sink of a Tradewind pipeline: collects results, keeps the ledger and the keys.")


# Not checked by typer: it would refuse a default that is not used, and our own words say what to do.
LedgerOption = Annotated[
    Path, typer.Option(readable=False, envvar="TRADEWIND_LEDGER", help="The ledger, an SQLite file.")
]
KeysOption = Annotated[Path, typer.Option(readable=False, envvar="TRADEWIND_KEYS", help="The sink's key folder.")]
SinkOption = Annotated[
    str | None, typer.Option(envvar="TRADEWIND_SINK", metavar="HOST[:PORT]", help="The sink's address.")
]
DEFAULT_LEDGER, DEFAULT_KEYS = Path("results.db"), Path("keys")


@app.callback(invoke_without_command=True, epilog=console.EXIT_CODES)
def serve(
    context: typer.Context,
    ledger: LedgerOption = DEFAULT_LEDGER,
    keys: KeysOption = DEFAULT_KEYS,
    listen: Annotated[
        str,
        typer.Option(envvar="TRADEWIND_LISTEN", metavar="HOST", help="The address to listen at; * means all."),
    ] = "*",
    control_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, envvar="TRADEWIND_CONTROL_PORT", help="Port of the control link; 0: a free one."
        ),
    ] = CONTROL_PORT,
    results_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, envvar="TRADEWIND_RESULTS_PORT", help="Port of the results link; 0: a free one."
        ),
    ] = RESULTS_PORT,
    version: Annotated[
        bool,
        typer.Option("--version", callback=console.show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run the sink, or with a command look after its results and keys.

    Without a command: collect the results of all jobs until SIGTERM or Ctrl-C. The first start makes the key folder,
    with a worker's, a ventilator's and an observer's key for this machine.
    """
    if context.invoked_subcommand is not None:
        command = context.invoked_subcommand
        if typed := console.typed_options(context):
            raise OperatorError(f"{typed[0]} stands before {command}: put it behind, if `{command} --help` has it")
        return
    console.start_log("sink")
    opened = open_ledger(str(ledger))
    try:
        Sink(SinkOptions(ledger, keys, listen, control_port, results_port), opened).run()
    finally:
        opened.close()


@app.command(epilog=console.EXIT_CODES)
def results(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job; the last one if none is named.")] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    format: Annotated[listing.Format, typer.Option(help="One JSON object a line, or CSV.")] = listing.Format.jsonl,
    failed: Annotated[bool, typer.Option("--failed", help="Only tasks that failed.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as results arrive, until the job ends.")] = False,
) -> None:
    """Print a job's results in task order, or with --follow as they arrive."""
    reader = open_reader(str(ledger))
    number = reader.job(job)
    with console.pipe_may_close():
        listing.print_results(reader, number, format, failed, follow)


@app.command(epilog=console.EXIT_CODES)
def jobs(ledger: LedgerOption = DEFAULT_LEDGER) -> None:
    """List the jobs of the ledger with their state."""
    found = open_reader(str(ledger)).jobs()
    with console.pipe_may_close():
        listing.print_jobs(found)


@app.command(epilog=console.EXIT_CODES)
def status(
    keys: KeysOption = DEFAULT_KEYS,
    key: Annotated[
        Path | None, typer.Option(readable=False, envvar="TRADEWIND_KEY", help="An observer's key file.")
    ] = None,
    sink: SinkOption = None,
) -> None:
    """Show the crew and the jobs of the running sink."""
    console.start_log("sink")
    report = ask_sink(key or KeyFolder(keys).local_made(OBSERVER), OBSERVER, sink, Query(), Report)
    with console.pipe_may_close():
        listing.print_report(report)


@app.command(epilog=console.EXIT_CODES)
def cancel(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job to cancel.")],
    keys: KeysOption = DEFAULT_KEYS,
    key: Annotated[
        Path | None, typer.Option(readable=False, envvar="TRADEWIND_KEY", help="A ventilator's key file.")
    ] = None,
    sink: SinkOption = None,
) -> None:
    """Cancel a job: its ventilator ends, its tasks are dropped, running ones included. Its results stay."""
    console.start_log("sink")
    ask_sink(key or KeyFolder(keys).local_made(VENTILATOR), VENTILATOR, sink, Cancel(job), Dropped)
    print(f"job {job} is cancelled")


@app.command(epilog=console.EXIT_CODES)
def enrol(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="worker, ventilator or observer.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is called in the roster and in the log.")],
    keys: KeysOption = DEFAULT_KEYS,
    address: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Where that machine finds the sink.  [default: this host's name]"),
    ] = None,
) -> None:
    """Write one file, NAME.key_secret, with which another machine joins this sink."""
    folder = KeyFolder(keys)
    if not (keys / "sink.key_secret").exists():
        folder.prepare()
        folder.prepare_local(sockets.endpoint("127.0.0.1", CONTROL_PORT))
    port = sink_address(folder.certificate(WORKER), None)[1]
    given = address or sockets.endpoint(socket.gethostname(), port)
    host, port = sink_address(replace(folder.certificate(WORKER), sink=""), given)
    out = Path(f"{name}.key_secret")
    folder.enrol(role, name, sockets.endpoint(host, port), out)
    print(f"wrote {out}: copy it to that machine and start the {role} there with --key {out}")
    print(f"it will look for this sink at {sockets.endpoint(host, port)}; --address names another place")


@app.command(epilog=console.EXIT_CODES)
def roster(keys: KeysOption = DEFAULT_KEYS) -> None:
    """List who is enrolled."""
    users = KeyFolder(keys).made().roster().values()
    with console.pipe_may_close():
        listing.print_roster(users)


@app.command(epilog=console.EXIT_CODES)
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to strike out.")],
    keys: KeysOption = DEFAULT_KEYS,
) -> None:
    """Strike a key out of the roster; a running sink cuts it off within seconds."""
    user = KeyFolder(keys).made().revoke(name)
    print(f"{user.role} {name} is revoked")


def main() -> None:
    """The command `sink`."""
    console.run(app, "sink")
