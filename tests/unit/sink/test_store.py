"""Every ledger keeps the contract of `common/sink/store.py`; one in memory shows what the contract alone asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.sink.ledgers import open_ledger, open_reader
from common.sink.store import Reader, Store
from tests.postgres import Server
from tests.unit.sink.memory_ledger import MemoryLedger, MemoryPlace, MemoryReader
from tests.unit.sink.store_contract import StoreContract, at  # noqa: F401 (a fixture)


class OfSqlite:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._opened: list[Store | Reader] = []

    def ledger(self) -> Store:
        opened = open_ledger(self._path)
        self._opened.append(opened)
        return opened

    def reader(self) -> Reader:
        opened = open_reader(self._path)
        self._opened.append(opened)
        return opened

    def fill(self, ledger: Any) -> None:
        """A full disk: SQLite gives the same error when the file may not grow."""
        (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
        ledger._db.execute(f"PRAGMA max_page_count={pages}")

    def free(self, ledger: Any) -> None:
        ledger._db.execute(f"PRAGMA max_page_count={2**30}")

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


class OfPostgres:
    """A database."""

    _FULL = """
        CREATE FUNCTION tradewind.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF length(NEW::text) > 50000 THEN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER full_rows BEFORE INSERT ON tradewind.task_rows FOR EACH ROW EXECUTE FUNCTION tradewind.full();
        CREATE TRIGGER full_jobs BEFORE INSERT ON tradewind.jobs FOR EACH ROW EXECUTE FUNCTION tradewind.full();
    """

    def __init__(self, server: Server) -> None:
        self._place = server.address()
        self._opened: list[Store | Reader] = []

    def ledger(self) -> Store:
        self._opened.append(open_ledger(self._place))
        return self._opened[-1]  # type: ignore[return-value]

    def reader(self) -> Reader:
        self._opened.append(open_reader(self._place))
        return self._opened[-1]  # type: ignore[return-value]

    def query(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self._place, autocommit=True) as db:
            db.execute(sql)

    def fill(self, ledger: Any) -> None:
        """What large rows are refused with is what a full disk gives."""
        self.query(self._FULL)

    def free(self, ledger: Any) -> None:
        self.query("DROP FUNCTION tradewind.full CASCADE")

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self.query("DROP SCHEMA IF EXISTS tradewind CASCADE")


class OfMemory:
    """Lists and dictionaries."""

    def __init__(self) -> None:
        self._kept = MemoryPlace()

    def ledger(self) -> Store:
        return MemoryLedger(self._kept)

    def reader(self) -> Reader:
        return MemoryReader(self._kept)

    def fill(self, ledger: Any) -> None:
        self._kept.is_stuck = True

    def free(self, ledger: Any) -> None:
        self._kept.is_stuck = False


class TestSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[OfSqlite]:
        made = OfSqlite(tmp_path / "results.db")
        yield made
        made.close()


class TestMemory(StoreContract):
    @pytest.fixture
    def place(self) -> OfMemory:
        return OfMemory()


class TestPostgres(StoreContract):
    @pytest.fixture
    def place(self, postgres: Server) -> Iterator[OfPostgres]:
        made = OfPostgres(postgres)
        yield made
        made.close()
