"""A check of all that a ledger in PostgreSQL says about itself. Copies are pg_dump's."""

from contextlib import closing
from pathlib import Path

from ..errors import OperatorError
from .postgres_place import parsed
from .postgres_session import Session, in_words
from .postgres_site import site_of

_ANSWER_S = 24 * 3600.0
_FAULTS_MAX = 20
_CHECKS = {
    "job {0} says that {1} of its tasks are recorded, and has {2} results": (
        "SELECT name, done, found FROM (SELECT name, done, (SELECT count(*) FROM task_rows WHERE"
        " task_rows.job=jobs.job) AS found FROM jobs WHERE site=%(site)s) AS each WHERE done<>found"
    ),
    "job {0} says that {1} of its tasks failed, and has {2} failed results": (
        "SELECT name, failed, found FROM (SELECT name, failed, (SELECT count(*) FROM task_rows WHERE"
        " task_rows.job=jobs.job AND kind='x') AS found FROM jobs WHERE site=%(site)s) AS each WHERE failed<>found"
    ),
    "job {0} has receipts for fewer tasks ({1}) than it has results ({2})": (
        "SELECT name, found, done FROM (SELECT name, done, (SELECT coalesce(sum(count), 0) FROM receipts WHERE"
        " receipts.job=jobs.job) AS found FROM jobs WHERE site=%(site)s) AS each WHERE found<done"
    ),
    "job {0} has no ticket key": (
        "SELECT name FROM jobs WHERE site=%(site)s AND job NOT IN (SELECT job FROM ticket_keys)"
    ),
    "there is a receipt at position {0}, and the site says that the last one is at {1}": (
        "SELECT found, position FROM sites, (SELECT max(position) AS found FROM receipts WHERE site=%(site)s) AS last"
        " WHERE site=%(site)s AND found>position"
    ),
    "there are results of a job that does not exist (number {0})": (
        "SELECT DISTINCT job FROM receipts WHERE site=%(site)s AND job NOT IN (SELECT job FROM jobs UNION ALL"
        " SELECT job FROM forgotten)"
    ),
}
"""Faults in words, with the query that finds them. A failed task that was run again has two receipts."""


class PostgresCare:
    """A `Care`."""

    def __init__(self, ledger: str) -> None:
        self._place = parsed(ledger)

    def back_up(self, target: Path) -> int:
        """PostgreSQL has its own command for it."""
        raise OperatorError(
            f"the ledger {self._place.shown} is a database: copy it with `pg_dump --schema=tradewind`, or into a file"
            " with `python sink.py copy-ledger`"
        )

    def faults(self) -> list[str]:
        """Read all of the site; what is wrong with it, in words."""
        with in_words(self._place), closing(Session(self._place, "verify", False, _ANSWER_S)) as session:
            # One look at all of it, while a sink writes or not.
            session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            site, _, _ = site_of(session, self._place)
            return [
                words.format(*row)
                for words, query in _CHECKS.items()
                for row in session.ask(query.replace("%(site)s", str(site)) + f" LIMIT {_FAULTS_MAX}")
            ]
