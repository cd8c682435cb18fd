"""The two ways to a farm: `connect` to one, or start a `local` one."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..default_files import key_file, ledger_file
from ..errors import OperatorError
from ..protocol.settings import ROOM_MAX
from ..protocol.users import VENTILATOR
from ..transport.key_files import is_missing
from .errors import JobRefused, for_program
from .farm import Farm
from .import_guard import refuse_while_imported
from .map_options import between
from .private_farm import PrivateFarm

_HERE = key_file(VENTILATOR)
"""Where a sink that was started in this folder puts the key of its ventilators."""


def connect(key: str | os.PathLike[str] | None = None, *, sink: str | None = None, port: int | None = None) -> Farm:
    """The farm of the sink that has made this ventilator's key file.

    Without `key` that is the environment's TRADEWIND_KEY, or `keys/ventilator.key_secret`, which a sink in this folder
    makes. `sink` (TRADEWIND_SINK) is the address of the sink, HOST[:PORT], where that is another one than in the key
    file; several are separated by commas. Tasks go through the sink's relay, so nobody need be able to connect to this
    program. Where workers can, tasks are quicker without that way: with `port` workers connect there (0: a free one),
    and if one of them cannot, tasks go through the relay all the same.

    Raises JobRefused when the key file is missing or of another role. Nothing is sent yet.

        with tradewind.connect("laptop.key_secret") as farm:
            for value in farm.map(squares.square, range(1_000_000)):
                print(value)
    """
    between("port", port, 0, 65_535)
    path = Path(key or os.environ.get("TRADEWIND_KEY") or _HERE)
    if path == _HERE and is_missing(path):
        raise JobRefused(
            f"there is no {path} in this folder: start a sink here first (`tradewind sink`), or name the key file that"
            " `tradewind sink enrol ventilator NAME` wrote"
        )
    farm = Farm(path, sink or os.environ.get("TRADEWIND_SINK") or None, port)
    farm.certificate()
    return farm


def local(
    modules: Sequence[str] = (), *, slots: int | None = None, ledger: str | os.PathLike[str] | None = None
) -> Farm:
    """A farm on this machine, for this program only: a private sink, and workers with one slot a core, or `slots`.

    The workers expose these modules, and those of the functions that are mapped. The ledger is an SQLite file, which
    stays if it was named; then a job of an earlier run goes on under its name. Both end with the farm.

    >>> with local(slots=1) as own:
    ...     list(own.map("squares:square", [1, 2]))
    [1, 4]

    A script that maps its own functions must start its farm below `if __name__ == "__main__":`, because workers import
    the script. Raises RuntimeError when it does not.
    """
    refuse_while_imported()
    if isinstance(modules, str):
        raise TypeError(f"modules={modules!r}: give a list of names, like [{modules!r}]")
    between("slots", slots, 1, ROOM_MAX)
    try:
        file = None if ledger is None else ledger_file(os.fspath(ledger), "ledger=")
        private = PrivateFarm(None if file is None else str(file.absolute()), slots)
    except OperatorError as error:
        raise for_program(error) from None
    farm = Farm(private.key, None, 0, private)
    for module in modules:
        private.expose(module)
    return farm
