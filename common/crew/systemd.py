"""The command `crew systemd`."""

from typing import Annotated

import typer

from .. import console, options
from ..help_page import CONNECTION, PRINT
from .recipes import unit
from .worker_line import worker_line

Program = Annotated[str, options.option(PRINT, None, "FILE", "The command `tradewind` on that machine.")]
Folder = Annotated[
    str, options.option(PRINT, None, "FOLDER", "The folder on that machine that has the modules.", "--cwd")
]
Key = Annotated[
    str, options.option(CONNECTION, None, "FILE", "The worker's key file on that machine; only root must read it.")
]


def systemd(
    context: typer.Context,
    program: Program = "/opt/tradewind/bin/tradewind",
    folder: Folder = "/srv/farm",
    key: Key = "/etc/tradewind/worker.key_secret",
) -> None:
    """Print a unit for systemd, as /etc/systemd/system/tradewind-worker.service may have it."""
    line = worker_line(context)
    with console.pipe_may_close():
        print(unit(program, line.words, key, folder, line.grace_s), end="")
