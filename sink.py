#!/usr/bin/env python3
"""The sink: collects the results of all jobs in its ledger, and is the authority over keys."""

import signal

if __name__ == "__main__":
    # Ctrl-C while the rest is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
import zmq

from common import console, listing, sockets
from common.collection import Collection
from common.errors import OperatorError, ProtocolError
from common.gate import REFUSED_FOR_GOOD, Gate
from common.keys import KeyFolder
from common.ledger import Ledger
from common.link import ask_sink, sink_address
from common.messages import Cancel, Dropped, Query, Report, decode_to_sink, encode, split_results
from common.outputs import Output, Say
from common.reading import LedgerReader
from common.roster import OBSERVER, ROLES, VENTILATOR, WORKER, User
from common.settings import CONTROL_PORT, RESULTS_PORT, CollectionSettings

log = logging.getLogger(__name__)
app = console.application("The sink of a Tradewind pipeline: collects results, keeps the ledger and the keys.")

_ROLES_OF = {"control": ROLES, "results": (WORKER,)}
_MESSAGES_A_TURN = 1_000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    ledger: Path
    keys: Path
    listen: str
    control_port: int
    results_port: int


class Sink:
    """Sockets, keys and signals around the rules of `Collection`."""

    def __init__(self, options: Options, ledger: Ledger) -> None:
        self._folder = KeyFolder(options.keys)
        pair = self._folder.prepare()
        self._roster = self._folder.roster()
        self._users = dict(self._roster)
        self._stamp = self._folder.stamp()
        self._refused: set[str] = set()
        self._context = zmq.Context()
        # The handler stands before the first socket that needs it.
        self._gate = Gate(self._context, self._admit, self._say_refused, REFUSED_FOR_GOOD)
        self._control = sockets.control_server(self._context, pair)
        self._results = sockets.results_server(self._context, pair)
        control_port = sockets.bind(self._control, options.listen, options.control_port, "--control-port")
        results_port = sockets.bind(self._results, options.listen, options.results_port, "--results-port")
        here = "127.0.0.1" if options.listen == "*" else options.listen
        self._folder.prepare_local(sockets.endpoint(here, control_port))
        self._roster_changed()
        settings = CollectionSettings(results_port=results_port, loopback=options.listen in _LOOPBACK)
        self._rules = Collection(sockets.now(), settings, ledger, secrets.token_hex(8), self._roster)
        self._timing = settings.timing
        self._roster_at = sockets.now()
        where = "all addresses" if options.listen == "*" else options.listen
        log.info("listening at %s, ports %d and %d; ledger %s", where, control_port, results_port, options.ledger)

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        poll, signals = sockets.Poll(), sockets.Signals()
        poll.register(signals, lambda: None)
        poll.register(self._gate.socket, self._gate.answer)
        poll.register(self._control, self._take_control)
        poll.register(self._results, self._take_results)
        try:
            while not signals.received() and not console.parent_is_gone():
                poll.wait(self._deadline())
                self._perform(self._rules.tick(sockets.now()))
                self._look_at_roster_now_and_then()
            self._take_results()
            self._perform(self._rules.flush(sockets.now()))
            log.info("leaving; what was recorded is in the ledger")
        finally:
            self._control.close()
            self._results.close()
            self._gate.close()
            self._context.term()

    def _deadline(self) -> float:
        instant = self._rules.deadline()
        look_at = self._roster_at + self._timing.beat_s
        return look_at if instant is None else min(instant, look_at)

    def _take_control(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                peer, *frames = self._control.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            user = self._user(frames[-1]) if frames else None
            if user is None:
                continue
            try:
                message = decode_to_sink(frames[0].buffer if len(frames) == 1 else b"")
            except ProtocolError as error:
                self._perform(self._rules.malformed(user, "control", error))
                continue
            address = sockets.peer_address(frames[-1])
            self._perform(self._rules.receive(sockets.now(), peer.bytes, user, address, message))

    def _take_results(self) -> None:
        for frame, content in sockets.drain(self._results):
            user = self._user(frame)
            if user is None:
                continue
            try:
                for results in split_results(content):
                    self._perform(self._rules.results(user, results))
            except ProtocolError as error:
                self._perform(self._rules.malformed(user, "results", error))

    def _user(self, frame: zmq.Frame) -> User | None:
        return self._users.get(sockets.user_id(frame) or "")

    def _perform(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, Say):
                log.log(logging.getLevelNamesMapping()[output.level.upper()], output.text)
            else:
                self._control.send_multipart([output.peer, encode(output.message)])

    # -- keys ---------------------------------------------------------------------------------------------------

    def _admit(self, domain: str, key: str) -> bool:
        if key not in self._roster:
            self._look_at_roster()
        user = self._roster.get(key)
        return user is not None and user.role in _ROLES_OF[domain]

    def _say_refused(self, domain: str, key: str, address: str) -> None:
        if key in self._refused:
            return
        self._refused.add(key)
        user = self._users.get(key)
        known_as = f"{user.role} {user.name}" if user else self._folder.revoked().get(key)
        who = f"the key of {known_as}" if known_as else f"an unknown key ({key[:8]}...)"
        log.warning("refused %s from %s on the %s link (said once)", who, address, domain)

    def _look_at_roster_now_and_then(self) -> None:
        if sockets.now() >= self._roster_at + self._timing.beat_s:
            self._roster_at = sockets.now()
            self._look_at_roster()

    def _look_at_roster(self) -> None:
        if self._folder.stamp() != self._stamp:
            self._roster_changed()
            self._perform(self._rules.roster_changed(sockets.now(), self._roster))

    def _roster_changed(self) -> None:
        self._stamp = self._folder.stamp()
        self._roster = self._folder.roster()
        self._users.update(self._roster)
        self._refused.clear()


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
    opened = Ledger(str(ledger))
    try:
        Sink(Options(ledger, keys, listen, control_port, results_port), opened).run()
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
    reader = LedgerReader(str(ledger))
    number = reader.job(job)
    with console.pipe_may_close():
        listing.print_results(reader, number, format, failed, follow)


@app.command(epilog=console.EXIT_CODES)
def jobs(ledger: LedgerOption = DEFAULT_LEDGER) -> None:
    """List the jobs of the ledger with their state."""
    found = LedgerReader(str(ledger)).jobs()
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


if __name__ == "__main__":
    main()
