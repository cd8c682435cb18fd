"""The sink's rules: who is let in, what is recorded, who is told, and what is said."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from common.errors import ProtocolError
from common.log_line import LogLine
from common.protocol.codec import ticket
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Again,
    Ask,
    Beat,
    Cancel,
    Close,
    Closed,
    Crew,
    Dropped,
    Goodbye,
    Halt,
    Heard,
    Hello,
    Mark,
    Member,
    Message,
    Offer,
    Open,
    Opened,
    Places,
    Quarantine,
    Query,
    Recall,
    Receipts,
    Recorded,
    Refused,
    Report,
    Results,
    Returned,
    Roster,
    ToSink,
    Welcome,
)
from common.protocol.users import User
from common.sink.collector import Collector
from common.sink.outputs import LogLimiter, Output, Send
from common.sink.settings import CollectorSettings
from common.sink.sqlite_ledger import Ledger
from common.sink.store import Job
from tests.unit.builders import results

ADA = User("worker", "ada", "A" * 40)
BOB = User("worker", "bob", "B" * 40)
VERA = User("ventilator", "vera", "V" * 40)
VITO = User("ventilator", "vito", "W" * 40)
MAX = User("ventilator", "max", "X" * 40)
OLGA = User("observer", "olga", "O" * 40)
ROSTER = {user.key: user for user in (ADA, BOB, VERA, VITO, MAX, OLGA)}
SETTINGS = CollectorSettings()
TIMING = SETTINGS.timing
SQUARE, CUBE = "tasks:square", "tasks:cube"
OPEN = Open("job", SQUARE, "lines of text", 5557, 0, False, False)
REOPEN = msgspec.structs.replace(OPEN, reopens=True)
BEAT = Beat(serial=3, slots=2, prefetch=1, extra={}, held={}, started={})


class Scene:
    """A sink's rules with a ledger, a clock to set, and people who are connected under their own names."""

    def __init__(self, path: str) -> None:
        self.now = 1_000.0
        self.path = path
        self.ledger = Ledger(path)
        self.sink = Collector(0.0, SETTINGS, self.ledger, "run", ROSTER)
        self.host = "10.0.0.1"
        self.serials = itertools.count()

    def send(self, user: User, message: ToSink, peer: bytes | None = None) -> list[Output]:
        return self.sink.receive(self.now, peer or user.name.encode(), user, self.host, message)

    def hello(self, user: User, peer: bytes | None = None, name: str | None = None) -> list[Output]:
        return self.send(user, Hello(PROTOCOL_VERSION, user.role, name or user.name), peer)

    def worker(self, user: User = ADA, functions: tuple[str, ...] = (SQUARE,), beat: Beat = BEAT) -> list[Output]:
        self.hello(user)
        return [*self.send(user, Offer(list(functions))), *self.send(user, beat)]

    def ventilator(self, user: User = VERA, job: str = "job", function: str = SQUARE) -> list[Output]:
        self.hello(user)
        return self.send(user, Open(job, function, "lines of text", 5557, 0, False, False))

    def batch(self, values: list[Any], first: int = 0, job: str = "job", **fields: Any) -> Results:
        """Results that a worker who was pushed this batch would send."""
        found = self.ledger.job(job)
        assert found is not None
        seal = ticket(found.ticket_key, first, len(values), 1)
        return results(values, first, job=job, serial=next(self.serials), **({"ticket": seal} | fields))

    def deliver(self, *batches: Results, user: User = ADA) -> list[Output]:
        return [output for batch in batches for output in self.sink.results(user, batch)]

    def pass_time(self, seconds: float, *alive: User) -> list[Output]:
        """Let time go by in steps of a beat, each of `alive` heard at every step."""
        outputs: list[Output] = []
        ends_at = self.now + seconds
        while self.now < ends_at:
            self.now = min(ends_at, self.now + TIMING.beat_s)
            for user in alive:
                outputs += self.send(user, BEAT if user.role == "worker" else Ask("job", 0, False))
            outputs += self.sink.tick(self.now)
        return outputs

    def row_count(self) -> int:
        return int(self.ledger.inspect("SELECT count(*) FROM results")[0][0])

    def fill_disk(self) -> None:
        (pages,) = self.ledger._db.execute("PRAGMA page_count").fetchone()
        self.ledger._db.execute(f"PRAGMA max_page_count={pages}")

    def free_disk(self) -> None:
        self.ledger._db.execute(f"PRAGMA max_page_count={2**30}")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(str(tmp_path / "results.db"))
    yield made
    made.ledger.close()


