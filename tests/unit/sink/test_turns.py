"""What waits while the ledger writes, what goes on meanwhile, and in which order all comes to the ledger."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from common.protocol.messages import (
    Again,
    Ask,
    Cancel,
    Close,
    Closed,
    Dropped,
    Failed,
    Forget,
    Forgotten,
    Goodbye,
    Heard,
    Mark,
    Open,
    Opened,
    Places,
    Query,
    Receipts,
    Recorded,
    Refused,
    Report,
)
from common.sink.collector import Collector
from common.sink.commits import GROUP_ROWS_MAX
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Completion, Ending, Forgetting, Opening, Recording, Write
from tests.unit.sink.scene import (
    ADA,
    BEAT,
    OLGA,
    OPEN,
    REOPEN,
    ROSTER,
    SETTINGS,
    SQUARE,
    VERA,
    VITO,
    Scene,
    of,
    said,
    to,
)

RETRY_FAILED = msgspec.structs.replace(OPEN, retry_failed=True)


class SlowLedger(Ledger):
    """While it is slow, a write ends when the test says so."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.is_slow = False
        self.reason = ""
        self.held: Write | None = None
        self.submitted: list[type] = []

    def submit(self, write: Write) -> None:
        assert self.held is None, "a second write is begun"
        self.submitted.append(type(write))
        if self.is_slow:
            self.held = write
        else:
            super().submit(write)

    def completed(self) -> Completion | None:
        return None if self.held is not None else super().completed()

    @property
    def waits_for(self) -> str:
        return self.reason

    def finish(self) -> None:
        """The write ends."""
        assert self.held is not None
        held, self.held = self.held, None
        super().submit(held)


class SlowScene(Scene):
    """A sink whose ledger is slow from the moment that a worker and a ventilator are there."""

    ledger: SlowLedger

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.ledger.close()
        self.ledger = SlowLedger(path)
        self.sink = Collector(0.0, SETTINGS, self.ledger, "run", ROSTER)
        self.ventilator(VERA)
        self.worker(ADA)
        self.hello(VITO)
        self.sink.tick(self.now)
        self.ledger.submitted.clear()
        self.ledger.is_slow = True

    def finish(self) -> list[object]:
        """The write in flight ends."""
        self.ledger.finish()
        return [*self.sink.tick(self.now)]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowScene]:
    made = SlowScene(str(tmp_path / "results.db"))
    yield made
    made.ledger.close()


def test_receipts_and_answers_wait_for_the_end_of_the_write(slow: SlowScene) -> None:
    slow.send(VERA, Ask("job", 0, False))
    slow.send(VERA, Ask("job", 0, False))
    batch = slow.batch([1, 4])
    slow.deliver(batch)
    assert slow.sink.tick(slow.now) == []
    assert slow.sink.tick(slow.now) == []
    outputs = slow.finish()
    assert to(ADA, outputs) == [Recorded([batch.serial], [])]
    ((_, receipts),) = of(Receipts, outputs)
    assert isinstance(receipts, Receipts)
    assert receipts.runs == [(0, 2)]


