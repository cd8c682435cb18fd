"""Which ledger `--ledger` names: a file of SQLite, or a later one that its scheme tells (postgresql://...)."""

from collections.abc import Callable

from ..default_files import no_file, scheme_of
from .ledger_reader import LedgerReader
from .sqlite_care import SqliteCare
from .sqlite_ledger import Ledger
from .store import Care, Reader, Store

_Makers = tuple[Callable[[str], Store], Callable[[str], Reader], Callable[[str], Care]]
_LEDGERS: dict[str, _Makers] = {
    "": (Ledger, LedgerReader, SqliteCare),
}
"""By scheme (a file has none): what the sink writes with, what readers use, and what copies and checks it.

Another ledger is one line here.
"""


def open_ledger(place: str) -> Store:
    """The ledger for its one writer. Raises OperatorError."""
    return _chosen(place)[0](place)


def open_reader(place: str) -> Reader:
    """The ledger for a reader. Raises OperatorError."""
    return _chosen(place)[1](place)


def open_care(place: str) -> Care:
    """What copies and checks the ledger. Raises OperatorError."""
    return _chosen(place)[2](place)


def _chosen(place: str) -> _Makers:
    scheme = scheme_of(place)
    if scheme not in _LEDGERS:
        raise no_file(place, "--ledger")
    return _LEDGERS[scheme]
