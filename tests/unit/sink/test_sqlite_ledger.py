"""The ledger: first result wins, receipts in order of commit, all or nothing, and plain words when it cannot go on."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import OperatorError
from common.protocol.messages import Mark
from common.sink.ledger_reader import LedgerReader
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Job, LedgerStuck, Row
from tests.unit.builders import record

_numbers = itertools.count()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "results.db")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def open_job(ledger: Ledger, name: str = "job") -> Job:
    return ledger.open_job(name, "tasks:square", "lines of text")


def known(ledger: Ledger, name: str = "job") -> Job:
    found = ledger.job(name)
    assert found is not None
    return found


def rows(path: str, job: int = 1) -> list[Row]:
    reader = LedgerReader(path)
    try:
        return list(reader.rows(job, failed=False))
    finally:
        reader.close()


# -- first wins ---------------------------------------------------------------------------------------------------

MESSAGES = st.builds(
    lambda first, count, bad: (first, count, {at for at in bad if at < count}),
    st.integers(0, 12),
    st.integers(1, 6),
    st.sets(st.integers(0, 5), max_size=2),
)


@given(commits=st.lists(st.lists(MESSAGES, max_size=4), max_size=5), page=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_each_task_has_its_first_result_and_one_receipt(
    ledger: Ledger, path: str, commits: list[list[tuple[int, int, set[int]]]], page: int
) -> None:
    job = open_job(ledger, f"job{next(_numbers)}")
    expected: dict[int, tuple[Any, ...]] = {}
    serial = itertools.count()
    for commit in commits:
        recordings = []
        for first, count, bad in commit:
            tag = next(serial)
            values = [None if at in bad else f"{tag}" for at in range(count)]
            errors = dict.fromkeys(bad, f"error {tag}")
            recordings.append(record(values, first, job=job.name, errors=errors, worker=f"w{tag}"))
            for at in range(count):
                fate = ("failed", None, f"error {tag}") if at in bad else ("ok", f"{tag}", None)
                expected.setdefault(first + at, (*fate, f"w{tag}"))
        ledger.commit(recordings, [])

    found = {row.task: (row.status, row.value, row.error, row.worker) for row in rows(path, job.job)}
    assert found == expected
    failed = sum(fate[0] == "failed" for fate in expected.values())
    job = known(ledger, job.name)
    assert (job.done, job.failed) == (len(expected), failed)
    reader = LedgerReader(path)
    assert [(each.done, each.failed) for each in reader.jobs()][-1] == (len(expected), failed)
    reader.close()

    position, receipted, seconds, more = 0, [], 0.0, True
    while more:
        answer = ledger.receipts(job.name, position, page)
        assert len(answer.runs) <= page
        assert answer.position > position if answer.runs else answer.position == position
        assert answer.count == sum(count for _, count in answer.runs)
        receipted += [task for first, count in answer.runs for task in range(first, first + count)]
        position, more, seconds = answer.position, answer.more, seconds + answer.seconds
    assert sorted(receipted) == sorted(expected)
    assert seconds == pytest.approx(0.25 * len(expected))


def test_a_duplicate_changes_nothing(ledger: Ledger, path: str) -> None:
    job = open_job(ledger)
    ledger.commit([record(["first", "first"])], [])
    before, page = rows(path), ledger.receipts("job", 0, 10)
    ledger.commit([record(["second", "second"], worker="bob", errors={0: "late"})], [])
    assert rows(path) == before
    assert ledger.receipts("job", 0, 10) == page
    job = known(ledger)
    assert (job.done, job.failed) == (2, 0)


def test_a_failed_row_is_replaced_only_if_its_attempt_is_to_be(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.commit([record([None], attempt=2, errors={0: "no"})], [])
    page = ledger.receipts("job", 0, 10)
    ledger.commit([record(["of the same run"], attempt=3)], [])
    ledger.commit([record(["of an earlier run"], attempt=3, attempts_before=1)], [])
    assert [(row.task, row.status) for row in rows(path)] == [(0, "failed")]
    assert ledger.receipts("job", 0, 10) == page
    ledger.commit([record(["again"], attempt=3, attempts_before=2)], [])
    assert [(row.task, row.status, row.value) for row in rows(path)] == [(0, "ok", "again")]
    ledger.commit([record(["once more"], attempt=4, attempts_before=3)], [])
    assert [(row.task, row.value) for row in rows(path)] == [(0, "again")]
    job = ledger.job("job")
    assert job is not None and (job.done, job.failed) == (1, 0)
    assert ledger.receipts("job", page.position, 10).runs == [(0, 1)]


def test_receipts_leave_out_what_failed_at_the_attempts_to_be_skipped(ledger: Ledger) -> None:
    open_job(ledger)
    ledger.commit([record([None, "fine"], errors={0: "no"}), record([None], 2, attempt=3, errors={0: "no"})], [])
    page = ledger.receipts("job", 0, 10, skipped_attempts=1)
    assert (page.runs, page.count, page.seconds) == ([(1, 2)], 3, 0.75)
    assert ledger.receipts("job", 0, 10, skipped_attempts=3).runs == [(1, 1)]


def test_of_two_results_in_one_commit_the_first_wins(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.commit([record(["a", "a"], 0), record(["b", "b"], 1)], [])
    assert [(row.task, row.value) for row in rows(path)] == [(0, "a"), (1, "a"), (2, "b")]


def test_of_two_results_in_one_commit_the_first_wins_whoever_else_comes_between(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.commit(
        [record(["a"], 0, worker="ada"), record(["b", "b"], 1, worker="bob"), record(["c", "c"], 2, worker="ada")], []
    )
    assert [(row.task, row.value) for row in rows(path)] == [(0, "a"), (1, "b"), (2, "b"), (3, "c")]


def test_jobs_do_not_share_their_tasks(ledger: Ledger, path: str) -> None:
    one, two = open_job(ledger, "one"), open_job(ledger, "two")
    ledger.commit([record([1], job="one"), record([2], job="two")], [])
    assert [row.value for row in rows(path, one.job)] == [1]
    assert [row.value for row in rows(path, two.job)] == [2]
    assert one.ticket_key != two.ticket_key


# -- receipts and failures ----------------------------------------------------------------------------------------


def test_receipts_come_in_order_of_commit_and_neighbours_of_one_commit_as_one_run(ledger: Ledger) -> None:
    open_job(ledger)
    ledger.commit([record([0] * 5, 20)], [])
    ledger.commit([record([0] * 3, 3), record([0] * 3, 0)], [])
    assert ledger.receipts("job", 0, 10).runs == [(20, 5), (0, 6)]


def test_a_cursor_goes_on_where_it_stood(ledger: Ledger) -> None:
    open_job(ledger)
    for first in (40, 20, 0):
        ledger.commit([record([0], first)], [])
    page = ledger.receipts("job", 0, 2)
    assert (page.runs, page.more) == ([(40, 1), (20, 1)], True)
    page = ledger.receipts("job", page.position, 2)
    assert (page.runs, page.more) == ([(0, 1)], False)
    assert ledger.receipts("job", page.position, 2).position == page.position


def test_a_failed_task_has_its_error_and_no_value(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.commit([record([1, None, 3], errors={1: "Traceback\nValueError: no\n"})], [])
    assert [(row.status, row.value, row.error) for row in rows(path)] == [
        ("ok", 1, None),
        ("failed", None, "Traceback\nValueError: no\n"),
        ("ok", 3, None),
    ]
    assert known(ledger).failed == 1
    assert ledger.failures("job", 5) == [(1, "Traceback\nValueError: no\n")]


def test_the_first_failures_are_shown_in_task_order(ledger: Ledger) -> None:
    open_job(ledger)
    for first in (9, 3, 6):
        ledger.commit([record([None], first, errors={0: f"e{first}"})], [])
    assert ledger.failures("job", 2) == [(3, "e3"), (6, "e6")]


def test_strings_cannot_break_out_of_their_statement(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    nasty = "'; DROP TABLE results; --\x00\"\n"
    worker = "o'neil', 0, 0, 0); --"  # Names with NUL do not get past the decoder.
    ledger.commit([record([nasty, None], errors={1: nasty}, worker=worker)], [])
    assert [(row.value, row.error, row.worker) for row in rows(path)] == [(nasty, None, worker), (None, nasty, worker)]


# -- jobs ---------------------------------------------------------------------------------------------------------


def test_an_ended_job_can_be_opened_again(ledger: Ledger, path: str) -> None:
    open_job(ledger)
    ledger.end_job("job", "done", 7)
    job = known(ledger)
    assert (job.state, job.total) == ("done", 7)
    assert open_job(ledger).state == "open"
    reader = LedgerReader(path)
    assert (reader.jobs()[0].state, reader.jobs()[0].ended_at) == ("open", None)
    reader.close()


def test_a_mark_is_set_and_a_total_with_the_mark_that_ends(path: str) -> None:
    ledger = Ledger(path)
    open_job(ledger)
    ledger.commit([], [Mark("job", 10, b"ten", True)])
    ledger.commit([], [Mark("job", 4, b"four", False)])
    job = known(ledger)
    assert (job.mark_count, job.mark_digest, job.total) == (4, b"four", 10)
    ledger.close()
    ledger = Ledger(path)  # Opened anew: the file must say so, not only its memory.
    assert open_job(ledger) == job
    ledger.close()


def test_a_ledger_opened_again_has_all_that_was_committed(path: str) -> None:
    first = Ledger(path)
    job = open_job(first)
    first.commit([record([1, None], 5, errors={1: "no"})], [Mark("job", 9, b"nine", True)])
    job = known(first)
    page = first.receipts("job", 0, 10)
    first.close()
    second = Ledger(path)
    assert second.id == first.id
    assert second.job("job") == job
    assert second.receipts("job", 0, 10) == page
    second.commit([record(["late", "late"], 5)], [])
    assert [row.value for row in rows(path)] == [1, None]
    second.close()


def test_what_was_not_closed_is_there_too(path: str) -> None:
    first = Ledger(path)
    open_job(first)
    first.commit([record([1])], [])
    assert [row.value for row in rows(path)] == [1]
    first.close()


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
    assert [row.value for row in rows(path)] == [1, "x" * 100_000]


def test_two_sinks_cannot_write_one_ledger(ledger: Ledger, path: str) -> None:
    with pytest.raises(OperatorError, match="in use by another sink"):
        Ledger(path)


def test_a_closed_ledger_is_free_for_another_sink(path: str) -> None:
    Ledger(path).close()
    Ledger(path).close()


def a_text(path: Path) -> None:
    path.write_bytes(b"This is no database, and it is longer than the header of one. " * 20)


def another_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE users (name)")


def another_version(path: Path) -> None:
    Ledger(str(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='0' WHERE key='version'")


@pytest.mark.parametrize(
    "make", [a_text, another_database, another_version, Path.mkdir], ids=lambda make: make.__name__
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


# -- a full disk ----------------------------------------------------------------------------------------------------


def limit_pages(ledger: Ledger, pages: int) -> None:
    """A full disk: SQLite gives the same error when the file may not grow."""
    ledger._db.execute(f"PRAGMA max_page_count={pages}")


def fill_disk(ledger: Ledger) -> None:
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    limit_pages(ledger, pages)


def free_disk(ledger: Ledger) -> None:
    limit_pages(ledger, 2**30)


def test_on_a_full_disk_nothing_is_written_and_it_goes_on_when_there_is_room(ledger: Ledger, path: str) -> None:
    job = open_job(ledger)
    ledger.commit([record(["small"])], [])
    fill_disk(ledger)
    batch = [record(["s"], 1), record(["x" * 100_000], 2, errors=None)]
    mark = Mark("job", 3, b"three", True)
    for _ in range(2):
        with pytest.raises(LedgerStuck, match="full"):
            ledger.commit(batch, [mark])
        assert len(rows(path)) == 1
        assert ledger.receipts("job", 0, 10).runs == [(0, 1)]
        job = known(ledger)
        assert (job.done, job.mark_count, job.total) == (1, 0, None)
    free_disk(ledger)
    ledger.commit(batch, [mark])
    assert len(rows(path)) == 3
    assert ledger.receipts("job", 0, 10).runs == [(0, 1), (1, 2)]
    job = known(ledger)
    assert (job.done, job.mark_count, job.total) == (3, 3, 3)


def test_on_a_full_disk_no_job_is_opened(ledger: Ledger) -> None:
    open_job(ledger)
    fill_disk(ledger)
    with pytest.raises(LedgerStuck):
        ledger.open_job("big", "tasks:" + "f" * 90_000, "lines of text")
    assert ledger.job("big") is None
    free_disk(ledger)
    assert ledger.open_job("big", "tasks:" + "f" * 90_000, "lines of text").state == "open"


def test_a_ledger_that_another_program_has_locked_is_stuck_not_broken(ledger: Ledger, path: str) -> None:
    job = open_job(ledger)
    ledger._db.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerStuck, match="locked"):
        ledger.commit([record([1])], [])
    with pytest.raises(LedgerStuck, match="locked"):
        ledger.end_job("job", "done", 1)
    job = known(ledger)
    assert (job.done, job.state) == (0, "open")
    other.execute("ROLLBACK")
    ledger.commit([record([1])], [])
    assert known(ledger).done == 1
    other.close()
