"""A ledger commits in a thread: the loop is woken at the end, reads meanwhile what is whole, and closes in order."""

import select
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import OperatorError
from common.sink import loop, sqlite_ledger
from common.sink.collector import Collector
from common.sink.disk_speed import DiskSpeed
from common.sink.sqlite_ledger import Ledger
from common.sink.store import (
    Completion,
    Forgetting,
    Job,
    LedgerLost,
    LedgerStuck,
    Opening,
    Recording,
    RowQuery,
    Tidying,
    Written,
)
from common.sink.store_thread import StoreThread
from tests.unit.builders import record
from tests.unit.sink.scene import ROSTER, SETTINGS, Scene
from tests.unit.writing import commit, forget, open_job, tidy

SECONDS = 10
EVERYTHING = RowQuery("task", (0, 0), False, 1_000, 1_000_000, 1_000)


class Held:
    """A ledger whose commit waits until the test lets it go on, before it is made or after."""

    def __init__(self, path: str) -> None:
        self.ledger = Ledger(path, StoreThread())
        open_job(self.ledger, "job", "m:f", "lines of text")
        self.may_begin, self.is_made, self.may_end = threading.Event(), threading.Event(), threading.Event()
        self._commit = self.ledger._file.commit

    def hold(self) -> None:
        for event in (self.may_begin, self.is_made, self.may_end):
            event.clear()
        self.ledger._file.commit = self._held  # type: ignore[method-assign]

    def _held(self) -> None:
        assert self.may_begin.wait(SECONDS)
        self._commit()
        self.is_made.set()
        assert self.may_end.wait(SECONDS)

    def let_go(self) -> None:
        self.may_begin.set()
        self.may_end.set()

    def end(self) -> Completion:
        """The completion, for which a loop would poll the descriptor."""
        self.let_go()
        assert select.select([self.ledger.fileno()], [], [], SECONDS)[0], "the loop is not woken"
        completion = self.ledger.completed()
        assert completion is not None
        assert not select.select([self.ledger.fileno()], [], [], 0)[0], "the loop would spin"
        return completion


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(str(tmp_path / "results.db"))
    made.hold()
    yield made
    made.let_go()
    made.ledger.close()


def test_submit_returns_before_the_commit_and_the_descriptor_tells_its_end(held: Held) -> None:
    write = Recording([record([1, 2])])
    held.ledger.submit(write)
    assert held.ledger.completed() is None
    completion = held.end()
    assert completion.write is write
    assert isinstance(completion.result, Written)
    assert completion.result.rows == 2
    assert held.ledger.completed() is None


