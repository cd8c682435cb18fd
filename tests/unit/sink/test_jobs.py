"""Jobs of the sink: opened, asked for, closed, cancelled."""

import msgspec
import pytest

from common.protocol.arguments import digest
from common.protocol.messages import (
    Again,
    Ask,
    Beat,
    Cancel,
    Close,
    Closed,
    Crew,
    Digests,
    Dropped,
    Forget,
    Forgotten,
    Goodbye,
    Halt,
    Mark,
    Open,
    Opened,
    Places,
    Quarantine,
    Recall,
    Recorded,
    Refused,
    Seen,
    ToSink,
)
from common.sink.collector import Collector
from common.sink.outputs import Send
from tests.unit.sink.scene import (
    ADA,
    BEAT,
    BOB,
    CUBE,
    MAX,
    OPEN,
    REOPEN,
    ROSTER,
    SETTINGS,
    SQUARE,
    TIMING,
    VERA,
    VITO,
    Scene,
    of,
    to,
)


def test_on_a_full_disk_a_job_cannot_be_cancelled_and_its_owner_is_told(scene: Scene) -> None:
    scene.ventilator()
    scene.ledger._db.execute("PRAGMA query_only=1")
    ((_, refused),) = of(Refused, scene.send(VERA, Cancel("job")))
    assert isinstance(refused, Refused)
    assert "the ledger accepts no change" in refused.reason


def test_failures_that_wait_for_their_commit_are_run_again_too(scene: Scene) -> None:
    scene.ventilator()
    scene.worker()
    retry_failed = Open("job", SQUARE, "lines of text", 5557, 0, True, False)
    scene.fill_disk()
    scene.deliver(*[scene.batch([None], task, errors={0: "x" * 10_000}) for task in range(20)])
    scene.sink.flush(scene.now)
    scene.free_disk()
    assert of(Opened, scene.send(VERA, retry_failed)) == [], "nobody knows yet which attempts it must count from"
    scene.now += SETTINGS.retry_commit_s
    [(_, opened)] = of(Opened, scene.send(VERA, retry_failed))
    assert opened.attempts == 1


def test_the_failures_of_a_job_without_any_are_not_looked_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """That would read all of its rows."""
    asked: list[str] = []
    monkeypatch.setattr(scene.ledger, "failed_attempts", asked.append)
    scene.ventilator()
    scene.worker()
    scene.deliver(scene.batch([1]))
    scene.sink.flush(scene.now)
    assert of(Opened, scene.send(VERA, Open("job", SQUARE, "lines of text", 5557, 0, True, False)))
    assert asked == []


def test_a_second_ventilator_for_a_running_job_is_refused(scene: Scene) -> None:
    scene.ventilator(VERA)
    outputs = scene.ventilator(VITO)
    outputs += scene.pass_time(TIMING.ask_s, VERA)
    outputs += scene.send(VITO, Open("job", SQUARE, "lines of text", 5557, 0, False, False))
    assert of(Opened, outputs) == []
    assert [(peer, "job job is run by" in refused.reason) for peer, refused in of(Refused, outputs)] == [  # type: ignore[attr-defined]
        (b"vito", True)
    ]
    assert to(VITO, scene.send(VITO, Ask("job", 0, False))) == [Again()]
    assert to(VERA, scene.send(VERA, Ask("job", 0, False))) != [Again()]


