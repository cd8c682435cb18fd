"""The sink's rules: who is let in, who is cut off, and who may say what."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from common.log_line import LogLine
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Account,
    Again,
    Ask,
    Cancel,
    Close,
    Crew,
    Explain,
    Forget,
    Goodbye,
    Halt,
    Heard,
    Hello,
    Mark,
    Offer,
    Open,
    Opened,
    Places,
    Read,
    Recorded,
    Refused,
    Returned,
    Roster,
    Seen,
    ToSink,
    Unreachable,
    Welcome,
)
from common.protocol.users import User
from common.sink.outputs import Send
from common.sink.store import Job, LedgerStuck
from tests.unit.sink.scene import (
    ADA,
    BEAT,
    BOB,
    OLGA,
    OPEN,
    ROSTER,
    SETTINGS,
    SQUARE,
    VERA,
    VITO,
    Scene,
    levels,
    of,
    said,
    to,
)


def test_a_hello_is_welcomed(scene: Scene) -> None:
    assert to(ADA, scene.hello(ADA)) == [
        Welcome(
            *(PROTOCOL_VERSION, "run", SETTINGS.results_port, "", SETTINGS.relay_port),
            tasks_port=SETTINGS.relayed_tasks_port,
        )
    ]


def test_the_welcome_says_what_time_it_is_where_the_sink_knows(scene: Scene) -> None:
    scene.sink.time_offset_s = 1_000_000.0
    [(_, welcome)] = of(Welcome, scene.hello(ADA))
    assert isinstance(welcome, Welcome)
    assert welcome.time == 1_000_000.0 + scene.now


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (Hello(PROTOCOL_VERSION + 1, "worker", "bob"), "install the same version on both"),
        (Hello(0, "worker", "bob"), "install the same version on both"),
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


WORKERS_OWN: list[ToSink] = [
    Offer([SQUARE]),
    BEAT,
    Returned("job", "ada", [(0, 1, 1)], []),
    Unreachable("job", "ada", "192.0.2.7", 5557, "silence"),
]
VENTILATORS_OWN: list[ToSink] = [
    Open("job", SQUARE, "lines of text", 5557, 0, False, False),
    Ask("job", 0, False),
    Mark("job", 5, b"", 5),
    Close("job", 0, False),
    Halt("job"),
    Seen("job", 0),
    Cancel("job"),
    Account("job", None, "running", "open", 1, 1, 1, 1, None),
]
FORBIDDEN = [
    *[(user, message) for user in (VITO, OLGA) for message in WORKERS_OWN],
    *[(user, message) for user in (BOB, OLGA) for message in VENTILATORS_OWN],
    (BOB, Explain("job", None)),
]


@pytest.mark.parametrize(("user", "message"), FORBIDDEN, ids=lambda each: getattr(each, "role", type(each).__name__))
def test_what_a_role_may_not_send_has_no_effect_and_is_logged_once(scene: Scene, user: User, message: ToSink) -> None:
    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.hello(user)
    before = replace_job(scene)
    outputs = scene.send(user, message)
    assert [type(output) for output in outputs] == [LogLine]
    assert f"{user.role}s may not send" in said(outputs)[0]
    assert scene.send(user, message) == []
    scene.sink.tick(scene.now)
    assert replace_job(scene) == before


def replace_job(scene: Scene) -> Job:
    job = scene.ledger.job("job")
    assert job is not None
    return replace(job)


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


def test_whoever_names_a_job_that_cannot_be_looked_up_at_the_moment_gets_no_answer_to_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it asks again."""

    def refuse(_: str) -> None:
        raise LedgerStuck("unable to open database file")

    for user in (VERA, OLGA):
        scene.hello(user)
    scene.worker(ADA)
    scene.ventilator(VITO)
    batch = scene.batch([1])
    monkeypatch.setattr(scene.ledger, "job", refuse)
    held = structs.replace(BEAT, held={"other": [(0, 1, 1)]})
    assert to(ADA, scene.send(ADA, held)) == [Heard(BEAT.serial)]
    assert scene.deliver(batch) == []
    for user, message in (
        (OLGA, Explain("other", None)),
        (OLGA, Read("other", "task", (0, 0), False)),
        (VERA, Open("other", SQUARE, "lines of text", 5557, 0, False, False)),
        (VERA, Cancel("other")),
        (VERA, Forget("other")),
    ):
        assert scene.send(user, message) == []
    assert scene.sink.inspect().is_idle


def test_answers_to_a_whole_crew_that_are_asked_for_again_and_again_are_given_a_few_at_each_turn(scene: Scene) -> None:
    """Whoever opens a job that is done has each worker told of it; nothing of that waits for the ledger."""
    crew = [b"worker%d" % number for number in range(60)]
    for peer in crew:
        scene.send(ADA, Hello(PROTOCOL_VERSION, "worker", peer.decode()), peer)
        scene.send(ADA, Offer([SQUARE]), peer)
    scene.ventilator(VERA)
    scene.send(VERA, Close("job", 0, False))
    runs = [b"run%d" % number for number in range(10)]
    for peer in runs:
        scene.hello(VERA, peer)
    told = [of(Opened, scene.send(VERA, OPEN, peer)) for peer in runs]
    assert [len(each) for each in told] == [1, 1] + [0] * 8
    turns = [scene.sink.tick(scene.now) for _ in range(4)]
    assert [len(of(Opened, outputs)) for outputs in turns] == [2] * 4
    assert [len(of(Places, outputs)) for outputs in turns] == [2 * len(crew)] * 4
    assert scene.sink.inspect().is_idle
