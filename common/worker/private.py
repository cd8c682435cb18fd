"""A worker that another process has started for itself, as `--local` and `local()` do.

Its arguments are `--key FILE`, perhaps `--slots N` and `--name NAME`, then `--` and its modules.
"""

import os
import sys
from pathlib import Path

from .. import console, private_options
from ..errors import ExitCode
from ..transport.parent import FOLDER

_READ_HERE = {FOLDER, "TRADEWIND_LOG_LEVEL", "TRADEWIND_LOG_FORMAT"}


def main() -> None:
    """Work until that process ends, or closes our standard input."""
    if "--" not in sys.argv or any(name.startswith("TRADEWIND_") and name not in _READ_HERE for name in os.environ):
        # It serves a command, or the environment sets more: the command line knows how.
        from .command import main as with_command_line

        with_command_line()
    console.run_private("worker", _work)


def _work() -> ExitCode:
    from . import start
    from .child_process import Limits
    from .loop import WorkerOptions
    from .settings import HoldingSettings

    given, modules = private_options.read(sys.argv)
    name, slots = given.get("--name"), given.get("--slots")
    start.check_names(modules, name)
    count, threads = start.slots_and_threads(int(slots) if slots else None)
    return start.run(
        WorkerOptions(
            modules=modules,
            key=Path(given["--key"]),
            sink=None,
            name=name or start.default_name(),
            exit_when_idle_s=None,
            stop_after_s=None,
            limits=Limits(threads=threads),
            reloads=True,
            holding=HoldingSettings(slots=count, prefetch=count, prefetch_max=start.PREFETCH_MAX),
        )
    )