def test_a_key_that_asks_for_a_job_under_many_names_keeps_no_other_from_taking_it_over(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.ventilator(VITO)
    for number in range(1_000):
        scene.hello(MAX, b"max", f"max.{number}")
        scene.send(MAX, OPEN, b"max")
    scene.now += 1.5 * TIMING.ask_s
    assert [peer for peer, _ in of(Opened, scene.send(VITO, OPEN))] == [b"vito"]


def test_a_job_whose_ventilator_is_dead_is_taken_over(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.ventilator(VITO)
    outputs = scene.pass_time(2 * TIMING.gone_s)
    outputs += scene.hello(VITO)
    outputs += scene.send(VITO, Open("job", SQUARE, "lines of text", 5557, 0, False, False))
    assert [peer for peer, _ in of(Opened, outputs)] == [b"vito"]


def test_a_job_cannot_be_opened_with_another_function(scene: Scene) -> None:
    scene.ventilator(VERA, "job", SQUARE)
    scene.send(VERA, Goodbye())
    (refused,) = to(VITO, scene.ventilator(VITO, "job", CUBE))
    assert isinstance(refused, Refused)
    assert "give another --job name" in refused.reason


def test_a_job_that_is_opened_behind_its_own_close_stays_done_unless_failed_tasks_are_to_run(scene: Scene) -> None:
    scene.ventilator()
    scene.deliver(scene.batch([None], errors={0: "no"}))
    scene.send(VERA, Close("job", 1, False))
    for message, state in ((OPEN, "done"), (msgspec.structs.replace(OPEN, retry_failed=True), "open")):
        assert [peer for peer, _ in of(Opened, scene.send(VERA, message))] == [b"vera"]
        assert scene.ledger.job("job").state == state  # type: ignore[union-attr]
    assert scene.ledger.job("job").attempts == 1  # type: ignore[union-attr]


def test_closing_twice_is_answered_twice_and_done_once(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.deliver(scene.batch([1, None], errors={1: "Traceback (most recent call last):\n  ...\nValueError: no"}))
    scene.sink.flush(scene.now)
    closed = Closed("job", 2, 1, [(1, "ValueError: no", None)])
    assert to(VERA, scene.send(VERA, Close("job", 2, False))) == [closed]
    scene.ledger._db.execute("UPDATE jobs SET ended_at='once'")
    assert to(VERA, scene.send(VERA, Close("job", 2, False))) == [closed]
    assert scene.ledger.inspect("SELECT state, ended_at, total FROM jobs") == [("done", "once", 2)]
    assert scene.ledger.job("job").state == "done"  # type: ignore[union-attr]


def test_closing_ends_what_still_runs_if_it_is_asked_to(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    scene.ventilator()
    scene.deliver(scene.batch([1]))
    assert of(Dropped, scene.send(VERA, Close("job", 1, False))) == []
    assert of(Dropped, scene.send(VERA, Close("job", 1, True))) == [(b"ada", Dropped("job"))]


def test_what_a_closed_job_has_dropped_is_not_named_to_its_next_run(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.ventilator()
    beat = Beat(1, 2, 2, {"job": [(0, 1, 1)]}, {"job": [(0, 1, 1)]})
    scene.send(ADA, beat)
    scene.send(VERA, Close("job", 0, True))
    [(_, crew)] = of(Crew, scene.ventilator())
    assert isinstance(crew, Crew)
    assert [(member.held, member.started) for member in crew.members] == [([], [])]


def test_closing_commits_what_has_come_before_it(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    batch = scene.batch([1])
    scene.deliver(batch)
    outputs = scene.send(VERA, Close("job", 1, False))
    assert to(ADA, outputs) == [Recorded([batch.serial], [])]
    assert to(VERA, outputs) == [Closed("job", 1, 0, [])]


def test_a_cancelled_job_is_dropped_everywhere(scene: Scene) -> None:
    scene.worker()
    scene.ventilator(VERA)
    scene.hello(VITO)
    outputs = scene.send(VITO, Cancel("job"))
    assert {peer for peer, _ in of(Dropped, outputs)} == {b"ada", b"vera", b"vito"}
    assert of(Places, outputs) == [(b"ada", Places([]))]
    assert scene.ledger.job("job").state == "cancelled"  # type: ignore[union-attr]


def test_a_worker_that_was_away_when_a_job_was_cancelled_or_forgotten_is_told_when_it_names_it(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.ventilator(VERA, "other")
    scene.hello(VITO)
    scene.send(VITO, Cancel("job"))
    held = {"job": [(0, 1, 1)], "other": [(0, 1, 1)], "forgotten": [(0, 1, 1)]}
    outputs = scene.worker(beat=msgspec.structs.replace(BEAT, held=held))
    assert of(Dropped, outputs) == [(b"ada", Dropped("job")), (b"ada", Dropped("forgotten"))]


def test_a_job_that_nobody_runs_is_forgotten_and_the_crew_drops_it(scene: Scene) -> None:
    scene.worker()
    scene.ventilator(VERA)
    scene.deliver(scene.batch([1, 2]))
    scene.hello(VITO)
    [(_, running)] = of(Refused, scene.send(VITO, Forget("job")))
    assert isinstance(running, Refused)
    assert "is run by a ventilator" in running.reason
    scene.send(VERA, Goodbye())
    scene.deliver(scene.batch([3], 2))
    outputs = scene.send(VITO, Forget("job"))
    assert of(Recorded, outputs), "what has come of it before is recorded first"
    assert of(Dropped, outputs) == [(b"ada", Dropped("job"))]
    assert of(Forgotten, outputs) == [(b"vito", Forgotten("job"))]
    assert scene.ledger.job("job") is None
    [(_, unknown)] = of(Refused, scene.send(VITO, Forget("job")))
    assert isinstance(unknown, Refused)
    assert "there is no job job" in unknown.reason


def test_an_open_job_is_not_forgotten_while_its_ventilator_may_come_back_to_a_new_sink(scene: Scene) -> None:
    for name in ("job", "done"):
        scene.ventilator(VERA, name)
    scene.send(VERA, Close("done", 0, False))
    scene.send(VERA, Goodbye())
    scene.sink = Collector(scene.now, SETTINGS, scene.ledger, "run", ROSTER)
    scene.hello(VITO)
    [(_, refused)] = of(Refused, scene.send(VITO, Forget("job")))
    assert isinstance(refused, Refused)
    assert "may not be back yet" in refused.reason
    assert of(Forgotten, scene.send(VITO, Forget("done"))), "nobody runs it"
    scene.now += TIMING.gather_s
    assert of(Forgotten, scene.send(VITO, Forget("job")))


def test_a_forgotten_job_is_not_begun_anew_by_the_ventilator_that_has_missed_it(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.send(VERA, Goodbye())
    scene.hello(VITO)
    scene.send(VITO, Forget("job"))
    scene.hello(VERA)
    [(_, refused)] = of(Refused, scene.send(VERA, REOPEN))
    assert isinstance(refused, Refused)
    assert "it was forgotten" in refused.reason
    assert scene.ledger.job("job") is None
    assert of(Opened, scene.send(VERA, OPEN)), "a new run begins it anew"


def test_late_results_of_a_forgotten_job_are_refused_also_when_its_name_has_a_new_job(scene: Scene) -> None:
    scene.worker()
    scene.ventilator(VERA)
    late = scene.batch([1])
    scene.send(VERA, Goodbye())
    scene.hello(VITO)
    scene.send(VITO, Forget("job"))
    scene.ventilator(VERA)
    scene.deliver(late)
    scene.sink.flush(scene.now)
    job = scene.ledger.job("job")
    assert job is not None
    assert job.done == 0


def test_on_a_full_disk_nothing_is_forgotten_and_the_sink_says_so(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.send(VERA, Goodbye())
    scene.hello(VITO)
    scene.ledger._db.execute("PRAGMA query_only=1")
    [(_, refused)] = of(Refused, scene.send(VITO, Forget("job")))
    assert isinstance(refused, Refused)
    assert "the ledger accepts no change" in refused.reason
    scene.ledger._db.execute("PRAGMA query_only=0")
    scene.send(VITO, Forget("job"))
    scene.ledger._db.execute("PRAGMA query_only=1")
    scene.sink.tick(scene.now + 1)
    scene.ledger._db.execute("PRAGMA query_only=0")
    assert scene.sink.deadline() == scene.now + 2, "it tidies later"


def cancelled(scene: Scene) -> Scene:
    """VERA's job was cancelled, and her connection broke before she could hear it."""
    scene.ventilator(VERA)
    scene.hello(VITO)
    scene.send(VITO, Cancel("job"))
    scene.hello(VERA, b"vera, back")
    return scene


@pytest.mark.parametrize("said", [REOPEN, OPEN], ids=["opened before", "said before the answer came"])
def test_a_ventilator_that_has_missed_that_its_job_was_cancelled_is_told_again(scene: Scene, said: Open) -> None:
    cancelled(scene)
    for _ in range(2):
        assert scene.send(VERA, said, b"vera, back") == [Send(b"vera, back", Dropped("job"))]
    assert scene.ledger.job("job").state == "cancelled"  # type: ignore[union-attr]


def test_a_ventilator_that_was_away_hears_that_its_job_was_cancelled_also_from_another_sink(scene: Scene) -> None:
    cancelled(scene)
    scene.sink = Collector(0.0, SETTINGS, scene.ledger, "another run", ROSTER)
    scene.hello(VERA)
    assert scene.send(VERA, REOPEN) == [Send(b"vera", Dropped("job"))]


def test_a_cancelled_job_is_resumed_by_a_new_run_and_stays_open_when_that_opens_it_again(scene: Scene) -> None:
    cancelled(scene)
    scene.hello(VERA, b"new", name="vera.2")
    for said in (OPEN, REOPEN):
        assert [peer for peer, _ in of(Opened, scene.send(VERA, said, b"new"))] == [b"new"]
    assert scene.ledger.job("job").state == "open"  # type: ignore[union-attr]
    outputs = scene.send(VERA, REOPEN, b"vera, back")
    assert of(Opened, outputs) == of(Dropped, outputs) == []


@pytest.mark.parametrize(("job", "words"), [("nosuch", "there is no job"), ("job", "done already")])
def test_a_job_that_is_not_there_or_done_cannot_be_cancelled(scene: Scene, job: str, words: str) -> None:
    scene.ventilator()
    scene.send(VERA, Close("job", 0, False))
    (refused,) = to(VERA, scene.send(VERA, Cancel(job)))
    assert isinstance(refused, Refused)
    assert words in refused.reason


def test_halting_recalls_the_crew_of_the_job(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    scene.ventilator()
    assert scene.send(VERA, Halt("job")) == [Send(b"ada", Recall("job"))]


def test_a_new_run_of_a_job_recalls_its_crew_and_one_that_opens_it_again_does_not(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    scene.hello(VERA)
    recalled = []
    for said in (OPEN, REOPEN, OPEN):
        outputs = scene.send(VERA, said)
        assert of(Opened, outputs)
        recalled.append([peer for peer, _ in of(Recall, outputs)])
    assert recalled == [[], [], [b"ada"]]


@pytest.mark.parametrize("message", [Mark("job", 5, b"", 5), Close("job", 0, False), Halt("job"), Ask("job", 0, False)])
def test_another_ventilator_cannot_act_for_a_job(scene: Scene, message: ToSink) -> None:
    scene.ventilator(VERA)
    scene.hello(VITO)
    assert scene.send(VITO, message) == [Send(b"vito", Again())]
    scene.sink.flush(scene.now)
    job = scene.ledger.job("job")
    assert job is not None
    assert (job.state, job.mark_count) == ("open", 0)


KEEPS = msgspec.structs.replace(OPEN, arguments="text")
APPENDS = msgspec.structs.replace(KEEPS, append=True)


def run_to_its_end(scene: Scene, opening: Open, arguments: list[str], first: int = 0) -> Opened:
    """A ventilator runs these tasks, and leaves."""
    scene.hello(VERA)
    ((_, opened),) = of(Opened, scene.send(VERA, opening))
    if arguments:
        scene.deliver(scene.batch([1] * len(arguments), first, arguments=arguments))
    scene.send(VERA, Mark("job", first + len(arguments), b"", first + len(arguments)))
    scene.send(VERA, Close("job", first + len(arguments), False))
    scene.send(VERA, Goodbye())
    assert isinstance(opened, Opened)
    return opened


def test_what_is_appended_is_numbered_from_the_total_and_told_what_was_before(scene: Scene) -> None:
    scene.worker()
    assert run_to_its_end(scene, KEEPS, ["a", "b"]).base == 0
    scene.hello(VERA)
    ((_, opened),) = of(Opened, scene.send(VERA, APPENDS))
    assert isinstance(opened, Opened)
    assert (opened.base, opened.mark_count, opened.mark_digest, opened.total) == (2, 2, b"", None)
    sealed = b"".join(digest(msgspec.msgpack.encode(each)) for each in ("a", "b"))
    assert to(VERA, scene.send(VERA, Seen("job", 0))) == [Digests("job", 0, 2, sealed, 0, False)]
    assert to(VERA, scene.send(VERA, Seen("job", 2))) == [Digests("job", 2, 2, b"", 0, False)]


def test_an_appended_input_goes_on_where_it_was_and_the_next_one_begins_behind_it(scene: Scene) -> None:
    scene.worker()
    run_to_its_end(scene, KEEPS, ["a", "b"])
    scene.hello(VERA)
    scene.send(VERA, APPENDS)
    scene.send(VERA, Mark("job", 5, b"five", None))
    scene.deliver(scene.batch([1], 3, arguments=["d"]))
    scene.sink.flush(scene.now)
    scene.sink = Collector(scene.now, SETTINGS, scene.ledger, "run 2", ROSTER)
    scene.worker()
    scene.hello(VERA)
    for message in (APPENDS, msgspec.structs.replace(APPENDS, reopens=True)):
        ((_, opened),) = of(Opened, scene.send(VERA, message))
        assert isinstance(opened, Opened)
        assert (opened.base, opened.mark_count, opened.mark_digest) == (2, 5, b"five")
    scene.send(VERA, Goodbye())
    scene.hello(VERA)
    ((_, refused),) = of(Refused, scene.send(VERA, KEEPS))
    assert isinstance(refused, Refused)
    assert "its last input begins at task 2" in refused.reason
    assert run_to_its_end(scene, APPENDS, ["c", "d", "e"], 2).base == 2
    assert run_to_its_end(scene, APPENDS, [], 5).base == 5


def test_an_append_that_is_opened_again_behind_its_own_close_does_not_begin_anew(scene: Scene) -> None:
    scene.worker()
    run_to_its_end(scene, KEEPS, ["a"])
    run_to_its_end(scene, APPENDS, ["b"], 1)
    scene.hello(VERA)
    ((_, opened),) = of(Opened, scene.send(VERA, msgspec.structs.replace(APPENDS, reopens=True)))
    assert isinstance(opened, Opened)
    assert (opened.base, opened.total) == (1, 2)
    job = scene.ledger.job("job")
    assert job is not None and job.state == "done"


def test_failures_are_named_by_their_arguments(scene: Scene) -> None:
    scene.worker()
    scene.hello(VERA)
    scene.send(VERA, KEEPS)
    scene.deliver(scene.batch([None, 1], errors={0: "ValueError: no"}, arguments=["in\n0.txt", "b"]))
    ((_, closed),) = of(Closed, scene.send(VERA, Close("job", 2, False)))
    assert closed == Closed("job", 2, 1, [(0, "ValueError: no", "in\\n0.txt")])
    scene.send(VERA, Open("range", SQUARE, "range 5:9", 5557, 0, False, False))
    scene.deliver(scene.batch([None], 2, job="range", errors={0: "no"}))
    ((_, closed),) = of(Closed, scene.send(VERA, Close("range", 1, False)))
    assert closed == Closed("range", 1, 1, [(2, "no", "7")])


def test_a_task_that_is_given_up_keeps_its_argument(scene: Scene) -> None:
    scene.worker()
    scene.hello(VERA)
    scene.send(VERA, KEEPS)
    scene.send(VERA, Quarantine("job", 3, 1, "ada", 3, msgspec.Raw(msgspec.msgpack.encode(["d"]))))
    scene.sink.flush(scene.now)
    assert scene.ledger.inspect("SELECT task, status, argument FROM results") == [(3, "failed", "d")]