def to(user: User | bytes, outputs: list[Output]) -> list[Message]:
    peer = user if isinstance(user, bytes) else user.name.encode()
    return [output.message for output in outputs if isinstance(output, Send) and output.peer == peer]


def of(kind: type[Message], outputs: list[Output]) -> list[tuple[bytes, Message]]:
    return [(each.peer, each.message) for each in outputs if isinstance(each, Send) and isinstance(each.message, kind)]


def said(outputs: list[Output]) -> list[str]:
    return [output.text for output in outputs if isinstance(output, LogLine)]


def levels(outputs: list[Output]) -> list[str]:
    return [output.level for output in outputs if isinstance(output, LogLine)]


# -- who is let in --------------------------------------------------------------------------------------------------


def test_a_hello_is_welcomed(scene: Scene) -> None:
    assert to(ADA, scene.hello(ADA)) == [Welcome(PROTOCOL_VERSION, "run", SETTINGS.results_port, False)]


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (Hello(PROTOCOL_VERSION + 1, "worker", "bob"), "install the same Tradewind on both"),
        (Hello(0, "worker", "bob"), "install the same Tradewind on both"),
        (Hello(PROTOCOL_VERSION, "ventilator", "bob"), "enrolled as worker, not as ventilator"),
        (Hello(PROTOCOL_VERSION, "sink", "bob"), "enrolled as worker, not as sink"),
        (Hello(PROTOCOL_VERSION, "worker", "ada"), "taken by a worker with another key"),
    ],
    ids=["later version", "earlier version", "other role", "no role", "name taken"],
)
def test_a_wrong_hello_is_refused_in_words_and_lets_nobody_in(scene: Scene, hello: Hello, words: str) -> None:
    scene.worker(ADA)
    outputs = scene.send(BOB, hello)
    ((_, refused),) = of(Refused, outputs)
    assert isinstance(refused, Refused)
    assert words in refused.reason
    assert refused.version == PROTOCOL_VERSION
    assert levels(outputs) == ["warning"]
    assert to(BOB, scene.send(BOB, Offer([SQUARE]))) == [Again()]


@pytest.mark.parametrize(
    "message", [Offer([]), BEAT, Goodbye(), Open("job", SQUARE, "x", 1, 0, False, False), Ask("job", 0, False)]
)
def test_whoever_did_not_say_hello_is_asked_to(scene: Scene, message: ToSink) -> None:
    user = VERA if isinstance(message, Open | Ask) else ADA
    assert scene.send(user, message) == [Send(user.name.encode(), Again())]


def test_another_key_on_a_known_connection_is_not_believed(scene: Scene) -> None:
    scene.worker(ADA)
    assert scene.send(BOB, BEAT, peer=b"ada") == [Send(b"ada", Again())]


def test_a_worker_that_beats_before_it_offered_is_asked_to_begin_anew(scene: Scene) -> None:
    scene.hello(ADA)
    assert to(ADA, scene.send(ADA, BEAT)) == [Again()]


WORKERS_OWN: list[ToSink] = [Offer([SQUARE]), BEAT, Returned("job", "ada", [(0, 1, 1)], [])]
VENTILATORS_OWN: list[ToSink] = [
    Open("job", SQUARE, "lines of text", 5557, 0, False, False),
    Ask("job", 0, False),
    Mark("job", 5, b"", True),
    Close("job", 0, False),
    Halt("job"),
    Cancel("job"),
]
FORBIDDEN = [
    *[(user, message) for user in (VITO, OLGA) for message in WORKERS_OWN],
    *[(user, message) for user in (BOB, OLGA) for message in VENTILATORS_OWN],
]


@pytest.mark.parametrize(("user", "message"), FORBIDDEN, ids=lambda each: getattr(each, "role", type(each).__name__))
def test_what_a_role_may_not_send_has_no_effect_and_is_logged_once(scene: Scene, user: User, message: ToSink) -> None:
    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.hello(user)
    before = replace_job(scene)
    outputs = scene.send(user, message)
    assert [type(output) for output in outputs] == [LogLine]
    assert f"a {user.role} may not send" in said(outputs)[0]
    assert scene.send(user, message) == []
    scene.sink.tick(scene.now)
    assert replace_job(scene) == before


def replace_job(scene: Scene) -> Job:
    job = scene.ledger.job("job")
    assert job is not None
    return replace(job)


