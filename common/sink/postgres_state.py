"""How a site in PostgreSQL is, for those that only look."""

from contextlib import closing
from dataclasses import dataclass

import psycopg

from .postgres_place import parsed
from .postgres_session import Session, in_words
from .postgres_site import HOLDERS, check_version, version_of

_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class PostgresState:
    """What is seen of a site."""

    driver: str
    version: str
    """Of the server."""
    is_durable: bool
    """False when a power cut takes back what was committed."""
    is_made: bool
    """Whether a sink has been here."""
    size_bytes: int
    held_by: str
    """The sink that holds the site; empty when none does."""


def state(ledger: str) -> PostgresState:
    """Look at the site. Raises OperatorError when it cannot be used."""
    place = parsed(ledger)
    driver = f"psycopg {psycopg.__version__}"
    with in_words(place), closing(Session(place, "doctor", False, _ANSWER_S)) as session:
        version = str(session.one("SHOW server_version")[0]).split()[0]
        is_durable = session.one("SHOW fsync") == ("on",) and session.one("SHOW full_page_writes") == ("on",)
        made = version_of(session)
        if made is None:
            return PostgresState(driver, version, is_durable, False, 0, "")
        check_version(place, made)
        size = session.one("SELECT pg_total_relation_size('task_rows') + pg_total_relation_size('receipts')")[0]
        found = session.ask("SELECT held_by FROM sites WHERE name=%s", place.site)
        holders = session.ask(HOLDERS, place.site)
        held_by = str(found[0][0]) if found and holders else ""
        return PostgresState(driver, version, is_durable, bool(found), int(size), held_by)
