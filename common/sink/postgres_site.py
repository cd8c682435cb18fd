"""One writer a site: the tables, the lock, and a session that is made again when the server was away.

The lock is an advisory one of the very session that commits, so whoever has lost the session has lost the lock. Beside
it the site's row names the run of the sink that holds it, and each transaction looks at that row first: a sink that
comes back from a pause, or over a pooler, finds another run there and writes nothing.
"""

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg import errors

from ..errors import EmptyLedger, OperatorError
from ..transport import clock
from .postgres_place import PostgresPlace
from .postgres_schema import SCHEMA_VERSION, VERSIONS
from .postgres_session import Session, Unanswered, here, in_words, is_lost, judged, said
from .postgres_standby import SilentHolder, name_of_sink, name_of_standby
from .store import LedgerHeld, LedgerLost, LedgerStuck

T = TypeVar("T")

_ANSWER_S = 40.0
"""How long a write waits for an answer; then it tries another session. A stopped server says nothing at all."""
_FREED_S = 2.0
"""How long a start waits for the lock: the session of a sink that was just killed may still have it."""
_LOCK_AGAIN_S = 0.1
_AGAIN_S = 0.25
_AGAIN_MAX_S = 1.0
"""How long to wait before the next try to reach a server that is away."""
SAVEPOINT = "rows"
"""Stands at the beginning of each transaction, because setting it later would cost a round trip."""
_LOCK = "hashtextextended('tradewind:' || %s, 0)"
HOLDERS = (
    "SELECT pid FROM pg_locks WHERE locktype='advisory' AND granted AND database=(SELECT oid FROM pg_database WHERE"
    " datname=current_database()) AND ((classid::bigint << 32) | objid::bigint) = " + _LOCK
)
"""Finds the server's processes that hold the lock of the site with this name."""


class SiteWrite:
    """What a write does between BEGIN and COMMIT."""

    def __init__(self, session: Session, position: int) -> None:
        self.session = session
        self.position = position
        """That of the site's last receipt; a write counts on from it."""
        self.last: list[str] = []
        """Statements without values that go out together with the COMMIT, so that they cost no round trip."""