@pytest.mark.parametrize("user", [ADA, VERA, OLGA], ids=lambda user: user.role)
def test_every_role_may_ask_how_things_stand(scene: Scene, user: User) -> None:
    scene.worker(BOB, beat=Beat(3, 2, 1, {}, {"job": [(0, 5, 1), (5, 5, 1)]}, {"job": [(0, 5, 1)]}))
    scene.ventilator(VITO)
    scene.deliver(scene.batch([1, 2]), user=BOB)
    scene.sink.flush(scene.now)
    scene.hello(user)
    ((_, report),) = of(Report, scene.send(user, Query()))
    assert isinstance(report, Report)
    assert [(job.job, job.done, job.total, job.workers) for job in report.jobs] == [("job", 2, None, 1)]
    assert [(each.worker, each.key, each.held) for each in report.workers] == [("bob", "bob", 2)]


# -- results and receipts -------------------------------------------------------------------------------------------


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


def malformed(scene: Scene) -> Results:
    return msgspec.structs.replace(scene.batch([1]), outcomes=Raw(b"\xc0"))


def too_few(scene: Scene) -> Results:
    return msgspec.structs.replace(scene.batch([1]), outcomes=scene.batch([1, 2]).outcomes)


REFUSED = [forged, of_another_batch, of_an_unknown_job, malformed, too_few]


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


def come_and_go(scene: Scene) -> list[Output]:
    return [*scene.worker(ADA), *scene.send(ADA, Goodbye())]


def open_again(scene: Scene) -> list[Output]:
    return scene.ventilator(VERA)


def close_again(scene: Scene) -> list[Output]:
    return scene.send(VERA, Close("job", 0, False))


def cancel_again(scene: Scene) -> list[Output]:
    scene.hello(VITO)
    return scene.send(VITO, Cancel("job"))


def quarantine_again(scene: Scene) -> list[Output]:
    return scene.send(VERA, Quarantine("job", 0, 1, "ada", 3, Raw(b"\x91\x01")))


@pytest.mark.parametrize("act", [come_and_go, open_again, close_again, cancel_again, quarantine_again])
def test_what_a_key_does_again_and_again_does_not_fill_the_log(scene: Scene, act: Any) -> None:
    scene.ventilator(VERA)
    lines = [line for _ in range(2 * LogLimiter.A_MINUTE_MAX) for line in said(act(scene))]
    assert len(lines) <= LogLimiter.A_MINUTE_MAX + 1
    assert len([line for line in lines if "lines a minute, the rest of this minute is left out" in line]) == 1
    assert "worker bob at 10.0.0.1 joined with 1 functions" in said(scene.worker(BOB))
    scene.now += 60
    assert said(act(scene)) != []
    later = [line for _ in range(2 * LogLimiter.A_MINUTE_MAX) for line in said(act(scene))]
    assert "the rest of this minute is left out" in later[-1], "it is said in each such minute"


def test_a_key_whose_workers_fall_silent_all_together_does_not_fill_the_log(scene: Scene) -> None:
    lines = []
    for number in range(2 * LogLimiter.A_MINUTE_MAX):
        name = f"ada.{number}"
        scene.hello(ADA, name.encode(), name)
        lines += said(scene.send(ADA, Offer([SQUARE]), name.encode()))
    lines += said(scene.pass_time(4 * TIMING.gone_s))
    assert scene.sink.inspect().worker_count == 0
    assert len(lines) == LogLimiter.A_MINUTE_MAX + 1


def test_another_workers_fault_is_said_again(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB)
    error = ProtocolError("no message")
    assert len(scene.sink.malformed(ADA, "control", error)) == 1
    assert scene.sink.malformed(ADA, "control", error) == []
    assert len(scene.sink.malformed(BOB, "control", error)) == 1


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


# -- the ledger is stuck ----------------------------------------------------------------------------------------------


