"""What every ledger must do, sentence by sentence of `common/sink/store.py`.

Another ledger is tested by a class that inherits `StoreContract` and has a fixture `place`; see test_store.py.
"""

import base64
import itertools
import json
import math
import select
import time
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.errors import OperatorError
from common.protocol.arguments import digest
from common.protocol.messages import Mark
from common.protocol.value_array import sent_value
from common.sink.rows import as_json
from common.sink.store import (
    DigestPage,
    HistoryPage,
    Job,
    LedgerStuck,
    Page,
    Reader,
    Recording,
    Row,
    RowQuery,
    Store,
    ValuePage,
)
from tests.unit.builders import VALUES, record
from tests.unit.writing import commit, end_job, forget, open_job, tidy

BIG = "x" * 100_000
_numbers = itertools.count()


class Place(Protocol):
    """Where one ledger is, which a test may open several times. All that it has opened is closed after the test."""

    def ledger(self) -> Store:
        """Open it to write."""

    def reader(self) -> Reader:
        """Open it to read."""

    def fill(self, ledger: Store) -> None:
        """Leave no room: what writes as much as BIG raises LedgerStuck until `free`."""

    def free(self, ledger: Store) -> None:
        """Make room again."""


class At:
    """A ledger with a job, and a reader of it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.ledger = place.ledger()
        self.reader = place.reader()
        self.open()

    def open(
        self, name: str = "job", retries: int = 0, attempts: int = 0, arguments: str = "", appends: bool = False
    ) -> Job:
        return open_job(self.ledger, name, "tasks:square", "lines of text", retries, attempts, arguments, appends)

    def job(self, name: str = "job") -> Job:
        found = self.ledger.job(name)
        assert found is not None
        return found

    def commit(self, *row_sets: Any, marks: tuple[Mark, ...] = ()) -> None:
        commit(self.ledger, iter(row_sets), iter(marks))

    def rows(self, name: str = "job", failed: bool = False) -> list[Row]:
        return list(self.reader.rows(self.reader.job(name), failed))

    def values(self, name: str = "job") -> dict[int, Any]:
        return {row.task: row.error if row.value is None else row.value for row in self.rows(name)}

    def receipts(self, after: int = 0, limit: int = 1_000, skipped: int = 0, name: str = "job") -> Page:
        return self.ledger.receipts(name, after, limit, skipped)

    def receipted(self, after: int = 0, skipped: int = 0, name: str = "job") -> list[int]:
        """The tasks that have receipts after a position, each as often as it has one."""
        return sorted(tasks_of(self.receipts(after, skipped=skipped, name=name)))

    def followed(self, position: int, failed: bool = False) -> list[tuple[int, Any]]:
        found = self.reader.rows_after(self.reader.job("job"), position, failed)
        return [(at, row.value if row.error is None else row.error) for at, row in found if row is not None]


def tasks_of(page: Page | ValuePage) -> list[int]:
    return [task for first, count in page.runs for task in range(first, first + count)]


@pytest.fixture
def at(place: Place) -> At:
    return At(place)


MESSAGES = st.builds(
    lambda first, count, bad, worker: (first, count, {at for at in bad if at < count}, worker),
    st.integers(0, 12),
    st.integers(1, 6),
    st.sets(st.integers(0, 5), max_size=2),
    st.sampled_from(["ada", "bob"]),
)
with_place = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors], deadline=None
)


def query(**fields: Any) -> RowQuery:
    everything = {"order": "commit", "after": (0, 0), "failed": False}
    limits = {"rows_max": 1_000, "bytes_max": 1_000_000, "scanned_max": 1_000}
    return RowQuery(**(everything | limits | fields))


def pages(at: At, name: str = "job", **fields: Any) -> list[list[int]]:
    """The tasks of each page, until there is no more."""
    found, after, more = [], (0, 0), True
    while more:
        page = at.ledger.read(name, query(after=after, **fields))
        assert page.position > after or not (page.rows or page.more), "it does not move"
        found.append([row.task for row in page.rows])
        after, more = page.position, page.more
        assert len(found) < 1_000
    return found


def value_pages(at: At, name: str = "job", **fields: Any) -> Iterator[ValuePage]:
    """Each page of values, until there is no more."""
    after, more = (0, 0), True
    while more:
        page = at.ledger.values(name, query(after=after, **fields))
        assert page.position > after or not (page.count or page.more), "it does not move"
        yield page
        after, more = page.position, page.more


FORMS: list[tuple[Any, bytes | None]] = [
    (7, None), (1.5, None), (None, None), ("text", None), (b"bytes", None), ([1], None), (True, None), (8, b"\x08")
]  # fmt: skip
"""Values, each with its exact form if it has one."""


def flat(found: list[list[int]]) -> list[int]:
    return [task for page in found for task in page]


def tidy_all(ledger: Store) -> None:
    while tidy(ledger):
        pass


class StoreContract:
    """Every sentence of `Store` and `Reader`."""

    # -- pages ----------------------------------------------------------------------------------------------------

    def test_pages_have_the_rows_that_the_reader_has(self, at: At) -> None:
        at.open("other")
        at.commit(record([1, "two", 3.5, None, b"x", {"a": [1]}], 4, errors={3: "no"}), record([0], job="other"))
        page = at.ledger.read("job", query(order="task"))
        assert page.rows == at.rows()
        assert at.ledger.read("job", query()).rows == at.rows()

    @with_place
    @given(batches=st.lists(MESSAGES, max_size=5), size=st.integers(1, 5), scanned=st.integers(1, 6))
    def test_pages_join_without_gap_or_repetition(
        self, at: At, batches: list[tuple[int, int, set[int], str]], size: int, scanned: int
    ) -> None:
        name = f"job{next(_numbers)}"
        at.open(name)
        for first, count, bad, worker in batches:
            at.commit(record([0] * count, first, job=name, errors=dict.fromkeys(bad, "no"), worker=worker))
        for failed in (False, True):
            tasks = [row.task for row in at.rows(name, failed)]
            limits = {"failed": failed, "rows_max": size, "scanned_max": scanned}
            assert flat(pages(at, name, order="task", **limits)) == tasks
            assert sorted(flat(pages(at, name, **limits))) == tasks

    @settings(with_place, max_examples=40)
    @given(
        batches=st.lists(st.tuples(MESSAGES, st.sampled_from(FORMS)), max_size=5),
        size=st.integers(1, 5),
        weight=st.sampled_from([1, 30, 1_000]),
    )
    def test_pages_of_values_have_the_tasks_of_pages_of_rows(
        self, at: At, batches: list[tuple[tuple[int, int, set[int], str], Any]], size: int, weight: int
    ) -> None:
        """Whatever the values are, whatever has failed, wherever a page ends."""
        name = f"job{next(_numbers)}"
        at.open(name)
        for (first, count, bad, worker), (value, exact) in batches:
            exacts = {} if exact is None else {0: exact}
            errors = dict.fromkeys(bad, "no")
            at.commit(record([value] * count, first, job=name, errors=errors, worker=worker, exact=exacts))
        rows = {row.task: row for row in at.rows(name)}
        for order in ("task", "commit"):
            limits = {"order": order, "rows_max": size, "bytes_max": weight}
            tasks = []
            for page in value_pages(at, name, **limits):
                assert page.count <= size
                assert page.others == [rows[task] for task in tasks_of(page) if rows[task].status == "failed"]
                expected = [rows[task] for task in tasks_of(page)]
                assert page.values == [sent_value(row.value, row.json, row.exact) for row in expected]
                tasks += tasks_of(page)
            assert tasks == flat(pages(at, name, order=order, rows_max=100))

    def test_the_row_of_a_value_that_no_message_holds_is_among_the_others(self, at: At) -> None:
        at.commit(record([1, [b"x" * (13 * 1024 * 1024)], 3]))
        found = list(value_pages(at, order="task"))
        assert [(page.runs, page.values, [row.task for row in page.others]) for page in found if page.count] == [
            ([(0, 1)], [1], []),
            ([(1, 1)], [None], [1]),
            ([(2, 1)], [3], []),
        ]

    def test_pages_in_order_of_commit_go_on_with_what_comes_later(self, at: At) -> None:
        at.commit(record([0, 0, 0], 7))
        page = at.ledger.read("job", query(rows_max=2))
        assert [row.task for row in page.rows] == [7, 8]
        at.commit(record([0, 0], 0))
        page = at.ledger.read("job", query(after=page.position))
        assert [row.task for row in page.rows] == [9, 0, 1]
        assert not page.more
        page = at.ledger.read("job", query(after=page.position))
        assert (page.rows, page.more) == ([], False)
        at.commit(record([0], 5))
        assert [row.task for row in at.ledger.read("job", query(after=page.position)).rows] == [5]

    @pytest.mark.parametrize("order", ["commit", "task"])
    def test_a_page_is_cut_by_its_weight_and_has_a_row_whatever_that_weighs(self, at: At, order: str) -> None:
        at.commit(record(["é" * 500] * 3 + [BIG] + ["x"]))
        assert [page for page in pages(at, order=order, bytes_max=2_500) if page] == [[0, 1], [2], [3], [4]]

    def test_jobs_are_listed_by_number(self, at: At) -> None:
        at.open("other")
        at.commit(record([1, None], errors={1: "no"}))
        end_job(at.ledger, "job", "done", 2)
        first, second = at.ledger.listed(0, 10)
        assert (first.job, first.function, first.state, first.total) == ("job", "tasks:square", "done", 2)
        assert (first.done, first.failed, second.job, second.ended_at) == (2, 1, "other", None)
        assert (first.opened_at, first.ended_at) == (at.reader.jobs()[0].opened_at, at.reader.jobs()[0].ended_at)
        assert at.ledger.listed(0, 1) == [first]
        assert at.ledger.listed(first.number, 10) == [second]
        assert at.ledger.listed(second.number, 10) == []

    # -- jobs -----------------------------------------------------------------------------------------------------

    def test_a_job_that_was_never_opened_is_none(self, at: At) -> None:
        assert at.ledger.job("nosuch") is None

    def test_a_new_job_is_open_and_has_nothing(self, at: At) -> None:
        job = at.open("new", retries=3, attempts=2)
        assert (job.name, job.function, job.source) == ("new", "tasks:square", "lines of text")
        assert (job.state, job.total, job.done, job.failed, job.mark_count) == ("open", None, 0, 0, 0)
        assert (job.retries, job.attempts, job.mark_digest) == (3, 2, b"")
        assert at.job("new") == job

    def test_each_job_has_a_ticket_key_of_its_own(self, at: At) -> None:
        keys = {at.job().ticket_key, at.open("one").ticket_key, at.open("two").ticket_key}
        assert [len(key) for key in keys] == [32, 32, 32]

    def test_a_job_opened_again_takes_retries_and_attempts_and_keeps_the_rest(self, at: At) -> None:
        at.commit(record([1, None], errors={1: "no"}), marks=(Mark("job", 9, b"nine", 9),))
        before = at.job()
        again = open_job(at.ledger, "job", "tasks:cube", "another input", 5, 4, "", False)
        assert (again.retries, again.attempts) == (5, 4)
        assert (again.function, again.source, again.ticket_key) == (before.function, before.source, before.ticket_key)
        assert (again.done, again.failed, again.total) == (2, 1, 9)
        assert (again.mark_count, again.mark_digest) == (9, b"nine")
        assert at.job() == again
        assert at.values() == {0: 1, 1: "no"}

    @pytest.mark.parametrize("state", ["done", "cancelled"])
    def test_an_ended_job_can_be_opened_again(self, at: At, state: str) -> None:
        end_job(at.ledger, "job", state, 7)
        assert (at.job().state, at.job().total) == (state, 7)
        assert at.reader.jobs()[0].ended_at is not None
        assert at.open().state == "open"
        assert (at.job().state, at.job().total) == ("open", 7)
        assert (at.reader.jobs()[0].state, at.reader.jobs()[0].ended_at) == ("open", None)

    def test_a_job_that_ends_without_a_total_keeps_the_one_it_has(self, at: At) -> None:
        end_job(at.ledger, "job", "done", 7)
        end_job(at.ledger, "job", "cancelled", None)
        assert (at.job().state, at.job().total) == ("cancelled", 7)

    def test_a_job_is_a_value_that_later_writes_do_not_change(self, at: At) -> None:
        before = at.job()
        at.commit(record([1]), marks=(Mark("job", 1, b"one", 1),))
        end_job(at.ledger, "job", "done", 1)
        assert (before.state, before.done, before.mark_count, before.total) == ("open", 0, 0, None)
        assert (at.job().state, at.job().done, at.job().mark_count, at.job().total) == ("done", 1, 1, 1)

    # -- forgetting -----------------------------------------------------------------------------------------------

    def test_what_is_forgotten_is_nowhere_and_its_name_is_free(self, at: At) -> None:
        at.open("other")
        at.commit(record([1, None, 3], errors={1: "no"}), record(["kept"], job="other"))
        key = at.job().ticket_key
        forget(at.ledger, "job")
        for _ in range(2):
            assert at.ledger.job("job") is None
            assert [job.job for job in at.ledger.listed(0, 10)] == [job.name for job in at.reader.jobs()] == ["other"]
            with pytest.raises(OperatorError, match="no job job"):
                at.reader.job("job")
            tidy_all(at.ledger)
        assert (at.values("other"), at.job("other").done) == ({0: "kept"}, 1)
        new = at.open()
        assert (new.done, new.failed, new.total, new.mark_count, new.state) == (0, 0, None, 0, "open")
        assert new.ticket_key != key
        assert (at.values(), at.receipts().runs) == ({}, [])
        at.commit(record(["new"]))
        assert at.values() == {0: "new"}

    @pytest.mark.parametrize("at_once", [True, False], ids=["tidy", "untidy"])
    def test_after_forgetting_numbers_and_positions_go_on(self, at: At, at_once: bool) -> None:
        at.open("last")
        at.commit(record([1, 2], job="last"))
        number = at.job("last").job
        whole = at.reader.history(None, 0, 1_000).position
        forget(at.ledger, "last")
        if at_once:
            tidy_all(at.ledger)
        again = at.open("last")
        at.commit(record([3], job="last"))
        assert again.job > number
        assert at.receipts(name="last").runs == [(0, 1)]
        assert at.reader.history(None, whole, 1_000).points, "whoever reads on from a position misses nothing"

    def test_tidying_goes_on_where_it_was_when_the_ledger_is_opened_again(self, at: At) -> None:
        at.commit(*[record([0] * 1_000, first) for first in range(0, 10_000, 1_000)])
        forget(at.ledger, "job")
        tidy(at.ledger)
        at.ledger.close()
        at.ledger = at.place.ledger()
        tidy_all(at.ledger)
        assert at.open().done == 0
        assert at.rows() == []

    def test_on_a_full_disk_nothing_is_forgotten(self, at: At) -> None:
        at.commit(record([1]))
        at.place.fill(at.ledger)
        try:
            forget(at.ledger, "job")
        except LedgerStuck:
            assert at.values() == {0: 1}
            assert at.job().done == 1
        else:
            assert at.ledger.job("job") is None
        at.place.free(at.ledger)

    def test_a_reader_says_that_a_job_was_forgotten_meanwhile(self, at: At) -> None:
        at.commit(record([1, 2]))
        number = at.reader.job("job")
        rows = at.reader.rows(number, False)
        next(rows)
        forget(at.ledger, "job")
        tidy_all(at.ledger)
        with pytest.raises(OperatorError, match="forgotten"):
            list(rows)
        with pytest.raises(OperatorError, match="forgotten"):
            list(at.reader.follow(number, False))

    # -- first wins -----------------------------------------------------------------------------------------------

    @given(commits=st.lists(st.lists(MESSAGES, max_size=4), max_size=5), limit=st.integers(1, 4))
    @with_place
    def test_each_task_has_its_first_result_and_one_receipt(
        self, at: At, commits: list[list[tuple[int, int, set[int], str]]], limit: int
    ) -> None:
        name = f"job{next(_numbers)}"
        at.open(name)
        expected: dict[int, tuple[Any, ...]] = {}
        serial = itertools.count()
        for batches in commits:
            row_sets = []
            for first, count, bad, worker in batches:
                tag = next(serial)
                values = [None if offset in bad else f"{tag}" for offset in range(count)]
                errors = dict.fromkeys(bad, f"error {tag}")
                row_sets.append(record(values, first, job=name, errors=errors, worker=worker))
                for offset in range(count):
                    fate = ("failed", None, f"error {tag}") if offset in bad else ("ok", f"{tag}", None)
                    expected.setdefault(first + offset, (*fate, worker))
            at.commit(*row_sets)

        found = {row.task: (row.status, row.value, row.error, row.worker) for row in at.rows(name)}
        assert found == expected
        failed = sum(fate[0] == "failed" for fate in expected.values())
        assert (at.job(name).done, at.job(name).failed) == (len(expected), failed)
        assert [(each.done, each.failed) for each in at.reader.jobs()][-1] == (len(expected), failed)

        position, receipted, seconds, more = 0, [], 0.0, True
        while more:
            page = at.receipts(position, limit, name=name)
            assert len(page.runs) <= limit
            assert page.position > position if page.runs else page.position == position
            assert page.count == sum(count for _, count in page.runs)
            receipted += tasks_of(page)
            position, more, seconds = page.position, page.more, seconds + page.seconds
        assert sorted(receipted) == sorted(expected)
        assert seconds == pytest.approx(0.25 * len(expected))

    def test_a_duplicate_changes_nothing(self, at: At) -> None:
        at.commit(record(["first", "first"]))
        rows, page, job = at.rows(), at.receipts(), at.job()
        at.commit(record(["second", "second"], worker="bob", errors={0: "late"}, attempt=2))
        assert (at.rows(), at.receipts(), at.job()) == (rows, page, job)

    def test_of_two_results_in_one_commit_the_first_wins_whoever_else_comes_between(self, at: At) -> None:
        at.commit(
            record(["a"], 0, worker="ada"), record(["b", "b"], 1, worker="bob"), record(["c", "c"], 2, worker="ada")
        )
        assert at.values() == {0: "a", 1: "b", 2: "b", 3: "c"}
        assert at.receipted() == [0, 1, 2, 3]

    def test_many_small_results_of_one_commit_each_have_their_row(self, at: At) -> None:
        """A ledger may write them together."""
        at.commit(*[record([f"first {task}"], task) for task in (2, 4)])
        at.commit(*[record([f"second {task}"], task) for task in range(7)])
        assert at.values() == {task: f"{'first' if task in (2, 4) else 'second'} {task}" for task in range(7)}
        assert at.receipted() == list(range(7))

    def test_a_failed_row_is_replaced_only_if_its_attempt_is_to_be(self, at: At) -> None:
        at.commit(record([None], attempt=2, errors={0: "no"}))
        page = at.receipts()
        at.commit(record(["of the same run"], attempt=3))
        at.commit(record(["of an earlier run"], attempt=3, attempts_before=1))
        assert (at.values(), at.receipts()) == ({0: "no"}, page)
        at.commit(record(["again"], attempt=3, attempts_before=2))
        assert at.values() == {0: "again"}
        assert (at.job().done, at.job().failed) == (1, 0)
        assert at.receipted(page.position) == [0]

    def test_a_row_that_did_not_fail_is_never_replaced(self, at: At) -> None:
        at.commit(record(["first"]))
        at.commit(record(["second"], attempt=4, attempts_before=3))
        assert at.values() == {0: "first"}

    def test_a_failed_row_may_be_replaced_by_another_failure(self, at: At) -> None:
        at.commit(record([None, None], errors={0: "no", 1: "no"}))
        at.commit(record([None], attempt=2, attempts_before=1, errors={0: "no again"}))
        assert at.values() == {0: "no again", 1: "no"}
        assert (at.job().done, at.job().failed) == (2, 2)

    def test_tasks_that_are_to_be_tried_again_get_no_row_and_no_receipt_and_replace_none(self, at: At) -> None:
        at.commit(record([None], 1, errors={0: "no"}))
        position = at.receipts().position
        once_more = record([1, None, 3], 0, attempt=3, attempts_before=4, errors={1: "of a slow worker"})
        assert once_more.again == {1}
        at.commit(once_more)
        assert at.values() == {0: 1, 1: "no", 2: 3}
        assert at.receipted(position) == [0, 2]
        assert (at.job().done, at.job().failed) == (3, 1)

    def test_a_commit_says_what_it_has_written(self, at: At) -> None:
        written = commit(at.ledger, [record([1, None, 3], errors={1: "no"}), record([1, 2], 2)])
        assert (written.rows, written.failed) == (4, 1)
        assert written.seconds >= 0
        again = commit(at.ledger, [record([1, 2, 3], attempts_before=1, attempt=2)])
        assert (again.rows, again.failed) == (1, 0)
        assert at.ledger.size_bytes() > 0

    def test_jobs_do_not_share_their_tasks(self, at: At) -> None:
        at.open("two")
        at.commit(record([1]), record([2], job="two"))
        assert (at.values(), at.values("two")) == ({0: 1}, {0: 2})
        assert (at.job().done, at.job("two").done) == (1, 1)
        assert (at.receipted(), at.receipted(name="two")) == ([0], [0])

    # -- what a row holds -----------------------------------------------------------------------------------------

    def test_a_row_has_all_that_came_with_its_result(self, at: At) -> None:
        at.commit(record([1, None, True], 5, attempt=2, worker="bob", errors={1: "Traceback\nValueError: no\n"}))
        assert at.rows() == [
            Row(5, "ok", 1, None, None, 2, "bob", 0.25),
            Row(6, "failed", None, None, "Traceback\nValueError: no\n", 2, "bob", 0.25),
            Row(7, "ok", "true", 1, None, 2, "bob", 0.25),
        ]

    def test_exact_values_are_kept_beside_the_readable_ones(self, at: At) -> None:
        at.commit(record([1, [2], None, "four"], exact={1: b"two", 2: b"failed", 3: b"four"}, errors={2: "no"}))
        at.commit(*[record([n], 4 + n, exact={0: b"%d" % n} if n % 2 else {}) for n in range(6)])
        exact = [None, b"two", None, b"four", None, b"1", None, b"3", None, b"5"]
        assert [row.exact for row in at.rows()] == exact
        assert at.ledger.read("job", query(order="task")).rows == at.rows()

    def test_strings_cannot_break_out_of_their_statement(self, at: At) -> None:
        nasty = "'; DROP TABLE results; --\x00\"\n"
        worker = "o'neil', 0, 0, 0); --"  # Names with NUL do not get past the decoder.
        at.commit(record([nasty, None], errors={1: nasty}, worker=worker))
        assert [(row.value, row.error, row.worker) for row in at.rows()] == [
            (nasty, None, worker),
            (None, nasty, worker),
        ]

    @given(values=st.lists(VALUES, min_size=1, max_size=6))
    @example(values=[math.inf, -math.inf, math.nan, [math.inf]])
    @with_place
    def test_any_values_come_back_as_the_json_that_they_mean(self, at: At, values: list[Any]) -> None:
        read = [json.loads(text, parse_constant=lambda name: (name,)) for text in stored(at, values)]
        # By repr: True is not 1 here, and 1 is not 1.0.
        assert list(map(repr, read)) == [repr(meaning(value)) for value in values]

    def test_values_that_look_alike_stay_apart(self, at: At) -> None:
        assert stored(at, [value for value, _ in TABLE]) == [text for _, text in TABLE]

    def test_a_value_reads_the_same_alone_as_among_others(self, at: At) -> None:
        assert [stored(at, [value, value]) for value, _ in TABLE] == [[text, text] for _, text in TABLE]

    # -- arguments ------------------------------------------------------------------------------------------------

    def test_a_row_keeps_its_argument_whether_it_failed_or_not(self, at: At) -> None:
        at.open(arguments="text")
        at.commit(record([1, None, 3], errors={1: "no"}, arguments=["a\x00'", "b\n", ""], form="text"))
        assert [(row.argument, row.argument_json, row.argument_digest) for row in at.rows()] == [
            ("a\x00'", None, None),
            ("b\n", None, None),
            ("", None, None),
        ]
        assert [row.argument for row in at.rows(failed=True)] == ["b\n"]
        assert at.ledger.failures("job", 5) == [(1, "no", "b\n")]

    def test_arguments_that_are_json_are_told_from_text(self, at: At) -> None:
        at.open(arguments="json")
        at.commit(record([1] * 4, arguments=[{"a": [1, 2.5]}, "text", None, 3], form="json"))
        assert [(row.argument, row.argument_json) for row in at.rows()] == [
            ('{"a":[1,2.5]}', 1),
            ('"text"', 1),
            ("null", 1),
            ("3", 1),
        ]

    def test_of_a_large_argument_the_digest_and_the_beginning_are_kept(self, at: At) -> None:
        at.open(arguments="text")
        long = "é" * 5_000
        at.commit(record([1, 2, None], arguments=["short", long, long], errors={2: "no"}, form="text"))
        short, *rest = at.rows()
        assert (short.argument, short.argument_digest) == ("short", None)
        sealed = digest(msgspec.msgpack.encode(long))
        assert [(row.argument, row.argument_digest) for row in rest] == [("é" * 2_048, sealed)] * 2

    def test_many_small_results_keep_their_arguments_and_their_digests(self, at: At) -> None:
        """A ledger may write them together."""
        at.open(arguments="text")
        lines = ["a", "b" * 5_000, "c", "d", "e", "f"]
        sets = [record([task], task, arguments=[line], form="text") for task, line in enumerate(lines)]
        at.commit(record(["none"], 9), *sets, record(["late"], 0, arguments=["late"], form="text"))
        assert [str(row.argument)[:5] for row in at.rows()] == ["a", "bbbbb", "c", "d", "e", "f", "None"]
        assert [row.task for row in at.rows() if row.argument_digest] == [1]

    def test_a_failed_row_that_is_replaced_keeps_an_argument(self, at: At) -> None:
        at.open(arguments="text")
        at.commit(record([None], errors={0: "no"}, arguments=["a" * 5_000], form="text"))
        at.commit(record([1], attempt=2, attempts_before=1, arguments=["b"], form="text"))
        assert [(row.value, row.argument, row.argument_digest) for row in at.rows()] == [(1, "b", None)]

    def test_the_arguments_of_a_range_are_its_integers_and_need_no_room(self, at: At) -> None:
        open_job(at.ledger, "range", "tasks:square", "range -3:4", 0, 0, "", False)
        at.commit(record([9, 4], job="range"), record([0, 1], 3, job="range"))
        assert [row.argument for row in at.rows("range")] == [-3, -2, 0, 1]
        found = at.reader.rows_after(at.reader.job("range"), 0, failed=False)
        assert [row.argument for _, row in found if row is not None] == [-3, -2, 0, 1]

    # -- appending ------------------------------------------------------------------------------------------------

    def test_a_job_that_is_appended_to_goes_on_behind_its_total(self, at: At) -> None:
        at.open(arguments="text")
        at.commit(record([1] * 3), marks=(Mark("job", 3, b"three", 3),))
        end_job(at.ledger, "job", "done", 3)
        job = at.open(appends=True)
        assert (job.state, job.base, job.total, job.mark_count, job.mark_digest) == ("open", 3, None, 3, b"")
        assert (job.arguments, job.done) == ("text", 3)
        again = at.open()
        assert (again.base, again.total, again.mark_count) == (3, None, 3)
        at.commit(marks=(Mark("job", 5, b"five", 5),))
        assert (at.job().base, at.job().mark_count, at.job().total) == (3, 5, 5)

    def test_digests_are_read_page_by_page_up_to_where_the_job_was_appended_to(self, at: At) -> None:
        at.open(arguments="json")
        values = [{"a": 1.5}, "b" * 9_000, [None, True]]
        at.commit(record([1, None, 3], errors={1: "no"}, arguments=values, form="json"), record([4], 3))
        end_job(at.ledger, "job", "done", 4)
        at.open(appends=True)
        at.commit(record([5], 4, arguments=["new"], form="json"))
        pages, first = [], 0
        while not pages or pages[-1].more:
            pages.append(at.ledger.digests("job", first, 2))
            first = pages[-1].next
        assert [page.next for page in pages][:2] == [2, 4]
        assert [each for page in pages for each in page.digests] == [digest(msgspec.msgpack.encode(v)) for v in values]
        assert [page.unknown for page in pages][:2] == [0, 1]
        assert at.ledger.digests("job", 4, 2) == DigestPage(4, [], 0, False)

    def test_a_job_that_was_not_appended_to_has_nothing_before_it(self, at: At) -> None:
        at.open(arguments="text")
        at.commit(record([1], arguments=["a"], form="text"))
        assert at.ledger.digests("job", 0, 10) == DigestPage(0, [], 0, False)

    # -- receipts and failures ------------------------------------------------------------------------------------

    def test_receipts_come_in_order_of_commit(self, at: At) -> None:
        for first in (20, 3, 11):
            at.commit(record([0] * 3, first), record([0] * 3, first + 5))
        pages, position = [], 0
        for _ in range(3):
            page = at.receipts(position, limit=2)
            while page.count < 6:  # A ledger may have a receipt for each task.
                more = at.receipts(page.position, limit=1)
                page = Page(more.position, page.runs + more.runs, page.count + more.count, 0.0, more.more)
            pages.append(sorted(tasks_of(page)))
            position = page.position
        assert pages == [[*range(first, first + 3), *range(first + 5, first + 8)] for first in (20, 3, 11)]

    def test_a_cursor_goes_on_where_it_stood(self, at: At) -> None:
        at.open("other")
        for first in (40, 20, 0):
            at.commit(record([0], first), record([0], first, job="other"))
        page = at.receipts(limit=2)
        assert (page.runs, page.more) == ([(40, 1), (20, 1)], True)
        last = at.receipts(page.position, limit=2)
        assert (last.runs, last.more) == ([(0, 1)], False)
        assert at.receipts(last.position, limit=2) == Page(last.position, [], 0, 0.0, False)
        assert at.receipts(page.position, limit=2) == last, "the same question has the same answer"

    def test_a_job_and_its_receipts_tell_of_the_same_writes_also_while_one_ends(self, at: At) -> None:
        """A ventilator takes the difference of both for failures."""
        at.commit(record([1]))
        ledger, before = at.ledger, (at.job(), at.receipts())
        ledger.submit(Recording([record([2], 1)]))
        descriptor = ledger.fileno()
        if descriptor is None:
            pytest.skip("its writes end at once")
        assert select.select([descriptor], [], [], 60)[0]
        assert (at.job(), at.receipts()) == before, "the write is made, and its completion is not taken"
        assert ledger.completed() is not None
        assert (at.job().done, at.receipts().count) == (2, 2)

    def test_receipts_leave_out_what_failed_at_the_attempts_to_be_skipped(self, at: At) -> None:
        at.commit(record([None, "fine"], errors={0: "no"}), record([None], 2, attempt=3, errors={0: "no"}))
        page = at.receipts(skipped=1)
        assert (sorted(tasks_of(page)), page.count, page.seconds) == ([1, 2], 3, 0.75)
        assert (at.receipted(skipped=2), at.receipted(skipped=3)) == ([1, 2], [1])
        alone = at.receipts(limit=1, skipped=1)
        assert alone.position == at.receipts(limit=1).position

    def test_the_highest_attempt_of_failed_rows(self, at: At) -> None:
        at.open("other")
        assert at.ledger.failed_attempts("job") == 0
        at.commit(record([None], 0, attempt=2, errors={0: "no"}), record([None], 1, errors={0: "no"}))
        at.commit(record([1], 2, attempt=7), record([None], 0, attempt=9, job="other", errors={0: "no"}))
        assert at.ledger.failed_attempts("job") == 2

    def test_the_first_failures_are_shown_in_task_order(self, at: At) -> None:
        at.open("other")
        for first in (9, 3, 6):
            at.commit(record([None, 1], first, errors={0: f"e{first}\nlast"}))
        at.commit(record([None], job="other", errors={0: "no"}))
        assert at.ledger.failures("job", 2) == [(3, "e3\nlast", None), (6, "e6\nlast", None)]
        assert len(at.ledger.failures("job", 5)) == 3

    # -- marks ----------------------------------------------------------------------------------------------------

    def test_a_mark_is_set_and_a_total_with_the_mark_that_ends(self, at: At) -> None:
        at.commit(marks=(Mark("job", 4, b"four", None),))
        assert (at.job().mark_count, at.job().mark_digest, at.job().total) == (4, b"four", None)
        at.commit(marks=(Mark("job", 10, b"ten", 10),))
        at.commit(marks=(Mark("job", 9, b"nine", None),))
        assert (at.job().mark_count, at.job().mark_digest, at.job().total) == (9, b"nine", 10)

    # -- it stays -------------------------------------------------------------------------------------------------

    def test_a_ledger_opened_again_has_all_that_was_committed(self, at: At) -> None:
        at.commit(record([1, None], 5, errors={1: "no"}), marks=(Mark("job", 9, b"nine", 9),))
        end_job(at.ledger, "job", "done", 9)
        before, page, rows = at.job(), at.receipts(), at.rows()
        at.ledger.close()
        again = at.place.ledger()
        assert again.id == at.ledger.id
        assert again.job("job") == before
        assert again.receipts("job", 0, 1_000, 0) == page
        commit(again, [record(["late", "late"], 5)])
        assert at.rows() == rows

    def test_what_was_not_closed_is_there_too(self, at: At) -> None:
        at.commit(record([1]))
        reader = at.place.reader()
        assert [row.value for row in reader.rows(reader.job("job"), failed=False)] == [1]

    def test_two_sinks_cannot_write_one_ledger(self, at: At) -> None:
        with pytest.raises(OperatorError, match="in use by another sink"):
            at.place.ledger()
        at.ledger.close()
        at.place.ledger()

    def test_when_there_is_no_room_nothing_is_written_and_the_same_call_succeeds_later(self, at: At) -> None:
        at.commit(record(["small"]))
        at.place.fill(at.ledger)
        batch = record(["s"], 1), record([BIG], 2), record([None], 3, errors={0: "no"})
        mark = Mark("job", 4, b"four", 4)
        before, page = at.job(), at.receipts()
        for _ in range(2):
            with pytest.raises(LedgerStuck):
                at.commit(*batch, marks=(mark,))
            assert (at.values(), at.receipts(), at.job()) == ({0: "small"}, page, before)
        at.place.free(at.ledger)
        at.commit(*batch, marks=(mark,))
        assert at.values() == {0: "small", 1: "s", 2: BIG, 3: "no"}
        assert at.receipted(page.position) == [1, 2, 3]
        assert (at.job().done, at.job().failed, at.job().mark_count, at.job().total) == (4, 1, 4, 4)

    def test_when_there_is_no_room_no_job_is_opened(self, at: At) -> None:
        at.place.fill(at.ledger)
        with pytest.raises(LedgerStuck):
            open_job(at.ledger, "big", "tasks:" + BIG, "lines of text", 0, 0, "", False)
        assert at.ledger.job("big") is None
        at.place.free(at.ledger)
        assert open_job(at.ledger, "big", "tasks:" + BIG, "lines of text", 0, 0, "", False).state == "open"

    # -- readers --------------------------------------------------------------------------------------------------

    def test_there_is_nothing_to_read_before_the_first_sink(self, place: Place) -> None:
        with pytest.raises(OperatorError) as refused:
            place.reader()
        assert "\n" not in str(refused.value)

    def test_a_reader_sees_each_commit_at_once(self, at: At) -> None:
        assert at.values() == {}
        at.commit(record(["a"], 1))
        assert [row.task for row in at.rows()] == [1]
        at.commit(record(["b"], 0))
        assert [row.task for row in at.rows()] == [0, 1]

    def test_a_reader_in_the_middle_does_not_hold_up_the_writer(self, at: At) -> None:
        at.commit(record([0] * 5))
        slow = at.reader.rows(at.reader.job("job"), failed=False)
        next(slow)
        at.commit(record([0] * 5, 5))
        end_job(at.ledger, "job", "done", 10)
        assert [row.task for row in slow][:4] == [1, 2, 3, 4]

    def test_only_failed_rows_are_read_when_they_are_asked_for(self, at: At) -> None:
        at.commit(record([1, None, 3], 4, errors={1: "no"}), record([1, None, 3], 0, errors={1: "no"}))
        assert [row.task for row in at.rows()] == [0, 1, 2, 4, 5, 6]
        assert [row.task for row in at.rows(failed=True)] == [1, 5]
        assert [error for _, error in at.followed(0, failed=True)] == ["no", "no"]

    def test_following_is_in_order_of_commit_and_goes_on_from_a_position(self, at: At) -> None:
        at.commit(record(["a", "b"], 10))
        at.commit(record(["c", "d"], 0), record(["e"], 5))
        followed = at.followed(0)
        assert [value for _, value in followed][:2] == ["a", "b"]
        assert sorted(value for _, value in followed) == ["a", "b", "c", "d", "e"]
        assert sorted(value for _, value in at.followed(followed[1][0])) == ["c", "d", "e"]
        at.commit(record(["late", "new"], 11))
        assert at.followed(followed[-1][0])[-1][1] == "new"
        assert "late" not in at.values().values()

    def test_following_failures_passes_over_what_did_not_fail(self, at: At) -> None:
        at.commit(record([1]))
        at.commit(record([None], 1, errors={0: "no"}))
        at.commit(record([2], 2))
        found = list(at.reader.rows_after(at.reader.job("job"), 0, failed=True))
        assert [row.task for _, row in found if row] == [1]
        assert at.followed(found[-1][0], failed=True) == []
        assert at.followed(found[-1][0]) == [], "its last position is behind the last row of any kind"

    def test_following_waits_until_the_job_has_ended(self, at: At) -> None:
        at.commit(record(["b"], 1))
        rows = at.reader.follow(at.reader.job("job"), failed=False)
        first = next(rows)
        assert first is not None and (first.task, first.value) == (1, "b")
        assert next(rows) is None, "it says that no other one is here"
        at.commit(record(["a"], 0))
        end_job(at.ledger, "job", "done", 2)
        assert [row.task for row in rows if row is not None] == [0]

    def test_reader_and_writer_know_that_it_is_one_ledger(self, at: At) -> None:
        assert at.reader.id == at.ledger.id

    def test_a_page_of_rows_goes_on_after_a_task(self, at: At) -> None:
        at.commit(record([1, 2, 3, 4, 5], errors={1: "no", 3: "no"}))
        job = at.reader.job("job")
        assert [row.task for row in at.reader.page(job, -1, 2, failed=False)] == [0, 1]
        assert [row.task for row in at.reader.page(job, 1, 9, failed=False)] == [2, 3, 4]
        assert [row.task for row in at.reader.page(job, -1, 9, failed=True)] == [1, 3]
        assert [row.task for row in at.reader.page(job, 1, 9, failed=True)] == [3]
        assert [row.task for row in at.reader.page(job, 0, 1, failed=True)] == [1]

    def test_pages_of_failures_know_what_was_run_again(self, at: At) -> None:
        at.commit(record([1, 2, 3, 4, 5, 6], errors={1: "no", 3: "no", 5: "no"}))
        at.commit(record(["good"], 1, attempts_before=1, attempt=2))
        at.commit(record([4], 3, attempts_before=1, attempt=2, errors={0: "still"}), record([7, 8], 6, errors={1: "x"}))
        job = at.reader.job("job")
        assert [(row.task, row.error) for row in at.reader.page(job, -1, 9, failed=True)] == [
            (3, "still"),
            (5, "no"),
            (7, "x"),
        ]
        assert [row.task for row in at.reader.page(job, 3, 9, failed=True)] == [5, 7]

    def test_the_history_has_how_many_tasks_were_recorded_when(self, at: At) -> None:
        before = int(time.time())
        at.open("other")
        at.commit(record([1, 2], 0), record([1], 5))
        at.commit(record([1, 2, 3], job="other"))
        job = at.reader.job("job")
        whole = at.reader.history(None, 0, 1_000)
        assert sum(count for _, count in whole.points) == 6
        assert not whole.more
        assert all(before <= instant <= time.time() for instant, _ in whole.points)
        assert sum(count for _, count in at.reader.history(job, 0, 1_000).points) == 3
        first = at.reader.history(None, 0, 1)
        assert first.more
        rest = at.reader.history(None, first.position, 1_000)
        assert sum(count for _, count in [*first.points, *rest.points]) == 6
        assert at.reader.history(None, whole.position, 1_000) == HistoryPage(whole.position, [], False)

    def test_the_history_can_begin_at_an_instant(self, at: At) -> None:
        assert at.reader.position_before(0) == 0
        at.commit(record([1, 2]))
        assert at.reader.position_before(0) == 0
        assert at.reader.history(None, at.reader.position_before(2**33), 1_000).points == []

    def test_a_sample_of_run_times_is_spread_over_the_tasks(self, at: At) -> None:
        job = at.reader.job("job")
        assert at.reader.sample(job, 10) == []
        at.commit(record([1, 2, 3]))
        assert at.reader.sample(job, 10) == [0.25] * 3
        at.commit(record([1] * 1_000, 10))
        assert len(at.reader.sample(job, 100)) == pytest.approx(100, abs=2)

    def test_a_job_is_found_by_name_and_the_newest_one_without(self, at: At) -> None:
        at.open("other")
        assert at.reader.job("job") == at.job().job
        assert at.reader.job("other") == at.reader.job(None) == at.job("other").job
        with pytest.raises(OperatorError, match="no job nosuch"):
            at.reader.job("nosuch")

    def test_an_empty_ledger_has_no_job_yet(self, place: Place) -> None:
        place.ledger()
        reader = place.reader()
        assert reader.jobs() == []
        with pytest.raises(OperatorError, match="no job yet"):
            reader.job(None)

    def test_jobs_are_listed_with_their_counts_oldest_first(self, at: At) -> None:
        at.open("another")
        at.commit(record([1, None], errors={1: "no"}))
        end_job(at.ledger, "job", "cancelled", None)
        job, another = at.reader.jobs()
        assert (job.name, job.function, job.state) == ("job", "tasks:square", "cancelled")
        assert (job.total, job.done, job.failed) == (None, 2, 1)
        assert (another.name, another.state, another.ended_at) == ("another", "open", None)
        assert job.opened_at.endswith("+00:00") and (job.ended_at or "").endswith("+00:00")
        assert [at.reader.ended(at.reader.job(name)) for name in ("job", "another")] == [True, False]


def stored(at: At, values: list[Any]) -> list[str]:
    """The values as JSON, after they went through the ledger to a reader."""
    name = f"job{next(_numbers)}"
    at.open(name)
    at.commit(record(values, job=name))
    return [as_json(row.value, row.json) for row in at.rows(name)]


def meaning(value: Any, top: bool = True) -> Any:
    """What a reader of the JSON text must see; what JSON has no word for is a string."""
    match value:
        case float() if math.isnan(value):
            return "NaN" if top else None
        case float() if math.isinf(value):
            return ("Infinity" if value > 0 else "-Infinity") if top else None
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [meaning(each, False) for each in value]
        case dict():
            return {key: meaning(each, False) for key, each in value.items()}
    return value


TABLE = [
    (True, "true"),
    ("true", '"true"'),
    (None, "null"),
    ("null", '"null"'),
    (1, "1"),
    (1.0, "1.0"),
    ("1", '"1"'),
    ([1], "[1]"),
    ("[1]", '"[1]"'),
    (2**63 - 1, "9223372036854775807"),
    (2**63, "9223372036854775808"),
    (2**64 - 1, "18446744073709551615"),
    (-(2**63), "-9223372036854775808"),
    (math.nan, '"NaN"'),
    ("NaN", '"NaN"'),
    (math.inf, '"Infinity"'),
    (-math.inf, '"-Infinity"'),
    ("Infinity", '"Infinity"'),
    (b"\x00\xff", '"AP8="'),
    ({"a": [b"\x00", {}]}, '{"a":["AA==",{}]}'),
    ({1: 2}, '{"1":2}'),
    ("a\x00'\"\n", '"a\\u0000\'\\"\\n"'),
]
