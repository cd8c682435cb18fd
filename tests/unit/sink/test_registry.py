"""The sink's picture of the crew and the open jobs: which peers hear of which, and which are missed."""

import pytest

from common.protocol.codec import encode
from common.protocol.messages import (
    HELD_FACTOR,
    HELD_MAX,
    Again,
    Ask,
    Beat,
    Crew,
    Goodbye,
    Heard,
    JobReport,
    Member,
    Offer,
    Opened,
    Place,
    Places,
    Present,
    Query,
    Refused,
    Report,
    Returned,
    Roster,
    Unreachable,
    WorkerReport,
)
from common.protocol.reports import LONGEST_MAX, WORKER_JOBS_MAX
from common.protocol.settings import MESSAGE_BYTES_MAX
from common.protocol.users import User
from common.sink.outputs import Send
from common.sink.registry import OPEN_JOBS_MAX, WORKERS_MAX, pages
from tests.unit.sink.scene import ADA, BEAT, BOB, CUBE, OLGA, ROSTER, SQUARE, TIMING, VERA, VITO, Scene, of, said, to


@pytest.mark.parametrize("user", [ADA, VERA, OLGA], ids=lambda user: user.role)
def test_every_role_may_ask_how_things_stand(scene: Scene, user: User) -> None:
    scene.worker(BOB, beat=Beat(3, 2, 1, {"job": [(0, 5, 1), (5, 5, 1)]}, {"job": [(0, 5, 1)]}))
    scene.ventilator(VITO)
    scene.deliver(scene.batch([1, 2]), user=BOB)
    scene.sink.flush(scene.now)
    scene.hello(user)
    ((_, report),) = of(Report, scene.send(user, Query()))
    assert isinstance(report, Report)
    assert [(job.job, job.done, job.total, job.workers) for job in report.jobs] == [("job", 2, None, 1)]
    assert [(each.worker, each.key, each.held) for each in report.workers] == [("bob", "bob", 2)]


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


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_a_ventilator_beside_the_sink_is_found_where_the_sink_is(scene: Scene, address: str) -> None:
    scene.worker()
    scene.host = address
    ((_, places),) = of(Places, scene.ventilator())
    assert [place.host for place in places.places] == [""]  # type: ignore[attr-defined]


def test_a_job_that_opens_is_told_the_keys_the_crew_and_what_is_done(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB, (CUBE,))
    roster, present, opened, crew = to(VERA, scene.ventilator())
    assert roster == Roster([ADA.key, BOB.key])
    assert present == Present([ADA.key, BOB.key])
    assert crew == Crew([Member("ada", 2, 1, [], [])], [], [], 1)
    assert isinstance(opened, Opened)
    assert (opened.job, opened.ledger, opened.total) == ("job", scene.ledger.id, None)


def test_which_keys_workers_are_here_with_is_told_when_it_changes(scene: Scene) -> None:
    scene.ventilator(VERA, "squares", SQUARE)
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA)
    came = of(Present, scene.sink.tick(scene.now))
    assert came == [(b"vera", Present([ADA.key])), (b"vito", Present([ADA.key]))]
    scene.send(ADA, BEAT)
    scene.hello(ADA, b"second", "second")
    scene.send(ADA, Offer([SQUARE]), b"second")
    assert of(Present, scene.sink.tick(scene.now)) == []
    scene.send(ADA, Goodbye())
    assert of(Present, scene.sink.tick(scene.now)) == []
    scene.send(ADA, Goodbye(), b"second")
    scene.now += 50e-6
    assert of(Present, scene.sink.tick(scene.now)) == [(b"vera", Present([])), (b"vito", Present([]))]


def test_a_crew_that_grows_key_by_key_is_not_told_whole_at_each_key(scene: Scene) -> None:
    """All are told with each change: with no bound, each of 500 keys would be told 250 times."""
    users = [User("worker", f"w{number}", f"{number:040}") for number in range(500)]
    scene.sink.roster_changed(scene.now, ROSTER | {user.key: user for user in users})
    scene.ventilator(VERA)
    began_at = scene.now
    told: list[list[str]] = []
    for user in users:
        scene.now += 1e-3
        scene.worker(user)
        told += [present.keys for _, present in of(Present, scene.sink.tick(scene.now))]  # type: ignore[attr-defined]
    assert sum(map(len, told)) <= (scene.now - began_at) / 50e-6 + len(users)
    scene.now += len(users) * 50e-6
    due_at = scene.sink.deadline()
    assert due_at is not None and due_at <= scene.now
    told += [present.keys for _, present in of(Present, scene.sink.tick(scene.now))]  # type: ignore[attr-defined]
    assert told[-1] == [user.key for user in users]
    assert told[0] == [users[0].key], "the first one waits for nothing"
    assert of(Present, scene.sink.tick(scene.now + 1)) == []


def test_workers_that_expose_the_same_are_told_the_same_message(scene: Scene) -> None:
    """What is one message is encoded once: for a crew of thousands that is most of what it costs."""
    for user, functions in ((ADA, (SQUARE, CUBE)), (BOB, (CUBE, SQUARE))):
        scene.worker(user, functions)
    (_, first), (_, second) = of(Places, scene.ventilator())
    assert first is second
    scene.hello(ADA, b"third", "third")
    scene.send(ADA, Offer([SQUARE]), b"third")
    scene.ventilator(VITO, "cubes", CUBE)
    told = dict(of(Places, scene.send(VITO, Ask("cubes", 0, True))))
    assert told[b"ada"] is told[b"bob"]
    assert b"third" not in told


