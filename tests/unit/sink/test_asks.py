"""The answers to requests for receipts: when they are given, and what is in them."""

from dataclasses import replace

import pytest

from common.protocol.messages import (
    Ask,
    Goodbye,
    Open,
    Receipts,
)
from common.sink.collector import Collector
from common.sink.store import Page
from tests.unit.sink.scene import (
    CUBE,
    ROSTER,
    SETTINGS,
    SQUARE,
    TIMING,
    VERA,
    VITO,
    Scene,
    of,
)


def test_the_first_ask_is_answered_at_once_though_there_is_nothing(scene: Scene) -> None:
    scene.ventilator()
    ((_, receipts),) = of(Receipts, scene.send(VERA, Ask("job", 0, False)))
    assert receipts == Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False)


def test_a_parked_ask_is_answered_by_the_next_commit_of_its_job(scene: Scene) -> None:
    scene.ventilator(VERA, "job")
    scene.ventilator(VITO, "other", CUBE)
    for user, job in ((VERA, "job"), (VITO, "other")):
        scene.send(user, Ask(job, 0, False))
        assert scene.send(user, Ask(job, 0, False)) == []
    scene.deliver(scene.batch([1]))
    assert [peer for peer, _ in of(Receipts, scene.sink.flush(scene.now))] == [b"vera"]


def test_the_ledger_is_read_once_for_each_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ventilator asks at once after each answer, when there is mostly nothing more."""
    receipts, read = scene.ledger.receipts, list[int]()

    def counted(name: str, after: int, limit: int, skipped: int) -> Page:
        read.append(after)
        return receipts(name, after, limit, skipped)

    monkeypatch.setattr(scene.ledger, "receipts", counted)
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    position = 0
    for task in range(5):
        assert scene.send(VERA, Ask("job", position, False)) == []
        scene.deliver(scene.batch([1], task))
        ((_, receipt),) = of(Receipts, scene.sink.flush(scene.now))
        assert isinstance(receipt, Receipts) and receipt.runs == [(task, 1)]
        position = receipt.position
    assert len(read) == 1 + 5


def test_a_parked_ask_is_answered_after_ask_s_though_there_is_nothing(scene: Scene) -> None:
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    scene.sink.tick(scene.now)
    scene.send(VERA, Ask("job", 0, False))
    asked_at = scene.now
    scene.now = asked_at + TIMING.ask_s * 0.99
    assert of(Receipts, scene.sink.tick(scene.now)) == []
    assert scene.sink.deadline() == asked_at + TIMING.ask_s
    scene.now = asked_at + TIMING.ask_s
    assert len(of(Receipts, scene.sink.tick(scene.now))) == 1
    assert of(Receipts, scene.sink.tick(scene.now)) == []


def test_an_ask_repeated_after_a_lost_answer_has_the_same_receipts(scene: Scene) -> None:
    scene.ventilator()
    scene.deliver(scene.batch([1], 0), scene.batch([2], 5))
    scene.sink.flush(scene.now)
    first, second = (of(Receipts, scene.send(VERA, Ask("job", 0, False))) for _ in range(2))
    assert first == second
    ((_, receipts),) = first
    assert isinstance(receipts, Receipts)
    assert receipts.runs == [(0, 1), (5, 1)]
    assert of(Receipts, scene.send(VERA, Ask("job", receipts.position, False))) == []


def test_failed_tasks_count_as_not_done_also_on_a_page_of_nothing_else(scene: Scene) -> None:
    scene.ventilator()
    scene.deliver(scene.batch([1], 0))
    scene.sink.flush(scene.now)
    scene.deliver(scene.batch([None], 5, errors={0: "ValueError: no"}))
    scene.sink.flush(scene.now)
    scene.send(VERA, Goodbye())
    scene.sink = Collector(0.0, replace(SETTINGS, receipts_page=1), scene.ledger, "another run", ROSTER)
    scene.hello(VERA)
    scene.send(VERA, Open("job", SQUARE, "lines of text", 5557, 0, True, False))
    ((_, first),) = of(Receipts, scene.send(VERA, Ask("job", 0, False)))
    assert isinstance(first, Receipts) and first.runs == [(0, 1)]
    ((_, second),) = of(Receipts, scene.send(VERA, Ask("job", first.position, False)))
    assert isinstance(second, Receipts) and (second.runs, second.count) == ([], 1)