def test_a_quick_disk_is_waited_for_and_one_slow_commit_ends_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks of real disks decide nothing here: the commits are as long as they are said to be."""
    seconds = [0.0]
    monkeypatch.setattr(sqlite_ledger, "clock", ListedClock(seconds))
    with closing(Ledger(str(tmp_path / "results.db"), StoreThread())) as ledger:
        open_job(ledger, "job", "m:f", "lines of text")

        def is_waited_for(task: int, count: int = 1, value: object = 0) -> bool:
            ledger.submit(Recording([record([value] * count, task)]))
            completion = ledger.completed()
            while (ended := completion or ledger.completed()) is None:
                select.select([ledger.fileno()], [], [], SECONDS)
            assert isinstance(ended.result, Written) and ended.result.rows == count
            return completion is not None

        assert [is_waited_for(task) for task in range(10)] == [False] * 10
        seconds[0] = 0.002
        assert is_waited_for(99)
        assert not is_waited_for(10)
        seconds[0] = 0.0
        assert [is_waited_for(task) for task in range(11, 23)] == [False] * 10 + [True] * 2
        assert not is_waited_for(23, 11)
        assert not is_waited_for(34, value="x" * 70_000)
        assert is_waited_for(35)


def test_what_waits_for_no_disk_earns_no_trust(tmp_path: Path) -> None:
    """Tidying commits without a sync."""
    speed = CountedSpeed()
    with closing(Ledger(str(tmp_path / "results.db"), StoreThread())) as ledger:
        ledger._speed = speed
        open_job(ledger, "job", "m:f", "lines of text")
        commit(ledger, [record(list(range(1_000)))])
        forget(ledger, "job")
        while tidy(ledger):
            pass
    assert len(speed.noted) == 1


def test_a_commit_that_failed_ends_the_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = CountedSpeed()
    with closing(Ledger(str(tmp_path / "results.db"), StoreThread())) as ledger:
        ledger._speed = speed
        open_job(ledger, "job", "m:f", "lines of text")

        def full() -> None:
            raise LedgerStuck("the disk is full")

        monkeypatch.setattr(ledger._file, "commit", full)
        with pytest.raises(LedgerStuck):
            commit(ledger, [record([1])])
        monkeypatch.undo()
    assert speed.noted == [float("inf")]


class CountedSpeed(DiskSpeed):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[float] = []

    def note(self, seconds: float) -> None:
        self.noted.append(seconds)
        super().note(seconds)


class ListedClock:
    """Goes on, whenever it is looked at, by as much as the list says."""

    def __init__(self, seconds: list[float]) -> None:
        self._now, self._seconds = 0.0, seconds

    def now(self) -> float:
        self._now += self._seconds[0]
        return self._now


def test_meanwhile_all_reads_are_answered_from_what_was_whole_before(held: Held) -> None:
    ledger = held.ledger
    held.let_go()
    commit(ledger, [record(["before", None], errors={1: "no"})])
    held.hold()
    ledger.submit(Recording([record(["new"], 2)]))
    job = ledger.job("job")
    assert job is not None and job.done == 2
    assert ledger.receipts("job", 0, 10).runs == [(0, 2)]
    assert [row.task for row in ledger.read("job", EVERYTHING).rows] == [0, 1]
    assert ledger.values("job", EVERYTHING).count == 2
    assert ledger.failures("job", 5) == [(1, "no", None)]
    assert ledger.failed_attempts("job") == 1
    assert [each.done for each in ledger.listed(0, 10)] == [2]
    assert ledger.digests("job", 0, 10).digests == []
    assert ledger.job("nosuch") is None
    held.end()
    job = ledger.job("job")
    assert job is not None and job.done == 3
    assert ledger.receipts("job", 0, 10).runs == [(0, 2), (2, 1)]


def test_receipts_go_with_the_counts_of_their_job_also_when_more_is_on_the_disk(held: Held) -> None:
    """A ventilator finds out by the difference how many tasks have failed."""
    held.ledger.submit(Recording([record([1, 2])]))
    held.may_begin.set()
    assert held.is_made.wait(SECONDS)
    job = held.ledger.job("job")
    assert job is not None and job.done == 0
    assert (held.ledger.receipts("job", 0, 10).runs, held.ledger.receipts("job", 0, 10).more) == ([], False)
    held.end()
    assert held.ledger.receipts("job", 0, 10).runs == [(0, 2)]


def test_a_job_is_new_when_its_opening_completes_and_not_when_it_is_on_the_disk(held: Held) -> None:
    held.ledger.submit(Opening("new", "m:f", "lines of text"))
    held.may_begin.set()
    assert held.is_made.wait(SECONDS)
    assert held.ledger.job("new") is None
    completion = held.end()
    assert isinstance(completion.result, Job)
    assert held.ledger.job("new") == completion.result


def test_a_job_is_there_until_it_is_forgotten(held: Held) -> None:
    held.ledger.submit(Forgetting("job"))
    held.may_begin.set()
    assert held.is_made.wait(SECONDS)
    assert held.ledger.job("job") is not None
    held.end()
    assert held.ledger.job("job") is None


READS: dict[str, Callable[[Ledger], object]] = {
    "receipts": lambda ledger: ledger.receipts("job", 0, 10, 1),
    "read": lambda ledger: ledger.read("job", EVERYTHING),
    "values": lambda ledger: ledger.values("job", EVERYTHING),
    "failures": lambda ledger: ledger.failures("job", 5),
    "failed_attempts": lambda ledger: ledger.failed_attempts("job"),
    "listed": lambda ledger: ledger.listed(0, 10),
    "digests": lambda ledger: ledger.digests("job", 0, 10),
    "another job": lambda ledger: ledger.job("nosuch"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_that_fails_for_a_reason_that_may_pass_is_to_be_tried_again(
    held: Held, read: Callable[[Ledger], object]
) -> None:
    held.ledger.submit(Recording([record([1, 2])]))
    second = held.ledger._second
    assert second is not None
    second.set_progress_handler(lambda: 1, 1)
    with pytest.raises(LedgerStuck, match="interrupted"):
        read(held.ledger)
    second.set_progress_handler(None, 1)
    read(held.ledger)


def test_a_read_that_fails_for_any_other_reason_ends_the_sink_in_one_line(held: Held) -> None:
    held.ledger.submit(Recording([record([1, 2])]))
    second = held.ledger._second
    assert second is not None
    second.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    with pytest.raises(OperatorError, match="cannot use the ledger"):
        held.ledger.listed(0, 10)


def test_a_job_that_was_told_of_is_known_without_a_read(held: Held) -> None:
    """Also one that the last write has changed: each message asks for its job, and timers do."""
    second = held.ledger._second
    assert second is not None
    second.set_progress_handler(lambda: 1, 1)
    held.ledger.submit(Recording([record([1, 2])]))
    held.end()
    held.hold()
    held.ledger.submit(Opening("other", "m:f", "lines of text"))
    job = held.ledger.job("job")
    assert job is not None and job.done == 2


def test_the_second_connection_needs_no_descriptor_for_its_first_read(held: Held) -> None:
    held.ledger.submit(Recording([record([1, 2])]))
    before = len(list(Path("/dev/fd").iterdir()))
    held.ledger.listed(0, 10)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_commit_that_is_refused_is_told_and_undone(held: Held) -> None:
    ledger = held.ledger

    def refuse() -> None:
        raise ledger._file._undone(full)

    full = sqlite3.OperationalError("disk is full")
    ledger._file.commit = refuse  # type: ignore[method-assign]
    write = Recording([record([1])])
    ledger.submit(write)
    assert held.end() == Completion(write, stuck="disk is full")
    job = ledger.job("job")
    assert job is not None and job.done == 0
    held.hold()
    ledger.submit(write)
    assert held.end().stuck is None


def test_an_error_that_ends_the_sink_is_raised_when_the_end_is_taken(held: Held) -> None:
    def fail() -> None:
        raise OperatorError("it is damaged")

    held.ledger._file.commit = fail  # type: ignore[method-assign]
    held.ledger.submit(Recording([record([1])]))
    assert select.select([held.ledger.fileno()], [], [], SECONDS)[0]
    with pytest.raises(OperatorError, match="it is damaged"):
        held.ledger.completed()
    held.ledger._db.execute("ROLLBACK")


def test_what_is_tidied_is_not_waited_for_and_the_next_write_is(held: Held) -> None:
    ledger = held.ledger
    held.let_go()
    commit(ledger, [record([1])])
    forget(ledger, "job")
    synced: list[int] = []
    commit_now = ledger._file.commit

    def look() -> None:
        synced.append(ledger._db.execute("PRAGMA synchronous").fetchone()[0])
        commit_now()

    ledger._file.commit = look  # type: ignore[method-assign]
    for write in (Tidying(), Opening("next", "m:f", "lines of text")):
        ledger.submit(write)
        held.end()
    assert synced == [1, 2]


def test_closing_waits_for_the_write_in_flight(tmp_path: Path) -> None:
    path = str(tmp_path / "results.db")
    held = Held(path)
    held.hold()
    held.ledger.submit(Recording([record([1])]))
    threading.Timer(0.05, held.let_go).start()
    held.ledger.close()
    again = Ledger(path)
    job = again.job("job")
    assert job is not None and job.done == 1
    again.close()


def test_a_thread_that_waits_for_ever_is_left_behind() -> None:
    thread, released = StoreThread(), threading.Event()
    thread.begin(released.wait)
    assert not thread.close(0.01)
    released.set()


class OneSignal:
    """SIGTERM has come."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._left = ["SIGTERM"]

    def fileno(self) -> int:
        return self._ours.fileno()

    def received(self) -> list[str]:
        left, self._left = self._left, []
        return left


