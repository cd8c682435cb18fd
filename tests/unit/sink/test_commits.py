"""What is recorded, who gets a receipt, and what happens while the ledger is stuck."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext

from common.errors import ProtocolError
from common.protocol.codec import BadResults, encode, join_results, split_results
from common.protocol.messages import (
    Ask,
    Failed,
    Goodbye,
    Mark,
    Open,
    Opened,
    Outcomes,
    Quarantine,
    Receipts,
    Recorded,
    Refused,
    Results,
)
from common.protocol.values import JSON_EXT
from common.sink.collector import Collector
from common.sink.outputs import Send
from tests.unit.sink.scene import ADA, BOB, ROSTER, SETTINGS, SQUARE, VERA, Scene, levels, of, said, to


def test_a_receipt_is_given_only_after_the_commit(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    scene.send(VERA, Ask("job", 0, False))
    batch = scene.batch([1, 4])
    assert scene.deliver(batch) == []
    assert scene.row_count() == 0
    outputs = scene.sink.flush(scene.now)
    assert scene.row_count() == 2
    assert to(ADA, outputs) == [Recorded([batch.serial], [])]
    ((_, receipts),) = of(Receipts, outputs)
    assert isinstance(receipts, Receipts)
    assert (receipts.runs, receipts.done, receipts.failed) == ([(0, 2)], 2, 0)
    assert scene.sink.inspect().pending_count == 0


def test_a_duplicate_gets_its_receipt_too_and_changes_nothing(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.deliver(scene.batch(["first"]))
    scene.sink.flush(scene.now)
    again = scene.batch(["second"])
    scene.deliver(again)
    assert to(ADA, scene.sink.flush(scene.now)) == [Recorded([again.serial], [])]
    assert scene.ledger.inspect("SELECT value FROM results") == [("first",)]
    assert scene.ledger.job("job").done == 1  # type: ignore[union-attr]


def test_receipts_of_one_commit_go_to_each_worker_in_one_message(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB)
    scene.ventilator()
    ada = [scene.batch([0], 0), scene.batch([1], 1)]
    bob = scene.batch([2], 2, worker="bob")
    scene.deliver(*ada)
    scene.deliver(bob, user=BOB)
    outputs = scene.sink.flush(scene.now)
    assert to(ADA, outputs) == [Recorded([each.serial for each in ada], [])]
    assert to(BOB, outputs) == [Recorded([bob.serial], [])]


def forged(scene: Scene) -> Results:
    return scene.batch([1], ticket=b"f" * 16)


def of_another_batch(scene: Scene) -> Results:
    return scene.batch([1], batch=(0, 2))


def of_an_unknown_job(scene: Scene) -> Results:
    return msgspec.structs.replace(scene.batch([1]), job="nosuch")


def malformed(scene: Scene) -> BadResults:
    fields = msgspec.msgpack.decode(encode(scene.batch([1]))) | {"count": "many"}
    [bad] = split_results(msgspec.msgpack.encode([fields]))
    assert isinstance(bad, BadResults)
    return bad


REFUSED = [forged, of_another_batch, of_an_unknown_job, malformed]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_results_that_cannot_be_recorded_are_refused_and_complained_of_once(scene: Scene, make: Any) -> None:
    scene.worker()
    scene.ventilator()
    first, second = make(scene), make(scene)
    outputs = scene.deliver(first)
    assert to(ADA, outputs) == [Recorded([], [first.serial])]
    assert levels(outputs) == ["warning"]
    assert scene.deliver(second) == [Send(b"ada", Recorded([], [second.serial]))]
    assert scene.sink.flush(scene.now) == []
    assert scene.row_count() == 0


NO_OUTCOMES = [b"", b"\xc0", b"\x80", b"\x91" * 100_000, msgspec.msgpack.encode(Outcomes([1], [0.0], [], []))]


@pytest.mark.parametrize("outcomes", NO_OUTCOMES, ids=["nothing", "nil", "empty", "deep", "too few"])
def test_outcomes_that_cannot_be_read_fail_their_tasks_and_no_others_and_get_a_receipt(
    scene: Scene, outcomes: bytes
) -> None:
    """Refused, they would be run and sent again for ever."""
    scene.worker()
    scene.ventilator()
    bad, good = scene.batch([1, 2]), scene.batch([3], 2)
    outputs = scene.deliver(msgspec.structs.replace(bad, outcomes=outcomes), good)
    assert levels(outputs) == ["warning"]
    assert to(ADA, scene.sink.flush(scene.now)) == [Recorded([bad.serial, good.serial], [])]
    rows = scene.ledger.inspect("SELECT task, status, error FROM results ORDER BY task")
    assert [(task, status) for task, status, _ in rows] == [(0, "failed"), (1, "failed"), (2, "ok")]
    assert rows[0][2].startswith("the worker's outcomes cannot be read: ")
    assert scene.deliver(msgspec.structs.replace(bad, outcomes=outcomes)) == [], "logged once"


MANY = 2_000_000
HEAD = b"\xdd" + MANY.to_bytes(4, "big")
EMPTY_LISTS = msgspec.msgpack.encode(Ext(JSON_EXT, b"[" + b"[]," * MANY + b"1]"))


@pytest.mark.parametrize(
    "values", [b"\x91" + HEAD + b"\x90" * MANY, HEAD + b"\x90" * MANY, HEAD + b"\xa0" * MANY, b"\x91" + EMPTY_LISTS]
)
def test_nothing_is_made_of_what_is_in_a_value(scene: Scene, values: bytes) -> None:
    """Two million lists would take 112 MB; the bytes that came are copied a few times at most."""
    scene.ventilator()
    outcomes = b"\x83\xa6values" + values + b"\xa7seconds\x91\x00\xa6errors\x90"
    frame = join_results([encode(msgspec.structs.replace(scene.batch([1]), outcomes=outcomes))])
    tracemalloc.start()
    try:
        scene.deliver(*split_results(frame))  # type: ignore[arg-type]
        scene.sink.flush(scene.now)
        assert tracemalloc.get_traced_memory()[1] < 6 * len(frame)
    finally:
        tracemalloc.stop()
    assert scene.row_count() == 1


def test_a_message_of_many_maps_is_refused_by_its_head() -> None:
    frame = HEAD + b"\x80" * MANY
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            split_results(frame)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_outcomes_that_cannot_be_read_are_retried_like_other_failures(scene: Scene) -> None:
    scene.worker()
    scene.hello(VERA)
    scene.send(VERA, Open("job", SQUARE, "lines of text", 5557, 1, False, False))
    scene.deliver(msgspec.structs.replace(scene.batch([1]), outcomes=b"\xc0"))
    outputs = scene.sink.flush(scene.now)
    assert of(Failed, outputs) == [(b"vera", Failed("job", 1, [0]))]
    assert scene.row_count() == 0


def test_whoever_sends_what_names_no_worker_is_told_and_no_other_key(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB)
    outputs = scene.sink.malformed(ADA, "results", ProtocolError("no array"))
    assert [type(message) for message in to(ADA, outputs)] == [Refused]
    assert to(BOB, outputs) == []
    assert "key ada sent results that cannot be read: no array" in to(ADA, outputs)[0].reason  # type: ignore[attr-defined]
    assert of(Refused, scene.sink.malformed(ADA, "control", ProtocolError("no map"))) == []


def test_results_of_a_worker_that_has_left_are_recorded(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(ADA, Goodbye())
    scene.deliver(scene.batch([1]))
    assert to(ADA, scene.sink.flush(scene.now)) == []
    assert scene.row_count() == 1


def test_results_are_recorded_when_the_ventilator_has_left(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(VERA, Goodbye())
    scene.deliver(scene.batch([1]))
    assert len(to(ADA, scene.sink.flush(scene.now))) == 1


def test_the_results_of_a_job_before_a_restart_are_recorded_after_it(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    batch = scene.batch([1])
    scene.sink = Collector(0.0, SETTINGS, scene.ledger, "another run", ROSTER)
    scene.ledger._jobs.clear()
    assert scene.deliver(batch) == []
    scene.sink.flush(scene.now)
    assert scene.row_count() == 1


def test_on_a_full_disk_no_receipt_is_given_until_there_is_room(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    scene.fill_disk()
    batch = scene.batch(["x" * 100_000])
    scene.deliver(batch)
    outputs = scene.pass_time(3.5, ADA, VERA)
    assert levels(outputs) == ["error"]
    assert "no receipts are sent" in said(outputs)[0]
    assert of(Recorded, outputs) == []
    assert all(answer.runs == [] for _, answer in of(Receipts, outputs))  # type: ignore[attr-defined]
    assert scene.row_count() == 0
    late = scene.batch(["y"], 1)
    scene.deliver(late)
    scene.free_disk()
    outputs = scene.pass_time(2.0, ADA, VERA)
    # First what was refused, then what came meanwhile.
    assert [message for _, message in of(Recorded, outputs)] == [
        Recorded([batch.serial], []),
        Recorded([late.serial], []),
    ]
    assert said(outputs) == ["the ledger accepts results again"]
    assert scene.row_count() == 2


def test_a_stuck_ledger_is_tried_again_at_the_deadline_and_not_before(scene: Scene) -> None:
    scene.ventilator()
    scene.fill_disk()
    scene.deliver(scene.batch(["x" * 100_000]))
    scene.sink.tick(scene.now)
    scene.free_disk()
    scene.now += SETTINGS.retry_commit_s / 2
    assert scene.sink.flush(scene.now) == []
    assert scene.row_count() == 0
    deadline = scene.sink.deadline()
    assert deadline is not None and deadline <= scene.now + SETTINGS.retry_commit_s
    scene.now += SETTINGS.retry_commit_s
    scene.sink.tick(scene.now)
    assert scene.row_count() == 1


def test_a_mark_is_remembered_for_the_next_run(scene: Scene) -> None:
    scene.ventilator()
    scene.send(VERA, Mark("job", 10, b"digest", 10))
    scene.send(VERA, Mark("job", 4, b"earlier", None))
    scene.sink.flush(scene.now)
    ((_, opened),) = of(Opened, scene.ventilator())
    assert isinstance(opened, Opened)
    assert (opened.mark_count, opened.mark_digest, opened.total) == (10, b"digest", 10)


def test_a_worker_whose_results_came_before_it_joined_gets_its_receipt_when_it_resends_them(scene: Scene) -> None:
    scene.ventilator()
    batch = scene.batch([1])
    scene.deliver(batch)
    assert of(Recorded, scene.sink.flush(scene.now)) == []
    assert of(Recorded, scene.worker(ADA)) == []
    scene.deliver(batch)
    assert of(Recorded, scene.sink.flush(scene.now)) == [(b"ada", Recorded([batch.serial], []))]
    assert scene.row_count() == 1


def test_what_one_key_may_have_waiting_for_the_ledger_has_a_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results come faster than a slow ledger writes them; whoever gets no receipt sends them again."""
    monkeypatch.setattr("common.sink.commits.WAITING_BYTES_MAX", 30_000)
    scene.worker()
    scene.worker(BOB)
    scene.ventilator()
    batches = [scene.batch(["x" * 5_000], 0) for _ in range(10)]
    outputs = scene.deliver(*batches)
    assert [text for text in said(outputs) if "the rest must be sent again later" in text] != []
    scene.deliver(batches[0])
    assert scene.sink.inspect().pending_count == 4
    scene.deliver(scene.batch([1], 1, worker="bob"), user=BOB)
    lost = Quarantine("job", 2, 1, "ada", 2, msgspec.Raw(msgspec.msgpack.encode(["y" * 10_000])))
    for _ in range(5):
        scene.send(VERA, lost)
    assert scene.sink.inspect().pending_count == 4 + 1 + 2
    scene.sink.flush(scene.now)
    scene.deliver(*batches[4:])
    scene.send(VERA, lost)
    assert scene.sink.inspect().pending_count == 4 + 1
