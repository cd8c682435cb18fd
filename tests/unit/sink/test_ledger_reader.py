"""What only the reader of SQLite has: pages, and plain words for files that it cannot read; see also test_store.py."""

import json
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import OperatorError
from common.sink.ledger_reader import LedgerReader
from common.sink.result_formats import Format
from common.sink.sqlite_ledger import Ledger
from common.sink.tables import print_results
from tests.unit.builders import record
from tests.unit.writing import commit, end_job, open_job


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a ledger?#%.db")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    opened = Ledger(path)
    open_job(opened, "job", "tasks:square", "lines of text")
    yield opened
    opened.close()


@pytest.fixture
def reader(ledger: Ledger, path: str) -> Iterator[LedgerReader]:
    opened = LedgerReader(path)
    yield opened
    opened.close()


def test_a_reader_does_not_hold_up_the_writer(ledger: Ledger, reader: LedgerReader) -> None:
    commit(ledger, [record([0] * 5)])
    reader._PAGE = 2
    slow = reader.rows(1, failed=False)
    next(slow)
    commit(ledger, [record([0] * 5, 5)])
    assert ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert [row.task for row in slow] == list(range(1, 10))


@pytest.mark.parametrize("part", ["value", "error"])
def test_a_page_of_large_rows_is_cut_by_their_weight(ledger: Ledger, reader: LedgerReader, part: str) -> None:
    reader._PAGE_BYTES = 2_500
    text = "x" * 1_000
    errors = dict.fromkeys(range(7), text) if part == "error" else {}
    commit(ledger, [record([text if part == "value" else None] * 7, errors=errors)])
    weights = []
    page = reader._page
    reader._page = lambda *query: weights.append(page(*query)) or weights[-1]  # type: ignore[method-assign,func-returns-value]
    assert [row.task for row in reader.rows(1, failed=False)] == list(range(7))
    assert [len(rows) for rows, _ in weights] == [3, 3, 1]


@pytest.mark.parametrize("page", [1, 2, 6, 7, 100])
def test_pages_join_without_gap_or_repetition(ledger: Ledger, reader: LedgerReader, page: int) -> None:
    reader._PAGE = page
    commit(ledger, [record([1, None, 3], 4, errors={1: "no"}), record([1, None, 3], 0, errors={1: "no"})])
    assert [row.task for row in reader.rows(1, failed=False)] == [0, 1, 2, 4, 5, 6]
    assert [row.task for row in reader.rows(1, failed=True)] == [1, 5]
    assert [row.task for _, row in reader.rows_after(1, 0, failed=False) if row] == [0, 1, 2, 4, 5, 6]


def test_following_an_ended_job_prints_it_in_order_of_commit(
    ledger: Ledger, reader: LedgerReader, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(ledger, [record(["late"], 7)])
    commit(ledger, [record([True, None], 0, errors={1: "no"})])
    end_job(ledger, "job", "done", 8)
    print_results(reader.follow(1, failed=False), Format.jsonl, sys.stdout)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["task"], line["status"], line["value"]) for line in lines] == [
        (7, "ok", "late"),
        (0, "ok", True),
        (1, "failed", None),
    ]


def test_a_reader_writes_nothing(ledger: Ledger, reader: LedgerReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute("DELETE FROM task_rows")


@pytest.mark.parametrize("content", [None, b"", b"no database " * 100], ids=["missing", "empty", "text"])
def test_what_is_no_ledger_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperatorError, match=r"other\.db") as refused:
        LedgerReader(str(path))
    assert "\n" not in str(refused.value)


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="there is no ledger"):
        LedgerReader(str(tmp_path))