@pytest.fixture
def leaving(tmp_path: Path) -> tuple[Scene, Held, loop.Sink]:
    """A sink that has been told to leave; its rules are the scene's."""
    path = str(tmp_path / "results.db")
    scene, held = Scene(str(tmp_path / "other.db")), Held(path)
    scene.ledger.close()
    scene.ledger = held.ledger
    ports = 0, 0, 0, 0
    sink = loop.Sink(loop.SinkOptions(path, tmp_path / "keys", "127.0.0.1", *ports), held.ledger)
    sink._rules = scene.sink = Collector(0.0, SETTINGS, held.ledger, "run", ROSTER)
    while not scene.sink.inspect().is_idle or scene.sink.is_writing:
        scene.sink.tick(scene.now)
    held.hold()
    return scene, held, sink


def test_a_sink_that_leaves_writes_what_has_come_after_the_write_in_flight(
    leaving: tuple[Scene, Held, loop.Sink],
) -> None:
    scene, held, sink = leaving
    scene.deliver(scene.batch([1]))
    scene.sink.flush(scene.now)
    scene.deliver(scene.batch([2], 1))
    threading.Timer(0.05, held.let_go).start()
    sink.run(OneSignal())
    job = held.ledger.job("job")
    assert job is not None and job.done == 2
    held.ledger.close()


def test_a_sink_that_leaves_and_has_lost_its_ledger_does_not_stand_by(
    leaving: tuple[Scene, Held, loop.Sink], caplog: pytest.LogCaptureFixture
) -> None:
    scene, held, sink = leaving

    def lost() -> None:
        raise LedgerLost("another sink has taken it over")

    held.ledger.completed = lost  # type: ignore[method-assign, assignment]
    scene.deliver(scene.batch([1]))
    sink.run(OneSignal())
    assert "another sink has taken it over; what was not recorded is sent to that sink" in caplog.text
    held.let_go()
    held.ledger.close()
