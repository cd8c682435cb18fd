"""What the sink reads of its ledger in PostgreSQL while it writes: on a session of its own, within a second."""

import threading
from typing import Any

import psycopg

from ..errors import OperatorError
from .postgres_place import PostgresPlace
from .postgres_session import Session, Unanswered, is_lost, judged, said
from .store import LedgerStuck

_READ_S = 1.0
"""How long the sink waits for rows, which it reads between other messages; then it asks again later."""


class PostgresReads:
    """What the sink reads, on a session of its own, within a second. Raises LedgerStuck when that cannot be.

    A session that was lost is made again in a thread, so that the sink does not wait for that either.
    """

    def __init__(self, place: PostgresPlace) -> None:
        self._place = place
        self._stop = threading.Event()
        self._session: Session | None = self._opened()
        self._maker: threading.Thread | None = None

    def _opened(self) -> Session:
        return Session(self._place, f"sink {self._place.site}, reads", False, _READ_S, self._stop)

    def server_pid(self) -> int:
        """The server's process that answers. Only for the start: it raises what the session does."""
        assert self._session is not None
        return int(self._session.one("SELECT pg_backend_pid()")[0])

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that it finds. Raises LedgerStuck."""
        session = self._session
        if session is None:
            self._make_again()
            raise LedgerStuck("the database server is away")
        try:
            return session.ask(sql, *values)
        except (psycopg.Error, Unanswered) as error:
            if is_lost(error, session):
                session.close()
                self._session = None
                self._make_again()
                raise LedgerStuck(said(error)) from None
            assert isinstance(error, psycopg.Error)
            raise judged(self._place, error) from None

    def _make_again(self) -> None:
        if self._maker is None or not self._maker.is_alive():
            self._maker = threading.Thread(target=self._make, daemon=True)
            self._maker.start()

    def _make(self) -> None:
        while self._session is None and not self._stop.is_set():
            try:
                self._session = self._opened()
            except (psycopg.Error, Unanswered, OperatorError):
                self._stop.wait(_READ_S)
        if self._stop.is_set():
            # It was closed meanwhile.
            self._end()

    def close(self) -> None:
        """Close the session."""
        self._stop.set()
        self._end()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
