"""Every ledger keeps the contract of `common/sink/store.py`; one in memory shows what the contract alone asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.sink.ledgers import open_ledger, open_reader
from common.sink.store import Reader, Store
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