def test_a_beat_goes_to_the_ventilators_whose_function_the_worker_exposes(scene: Scene) -> None:
    scene.ventilator(VERA, "squares", SQUARE)
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA, (CUBE,))
    held = {"cubes": [(0, 5, 1)], "squares": [(9, 1, 1)]}
    outputs = scene.send(ADA, Beat(3, 4, 2, held, {}))
    assert to(ADA, outputs) == [Heard(3)]
    assert of(Crew, outputs) == [(b"vito", Crew([Member("ada", 4, 2, [(0, 5, 1)], [])], [], [], 0))]


def test_a_return_goes_to_the_jobs_ventilator_only(scene: Scene) -> None:
    scene.ventilator(VERA, "squares")
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA, (SQUARE, CUBE))
    returned = Returned("cubes", "ada", [(0, 5, 1)], [])
    assert scene.send(ADA, returned) == [Send(b"vito", returned)]
    assert scene.send(ADA, Returned("nosuch", "ada", [(0, 5, 1)], [])) == []


def test_a_link_that_does_not_come_up_is_said_to_the_jobs_ventilator_only(scene: Scene) -> None:
    scene.ventilator(VERA, "squares")
    scene.ventilator(VITO, "cubes", CUBE)
    scene.worker(ADA, (SQUARE, CUBE))
    unreachable = Unreachable("cubes", "ada", "192.0.2.7", 5557, "silence")
    assert scene.send(ADA, unreachable) == [Send(b"vito", unreachable)]
    assert scene.send(ADA, Unreachable("nosuch", "ada", "192.0.2.7", 5557, "silence")) == []
    outputs = scene.send(ADA, Unreachable("cubes", "bob", "192.0.2.7", 5557, "silence"))
    assert of(Unreachable, outputs) == []
    assert said(outputs) == ["worker ada: unreachable in the name of another worker: bob (logged once)"]


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


def test_a_large_crew_comes_in_parts_that_fit(scene: Scene) -> None:
    names = [(2**53 - each, 100_000, 1_000_000) for each in range(HELD_MAX)]
    beat = Beat(1, 10_000, 10_000, {"job": names}, {"job": names})
    users = [User("worker", f"w{number}", f"{number}" * 40) for number in range(5)]
    scene.sink.roster_changed(scene.now, ROSTER | {user.key: user for user in users})
    for user in users:
        scene.worker(user, beat=beat)
    crews = [message for message in to(VERA, scene.ventilator(VERA)) if isinstance(message, Crew)]
    assert [member.worker for crew in crews for member in crew.members] == [f"w{number}" for number in range(5)]
    assert len(crews) == 5
    assert max(len(encode(crew)) for crew in crews) < 1_000_000
    assert len(encode(beat)) < 1_000_000


def test_members_that_hold_little_share_a_message() -> None:
    members = [Member(f"w{number}", 1, 0, [], []) for number in range(10_000)]
    assert [len(page) for page in pages(members)] == [4_000, 4_000, 2_000]
    assert pages([]) == [[]]


def test_a_beat_names_no_more_of_a_job_than_its_worker_can_have(scene: Scene) -> None:
    """Slots and prefetch, and as much again for results that wait for their receipts; the rest is not its own."""
    scene.ventilator(VERA)
    names = [(first, 1, 1) for first in range(100)]
    scene.worker(ADA)
    outputs = scene.send(ADA, Beat(2, 2, 1, {"job": names, "other": names[:12]}, {"job": names}))
    ((_, crew),) = of(Crew, outputs)
    assert isinstance(crew, Crew)
    assert crew.members == [Member("ada", 2, 1, names[: HELD_FACTOR * 3], names[: HELD_FACTOR * 3])]


def test_a_sink_takes_only_as_many_jobs_and_workers_as_it_can_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.sink.jobs.OPEN_JOBS_MAX", 1)
    monkeypatch.setattr("common.sink.collector.WORKERS_MAX", 1)
    scene.ventilator(VERA, "one")
    assert [message.reason for message in to(VITO, scene.ventilator(VITO, "two")) if isinstance(message, Refused)] == [
        "1 jobs are open at this sink: run this one when some are done"
    ]
    assert of(Opened, scene.ventilator(VERA, "one")), "it is open: it opens it again"
    scene.worker(ADA)
    assert [message.reason for message in to(BOB, scene.worker(BOB)) if isinstance(message, Refused)] == [
        "1 workers are at this sink: it takes no more"
    ]


def test_the_largest_report_fits_a_frame() -> None:
    longest, runs = [(20_000, 2**53, 100_000, 1e9)] * LONGEST_MAX, [(2_000, 20_000)] * WORKER_JOBS_MAX
    job = JobReport("j" * 100, "f" + "\U0001f600" * 297 + ":f", 2**53, 2**53, 2**53, WORKERS_MAX, 333_333.3, longest)
    worker = WorkerReport("w" * 100, "k" * 60, "a" * 45, 10_000, 10_000, 20_000, 1e9, runs)
    report = Report([job] * OPEN_JOBS_MAX, [worker] * WORKERS_MAX)
    place = Place("j" * 100, "h" * 45, 65_535, "k" * 40, True)
    assert len(encode(report)) < MESSAGE_BYTES_MAX
    assert len(encode(Places([place] * OPEN_JOBS_MAX))) < MESSAGE_BYTES_MAX