def test_on_a_full_disk_no_receipt_is_given_until_there_is_room(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    scene.fill_disk()
    batch = scene.batch(["x" * 100_000])
    scene.deliver(batch)
    outputs = scene.pass_time(3.5, ADA, VERA)
    assert levels(outputs) == ["error"]
    assert "No receipts are given" in said(outputs)[0]
    assert of(Recorded, outputs) == []
    assert all(answer.runs == [] for _, answer in of(Receipts, outputs))  # type: ignore[attr-defined]
    assert scene.row_count() == 0
    late = scene.batch(["y"], 1)
    scene.deliver(late)
    scene.free_disk()
    outputs = scene.pass_time(2.0, ADA, VERA)
    assert of(Recorded, outputs) == [(b"ada", Recorded([batch.serial, late.serial], []))]
    assert said(outputs) == ["the ledger takes results again"]
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


def test_on_a_full_disk_a_job_cannot_be_cancelled_and_its_owner_is_told(scene: Scene) -> None:
    scene.ventilator()
    scene.ledger._db.execute("PRAGMA query_only=1")
    ((_, refused),) = of(Refused, scene.send(VERA, Cancel("job")))
    assert isinstance(refused, Refused)
    assert "the ledger takes no change" in refused.reason


# -- asking for receipts --------------------------------------------------------------------------------------------


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


def test_receipts_go_where_a_worker_beats_whatever_comes_late_from_its_earlier_connection(scene: Scene) -> None:
    scene.ventilator()
    scene.hello(ADA, b"old")
    scene.hello(ADA, b"new")
    for late in (Offer([SQUARE]), BEAT, Hello(PROTOCOL_VERSION, ADA.role, ADA.name)):
        scene.send(ADA, late, b"old")
    scene.send(ADA, BEAT, b"new")
    scene.deliver(scene.batch(["x"]))
    assert [peer for peer, _ in of(Recorded, scene.sink.flush(scene.now))] == [b"new"]


@pytest.mark.parametrize("message", [Offer(["other:function"]), BEAT, Returned("job", ADA.name, [(0, 1, 1)], [])])
def test_who_greeted_before_another_key_took_the_name_does_not_speak_for_it(scene: Scene, message: Any) -> None:
    scene.ventilator()
    scene.hello(BOB, b"bob", name=ADA.name)
    scene.worker(ADA)
    assert scene.send(BOB, message, b"bob") == [Send(b"bob", Again())]
    scene.deliver(scene.batch(["x"]))
    assert [peer for peer, _ in of(Recorded, scene.sink.flush(scene.now))] == [ADA.name.encode()]
    assert "is taken by a worker with another key" in str(scene.hello(BOB, b"bob", name=ADA.name))


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


def test_failed_tasks_count_as_not_done_also_on_a_page_of_nothing_else(scene: Scene) -> None:
    scene.ventilator()
    scene.deliver(scene.batch([1], 0))
    scene.sink.flush(scene.now)
    scene.deliver(scene.batch([None], 5, errors={0: "ValueError: no"}))
    scene.sink.flush(scene.now)
    scene.send(VERA, Goodbye())
    scene.sink._jobs._settings = replace(SETTINGS, receipts_page=1)
    scene.hello(VERA)
    scene.send(VERA, Open("job", SQUARE, "lines of text", 5557, 0, True, False))
    ((_, first),) = of(Receipts, scene.send(VERA, Ask("job", 0, False)))
    assert isinstance(first, Receipts) and first.runs == [(0, 1)]
    ((_, second),) = of(Receipts, scene.send(VERA, Ask("job", first.position, False)))
    assert isinstance(second, Receipts) and (second.runs, second.count) == ([], 1)


# -- the crew -------------------------------------------------------------------------------------------------------


def test_a_worker_learns_where_the_jobs_are_that_it_can_serve(scene: Scene) -> None:
    scene.ventilator(VERA, "squares", SQUARE)
    scene.ventilator(VITO, "cubes", CUBE)
    (places, _) = to(ADA, scene.worker(ADA, (CUBE,)))
    assert isinstance(places, Places)
    assert [(place.job, place.host, place.port, place.key) for place in places.places] == [
        ("cubes", "10.0.0.1", 5557, VITO.key)
    ]


def test_places_are_told_when_a_job_opens_and_when_its_ventilator_leaves(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    ((peer, opened),) = of(Places, scene.ventilator())
    assert (peer, [place.job for place in opened.places]) == (b"ada", ["job"])  # type: ignore[attr-defined]
    assert of(Places, scene.send(VERA, Goodbye())) == [(b"ada", Places([]))]


def test_a_ventilator_beside_the_sink_is_found_where_the_sink_is(scene: Scene) -> None:
    scene.worker()
    scene.host = "127.0.0.1"
    ((_, places),) = of(Places, scene.ventilator())
    assert [place.host for place in places.places] == [""]  # type: ignore[attr-defined]


def test_a_job_that_opens_is_told_the_keys_the_crew_and_what_is_done(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB, (CUBE,))
    roster, opened, crew = to(VERA, scene.ventilator())
    assert roster == Roster([ADA.key, BOB.key])
    assert crew == Crew([Member("ada", 2, 1, 0, [], [])], [], [], 1)
    assert isinstance(opened, Opened)
    assert (opened.job, opened.ledger, opened.total) == ("job", scene.ledger.id, None)


def test_a_beat_goes_to_the_ventilators_whose_function_the_worker_exposes(scene: Scene) -> None:
    scene.ventilator(VERA, "squares", SQUARE)
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA, (CUBE,))
    held = {"cubes": [(0, 5, 1)], "squares": [(9, 1, 1)]}
    outputs = scene.send(ADA, Beat(3, 4, 2, {"cubes": 7}, held, {}))
    assert to(ADA, outputs) == [Heard(3)]
    assert of(Crew, outputs) == [(b"vito", Crew([Member("ada", 4, 2, 7, [(0, 5, 1)], [])], [], [], 0))]


def test_a_return_goes_to_the_jobs_ventilator_only(scene: Scene) -> None:
    scene.ventilator(VERA, "squares")
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA, (SQUARE, CUBE))
    returned = Returned("cubes", "ada", [(0, 5, 1)], [])
    assert scene.send(ADA, returned) == [Send(b"vito", returned)]
    assert scene.send(ADA, Returned("nosuch", "ada", [(0, 5, 1)], [])) == []


