"""Which ledger `--ledger` names: a file of SQLite, or a database whose scheme tells (postgresql://...)."""

from collections.abc import Callable

from ..default_files import no_file, scheme_of
from .care import Care
from .ledger_reader import LedgerReader
from .postgres_place import SCHEMES, driver, parsed
from .sqlite_care import SqliteCare
from .sqlite_ledger import Ledger
from .store import Reader, Store
from .store_thread import StoreThread


def open_ledger(place: str, sink_key: Callable[[], str] | None = None) -> Store:
    """The ledger for its one writer: a command, or a sink, whose key is asked for when it has the ledger.

    Raises OperatorError, LedgerHeld among them.
    """
    if _is_postgres(place):
        from .postgres_ledger import PostgresLedger

        return PostgresLedger(place, sink_key)
    return Ledger(place, None if place == ":memory:" else StoreThread())


def open_reader(place: str) -> Reader:
    """The ledger for a reader. Raises OperatorError."""
    if _is_postgres(place):
        from .postgres_reader import PostgresReader

        return PostgresReader(place)
    return LedgerReader(place)


def open_care(place: str) -> Care:
    """What copies and checks the ledger. Raises OperatorError."""
    if _is_postgres(place):
        from .postgres_care import PostgresCare

        return PostgresCare(place)
    return SqliteCare(place)


def shown(place: str) -> str:
    """What may be shown of its name."""
    return parsed(place).shown if _is_postgres(place) else place


def _is_postgres(place: str) -> bool:
    """True for a database, False for a file. Raises OperatorError for any other scheme.

    What it needs is imported only then: it is an extra.
    """
    scheme = scheme_of(place)
    if scheme in SCHEMES:
        driver()
        return True
    if scheme:
        raise no_file(place, "a file or postgresql://USER@HOST/DATABASE with --ledger")
    return False