class Site:
    """The site, locked while it is open."""

    def __init__(self, place: PostgresPlace, sink_key: Callable[[], str] | None = None) -> None:
        """`sink_key` gives the public key of a sink that is to serve; None for a command that changes something."""
        self.place = place
        self._sink_key = sink_key
        self.waits_for = ""
        """What a write in flight waits for, when there is no session to say it."""
        self.stop = threading.Event()
        """Set it to end a write that waits for a server."""
        self._is_locked = False
        self._run = secrets.token_hex(8)
        self._session: Session | None = None
        try:
            with in_words(place):
                self._session = session = self._opened()
                prepare(session, place)
                self._lock_at_start(session)
                self.number, self.id = self._found(session)
        except BaseException:
            self.close()
            raise

    @property
    def waiting(self) -> str:
        """What is waited for now, in words."""
        session = self._session
        return self.waits_for or (session.waits_for if session is not None else "")

    @property
    def pid(self) -> int:
        """The server's process that has the lock; 0 while there is none."""
        session = self._session
        return 0 if session is None else session.pid

    def write(self, work: Callable[[SiteWrite], T]) -> T:
        """Do this in one transaction, again after a lost session until it is known to be committed.

        Raises LedgerStuck when it is rolled back for a reason that may pass, LedgerLost, or OperatorError.
        """
        token = secrets.token_hex(8)
        result: list[T] = []
        while True:
            session = self._session or self._again()
            try:
                is_done = self._attempt(session, token, work, result)
                self.waits_for = ""
                if is_done:
                    return result[-1]
            except (psycopg.Error, Unanswered) as error:
                if is_lost(error, session):
                    self._drop()
                    self.waits_for = f"the database server is away ({said(error)})"
                    continue
                self._roll_back(session)
                assert isinstance(error, psycopg.Error)
                raise judged(self.place, error) from None
            except BaseException:
                self._roll_back(session)
                raise

    def ping(self) -> bool:
        """Say something to the server; returns whether a standby is there.

        Raises LedgerLost, and LedgerStuck when it was interrupted.
        """
        while True:
            session = self._session or self._again()
            try:
                found = session.ask(
                    "SELECT holder, EXISTS (SELECT FROM pg_stat_activity WHERE application_name=%s) FROM sites"
                    " WHERE site=%s",
                    *(name_of_standby(self.place.site), self.number),
                )
                self.waits_for = ""
            except (psycopg.Error, Unanswered) as error:
                self._drop()
                self.waits_for = f"the database server is away ({said(error)})"
                continue
            if not found or found[0][0] != self._run:
                raise self._lost(session)
            return bool(found[0][1])

    def _attempt(self, session: Session, token: str, work: Callable[[SiteWrite], T], result: list[T]) -> bool:
        found = session.ask(
            f"BEGIN; SELECT position, holder, written, pg_backend_pid() FROM sites WHERE site={self.number} FOR UPDATE;"
            f" SAVEPOINT {SAVEPOINT}"
        )
        if not found or found[0][1] != self._run:
            raise self._lost(session)
        position, _, written, pid = found[0]
        if pid != session.pid:
            raise OperatorError(pooled(self.place))
        if written == token:
            # The COMMIT whose answer was lost has counted.
            session.ask("ROLLBACK")
            return True
        transaction = SiteWrite(session, position)
        result.append(work(transaction))
        row = f"UPDATE sites SET position={transaction.position}, written='{token}' WHERE site={self.number}"
        session.ask("; ".join([*transaction.last, row, "COMMIT"]))
        return True

    def _roll_back(self, session: Session) -> None:
        try:
            session.ask("ROLLBACK")
        except (psycopg.Error, Unanswered):
            self._drop()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _opened(self) -> Session:
        stands_by = self._sink_key is not None and not self._is_locked
        name = f"{'standby' if stands_by else 'sink'} {self.place.site}"
        return Session(self.place, name, True, _ANSWER_S, self.stop)

    def _again(self) -> Session:
        """A new session that has the lock again. Raises LedgerLost when another sink has or had it."""
        pause = _AGAIN_S
        while True:
            if self.stop.is_set():
                raise LedgerStuck(self.waits_for or "the sink is leaving")
            session = None
            try:
                session = self._opened()
                if self._has_lock_again(session):
                    self._session = session
                    return session
                session.close()
            except (psycopg.Error, Unanswered) as error:
                if session is not None:
                    session.close()
                self.waits_for = f"the database server is away ({said(error)})"
            except BaseException:
                if session is not None:
                    session.close()
                raise
            self.stop.wait(pause)
            pause = min(2 * pause, _AGAIN_MAX_S)

    def _has_lock_again(self, session: Session) -> bool:
        is_ours = session.one(f"SELECT pg_try_advisory_lock({_LOCK})", self.place.site)[0]
        found = session.ask("SELECT holder FROM sites WHERE site=%s", self.number)
        if not found or found[0][0] != self._run:
            raise self._lost(session)
        if not is_ours:
            # Our own last session: the server has not noticed yet that it is over.
            session.ask(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS held", self.place.site)
            self.waits_for = "the server still has this sink's last session, which was cut off"
        return bool(is_ours)

    def _lost(self, session: Session) -> LedgerLost:
        found = session.ask("SELECT held_by, held_since FROM sites WHERE site=%s", self.number)
        by = f" ({found[0][0]} since {found[0][1]:%H:%M:%S} UTC)" if found else ""
        return LedgerLost(
            f"another sink{by} has taken over the ledger {self.place.shown}: this one writes nothing more"
        )

    def _lock_at_start(self, session: Session) -> None:
        ends_at = clock.now() + _FREED_S
        held = None if self._sink_key is None else SilentHolder(session, HOLDERS, self.place.site)
        while not session.one(f"SELECT pg_try_advisory_lock({_LOCK})", self.place.site)[0]:
            if clock.now() > ends_at:
                found = session.ask("SELECT held_by, sink_key FROM sites WHERE name=%s", self.place.site)
                held_by, sink_key = found[0] if found else (None, None)
                raise LedgerHeld(self.place.shown, self.place.site, held_by or "", sink_key or "")
            if held is not None:
                held.look(clock.now())
            self.stop.wait(_LOCK_AGAIN_S)
        self._is_locked = True
        session.ask("SELECT set_config('application_name', %s, false)", name_of_sink(self.place.site))
        session.ask(
            "INSERT INTO sites (name, ledger, holder, held_by, held_since, sink_key) VALUES (%s, %s, %s, %s, now(), %s)"
            " ON CONFLICT (name) DO UPDATE SET holder=excluded.holder, held_by=excluded.held_by, held_since=now(),"
            " sink_key=coalesce(nullif(excluded.sink_key, ''), sites.sink_key)",
            self.place.site,
            secrets.token_hex(8),
            self._run,
            here(),
            "" if self._sink_key is None else self._sink_key(),
        )

    def _found(self, session: Session) -> tuple[int, str]:
        number, ledger = session.one("SELECT site, ledger FROM sites WHERE name=%s", self.place.site)
        return int(number), str(ledger)

    def close(self) -> None:
        """Give the lock back, to a pooler's session too, which lives on. From now on a server is not waited for."""
        self.stop.set()
        if self._session is not None:
            with suppress(psycopg.Error, Unanswered):
                self._session.ask("SELECT pg_advisory_unlock_all()")
        self._drop()


def prepare(session: Session, place: PostgresPlace) -> None:
    """Make the tables, or bring those of an earlier version to this one. Raises OperatorError."""
    session.ask("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('tradewind tables', 0))")
    try:
        if session.one("SELECT to_regnamespace('tradewind') IS NULL")[0]:
            session.ask("CREATE SCHEMA tradewind")
        version = version_of(session)
        if version is None:
            session.ask(VERSIONS[0])
            session.ask("INSERT INTO meta VALUES ('version', '1')")
            version = 1
        check_version(place, version)
        for old in range(version, SCHEMA_VERSION):
            session.ask(VERSIONS[old])
            session.ask("UPDATE meta SET value=%s WHERE key='version'", str(old + 1))
        session.ask("COMMIT")
    except BaseException:
        if not session.is_over:
            session.ask("ROLLBACK")
        raise


def version_of(session: Session) -> int | None:
    """Which version the tables have; None where there are none."""
    try:
        if session.one("SELECT to_regclass('tradewind.meta') IS NULL")[0]:
            return None
        found = session.ask("SELECT value FROM meta WHERE key='version'")
    except errors.UndefinedTable:
        return None
    return int(found[0][0]) if found else 0


def check_version(place: PostgresPlace, version: int) -> None:
    """Raise OperatorError for tables of a later version."""
    if version > SCHEMA_VERSION:
        raise OperatorError(
            f"the ledger {place.shown} is of version {version}, and this Tradewind knows versions up to"
            f" {SCHEMA_VERSION}: install the release that wrote it, or give another --ledger"
        )


def site_of(session: Session, place: PostgresPlace) -> tuple[int, str, int]:
    """The site's number, its id and its last position, for who only reads. Raises OperatorError where it is not."""
    version = version_of(session)
    if version is None:
        raise EmptyLedger(place.no_ledger())
    check_version(place, version)
    found = session.ask("SELECT site, ledger, position FROM sites WHERE name=%s", place.site)
    if not found:
        raise OperatorError(place.no_site(name for (name,) in session.ask("SELECT name FROM sites ORDER BY site")))
    number, ledger, position = found[0]
    return int(number), str(ledger), int(position)


def pooled(place: PostgresPlace) -> str:
    """Why no ledger can be written through a pooler that gives each transaction another session."""
    return (
        f"cannot use the ledger {place.shown}: a pooler in between gives each transaction another session, and the lock"
        " of the ledger is held by a session: connect to the server itself, or use the pooler's session mode"
    )
