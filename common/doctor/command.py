"""The command `doctor`: it looks at this machine and its sink, and says what is wrong, the root cause first.

What the command needs is imported when it runs, so that `--help` and the shell's completion are quick.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, options
from ..default_files import DEFAULT_KEYS, DEFAULT_LEDGER, key_file, scheme_of
from ..errors import ExitCode, OperatorError
from ..help_page import ARGUMENTS, CONNECTION, PRINT
from ..protocol.users import OBSERVER, ROLES, VENTILATOR, WORKER
from ..sink.postgres_place import with_site

if TYPE_CHECKING:
    from .checks import Check
    from .facts import Facts

app = console.application()

Modules = Annotated[
    list[str] | None,
    options.argument(ARGUMENTS, "MODULE...", "Also try to import these modules, as a worker would."),
]
RolesKey = Annotated[
    Path | None,
    options.file(
        CONNECTION,
        "TRADEWIND_KEY",
        "The key file to look at; - is standard input.",
        default="the role's in the folder keys",
    ),
]
As = Annotated[
    str | None,
    options.option(
        ARGUMENTS, None, "worker|ventilator|observer", "The role to look for.", "--as", default="that of the key file"
    ),
]
AsJson = Annotated[bool, options.flag(PRINT, None, "Print JSON, for scripts.", "--json")]


@app.command(**console.look())
def doctor(
    modules: Modules = None,
    key: RolesKey = None,
    sink: options.Sink = None,
    role: As = None,
    as_json: AsJson = False,
    version: options.Version = False,
) -> None:
    """Look for what keeps a worker or a ventilator on this machine from working, and say what to do.

    The exit code is 1 when something fails, and 0 when there are only warnings. On the sink's machine there is
    `python sink.py doctor` too.
    """
    from .checks import OF_ROLE

    if role is not None and role not in ROLES:
        raise OperatorError(f"--as {role}: give {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    console.start_log("doctor")
    role = role or _role_of(key)
    path = key or key_file(role)
    facts = _reached(_of_machine(), path, role, sink)
    if role == WORKER and modules:
        from .modules import served

        facts = replace(facts, served=served(modules))
    if role == VENTILATOR:
        from ..protocol.settings import TASKS_PORT
        from . import network

        facts = replace(facts, tasks_port_free=network.is_free(TASKS_PORT))
    _report(facts, OF_ROLE[role], as_json)


def sink_doctor(
    ledger: options.Ledger = str(DEFAULT_LEDGER),
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    as_json: AsJson = False,
) -> None:
    """Look for what keeps the sink on this machine from working, and say what to do.

    The exit code is 1 when something fails, and 0 when there are only warnings.
    """
    from . import ledger_file
    from .sink_checks import OF_SINK

    console.start_log("doctor")
    facts = replace(_of_machine(), folder=ledger_file.key_folder(keys))
    if scheme_of(ledger):
        from .ledger_server import ledger_server

        facts = replace(facts, server=ledger_server(with_site(ledger, site)))
    else:
        facts = replace(facts, ledger=ledger_file.ledger_file(with_site(ledger, site)))
    observers = key_file(OBSERVER, keys)
    if observers.exists():
        facts = _reached(facts, observers, OBSERVER, None)
    _report(facts, OF_SINK, as_json)


def _role_of(key: Path | None) -> str:
    """The role that the key file has; a worker's where there is none to read."""
    from ..transport.key_files import load

    if key is None:
        return WORKER
    try:
        found = load(key).role
    except OperatorError:
        return WORKER
    return found if found in ROLES else WORKER


def _of_machine() -> "Facts":
    from . import machine
    from .facts import Facts

    return Facts(software=machine.software(), machine=machine.machine())


def _reached(facts: "Facts", path: Path, role: str, sink: str | None) -> "Facts":
    """What is known of the way to the sink, as far as it leads."""
    from . import network

    key = network.key_file(path, role, sink)
    facts = replace(facts, key=key)
    if key.error:
        return facts
    met = [network.at(key, *address) for address in ((key.host, key.port), *key.others)]
    answers = [each for each in met if each[2] is not None and each[2].state == "open" and not each[2].is_foreign]
    chosen = (answers or met)[0]
    key, name, control = chosen
    others = tuple((name, port) for _, name, port in (each for each in met if each is not chosen))
    facts = replace(facts, key=key, name=name, control=control, others=others)
    if not answers:
        return facts
    joining, welcome = network.joining(path, role, key.address)
    facts = replace(facts, joining=joining)
    if welcome is None or role == OBSERVER:
        return facts
    if relay_port := welcome.relay_port if role == VENTILATOR else welcome.tasks_port:
        facts = replace(facts, relay=network.port(key.host, relay_port))
    return facts if role == VENTILATOR else replace(facts, results=network.port(key.host, welcome.results_port))


def _report(facts: "Facts", checks: "tuple[Check, ...]", as_json: bool) -> None:
    """Print the verdicts, and exit with 1 when something fails."""
    from dataclasses import asdict

    import msgspec

    from ..plain_text import ascii_json, one_line
    from .checks import examine, fails
    from .facts import figures

    verdicts = examine(facts, checks)
    with console.pipe_may_close():
        if as_json:
            found = [
                asdict(each) | {"what": console.as_typed(each.what), "do": console.as_typed(each.do)}
                for each in verdicts
            ]
            report = {"fails": fails(verdicts), "checks": found, "facts": figures(facts)}
            print(ascii_json(msgspec.json.encode(report).decode()))
        else:
            width = max(len(each.check) for each in verdicts)
            for each in verdicts:
                print(f"{each.state:<7}  {each.check:<{width}}  {one_line(console.as_typed(each.what))}")
                if each.do:
                    print(f"{'':7}  {'':{width}}  -> {one_line(console.as_typed(each.do))}")
    if fails(verdicts):
        raise typer.Exit(ExitCode.TASKS_FAILED)
