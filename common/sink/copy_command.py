"""The command `copy-ledger`: all of a ledger into an empty one of either kind, whole or not at all."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

from .. import options
from ..default_files import scheme_of
from ..help_page import ARGUMENTS
from ..plain_text import counted
from .postgres_place import SCHEMES

if TYPE_CHECKING:
    from .transfer import Origin

From = Annotated[str, options.argument(ARGUMENTS, "FROM", "The ledger to copy: a file, or postgresql://...")]
To = Annotated[
    str, options.argument(ARGUMENTS, "TO", "The new ledger: a file, or postgresql://..., with ?site=NAME for a site.")
]


def copy_ledger(origin: From, target: To) -> None:
    """Copy a ledger into an empty one: from an SQLite file into a PostgreSQL database, or back.

    What a running sink records afterwards is not in the copy: stop it before.
    """
    from .ledgers import shown

    jobs, results = copied(origin, target)
    print(f"copied {counted(jobs, 'job')} with {counted(results, 'result')} to {shown(target)}")


def copied(origin: str, target: str) -> tuple[int, int]:
    """Copy the ledger; returns how many jobs and results it has. Raises OperatorError."""
    with closing(_opened(origin)) as source:
        if scheme_of(target) in SCHEMES:
            from .postgres_transfer import fill_site

            fill_site(target, source)
        else:
            from .sqlite_transfer import fill_file

            fill_file(target, source)
        return len(source.jobs), sum(job.done for job in source.jobs)


def _opened(place: str) -> "Origin":
    if scheme_of(place) in SCHEMES:
        from .postgres_place import driver

        driver()
        from .postgres_transfer import PostgresOrigin

        return PostgresOrigin(place)
    from .sqlite_transfer import SqliteOrigin

    return SqliteOrigin(place)
