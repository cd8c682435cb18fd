"""What a ventilator says to its sink around the job: open, marks, close."""

import pytest
from msgspec import Raw, msgpack, structs

from common.protocol.messages import (
    Ask,
    Close,
    Closed,
    Crew,
    Dropped,
    Halt,
    Mark,
    Member,
    Message,
    Open,
    Opened,
    Receipts,
)
from common.ventilator.dialog import Dialog
from common.ventilator.dispatch import Dispatch
from common.ventilator.request import JobRequest
from common.ventilator.settings import DispatchSettings

SETTINGS = DispatchSettings(batch_tasks=1, retries=3)
OPEN = Open("job", "m:f", "lines", 5557, 3, False, False)
OPENED = Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, True, 0.0)
CLOSED = Closed("job", 1, 0, [])
REPEAT_S = 2.0
MARK_S = SETTINGS.timing.beat_s / 4


class Scene:
    """A conversation, its dispatch, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rules = Dispatch(SETTINGS, "job", "m:f")
        self.talk = Dialog(SETTINGS, self.rules, JobRequest("job", "m:f", "lines", False))

    def welcome(self) -> list[Message]:
        return self.talk.welcome(self.now, 5557)

    def after(self, seconds: float) -> list[Message]:
        """Let time pass from deadline to deadline. Nothing that was due may be due still."""
        said = []
        end = self.now + seconds
        while self.now < end:
            deadline = self.talk.deadline()
            self.now = end if deadline is None else min(end, max(self.now, deadline))
            said += self.talk.tick(self.now)
            deadline = self.talk.deadline()
            assert deadline is None or deadline > self.now
        return said


def opened() -> Scene:
    scene = Scene()
    scene.welcome()
    scene.talk.receive(scene.now, OPENED)
    return scene


def running() -> Scene:
    """A job with a crew, nothing of which is read."""
    scene = opened()
    scene.talk.receive(scene.now, Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False))
    scene.talk.receive(scene.now, Crew([Member("w", 1, 0, [], [])], [], [], 0))
    return scene


def finished() -> Scene:
    """A job of one task, and its receipt is here."""
    scene = running()
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([0])))
    scene.rules.input_ended()
    scene.talk.receive(scene.now, Receipts("job", 0, 1, [(0, 1)], 1, 0.1, 1, 0, False))
    return scene


def of(kind: type, said: list[Message]) -> list[Message]:
    return [message for message in said if isinstance(message, kind)]


def test_the_job_is_opened_again_and_again_until_the_sink_answers() -> None:
    scene = Scene()
    assert scene.after(10) == []
    assert scene.welcome() == [OPEN]
    assert scene.after(2 * REPEAT_S) == [OPEN, OPEN]
    assert scene.talk.receive(scene.now, OPENED) == [Ask("job", 0, False)]
    assert of(Open, scene.after(100)) == []


def test_a_sink_that_was_away_hears_everything_again() -> None:
    scene = opened()
    scene.after(100)
    assert scene.welcome() == [structs.replace(OPEN, reopens=True)]
    assert scene.talk.receive(scene.now, OPENED) == [Ask("job", 0, False)]
    assert scene.talk.problem is None


def test_another_ledger_is_a_problem() -> None:
    scene = opened()
    scene.welcome()
    scene.talk.receive(scene.now, structs.replace(OPENED, ledger="another"))
    assert "another ledger" in (scene.talk.problem or "")


def test_another_job_of_the_same_name_is_a_problem() -> None:
    scene = opened()
    scene.welcome()
    scene.talk.receive(scene.now, structs.replace(OPENED, ticket_key=b"x" * 32))
    assert "job job was forgotten meanwhile" in (scene.talk.problem or "")


def test_a_finished_job_is_closed_again_and_again_until_the_sink_answers() -> None:
    scene = finished()
    assert of(Close, scene.talk.tick(scene.now)) == [Close("job", 1, False)]
    assert of(Close, scene.after(2 * REPEAT_S)) == [Close("job", 1, False)] * 2
    assert scene.talk.receive(scene.now, CLOSED) == []
    assert scene.talk.closed == CLOSED
    assert of(Close, scene.after(100)) == []


def test_a_job_is_not_closed_before_it_is_finished() -> None:
    assert of(Close, opened().after(100)) == []


def test_a_job_that_must_be_opened_again_is_closed_afterwards() -> None:
    scene = finished()
    scene.talk.tick(scene.now)
    scene.welcome()
    said = scene.after(2 * REPEAT_S)
    assert (of(Open, said), of(Close, said)) == ([structs.replace(OPEN, reopens=True)] * 2, [])
    scene.talk.receive(scene.now, OPENED)
    assert of(Close, scene.talk.tick(scene.now)) == [Close("job", 1, False)]


def test_the_newest_mark_is_said_now_and_then() -> None:
    scene = opened()
    said = []
    for count in range(100):
        scene.talk.mark(count, b"%d" % count, None)
        for mark in of(Mark, scene.after(MARK_S / 8)):
            assert mark == Mark("job", count, b"%d" % count, None)
            said.append(count)
    assert said == [1, *range(8, 100, 8)], "the first one that says anything at once"
    assert [mark.count for mark in of(Mark, scene.after(10))] == [99]


@pytest.mark.parametrize("base", [0, 4])
def test_a_mark_before_the_first_task_keeps_no_other_back(base: int) -> None:
    """Else another input would be taken for this one after a kill within a quarter second."""
    scene = Scene()
    scene.welcome()
    scene.talk.receive(scene.now, structs.replace(OPENED, base=base, mark_count=base))
    scene.talk.mark(base, b"nothing", None)
    assert of(Mark, scene.after(MARK_S / 8)) == []
    scene.talk.mark(base + 1, b"d", None)
    assert of(Mark, scene.after(MARK_S / 8)) == [Mark("job", base + 1, b"d", None)]


def test_a_mark_is_kept_until_the_job_is_open() -> None:
    scene = Scene()
    scene.welcome()
    scene.talk.mark(7, b"d", None)
    assert of(Mark, scene.after(10)) == []
    scene.talk.receive(scene.now, OPENED)
    assert of(Mark, scene.talk.tick(scene.now)) == [Mark("job", 7, b"d", None)]


def test_the_last_mark_is_said_at_once_and_so_is_the_first_after_the_job_was_opened_again() -> None:
    scene = opened()
    scene.talk.mark(6, b"d", None)
    scene.talk.tick(scene.now)
    scene.welcome()
    scene.talk.receive(scene.now, OPENED)
    scene.talk.mark(7, b"e", None)
    assert of(Mark, scene.talk.tick(scene.now)) == [Mark("job", 7, b"e", None)]
    scene.talk.mark(8, b"f", 8)
    assert of(Mark, scene.talk.tick(scene.now)) == [Mark("job", 8, b"f", 8)]


@pytest.mark.parametrize("halts", [False, True])
def test_failed_tasks_are_asked_for_until_all_receipts_are_read(halts: bool) -> None:
    scene = Scene()
    scene.talk = Dialog(SETTINGS, scene.rules, JobRequest("job", "m:f", "lines", True))
    if halts:
        scene.talk.halt()
    assert of(Open, scene.welcome()) == [structs.replace(OPEN, retry_failed=True)]
    scene.talk.receive(scene.now, OPENED)
    assert of(Open, scene.welcome()) == [structs.replace(OPEN, retry_failed=True, reopens=True)]
    scene.talk.receive(scene.now, OPENED)
    scene.talk.receive(scene.now, Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False))
    assert of(Open, scene.welcome()) == [structs.replace(OPEN, reopens=True)]


def test_an_interrupted_job_has_its_batches_recalled_and_reads_no_more() -> None:
    scene = running()
    assert scene.rules.plan(scene.now) is not None
    assert scene.talk.halt() == [Halt("job")]
    assert scene.rules.plan(scene.now) is None


def test_dispatch_hears_the_rest_and_is_woken_in_time() -> None:
    scene = opened()
    assert scene.talk.deadline() == scene.now + SETTINGS.timing.silence_s
    assert of(Ask, scene.after(SETTINGS.timing.silence_s)) == [Ask("job", 0, False)]
    scene.talk.receive(scene.now, Dropped("job"))
    assert scene.rules.dropped


def test_failed_tasks_are_asked_for_until_all_receipts_are_read_and_then_no_more() -> None:
    talk = Dialog(SETTINGS, Dispatch(SETTINGS, "job", "m:f"), JobRequest("job", "m:f", "lines", True))
    [first] = talk.welcome(100.0, 5557)
    talk.receive(100.0, Opened("job", "ledger", b"k" * 32, 0, b"", None, 1, True, 0.0))
    talk.receive(100.0, Receipts("job", 0, 3, [(0, 3)], 3, 0.1, 8, 5, True))
    [halfway] = talk.welcome(200.0, 5557)
    talk.receive(200.0, Receipts("job", 3, 8, [], 5, 0.1, 8, 5, False))
    [last] = talk.welcome(300.0, 5557)
    assert (first.retry_failed, halfway.retry_failed, last.retry_failed) == (True, True, False)


def test_a_job_that_was_opened_again_behind_its_close_is_closed_again() -> None:
    scene = finished()
    assert of(Close, scene.after(0.1)) == [Close("job", 1, False)]
    scene.welcome()
    scene.talk.receive(scene.now, CLOSED)
    assert scene.talk.closed is None
    scene.talk.receive(scene.now, OPENED)
    assert of(Close, scene.after(0.1)) == [Close("job", 1, False)]
    scene.talk.receive(scene.now, CLOSED)
    assert scene.talk.closed == CLOSED


@pytest.mark.parametrize(
    ("count", "digest", "ended", "is_another"),
    [
        (2, b"x", False, False),
        (2, b"x", True, True),
        (3, b"same", False, False),
        (3, b"x", False, True),
        (4, b"x", False, False),
        (4, b"x", True, True),
        (5, b"x", True, False),
        (6, b"x", False, True),
    ],
    ids=["on the way", "shorter", "as far", "differs", "beyond", "ends too soon", "whole", "longer"],
)
def test_an_input_is_another_one_when_the_earlier_run_has_read_otherwise(
    count: int, digest: bytes, ended: bool, is_another: bool
) -> None:
    scene = Scene()
    scene.talk.receive(scene.now, structs.replace(OPENED, mark_count=3, mark_digest=b"same", total=5))
    assert scene.talk.is_another_input(count, digest, ended) is is_another


def test_a_new_job_takes_any_input() -> None:
    scene = opened()
    assert not any(scene.talk.is_another_input(count, b"x", ended) for count in (0, 3) for ended in (False, True))
