"""How a worker begins, with or without its command line."""

import logging
import socket

from ..default_files import key_file
from ..errors import ExitCode, OperatorError
from ..plain_text import counted
from ..protocol.users import WORKER
from ..transport import polling
from ..transport.key_files import STDIN, is_name, load
from ..transport.sink_link import wait_for_pair
from .cores import usable_cores
from .loop import Worker, WorkerOptions

log = logging.getLogger(__name__)

PREFETCH_MAX = 1_000
"""The default prefetch grows up to this while batches take no time."""


def default_name() -> str:
    """The name of the host, without the characters that a worker's name cannot have."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in socket.gethostname())
    return name.strip("-")[:40] or "worker"


def check_names(modules: list[str], name: str | None) -> None:
    """Refuse what cannot be the name of a module or of a worker. Raises OperatorError."""
    for module in modules:
        if module.endswith(".py") or "/" in module:
            dotted = module.removesuffix(".py").replace("/", ".").lstrip(".")
            raise OperatorError(f"{module}: name the module as Python imports it from this folder, like {dotted}")
    if name is not None and not is_name(name):
        raise OperatorError(f"--name {name}: use letters, digits, dot, dash and underscore, at most 60")


def slots_and_threads(slots: int | None) -> tuple[int, int]:
    """How many slots the worker has, and how many threads numeric libraries start in each."""
    cores = usable_cores()
    count = slots or cores.count
    threads = max(1, cores.count // count)
    log.info(
        "%s (%s), threads of numeric libraries in each: %d",
        counted(count, "slot"),
        "--slots" if slots else cores.why,
        threads,
    )
    return count, threads


def run(options: WorkerOptions) -> ExitCode:
    """Wait for the key file, then work."""
    if options.key == STDIN:
        # Before signals are taken, so that they end the wait for it.
        load(STDIN)
    poll, signals = polling.Poll(), polling.Signals()
    poll.register(signals, lambda: None)
    is_default = options.key == key_file(WORKER) and not options.stops_with_stdin
    limits = [each for each in (options.exit_when_idle_s, options.stop_after_s) if each is not None]
    certificate = wait_for_pair(
        options.key,
        WORKER,
        poll,
        is_default,
        lambda: bool(signals.received()),
        options.holding.timing,
        min(limits, default=None),
    )
    if certificate is None:
        return ExitCode.OK
    return Worker(options, certificate, poll, signals).run()