# -- folders of others ----------------------------------------------------------------------------------------------


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A folder that everyone can look into, as those of pytest are not."""
    made = Path(tempfile.mkdtemp(prefix="tw-shelf-"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def finished(path: Path) -> None:
    """A ledger whose sink has ended."""
    ledger = Ledger(str(path))
    open_job(ledger, "job", "tasks:square", "lines of text")
    commit(ledger, [record([1, 4, 9])])
    end_job(ledger, "job", "done", 3)
    ledger.close()
    path.with_name(path.name + ".lock").unlink()
    path.chmod(0o644)


def killed(path: Path) -> None:
    """A ledger whose sink was killed: the last rows are in its log."""
    draft = path.with_name("draft.db")
    ledger = Ledger(str(draft))
    open_job(ledger, "job", "tasks:square", "lines of text")
    commit(ledger, [record([1, 4, 9])])
    for end in ("", "-wal"):
        shutil.copy(f"{draft}{end}", f"{path}{end}")
        Path(f"{path}{end}").chmod(0o644)
    ledger.close()
    draft.unlink()


def as_a_stranger(look: Callable[[], object]) -> object:
    """What `look` returns or how it fails, for a user who owns nothing here."""

    def run() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            ours.send(look())
        except OperatorError as error:
            ours.send(str(error))

    theirs, ours = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert theirs.poll(30)
    found = theirs.recv()
    process.join()
    return found


def read(path: Path) -> list[object]:
    reader = LedgerReader(str(path))
    assert reader.ended(1)
    return [row.value for row in reader.rows(1, failed=False)]


@pytest.mark.parametrize("mode", [0o555, 0o777], ids=["read-only", "shared"])
def test_a_finished_ledger_in_a_folder_of_others_is_read_and_nothing_is_left_there(shelf: Path, mode: int) -> None:
    finished(shelf / "results.db")
    if os.geteuid():
        (shelf / "results.db").chmod(0o444)
    shelf.chmod(mode)
    assert as_a_stranger(lambda: read(shelf / "results.db")) == [1, 4, 9]
    assert [path.name for path in shelf.iterdir()] == ["results.db"]


def test_the_log_of_a_killed_sink_is_not_overlooked(shelf: Path) -> None:
    killed(shelf / "results.db")
    shelf.chmod(0o555)
    found = as_a_stranger(lambda: read(shelf / "results.db"))
    assert isinstance(found, str)
    assert "results.db-wal" in found
    assert "copy both files" in found
    assert "restore" not in found


def test_a_sink_that_begins_to_write_what_is_read_as_it_is_is_noticed(shelf: Path) -> None:
    finished(shelf / "results.db")
    reader = LedgerReader(str(shelf / "results.db"))
    reader._seen = reader._look()
    reader._db = reader._connected("mode=ro&immutable=1")
    assert len(list(reader.rows(1, failed=False))) == 3
    sink = Ledger(str(shelf / "results.db"))
    commit(sink, [record([16], 3)])
    for look in (lambda: reader.ended(1), lambda: list(reader.rows(1, failed=False))):
        with pytest.raises(OperatorError, match="a sink has begun to write"):
            look()
    sink.close()
    with pytest.raises(OperatorError, match="a sink has begun to write"):
        reader.jobs()
    reader.close()


def test_an_error_of_sqlite_gets_the_advice_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE users (name)")
    with pytest.raises(OperatorError, match="it is no ledger, or one of another version; give another file") as refused:
        LedgerReader(str(path))
    assert "restore" not in str(refused.value)
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
    with pytest.raises(OperatorError, match=r"the ledger .*new.db is empty: start the sink here"):
        LedgerReader(str(tmp_path / "new.db"))
    finished(tmp_path / "damaged.db")
    (tmp_path / "damaged.db").write_bytes(b"x" * 8192)
    with pytest.raises(OperatorError, match="restore it from a copy"):
        LedgerReader(str(tmp_path / "damaged.db"))


def test_what_a_page_needs_of_a_large_job_is_found_without_reading_all_of_it(path: str) -> None:
    ledger = Ledger(path)
    open_job(ledger, "job", "tasks:square", "lines of text")
    for first in range(0, 100_000, 1_000):
        errors = {7: "no"} if first == 50_000 else None
        commit(ledger, [record([1] * 1_000, first, errors=errors)])
    ledger.close()
    reader = LedgerReader(path)
    steps: list[int] = []
    reader._db.set_progress_handler(lambda: steps.append(1), 100)
    assert len(reader.sample(1, 100)) == 100
    assert [row.task for row in reader.page(1, -1, 20, failed=True)] == [50_007]
    assert [row.task for row in reader.page(1, 70_000, 2, failed=False)] == [70_001, 70_002]
    assert sum(count for _, count in reader.history(1, 0, 1_000).points) == 100_000
    reader.position_before(0)
    assert len(steps) * 100 < 50_000, "in steps of SQLite, of which each row takes several"
    reader.close()