def test_a_silent_worker_is_parted_with_after_gone_s(scene: Scene) -> None:
    scene.ventilator()
    scene.worker(ADA)
    scene.worker(BOB)
    assert of(Crew, scene.pass_time(TIMING.gone_s, VERA, BOB))[-1][1].left == []  # type: ignore[attr-defined]
    assert scene.sink.inspect().worker_count == 2
    outputs = scene.pass_time(TIMING.beat_s, VERA, BOB)
    assert (b"vera", Crew([], [], ["ada"], 0)) in of(Crew, outputs)
    assert any("ada is silent" in text for text in said(outputs))
    assert scene.sink.inspect().worker_count == 1
    assert to(ADA, scene.send(ADA, BEAT)) == [Again()]


def test_a_worker_that_says_goodbye_is_parted_with_at_once(scene: Scene) -> None:
    scene.ventilator()
    scene.worker()
    assert to(VERA, scene.send(ADA, Goodbye())) == [Crew([], ["ada"], [], 0)]
    assert scene.sink.inspect().worker_count == 0


def test_time_that_the_sink_slept_is_not_held_against_the_crew(scene: Scene) -> None:
    scene.ventilator()
    scene.worker()
    scene.pass_time(2.0, ADA, VERA)
    scene.now += 3_600.0
    assert said(scene.sink.tick(scene.now)) == []
    assert said(scene.pass_time(2.0, ADA, VERA)) == []
    assert scene.sink.inspect().worker_count == 1
    assert any("ada is silent" in text for text in said(scene.pass_time(2 * TIMING.gone_s, VERA)))


