"""A sink that another process has started for itself, as `--local` and `local()` do.

Its arguments are `--ledger FILE`, `--keys FOLDER`, and with `--listener` the descriptor at which it listens.
"""

import sys
from pathlib import Path

from .. import console, private_options
from ..errors import ExitCode


def main() -> None:
    """Serve until that process ends, or closes our standard input."""
    console.run_private("sink", _serve)


def _serve() -> ExitCode:
    from ..transport.polling import Signals
    from ..transport.sockets import LOOPBACK
    from .ledgers import open_ledger
    from .loop import Sink, SinkOptions

    given, _ = private_options.read(sys.argv)
    opened = open_ledger(given["--ledger"])
    try:
        free = dict.fromkeys(("control_port", "results_port", "relay_port", "tasks_port"), 0)
        keys, listener = Path(given["--keys"]), int(given["--listener"])
        Sink(SinkOptions(given["--ledger"], keys, LOOPBACK, **free, listener=listener), opened).run(Signals())
    finally:
        opened.close()
    return ExitCode.OK
