"""Requests to explain a job: what the sink knows, and what the job's ventilator says when it answers in time."""

import pytest

from common.protocol.explaining import Account, Barred, Explain, Explanation, Holder, RecordedTask, TaskPlace
from common.protocol.messages import Beat, Goodbye, Refused, Unreachable
from common.sink.store import LedgerStuck
from tests.unit.sink.scene import ADA, BOB, OLGA, SQUARE, VERA, VITO, Scene, of, to

ACCOUNT = Account("job", 7, "running", "open", 12, 4, 4, 4, TaskPlace("given"))
HELD = Beat(serial=4, slots=2, prefetch=1, held={"job": [(0, 4, 1), (4, 4, 1)]}, started={"job": [(0, 4, 1)]})


@pytest.fixture
def asking(scene: Scene) -> Scene:
    """A worker that holds two batches of a job, its ventilator, and an observer."""
    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.send(ADA, HELD)
    scene.hello(OLGA)
    return scene


def explanation(outputs: list, user: object = OLGA) -> Explanation:
    [found] = to(user, outputs)  # type: ignore[arg-type]
    assert isinstance(found, Explanation)
    return found


def test_the_ventilator_is_asked_and_its_answer_is_passed_on(asking: Scene) -> None:
    question = Explain("job", 7)
    assert to(VERA, asking.send(OLGA, question)) == [question]
    found = explanation(asking.send(VERA, ACCOUNT))
    assert found.account == ACCOUNT
    assert (found.workers, found.crew, found.slots, found.busy, found.held, found.running) == (1, 1, 2, 1, 2, 1)
    assert found.holders == [Holder("ada", (4, 4, 1), None, 0)]
    assert [(each.worker, each.first) for each in found.longest] == [("ada", 0)]
    assert asking.send(VERA, ACCOUNT) == [], "nobody waits for it any more"


def test_what_all_workers_run_is_added_up(asking: Scene) -> None:
    asking.send(ADA, Beat(5, 4, 1, {}, {"job": [(0, 4, 1)], "other": [(0, 1, 1), (1, 1, 1)]}))
    asking.worker(BOB, beat=Beat(4, 4, 1, {}, {"job": [(8, 4, 1)], "other": [(2, 1, 1)], "idle": []}))
    asking.send(OLGA, Explain("job", 7))
    found = explanation(asking.send(VERA, ACCOUNT))
    assert (found.running, found.others) == (2, [("other", 3)])


def test_a_ventilator_that_does_not_answer_is_waited_for_a_second(asking: Scene) -> None:
    asking.send(OLGA, Explain("job", None))
    assert asking.sink.deadline() is not None
    asking.now += 0.9
    assert of(Explanation, asking.sink.tick(asking.now)) == []
    asking.now += 0.1
    found = explanation(asking.sink.tick(asking.now))
    assert found.account is None
    assert found.ventilator == "10.0.0.1:5557"
    assert found.silent_s == pytest.approx(1.0)


def test_another_jobs_ventilator_does_not_answer_for_it(asking: Scene) -> None:
    asking.ventilator(VITO, "other")
    asking.send(OLGA, Explain("job", 7))
    assert of(Explanation, asking.send(VITO, ACCOUNT)) == []


def test_an_answer_to_another_question_is_none(asking: Scene) -> None:
    asking.send(OLGA, Explain("job", 6))
    assert asking.send(VERA, ACCOUNT) == []


def test_a_later_question_replaces_the_first(asking: Scene) -> None:
    asking.send(OLGA, Explain("job", 1))
    asking.send(OLGA, Explain("job", 7))
    assert explanation(asking.send(VERA, ACCOUNT)).task == 7
    asking.now += 2
    assert of(Explanation, asking.sink.tick(asking.now)) == []


def test_a_recorded_task_and_a_job_that_nobody_runs(scene: Scene) -> None:
    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.deliver(scene.batch([1, 2]))
    scene.sink.flush(scene.now)
    scene.hello(VERA, name="again")
    scene.hello(OLGA)
    found = explanation(scene.send(OLGA, Explain("job", 1)))
    assert isinstance(found.recorded, RecordedTask)
    assert (found.recorded.status, found.recorded.worker) == ("ok", "ada")
    assert (found.ventilator, found.account) == ("", None)
    assert explanation(scene.send(OLGA, Explain("job", 2))).recorded is None
    scene.ventilator(VERA, "later")
    scene.deliver(scene.batch([1], first=5, job="later"))
    scene.sink.flush(scene.now)
    scene.hello(VERA, name="again")
    assert explanation(scene.send(OLGA, Explain("later", 4))).recorded is None, "the next row is that of task 5"


def test_workers_that_cannot_connect_count_until_they_hold_something(asking: Scene) -> None:
    asking.worker(BOB)
    for user in (ADA, BOB):
        asking.send(user, Unreachable("job", user.name, "192.0.2.7", 5557, "silence"))
    asking.send(OLGA, Explain("job", 7))
    found = explanation(asking.send(VERA, ACCOUNT))
    assert found.cut_off == [Barred("bob", "192.0.2.7", 5557, "silence")]
    assert found.cut_off_count == 1
    asking.send(BOB, Goodbye())
    asking.worker(BOB)
    asking.send(OLGA, Explain("job", 7))
    assert explanation(asking.send(VERA, ACCOUNT)).cut_off == [], "it may be on another machine now"


def test_the_nearest_names_when_nobody_exposes_the_function(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.ventilator(VERA, function="tasks:sqare")
    scene.hello(OLGA)
    scene.send(OLGA, Explain("job", None))
    scene.now += 1
    found = explanation(scene.sink.tick(scene.now))
    assert (found.workers, found.crew, found.near) == (1, 0, [SQUARE])


def test_no_such_job(scene: Scene) -> None:
    scene.hello(OLGA)
    [refused] = to(OLGA, scene.send(OLGA, Explain("nothing", None)))
    assert isinstance(refused, Refused)
    assert "no job nothing" in refused.reason


def test_a_full_disk_is_said(asking: Scene) -> None:
    asking.fill_disk()
    asking.deliver(asking.batch(["x" * 100_000] * 4))
    asking.sink.flush(asking.now)
    asking.send(OLGA, Explain("job", 7))
    assert explanation(asking.send(VERA, ACCOUNT)).is_stuck


def test_a_ledger_that_cannot_be_read_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LedgerStuck("the server is away")

    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.hello(OLGA)
    monkeypatch.setattr(scene.ledger, "read", refuse)
    scene.send(OLGA, Explain("job", 7))
    scene.now += 1.0
    found = explanation(scene.sink.tick(scene.now))
    assert (found.is_stuck, found.recorded) == (True, None)
