"""What only the SQLite ledger has: its file, its pages, its lock, and its errors. test_store.py holds the contract."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import OperatorError
from common.sink.ledger_reader import LedgerReader
from common.sink.rows import as_json
from common.sink.sqlite_file import SCHEMA_VERSION
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Job, LedgerStuck, Row
from tests.unit.builders import record


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "results.db")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def open_job(ledger: Ledger) -> Job:
    return ledger.open_job("job", "tasks:square", "lines of text")


def counts(ledger: Ledger) -> tuple[int, str]:
    job = ledger.job("job")
    assert job is not None
    return job.done, job.state


def values(path: str) -> list[Any]:
    reader = LedgerReader(path)
    try:
        return [row.value for row in reader.rows(1, failed=False)]
    finally:
        reader.close()


def test_neighbours_of_one_commit_have_one_receipt(ledger: Ledger) -> None:
    open_job(ledger)
    ledger.commit([record([0] * 5, 20)], [])
    ledger.commit([record([0] * 3, 3), record([0] * 3, 0)], [])
    assert ledger.receipts("job", 0, 10).runs == [(20, 5), (0, 6)]


# -- files that cannot be used --------------------------------------------------------------------------------------


def page_bytes(path: str) -> int:
    with sqlite3.connect(path) as db:
        return int(db.execute("PRAGMA page_size").fetchone()[0])


def test_a_ledger_with_small_pages_goes_on_with_them_and_a_new_one_has_large_ones(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.commit([record([1], 0)], [])
    ledger.close()
    assert page_bytes(path) == 8 * 1024
    with sqlite3.connect(path) as db:
        for statement in ("journal_mode=DELETE", "page_size=4096"):
            db.execute(f"PRAGMA {statement}")
        db.execute("VACUUM")
    again = Ledger(path)
    open_job(again)
    again.commit([record(["x" * 100_000], 1)], [])
    again.close()
    assert page_bytes(path) == 4096
    assert values(path) == [1, "x" * 100_000]


def a_text(path: Path) -> None:
    path.write_bytes(b"This is no database, and it is longer than the header of one. " * 20)


def another_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE users (name)")


def another_version(path: Path) -> None:
    Ledger(str(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='0' WHERE key='version'")


def between_versions(path: Path) -> None:
    Ledger(str(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN base")


@pytest.mark.parametrize(
    "make",
    [a_text, another_database, another_version, between_versions, Path.mkdir],
    ids=lambda make: make.__name__,
)
def test_what_is_no_ledger_is_refused_in_one_line_and_let_go(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "other"
    make(path)
    for _ in range(2):  # The second time shows that the first has left no lock.
        with pytest.raises(OperatorError, match="other") as refused:
            Ledger(str(path))
        assert "\n" not in str(refused.value)
        assert "in use" not in str(refused.value)


@pytest.mark.parametrize("path", ["no/such/folder/results.db", "/proc/results.db", "/dev/null/results.db"])
def test_a_folder_that_cannot_be_written_is_named_in_one_line(path: str) -> None:
    with pytest.raises(OperatorError, match="cannot write the ledger") as refused:
        Ledger(path)
    assert "\n" not in str(refused.value)


def by_a_link(path: Path) -> Path:
    link = path.parent / "elsewhere" / "other.db"
    link.parent.mkdir()
    link.symlink_to(path)
    return link


def by_a_link_to_its_folder(path: Path) -> Path:
    link = path.parent.parent / f"{path.parent.name}-link"
    link.symlink_to(path.parent)
    return link / path.name


@pytest.mark.parametrize("way", [by_a_link, by_a_link_to_its_folder, Path], ids=lambda way: way.__name__)
@pytest.mark.parametrize("link_first", [False, True])
def test_two_sinks_never_have_one_ledger_whatever_its_name(tmp_path: Path, way: Any, link_first: bool) -> None:
    path = tmp_path / "results.db"
    names = [str(path), str(way(path))]
    first = Ledger(names[link_first])
    with pytest.raises(OperatorError, match="in use by another sink"):
        Ledger(names[not link_first])
    first.close()
    Ledger(names[not link_first]).close()


def test_a_ledger_with_two_hard_links_is_refused(tmp_path: Path, path: str) -> None:
    Ledger(path).close()
    (tmp_path / "second.db").hardlink_to(path)
    for name in (path, str(tmp_path / "second.db")):
        with pytest.raises(OperatorError, match="hard links"):
            Ledger(name)


@pytest.mark.parametrize("target", ["precious", "missing"])
def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path: Path, path: str, target: str) -> None:
    (tmp_path / "precious").write_text("precious")
    Path(f"{path}.lock").symlink_to(tmp_path / target)
    with pytest.raises(OperatorError, match=r"the lock .*results\.db\.lock is a link: remove it"):
        Ledger(path)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_a_lock_that_is_somebodys_file_is_not_emptied(path: str) -> None:
    Path(f"{path}.lock").write_text("precious")
    Ledger(path).close()
    assert Path(f"{path}.lock").read_text() == "precious"


# -- ledgers of earlier versions --------------------------------------------------------------------------------------

OLD_VALUES = [1, "two", 3.5, None, b"five", "[6,null]", "NaN", None]


@pytest.fixture
def old(path: str) -> str:
    """A ledger that was written by the code of version 1."""
    shutil.copy(Path(__file__).with_name("version_1.ledger"), path)
    return path


def read(path: str) -> list[Row]:
    reader = LedgerReader(path)
    try:
        return list(reader.rows(1, failed=False))
    finally:
        reader.close()


def test_a_reader_reads_a_ledger_of_version_1_as_it_is(old: str) -> None:
    before = Path(old).read_bytes()
    rows = read(old)
    assert [row.value for row in rows] == OLD_VALUES
    assert [(row.exact, row.argument) for row in rows] == [(None, task) for task in range(8)], "it is of a range"
    assert as_json(rows[6].value, rows[6].json) == '"NaN"'
    assert Path(old).read_bytes() == before


def test_a_sink_brings_a_ledger_of_version_1_to_this_one_and_goes_on_with_it(old: str) -> None:
    reader = LedgerReader(old)
    for count in (8, 9):  # It is brought there once.
        ledger = Ledger(old)
        assert ledger.inspect("SELECT value FROM meta WHERE key='version'") == [(str(SCHEMA_VERSION),)]
        assert counts(ledger) == (count, "open")
        ledger.commit([record(["new"], 8, exact={0: b"exact"}, arguments=["in.txt"], form="text")], [])
        assert ledger.inspect("SELECT argument FROM results WHERE argument IS NOT NULL") == [("in.txt",)]
        assert ledger.inspect("SELECT argument FROM task_results ORDER BY task DESC LIMIT 1") == [(8,)]
        ledger.close()
    assert [(row.value, row.exact) for row in read(old)] == [
        *((value, None) for value in OLD_VALUES),
        ("new", b"exact"),
    ]
    assert [row.value for row in reader.rows(1, failed=False)] == [*OLD_VALUES, "new"], "one that was opened before"
    reader.close()


def test_a_migrated_ledger_has_the_tables_of_a_new_one(old: str, tmp_path: Path) -> None:
    shapes = []
    for path in (old, str(tmp_path / "new.db")):
        ledger = Ledger(path)
        tables = [name for (name,) in ledger.inspect("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        shapes.append({name: ledger.inspect(f"PRAGMA table_info({name})") for name in tables})
        ledger.close()
    assert shapes[0] == shapes[1]


# -- errors that pass -----------------------------------------------------------------------------------------------


def test_a_full_disk_is_named(ledger: Ledger) -> None:
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerStuck, match="full"):
        ledger.open_job("big", "tasks:" + "f" * 90_000, "lines of text")


def test_after_an_error_that_sqlite_leaves_open_nothing_is_written(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    refusal = "CREATE TEMP TRIGGER refusal BEFORE INSERT ON main.receipts BEGIN SELECT RAISE(FAIL, 'refused'); END"
    ledger._db.execute(refusal)
    with pytest.raises(OperatorError, match="refused"):
        ledger.commit([record([1])], [])
    ledger._db.execute("DROP TRIGGER refusal")
    assert (values(path), counts(ledger)) == ([], (0, "open"))
    ledger.commit([record([2])], [])
    assert values(path) == [2]


def test_a_ledger_that_another_program_has_locked_is_stuck_not_broken(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger._db.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerStuck, match="locked"):
        ledger.commit([record([1])], [])
    with pytest.raises(LedgerStuck, match="locked"):
        ledger.end_job("job", "done", 1)
    assert counts(ledger) == (0, "open")
    other.execute("ROLLBACK")
    ledger.commit([record([1])], [])
    assert counts(ledger) == (1, "open")
    other.close()
