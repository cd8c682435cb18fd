"""The command `crew ssh`."""

import shlex
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, descriptors, options, own_process
from ..default_files import DEFAULT_KEYS, key_file
from ..errors import OperatorError
from ..help_page import ARGUMENTS, CONNECTION, RUN
from ..log_writer import LogFormat
from ..protocol.users import WORKER
from .worker_line import WorkerLine, worker_line

if TYPE_CHECKING:
    from .crew_key import CrewKey
    from .remote import Way

DEFAULT_KEY = key_file(WORKER)

Hosts = Annotated[list[str], options.argument(ARGUMENTS, "HOST...", "The hosts, as ssh knows them.")]
Key = Annotated[
    Path, options.file(CONNECTION, "TRADEWIND_KEY", "The worker's key file here, which ssh gives to each host.")
]
Enrol = Annotated[
    bool,
    options.flag(CONNECTION, None, "Enrol a key for this crew, and revoke it at the end. No file has it.", "--enrol"),
]
Tunnel = Annotated[
    bool,
    options.flag(
        CONNECTION, None, "Let ssh carry the connection to the sink, for hosts that cannot reach it.", "--tunnel"
    ),
]
Jump = Annotated[str | None, options.option(CONNECTION, None, "HOST", "The host by way of which ssh goes.")]
Ssh = Annotated[str, options.option(CONNECTION, None, "COMMAND", "How ssh is started, like 'ssh -F FILE'.")]
Program = Annotated[str, options.option(RUN, None, "COMMAND", "What to type for `tradewind` on the hosts.")]
Folder = Annotated[
    str | None,
    options.option(
        RUN, None, "FOLDER", "The folder there that has the modules.", "--cwd", default="the home folder there"
    ),
]
Check = Annotated[
    bool, options.flag(RUN, None, "Start nothing: print what is right and wrong with each host.", "--check")
]


def ssh(
    context: typer.Context,
    hosts: Hosts,
    program: Program = "tradewind",
    folder: Folder = None,
    check: Check = False,
    key: Key = DEFAULT_KEY,
    enrol: Enrol = False,
    keys: options.Keys = DEFAULT_KEYS,
    tunnel: Tunnel = False,
    jump: Jump = None,
    ssh: Ssh = "ssh",
    log_format: options.Log = LogFormat.text,
) -> None:
    """Run a worker on each host through ssh. A host that fails or drops is tried again.

    The workers leave when this command ends, however it ends. On Ctrl-C or SIGTERM they return what has not started,
    and finish what runs; a second signal does not wait for them. The exit code of --check is 1 when something is wrong.
    """
    console.start_log("crew", log_format)
    own_process.prepare()
    descriptors.raise_limit()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whatever ends this command, it gives its key back. nohup has one of them ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    import asyncio

    from .remote import Way

    line = worker_line(context)
    check_hosts(hosts)
    way = Way(ssh_words(ssh), jump, program, folder)
    if enrol and "--key" in console.typed_options(context):
        raise OperatorError("--enrol makes a key, --key names one: leave one of them out")
    given, way = key_and_way(line, way, None if enrol else key, keys, tunnel)
    try:
        if check:
            from .check import examine

            code = asyncio.run(examine(hosts, way, line, given.text))
        else:
            from .ssh_loop import SshCrew

            code = asyncio.run(SshCrew(hosts, way, line.words, given.text).run())
    finally:
        given.give_back()
    raise typer.Exit(code)


def key_and_way(line: WorkerLine, way: "Way", key: Path | None, keys: Path, tunnel: bool) -> "tuple[CrewKey, Way]":
    """The key that goes to the hosts, one that is lent to the crew when none is named, and the way to them."""
    from ..transport.key_folder import KeyFolder
    from . import crew_key

    if tunnel and line.sink is not None:
        raise OperatorError("--tunnel leads to the sink that the key file names: leave --sink out")
    ports = crew_key.tunnel(KeyFolder(keys).local_made(WORKER) if key is None else key) if tunnel else ()
    # At last: what fails before leaves no key behind.
    given = crew_key.lent(keys) if key is None else crew_key.own(key)
    if ports:
        return crew_key.at_own_machine(given, ports[0][0]), replace(way, tunnel=ports)
    if line.sink is None and key is not None:
        crew_key.check_address(given, "let ssh carry the connection with --tunnel, or give --sink HOST behind --")
    return given, way


def check_hosts(hosts: Sequence[str]) -> None:
    """Refuse what cannot be a host. Raises OperatorError."""
    for host in hosts:
        if not host or host.startswith("-"):
            raise OperatorError(f"{host!r} is no host: options for ssh go into --ssh, like --ssh 'ssh -p 2222'")
        if hosts.count(host) > 1:
            raise OperatorError(f"{host} stands there twice: one worker uses all of a host; give it --slots behind --")


def ssh_words(text: str) -> tuple[str, ...]:
    """How ssh is started. Raises OperatorError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OperatorError(f"--ssh {text}: {str(error).lower()}") from None
    if not words or shutil.which(words[0]) is None:
        raise OperatorError(f"--ssh {text}: there is no such program here; install ssh (openssh-client)")
    return tuple(words)