def test_a_silent_ventilators_job_is_over_and_its_places_are_taken_back(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    outputs = scene.pass_time(TIMING.gone_s + TIMING.beat_s, ADA)
    assert of(Places, outputs) == [(b"ada", Places([]))]
    assert any("ventilator of job job is silent; run it again" in text for text in said(outputs))
    assert to(VERA, scene.send(VERA, Ask("job", 0, False))) == [Again()]


def test_a_worker_on_a_new_connection_is_the_same_worker(scene: Scene) -> None:
    scene.ventilator()
    scene.worker()
    scene.hello(ADA, peer=b"ada again")
    assert scene.sink.inspect().worker_count == 1
    assert to(b"ada again", scene.send(ADA, BEAT, peer=b"ada again")) == [Heard(3)]
    assert to(ADA, scene.send(ADA, BEAT)) == [Again()]
    batch = scene.batch([1])
    scene.deliver(batch)
    assert to(b"ada again", scene.sink.flush(scene.now)) == [Recorded([batch.serial], [])]


def test_the_next_deadline_is_always_later_than_the_tick_before_it(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.send(VERA, Ask("job", 0, False))
    for _ in range(50):
        scene.sink.tick(scene.now)
        deadline = scene.sink.deadline()
        if deadline is None:
            break
        assert deadline > scene.now
        scene.now = deadline
    else:
        pytest.fail("nobody is there and still the sink wakes up")


# -- revoked keys ---------------------------------------------------------------------------------------------------


def without(*users: User) -> dict[str, User]:
    return {key: user for key, user in ROSTER.items() if user not in users}


def test_a_revoked_worker_is_cut_off_and_its_results_are_not_recorded(scene: Scene) -> None:
    scene.ventilator()
    scene.worker()
    outputs = scene.sink.roster_changed(scene.now, without(ADA))
    assert to(VERA, outputs) == [Crew([], ["ada"], [], 0), Roster([BOB.key])]
    assert to(ADA, outputs) == [Refused(PROTOCOL_VERSION, "key ada was revoked")]
    for message in (BEAT, Hello(PROTOCOL_VERSION, "worker", "ada"), Returned("job", "ada", [(0, 1, 1)], [])):
        assert scene.send(ADA, message) == [Send(b"ada", Refused(PROTOCOL_VERSION, "key ada was revoked"))]
    assert levels(scene.deliver(scene.batch([1]))) == ["warning"]
    assert scene.deliver(scene.batch([1])) == []
    scene.sink.flush(scene.now)
    assert scene.row_count() == 0


def test_a_revoked_ventilator_loses_its_job_to_nobody_and_its_places(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    outputs = scene.sink.roster_changed(scene.now, without(VERA))
    assert of(Places, outputs) == [(b"ada", Places([]))]
    assert to(VERA, scene.send(VERA, Cancel("job"))) == [Refused(PROTOCOL_VERSION, "key vera was revoked")]
    assert scene.ledger.job("job").state == "open"  # type: ignore[union-attr]


def test_a_key_enrolled_in_another_role_is_no_longer_what_it_was(scene: Scene) -> None:
    scene.worker()
    scene.sink.roster_changed(scene.now, ROSTER | {ADA.key: replace(ADA, role="observer")})
    assert [type(message) for message in to(ADA, scene.send(ADA, BEAT))] == [Refused]


# -- jobs -----------------------------------------------------------------------------------------------------------


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


def test_a_mark_is_remembered_for_the_next_run(scene: Scene) -> None:
    scene.ventilator()
    scene.send(VERA, Mark("job", 10, b"digest", True))
    scene.send(VERA, Mark("job", 4, b"earlier", False))
    scene.sink.flush(scene.now)
    ((_, opened),) = of(Opened, scene.ventilator())
    assert isinstance(opened, Opened)
    assert (opened.mark_count, opened.mark_digest, opened.total) == (10, b"digest", 10)


def test_closing_twice_is_answered_twice_and_done_once(scene: Scene) -> None:
    scene.worker()
    scene.ventilator()
    scene.deliver(scene.batch([1, None], errors={1: "Traceback\nValueError: no"}))
    scene.sink.flush(scene.now)
    closed = Closed("job", 2, 1, [(1, "ValueError: no")])
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
    beat = Beat(1, 2, 2, {}, {"job": [(0, 1, 1)]}, {"job": [(0, 1, 1)]})
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


def test_a_worker_that_was_away_when_a_job_was_cancelled_is_told_when_it_names_it(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.ventilator(VERA, "other")
    scene.hello(VITO)
    scene.send(VITO, Cancel("job"))
    held = {"job": [(0, 1, 1)], "other": [(0, 1, 1)], "invented": [(0, 1, 1)]}
    outputs = scene.worker(beat=msgspec.structs.replace(BEAT, held=held))
    assert of(Dropped, outputs) == [(b"ada", Dropped("job"))]


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


@pytest.mark.parametrize(
    "message", [Mark("job", 5, b"", True), Close("job", 0, False), Halt("job"), Ask("job", 0, False)]
)
def test_another_ventilator_cannot_act_for_a_job(scene: Scene, message: ToSink) -> None:
    scene.ventilator(VERA)
    scene.hello(VITO)
    assert scene.send(VITO, message) == [Send(b"vito", Again())]
    scene.sink.flush(scene.now)
    job = scene.ledger.job("job")
    assert job is not None
    assert (job.state, job.mark_count) == ("open", 0)


def test_a_worker_whose_results_came_before_it_joined_gets_its_receipt_when_it_resends_them(scene: Scene) -> None:
    scene.ventilator()
    batch = scene.batch([1])
    scene.deliver(batch)
    assert of(Recorded, scene.sink.flush(scene.now)) == []
    assert of(Recorded, scene.worker(ADA)) == []
    scene.deliver(batch)
    assert of(Recorded, scene.sink.flush(scene.now)) == [(b"ada", Recorded([batch.serial], []))]
    assert scene.row_count() == 1
