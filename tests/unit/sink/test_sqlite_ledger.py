"""What only the SQLite ledger has: its file, its pages, its lock, and its errors. test_store.py holds the contract."""

import itertools
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.errors import OperatorError
from common.sink import sqlite_file, sqlite_ledger
from common.sink.ledger_reader import LedgerReader
from common.sink.rows import as_json
from common.sink.sqlite_care import SqliteCare
from common.sink.sqlite_file import SCHEMA_VERSION
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Job, LedgerStuck, Row
from tests.unit.builders import record
from tests.unit.writing import commit, end_job, forget, open_job, tidy


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "results.db")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def open_one(ledger: Ledger) -> Job:
    return open_job(ledger, "job", "tasks:square", "lines of text")


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
    open_one(ledger)
    commit(ledger, [record([0] * 5, 20)])
    commit(ledger, [record([0] * 3, 3), record([0] * 3, 0)])
    assert ledger.receipts("job", 0, 10).runs == [(20, 5), (0, 6)]


# -- large values ---------------------------------------------------------------------------------------------------


MIXED: list[Any] = ["x" * 5_000, "small", 7, b"\x00" * 3_000, "ä" * 2_000, None, "y" * 1_700]
LARGE = "SELECT count(*), total(length(value)), total(length(exact)) FROM large_values"


def test_large_values_stand_apart_and_whoever_reads_results_finds_them(ledger: Ledger, path: str) -> None:
    open_one(ledger)
    exact = {2: b"e" * 4_000, 6: b"e" * 10}
    arguments = [f"argument {task}" for task in range(len(MIXED))]
    commit(ledger, [record(MIXED, 0, exact=exact, arguments=arguments, form="text")])
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT value FROM results ORDER BY task").fetchall() == [(each,) for each in MIXED]
        assert db.execute("SELECT value FROM task_results ORDER BY task").fetchall() == [(each,) for each in MIXED]
        rows = db.execute("SELECT exact, argument FROM results ORDER BY task").fetchall()
        assert rows == [(exact.get(task), argument) for task, argument in enumerate(arguments)]
        assert db.execute(LARGE).fetchone() == (4, 10_001, 4_000)
        [(longest,)] = db.execute("SELECT max(coalesce(length(value), 0) + coalesce(length(exact), 0)) FROM task_rows")
        assert longest == 1_710
    assert values(path) == MIXED


def test_a_large_value_is_recorded_once(ledger: Ledger, path: str) -> None:
    open_one(ledger)
    first, second = record(["a" * 3_000] * 3, 0), record(["b" * 3_000] * 8, 0)
    commit(ledger, [first])
    commit(ledger, [second, first])
    assert values(path) == ["a" * 3_000] * 3 + ["b" * 3_000] * 5
    assert ledger.inspect(LARGE)[0][0] == 8
    assert SqliteCare(path).faults() == []


def test_the_digest_of_a_large_argument_stands_beside_a_large_value(ledger: Ledger) -> None:
    open_one(ledger)
    commit(ledger, [record(["v" * 3_000, 1], 0, arguments=["a" * 5_000, "b" * 5_000], form="text")])
    rows = ledger.inspect("SELECT length(value), argument, length(argument_digest) FROM results ORDER BY task")
    assert rows == [(3_000, "a" * 4_096, 16), (1, "b" * 4_096, 16)]


# -- files that cannot be used --------------------------------------------------------------------------------------


def page_bytes(path: str) -> int:
    with sqlite3.connect(path) as db:
        return int(db.execute("PRAGMA page_size").fetchone()[0])


def test_a_ledger_with_small_pages_goes_on_with_them_and_a_new_one_has_large_ones(ledger: Ledger, path: str) -> None:
    open_one(ledger)
    commit(ledger, [record([1], 0)])
    ledger.close()
    assert page_bytes(path) == 8 * 1024
    with sqlite3.connect(path) as db:
        for statement in ("journal_mode=DELETE", "page_size=4096"):
            db.execute(f"PRAGMA {statement}")
        db.execute("VACUUM")
    again = Ledger(path)
    open_one(again)
    commit(again, [record(["x" * 100_000], 1)])
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
        commit(ledger, [record(["new"], 8, exact={0: b"exact"}, arguments=["in.txt"], form="text")])
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


# -- forgetting, copies and checks ----------------------------------------------------------------------------------


def filled(ledger: Ledger, name: str, count: int) -> None:
    open_job(ledger, name, "tasks:square", "lines of text")
    commit(ledger, [record(["x" * 500] * 500, first, job=name) for first in range(0, count, 500)])


def file_pages(ledger: Ledger) -> int:
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return int(ledger.inspect("PRAGMA page_count")[0][0])


def slow_clock(patch: pytest.MonkeyPatch) -> None:
    """A clock that moves by 2 ms each time somebody looks."""
    instants = itertools.count()
    patch.setattr(sqlite_ledger.clock, "now", lambda: next(instants) * 0.002)


def log_pages(path: str) -> int:
    """How many pages its log has: each was written once more, and is copied into the ledger later."""
    log = Path(f"{path}-wal").read_bytes()
    # The sizes of SQLite's file format: the head of the log, and that of each page.
    return (len(log) - 32) // (24 + int.from_bytes(log[8:12]))