def test_beats_are_answered_while_a_write_is_in_flight(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    assert to(ADA, slow.send(ADA, BEAT))[0] == Heard(BEAT.serial)


def test_what_comes_during_a_write_is_one_group_and_written_next(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    later = [slow.batch([task], task) for task in (1, 2)]
    for each in later:
        slow.deliver(each)
        slow.sink.tick(slow.now)
    slow.finish()
    assert slow.ledger.submitted == [Recording, Recording]
    assert to(ADA, slow.finish()) == [Recorded([each.serial for each in later], [])]
    assert slow.sink.inspect().is_idle


def test_what_is_resent_during_its_write_is_not_written_twice(slow: SlowScene) -> None:
    batch = slow.batch([1])
    slow.deliver(batch)
    slow.sink.tick(slow.now)
    slow.deliver(batch)
    assert to(ADA, slow.finish()) == [Recorded([batch.serial], [])]
    assert slow.sink.inspect().is_idle


def test_a_job_is_opened_when_the_results_before_are_recorded(slow: SlowScene) -> None:
    """Its attempts count from the failures among them."""
    slow.deliver(slow.batch([None], errors={0: "no"}))
    slow.sink.tick(slow.now)
    slow.deliver(slow.batch([None], 1, errors={0: "no"}))
    assert of(Opened, slow.send(VERA, RETRY_FAILED)) == []
    assert of(Opened, slow.finish()) == of(Opened, slow.finish()) == []
    [(_, opened)] = of(Opened, slow.finish())
    assert isinstance(opened, Opened)
    assert opened.attempts == 1
    assert slow.ledger.submitted == [Recording, Recording, Opening]


def test_results_that_come_while_a_job_is_opened_are_judged_by_its_new_run(slow: SlowScene) -> None:
    """A failure of the run before would else take the place of the new run's result."""
    slow.deliver(slow.batch([None], errors={0: "no"}))
    slow.sink.tick(slow.now)
    slow.send(VERA, RETRY_FAILED)
    slow.finish()
    slow.deliver(slow.batch([None], 1, errors={0: "late"}))
    assert of(Opened, slow.finish())
    outputs = slow.finish()
    assert to(VERA, outputs)[0] == Failed("job", 1, [1])
    assert slow.ledger.inspect("SELECT task FROM results") == [(0,)]


def test_refused_results_that_wait_while_their_job_is_opened_are_judged_by_its_new_run_too(slow: SlowScene) -> None:
    slow.deliver(slow.batch([None], errors={0: "no"}))
    slow.sink.tick(slow.now)
    slow.send(VITO, Open("other", SQUARE, "lines of text", 5557, 0, False, False))
    slow.send(VERA, RETRY_FAILED)
    slow.finish()
    slow.deliver(slow.batch([None], 1, errors={0: "x" * 100_000}))
    slow.send(VERA, Mark("job", 2, b"old", 2))
    slow.finish()
    assert isinstance(slow.ledger.held, Recording)
    slow.fill_disk()
    slow.finish()
    assert isinstance(slow.ledger.held, Opening)
    assert of(Opened, slow.finish())
    slow.free_disk()
    slow.now += SETTINGS.retry_commit_s
    slow.sink.tick(slow.now)
    assert to(VERA, slow.finish())[0] == Failed("job", 1, [1])
    assert slow.ledger.inspect("SELECT task FROM results") == [(0,)]
    assert slow.ledger.inspect("SELECT mark_count FROM jobs WHERE name='job'") == [(0,)]
    assert slow.sink.inspect().is_idle


def test_a_mark_of_the_run_before_is_not_taken_for_one_of_the_run_that_appends(slow: SlowScene) -> None:
    keeps = msgspec.structs.replace(OPEN, job="kept", arguments="text")
    slow.ledger.is_slow = False
    slow.send(VERA, keeps)
    slow.send(VERA, Mark("kept", 0, b"", 0))
    slow.send(VERA, Close("kept", 0, False))
    slow.ledger.is_slow = True
    slow.send(VERA, msgspec.structs.replace(keeps, append=True))
    slow.send(VERA, Mark("kept", 0, b"old", 0))
    slow.finish()
    assert slow.sink.inspect().is_idle
    job = slow.ledger.job("kept")
    assert job is not None and job.total is None


def test_a_resent_request_is_answered_once(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    for _ in range(3):
        slow.send(VERA, Close("job", 1, False))
    slow.finish()
    slow.send(VERA, Close("job", 1, False))
    outputs = slow.finish()
    assert of(Closed, outputs) == [(b"vera", Closed("job", 1, 0, []))]
    assert slow.sink.inspect().is_idle
    assert slow.ledger.submitted == [Recording, Ending]


def test_a_job_that_goes_another_way_while_it_is_opened_is_opened_once_more(slow: SlowScene) -> None:
    """Workers would else look for its tasks where there are none."""
    slow.send(VERA, REOPEN)
    slow.send(VERA, msgspec.structs.replace(REOPEN, port=5555, relay=True))
    assert of(Opened, slow.finish())
    outputs = slow.finish()
    assert of(Opened, outputs)
    [(_, places)] = of(Places, outputs)
    assert isinstance(places, Places)
    assert [place.port for place in places.places] == [SETTINGS.relayed_tasks_port]
    assert slow.sink.inspect().is_idle


def test_whoever_has_left_before_its_turn_opens_nothing(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    slow.send(VITO, Open("other", SQUARE, "lines of text", 5557, 0, False, False))
    slow.send(VITO, Goodbye())
    slow.finish()
    assert slow.ledger.job("other") is None
    assert slow.sink.inspect().is_idle


def test_whoever_leaves_while_its_job_is_opened_runs_none(slow: SlowScene) -> None:
    slow.send(VITO, Open("other", SQUARE, "lines of text", 5557, 0, False, False))
    slow.send(VITO, Goodbye())
    assert of(Opened, slow.finish()) == []
    slow.ledger.is_slow = False
    slow.hello(VERA)
    assert of(Opened, slow.send(VERA, Open("other", SQUARE, "lines of text", 5557, 0, False, False)))


def test_changes_take_turns_with_results(slow: SlowScene) -> None:
    """Neither a flood of requests nor one of results keeps the other from the ledger."""
    slow.sink.tick(slow.now)
    for number in range(3):
        slow.send(VITO, Open(f"job{number}", SQUARE, "lines of text", 5557, 0, False, False))
    for task in range(5):
        slow.deliver(slow.batch([task], task))
        slow.finish()
    assert slow.ledger.submitted == [Opening, Recording, Opening, Recording, Opening, Recording]


def test_a_job_is_cancelled_without_waiting_for_what_gathers(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    slow.deliver(slow.batch([1], 1))
    assert slow.send(VITO, Cancel("job")) == []
    assert of(Dropped, slow.finish()) == []
    outputs = slow.finish()
    assert [peer for peer, _ in of(Dropped, outputs)] == [b"vera", b"ada", b"vito"]
    assert slow.ledger.submitted[:2] == [Recording, Ending]
    assert to(VERA, slow.send(VERA, Ask("job", 0, False))) == [Again()]


def test_a_job_is_forgotten_when_all_of_it_is_recorded_and_what_comes_later_is_refused(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.send(VERA, Goodbye())
    slow.sink.tick(slow.now)
    late = slow.batch([2], 1)
    slow.send(VITO, Forget("job"))
    slow.finish()
    assert slow.ledger.submitted == [Recording, Forgetting]
    slow.deliver(late)
    outputs = slow.finish()
    assert of(Forgotten, outputs) == [(b"vito", Forgotten("job"))]
    assert Recorded([], [late.serial]) in to(ADA, outputs)
    assert slow.sink.inspect().is_idle


def test_a_job_is_not_forgotten_while_results_of_it_wait_for_a_full_disk(slow: SlowScene) -> None:
    """They would be written once more for a job that is no longer there."""
    slow.deliver(slow.batch([1]))
    slow.send(VERA, Goodbye())
    slow.sink.tick(slow.now)
    slow.send(VITO, Open("other", SQUARE, "lines of text", 5557, 0, False, False))
    slow.send(VITO, Forget("job"))
    late = slow.batch(["x" * 100_000], 1)
    slow.deliver(late)
    slow.finish()
    slow.finish()
    slow.fill_disk()
    [(peer, refused)] = of(Refused, slow.finish())
    assert peer == b"vito"
    assert isinstance(refused, Refused) and "try again" in refused.reason
    slow.free_disk()
    slow.now += SETTINGS.retry_commit_s
    slow.sink.tick(slow.now)
    assert to(ADA, slow.finish()) == [Recorded([late.serial], [])]
    assert slow.ledger.submitted == [Recording, Opening, Recording, Recording]


def test_a_write_that_takes_long_is_said_and_again_when_it_has_ended(slow: SlowScene) -> None:
    slow.hello(OLGA)
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    assert slow.sink.deadline() == pytest.approx(slow.now + 1.0)
    slow.now += 1.0
    [text] = said(slow.sink.tick(slow.now))
    assert text == (
        "the ledger accepts no results: a write takes longer than a second; no receipts are sent until it has ended"
    )
    assert said(slow.sink.tick(slow.now)) == []
    [(_, report)] = of(Report, slow.send(OLGA, Query()))
    assert isinstance(report, Report) and report.is_stuck
    outputs = slow.finish()
    assert said(outputs) == ["the ledger accepts results again"]
    assert of(Recorded, outputs)


def test_what_a_late_write_waits_for_is_said_once_it_is_known(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    slow.now += 1.0
    assert "a write takes longer than a second" in said(slow.sink.tick(slow.now))[0]
    slow.ledger.reason = "the server is away"
    [line] = said(slow.sink.tick(slow.now))
    assert line == "the ledger accepts no results: the server is away; no receipts are sent until it has ended"
    slow.ledger.reason = "the server is still away"
    assert said(slow.sink.tick(slow.now)) == []
    assert said(slow.finish()) == ["the ledger accepts results again"]


def test_a_late_change_that_the_ledger_refuses_is_no_sign_that_it_accepts_results_again(slow: SlowScene) -> None:
    slow.send(VITO, Open("other", SQUARE, "lines of text", 5557, 0, False, False))
    slow.now += 1.0
    assert "a write takes longer than a second" in said(slow.sink.tick(slow.now))[0]
    slow.ledger._db.execute("PRAGMA query_only=1")
    assert "again" not in " ".join(said(slow.finish()))
    slow.ledger._db.execute("PRAGMA query_only=0")
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    assert said(slow.finish()) == ["the ledger accepts results again"]


@pytest.mark.parametrize("message", [Forget("job"), Cancel("job")])
def test_whoever_changes_a_job_while_a_write_takes_long_is_told(slow: SlowScene, message: Forget | Cancel) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    assert slow.send(VITO, message) == []
    slow.now += 1.0
    for outputs in (slow.sink.tick(slow.now), slow.send(VITO, message)):
        [(peer, refused)] = of(Refused, outputs)
        assert peer == b"vito"
        assert isinstance(refused, Refused)
        assert refused.reason == "the ledger accepts no change at the moment: try again"


def test_a_refused_write_is_submitted_again_as_it_was_and_goes_before_what_came_later(slow: SlowScene) -> None:
    slow.fill_disk()
    slow.deliver(slow.batch(["x" * 100_000]))
    slow.sink.tick(slow.now)
    first = slow.ledger.held
    slow.deliver(slow.batch([1], 1))
    slow.finish()
    slow.free_disk()
    slow.now += SETTINGS.retry_commit_s
    slow.sink.tick(slow.now)
    assert slow.ledger.held == first
    assert len(of(Recorded, slow.finish())) == 1
    assert len(of(Recorded, slow.finish())) == 1
    assert slow.row_count() == 2


def test_what_a_long_write_has_piled_up_is_written_in_groups_and_a_request_waits_for_all_of_it(slow: SlowScene) -> None:
    """One group of all of it would hold up the loop."""
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    half = GROUP_ROWS_MAX // 2
    slow.deliver(*[slow.batch([1] * half, 1 + number * half) for number in range(5)])
    slow.send(VERA, Mark("job", 1, b"", None))
    slow.send(VERA, Close("job", 1 + 5 * half, False))
    late = slow.batch([1] * GROUP_ROWS_MAX, 1 + 5 * half)
    slow.deliver(late)
    sizes = []
    while isinstance(slow.ledger.held, Recording):
        sizes.append([each.results.count for each in slow.ledger.held.row_sets])
        slow.finish()
    assert sizes == [[1], [half, half], [half, half], [half]]
    [(_, closed)] = of(Closed, slow.finish())
    assert isinstance(closed, Closed)
    assert closed.done == 1 + 5 * half
    slow.finish()
    assert slow.sink.inspect().is_idle


def test_requests_that_need_no_write_are_answered_in_parts_and_results_are_written_between(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    for number in range(250):
        slow.send(VITO, Cancel(f"nosuch{number}"))
    later = slow.batch([1], 1)
    slow.deliver(later)
    assert len(of(Refused, slow.finish())) == 100
    assert isinstance(slow.ledger.held, Recording)
    outputs = slow.finish()
    assert to(ADA, outputs) == [Recorded([later.serial], [])]
    assert len(of(Refused, outputs)) == 100
    assert slow.sink.deadline() == float("-inf")
    assert len(of(Refused, slow.sink.tick(slow.now))) == 50
    assert slow.sink.inspect().is_idle
    assert slow.sink.deadline() != float("-inf")


def test_a_key_that_asks_for_very_much_does_not_keep_the_requests_of_others_from_their_turn(slow: SlowScene) -> None:
    slow.deliver(slow.batch([1]))
    slow.sink.tick(slow.now)
    for number in range(2_000):
        slow.send(VITO, Open(f"flood{number}", SQUARE, "lines of text", 5557, 0, False, False))
    slow.send(VERA, Close("job", 1, False))
    slow.send(VITO, Open("late", SQUARE, "lines of text", 5557, 0, False, False))
    slow.ledger.is_slow = False
    outputs = slow.finish()
    assert [peer for peer, _ in of(Closed, outputs)] == [VERA.name.encode()]
    assert len(of(Opened, outputs)) == 999
