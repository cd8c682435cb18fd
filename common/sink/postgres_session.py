"""A session with PostgreSQL: time limits at both ends, and errors in words. Each wait has an end or is said."""

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors

from ..errors import OperatorError
from ..plain_text import one_line
from ..transport import clock
from .postgres_place import PostgresPlace
from .store import LedgerAway, LedgerStuck

Rows = list[tuple[Any, ...]]

OLDEST_SERVER = 130_000
"""The first with `autovacuum_vacuum_insert_scale_factor`."""
_DEFAULTS = {
    "connect_timeout": "5",
    # Of what was sent and is not acknowledged.
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
"""Parameters of the connection, unless the address has them: a network that swallows packets is noticed."""
_SETTINGS = """
SET search_path = tradewind;
SET client_encoding = 'UTF8';
SET timezone = 'UTC';
SET jit = off;
SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = '10s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Of the session at the server, which notices within seconds that its client's machine is gone, and drops its locks."""
_QUIET_S = 0.5
"""After this long without an answer a session says that it waits for the server."""


class Unanswered(Exception):
    """The server did not answer in time, or was not waited for; nobody knows what it has done."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that looks at its limits while it waits."""

    look: Callable[[], None] | None = None
    """Called several times a second while the server does not answer; what it raises ends the waiting."""

    def wait(self, gen: Any, *limits: Any, **more: Any) -> Any:
        return super().wait(gen if self.look is None else self._looking(gen), *limits, **more)

    def _looking(self, gen: Any) -> Any:
        try:
            step = next(gen)
            while True:
                ready = yield step
                if not ready and self.look is not None:
                    self.look()
                step = gen.send(ready)
        except StopIteration as ended:
            return ended.value


class Session:
    """One session. After an error that ended it, `is_over` is true and another one must be made."""

    def __init__(
        self, place: PostgresPlace, name: str, writes: bool, limit_s: float, stop: threading.Event | None = None
    ) -> None:
        """`limit_s` is how long it waits for an answer; the server gives a statement up before."""
        self.waits_for = ""
        """What it waits for, in words; empty while nothing is worth a word."""
        self._place = place
        self._limit_s = limit_s
        self._stop = stop
        self._asked_at = clock.now()
        found = psycopg.conninfo.conninfo_to_dict(place.address)
        defaults = _DEFAULTS | {"application_name": f"tradewind {name}"}
        if writes:
            # Of several hosts, the one that is no standby.
            defaults["target_session_attrs"] = "read-write"
        parameters = defaults | {key: value for key, value in found.items() if value is not None}
        self._db = _Connection.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
        self._db.look = self._look
        self._db.prepare_threshold = None
        try:
            self._check()
            self.ask(_SETTINGS)
            self.ask(f"SET statement_timeout = {int(limit_s * 900)}")
            self.pid = int(self.one("SELECT pg_backend_pid()")[0])
        except BaseException:
            self.close()
            raise

    @property
    def is_over(self) -> bool:
        """True when the server or the network has ended it."""
        return self._db.closed or self._db.broken

    def ask(self, sql: str, *values: object) -> Rows:
        """The rows of the last statement that has any."""
        self._begin()
        with self._db.cursor() as cursor:
            cursor.execute(sql, values or None)
            found: Rows = []
            while True:
                if cursor.description is not None:
                    found = cursor.fetchall()
                if not cursor.nextset():
                    return found

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        """The only row."""
        [row] = self.ask(sql, *values)
        return row

    def change(self, sql: str, *values: object) -> int:
        """How many rows a statement has changed."""
        self._begin()
        with self._db.cursor() as cursor:
            return cursor.execute(sql, values or None).rowcount

    def copy(self, sql: str, pieces: Iterator[bytes]) -> None:
        """Have COPY read these pieces."""
        self._begin()
        with self._db.cursor() as cursor, cursor.copy(sql) as copy:
            for piece in pieces:
                self._begin()
                copy.write(piece)
            self._begin()

    def close(self) -> None:
        """End it. The server rolls back what it has not committed, and drops the session's locks."""
        with suppress(psycopg.Error):
            self._db.close()

    def _begin(self) -> None:
        self._asked_at = clock.now()
        self.waits_for = ""

    def _look(self) -> None:
        since = clock.now() - self._asked_at
        if self._stop is not None and self._stop.is_set():
            raise Unanswered("it is not waited for any longer")
        if since > self._limit_s:
            raise Unanswered(f"the server has not answered for {since:.0f} s")
        if since > _QUIET_S:
            self.waits_for = f"the database server of {self._place.shown} does not answer"

    def _check(self) -> None:
        version = self._db.info.server_version
        if version < OLDEST_SERVER:
            raise OperatorError(f"{self._place.shown} is PostgreSQL {version // 10_000}: version 13 or later is needed")
        encoding = self._db.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise OperatorError(
                f"the database of {self._place.shown} has the encoding {encoding}: make one with ENCODING 'UTF8'"
                " TEMPLATE template0"
            )


def here() -> str:
    """This process, for people who look who holds a ledger."""
    return f"process {os.getpid()} on {socket.gethostname()}"


_PASSING = ("40", "53", "55", "57", "58")
"""Classes of errors that may pass: conflicts, no room or memory or connection, locks, interventions, the disk."""
_REFUSING = re.compile(
    r"FATAL|certificate (file|for|verify)|private key file|SSL was required|encryption required|no password supplied"
    r"|channel binding required|authentication method|definition of service|invalid ([\w\"]+ value|port number)"
)
"""What libpq says when a server, or libpq itself, will say no next time too."""
_COMING = re.compile(
    r"FATAL: +the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)"
)
"""What a server that will soon take connections says to whoever connects."""
_FULL = re.compile(r"FATAL: +(sorry, too many clients already|remaining connection slots are|too many connections for)")
"""What a server says that has no connection left (53300): libpq gives no code."""
_ENDING = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.ReadOnlySqlTransaction)
"""Errors after which another session, perhaps at another server, is needed."""