def test_a_commit_writes_few_pages(ledger: Ledger, path: str) -> None:
    """What one task costs the disk, and ten thousand together."""
    open_one(ledger)
    commit(ledger, [record([0], 0)])
    before = log_pages(path)
    for task in range(1, 11):
        commit(ledger, [record([task], task)])
    assert log_pages(path) - before <= 40, "four a commit"
    before = log_pages(path)
    commit(ledger, [record(list(range(first, first + 1_000)), first) for first in range(1_000, 11_000, 1_000)])
    assert log_pages(path) - before <= 54


def test_the_room_of_a_forgotten_job_is_given_back_in_small_parts(
    ledger: Ledger, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(ledger, "kept", 1_000)
    before = file_pages(ledger)
    filled(ledger, "job", 20_000)
    assert file_pages(ledger) > 5 * before
    forget(ledger, "job")
    slow_clock(monkeypatch)
    changed = []
    is_more = True
    while is_more:
        at = ledger._db.total_changes
        is_more = tidy(ledger)
        changed.append(ledger._db.total_changes - at)
    assert ledger.inspect("PRAGMA synchronous") == [(2,)], "what comes next is synced"
    assert max(changed) == 1 + 2 + 4, "a row may be large: a part begins with one, and ends with its time"
    assert Path(path).stat().st_size <= (before + 3) * 8_192, "without another commit"
    assert ledger.inspect("SELECT count(*) FROM results") == [(1_000,)]
    assert ledger.inspect("PRAGMA freelist_count") == [(0,)]
    assert tidy(ledger) is False


def test_many_small_jobs_are_removed_without_looking_at_all_of_them_each_time(ledger: Ledger) -> None:
    for number in range(200):
        open_job(ledger, f"job{number}", "tasks:square", "lines of text")
        commit(ledger, [record([number], job=f"job{number}")])
    for number in range(200):
        forget(ledger, f"job{number}")
    statements: list[str] = []
    ledger._db.set_trace_callback(statements.append)
    while tidy(ledger):
        pass
    ledger._db.set_trace_callback(None)
    assert sum("FROM task_rows" in each for each in statements) < 200 * 10
    assert ledger.inspect("SELECT job FROM forgotten") == [(200,)], "its number is not given again"
    assert open_job(ledger, "new", "tasks:square", "lines of text").job == 201


def test_a_log_that_grew_while_somebody_read_is_cut(ledger: Ledger, path: str) -> None:
    filled(ledger, "job", 500)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM results").fetchone()
        filled(ledger, "large", 60_000)
        assert Path(f"{path}-wal").stat().st_size > 20_000_000
    for number in range(3):
        filled(ledger, f"small{number}", 500)
    assert Path(f"{path}-wal").stat().st_size < 20_000_000


def test_large_values_of_a_forgotten_job_are_removed_before_their_rows(ledger: Ledger) -> None:
    open_job(ledger, "job", "tasks:square", "lines of text")
    commit(ledger, [record(["x" * 100_000] * 50, 0), record([1] * 50, 50)])
    forget(ledger, "job")
    while tidy(ledger):
        named = "SELECT large FROM task_rows WHERE large IS NOT NULL"
        assert ledger.inspect(f"SELECT count(*) FROM large_values WHERE id NOT IN ({named})") == [(0,)]
    for table in ("large_values", "task_rows"):
        assert ledger.inspect(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_tidy_ledger_is_left_alone(ledger: Ledger) -> None:
    filled(ledger, "kept", 500)
    tidy(ledger)
    ledger._db.execute("PRAGMA query_only=1")
    assert tidy(ledger) is False


def test_a_ledger_of_version_1_uses_the_room_again(old: str) -> None:
    ledger = Ledger(old)
    forget(ledger, ledger.listed(0, 1)[0].job)
    while tidy(ledger):
        pass
    assert ledger.inspect("SELECT count(*) FROM results") == [(0,)]
    ledger.close()
    assert SqliteCare(old).faults() == []


def test_a_copy_is_a_ledger_of_its_own(ledger: Ledger, path: str, tmp_path: Path) -> None:
    filled(ledger, "job", 1_000)
    target = tmp_path / "copy.db"
    size = SqliteCare(path).back_up(target)
    assert (size, target.stat().st_mode & 0o777) == (target.stat().st_size, 0o600)
    filled(ledger, "later", 500)
    copy = Ledger(str(target))
    assert [job.job for job in copy.listed(0, 10)] == ["job"]
    assert copy.inspect("SELECT count(*) FROM results") == [(1_000,)]
    assert copy.job("job") == ledger.job("job")
    assert copy.id != ledger.id
    assert copy.id[:8] == ledger.id[:8], "spools are named by it"
    copy.close()
    with pytest.raises(OperatorError, match="exists already"):
        SqliteCare(path).back_up(target)
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_two_copies_to_one_place_do_not_meet_and_one_that_was_killed_is_written_over(
    ledger: Ledger, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(ledger, "job", 500)
    target = tmp_path / "copy.db"
    (tmp_path / ".copy.db.part").write_bytes(b"left behind")
    copied = SqliteCare._copy_to

    def meets_another(care: SqliteCare, part: Path) -> None:
        with pytest.raises(OperatorError, match=r"another command writes .*copy\.db\.part"):
            SqliteCare(path).back_up(target)
        copied(care, part)

    monkeypatch.setattr(SqliteCare, "_copy_to", meets_another)
    SqliteCare(path).back_up(target)
    assert SqliteCare(str(target)).faults() == []
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_a_copy_that_finds_no_room_leaves_nothing(ledger: Ledger, path: str, tmp_path: Path) -> None:
    filled(ledger, "job", 5_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        with pytest.raises(OperatorError, match=r"cannot copy the ledger .*give a place with room"):
            SqliteCare(path).back_up(tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.name for each in tmp_path.iterdir() if "copy" in each.name] == []


def test_a_copy_that_cannot_be_written_leaves_nothing(ledger: Ledger, path: str, tmp_path: Path) -> None:
    filled(ledger, "job", 500)
    with pytest.raises(OperatorError, match=r"cannot write .*nowhere/copy\.db: No such file"):
        SqliteCare(path).back_up(tmp_path / "nowhere" / "copy.db")
    with pytest.raises(OperatorError, match="there is no ledger"):
        SqliteCare(str(tmp_path / "none.db"))


DAMAGES = {
    "UPDATE jobs SET done=done+1": "job job says that 502 of its tasks are recorded, and has 501 results",
    "UPDATE task_rows SET status='failed' WHERE task=7": "has 1 failed results",
    "DELETE FROM receipts WHERE position=1": "has receipts for fewer tasks",
    "INSERT INTO task_rows SELECT 99, task, status, value, json, error, attempt, worker, seconds, exact, argument,"
    " argument_digest, large FROM task_rows WHERE task=1": "results of a job that does not exist (number 99)",
    "DELETE FROM large_values": "1 results of job job have lost their value",
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.items(), ids=["done", "failed", "receipts", "strays", "lost"])
def test_a_contradiction_in_a_ledger_is_named(ledger: Ledger, path: str, damage: str, words: str) -> None:
    filled(ledger, "job", 500)
    commit(ledger, [record(["x" * 5_000], 500)])
    assert SqliteCare(path).faults() == []
    ledger._db.execute(damage)
    assert words in SqliteCare(path).faults()[0]


def test_a_damaged_page_is_found_by_the_check_of_all(ledger: Ledger, path: str) -> None:
    filled(ledger, "job", 5_000)
    ledger.close()
    content = bytearray(Path(path).read_bytes())
    content[-3_000:] = bytes(3_000)
    Path(path).write_bytes(content)
    try:
        assert SqliteCare(path).faults()
    except OperatorError as error:
        assert "restore it from a copy" in str(error)


def test_a_start_reads_a_large_ledger_in_part(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path)
    filled(ledger, "job", 5_000)
    ledger.close()
    monkeypatch.setattr(sqlite_file, "_CHECKED_BYTES", 100_000)
    content = bytearray(Path(path).read_bytes())
    content[-3_000:] = bytes(3_000)
    Path(path).write_bytes(content)
    Ledger(path).close()
    monkeypatch.undo()
    with pytest.raises(OperatorError, match="damaged"):
        Ledger(path)


def test_a_newer_ledger_is_refused_in_words(ledger: Ledger, path: str) -> None:
    ledger._db.execute("UPDATE meta SET value='3' WHERE key='version'")
    ledger.close()
    with pytest.raises(OperatorError, match="is of version 3, and this Tradewind knows versions up to 2: install"):
        Ledger(path)


# -- errors that pass -----------------------------------------------------------------------------------------------


def test_a_full_disk_is_named(ledger: Ledger) -> None:
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerStuck, match="full"):
        open_job(ledger, "big", "tasks:" + "f" * 90_000, "lines of text")


def test_after_an_error_that_sqlite_leaves_open_nothing_is_written(ledger: Ledger, path: str) -> None:
    open_one(ledger)
    refusal = "CREATE TEMP TRIGGER refusal BEFORE INSERT ON main.receipts BEGIN SELECT RAISE(FAIL, 'refused'); END"
    ledger._db.execute(refusal)
    with pytest.raises(OperatorError, match="refused"):
        commit(ledger, [record([1])])
    ledger._db.execute("DROP TRIGGER refusal")
    assert (values(path), counts(ledger)) == ([], (0, "open"))
    commit(ledger, [record([2])])
    assert values(path) == [2]


def test_a_ledger_that_another_program_has_locked_is_stuck_not_broken(ledger: Ledger, path: str) -> None:
    open_one(ledger)
    ledger._db.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerStuck, match="locked"):
        commit(ledger, [record([1])])
    with pytest.raises(LedgerStuck, match="locked"):
        end_job(ledger, "job", "done", 1)
    assert counts(ledger) == (0, "open")
    other.execute("ROLLBACK")
    commit(ledger, [record([1])])
    assert counts(ledger) == (1, "open")
    other.close()