def is_away(error: Exception) -> bool:
    """True when no server was reached, or one that is starting, leaving or full: it is worth waiting for."""
    text = str(error)
    refuses = _REFUSING.search(text) and not _COMING.search(text) and not _FULL.search(text)
    return isinstance(error, Unanswered) or (isinstance(error, psycopg.OperationalError) and not refuses)


def is_lost(error: Exception, session: Session) -> bool:
    """True when the session must be replaced."""
    return isinstance(error, (Unanswered, *_ENDING)) or session.is_over


def judged(place: PostgresPlace, error: psycopg.Error) -> Exception:
    """What an error of a statement is for the sink: LedgerStuck when it may pass, or OperatorError."""
    state = error.sqlstate or ""
    if state[:2] in _PASSING:
        return LedgerStuck(said(error))
    return OperatorError(unusable(place, error))


def said(error: Exception) -> str:
    """What PostgreSQL, or libpq, says, on one line."""
    found = getattr(error, "diag", None)
    text = (found and found.message_primary) or str(error)
    return one_line("; ".join(" ".join(line.split()).rstrip(".") for line in text.splitlines() if line.strip()))


_ROOM = "let the server accept more connections"
_ADVICE: list[tuple[tuple[str, ...], str]] = [
    (("42501",), "give the role of the address the rights that docs/CLUSTERS.md lists"),
    (("28",), "correct the user, or the password in ~/.pgpass"),
    (("3D000",), "make it with createdb, or name another database"),
    (("42P01", "3F000", "42703"), "start a sink there first, or name another database"),
    (("53300",), _ROOM),
]
"""What helps, by the code of the error or its class."""


def unusable(place: PostgresPlace, error: Exception) -> str:
    """One line for a database that cannot be used as a ledger."""
    state = getattr(error, "sqlstate", None) or ""
    advice = next((words for codes, words in _ADVICE if state.startswith(codes)), "")
    if not advice and not state:
        text = str(error)
        if _FULL.search(text):
            advice = _ROOM
        elif "password" in text:
            advice = "put the password into ~/.pgpass, or into a file that PGPASSFILE names"
        elif re.search(r'(database|role) ".*" does not exist', text):
            advice = "make the database with createdb, the role with createuser, or name others"
        elif _COMING.search(text):
            advice = "wait until it takes connections"
        elif _REFUSING.search(text):
            advice = "correct what it names: the address, the certificate, or what the server allows"
        else:
            advice = "start the server, or correct the address"
    return f"cannot use the ledger {place.shown}: {said(error)}" + (f"; {advice}" if advice else "")


@contextmanager
def in_words(place: PostgresPlace) -> Iterator[None]:
    """What goes wrong inside raises OperatorError: LedgerAway while the server is not reached."""
    try:
        yield
    except (psycopg.Error, Unanswered) as error:
        raise (LedgerAway if is_away(error) else OperatorError)(unusable(place, error)) from None
