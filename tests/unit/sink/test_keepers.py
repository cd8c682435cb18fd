"""Workers that keep batches: which key gets no more of them, and for how long."""

from typing import Any

import pytest

from common.protocol.messages import Ask, Beat, Crew, Goodbye, Hello, Missing, Offer, Open, Places, Present
from common.protocol.users import User
from common.sink import keepers
from common.sink.outputs import Admit, LogLimiter
from tests.unit.sink.scene import ADA, BOB, ROSTER, SQUARE, TIMING, VERA, VITO, Scene, of, said, to
from tests.unit.sink.test_relayed_jobs import relayed

EVE = User("worker", "eve", "E" * 40)
TRIES_S = 8 * TIMING.beat_s
MISSING = Missing("job", 5)


@pytest.fixture
def scene(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Ada, Bob and Eve, who joined in this order, and Vera's job."""
    monkeypatch.setitem(ROSTER, EVE.key, EVE)
    made = Scene(str(tmp_path / "results.db"))
    for user in (ADA, BOB, EVE):
        made.worker(user)
    made.ventilator(VERA)
    made.sink.tick(made.now)
    return made


def keys(outputs: list[Any]) -> list[set[str]]:
    """Which keys Vera is told to let in."""
    return [set(message.keys) for message in to(VERA, outputs) if isinstance(message, Present)]


def misses(scene: Scene) -> list[Any]:
    outputs = scene.send(VERA, MISSING)
    scene.now += 0.1
    return [*outputs, *scene.sink.tick(scene.now)]


def test_the_key_that_came_last_gets_no_tasks_for_a_moment_and_stays_in_the_crew(scene: Scene) -> None:
    outputs = misses(scene)
    assert keys(outputs) == [{ADA.key, BOB.key}]
    assert [(peer, told.places) for peer, told in of(Places, outputs)] == [(b"eve", [])]
    assert of(Crew, outputs) == [], "what it names is its own until this is clear"
    assert of(Crew, scene.send(EVE, Beat(4, 2, 1, {"job": [(0, 1, 1)]}, {}))) != []
    assert "5 batches went to a worker, and no worker names them: workers with key eve get no tasks" in said(outputs)[0]


def test_when_nothing_is_missing_without_it_it_is_left_out_for_longer_each_time(scene: Scene) -> None:
    for seconds in (30, 120, 480, 1_920, 3_600, 3_600):
        misses(scene)
        outputs = scene.pass_time(TRIES_S, ADA, BOB, EVE, VERA)
        assert f"workers with key eve keep its batches: they get no tasks of it for {seconds:,} s" in said(outputs)[-1]
        assert [each.left for _, each in of(Crew, outputs) if each.left] == [["eve"]]  # type: ignore[attr-defined]
        assert of(Crew, scene.send(EVE, Beat(4, 2, 1, {}, {}))) == []
        scene.now += seconds - TIMING.beat_s - 0.1
        assert keys(scene.pass_time(TIMING.beat_s, ADA, BOB, EVE, VERA)) == []
        outputs = scene.pass_time(0.2, ADA, BOB, EVE, VERA)
        assert keys(outputs) == [{ADA.key, BOB.key, EVE.key}]
        assert [len(told.places) for peer, told in of(Places, outputs) if peer == b"eve"] == [1]
        assert of(Crew, scene.send(EVE, Beat(4, 2, 1, {}, {}))) != []


def test_when_more_is_missing_the_key_before_it_is_tried_and_the_innocent_one_is_let_in(scene: Scene) -> None:
    misses(scene)
    assert keys(misses(scene)) == [], "the ventilator had not heard of it"
    scene.pass_time(4.0, ADA, BOB, EVE, VERA)
    assert keys(misses(scene)) == [{ADA.key}]
    outputs = scene.pass_time(TRIES_S, ADA, BOB, EVE, VERA)
    assert keys(outputs) == [{ADA.key, EVE.key}]
    assert "workers with key bob keep its batches" in said(outputs)[-1]


def test_the_last_key_is_left_in_and_all_are_let_in_again(scene: Scene) -> None:
    for _ in range(2):
        misses(scene)
        scene.pass_time(4.0, ADA, BOB, EVE, VERA)
    outputs = misses(scene)
    assert keys(outputs) == [{ADA.key, BOB.key, EVE.key}]
    assert "it cannot be told which worker keeps them" in said(outputs)[0]
    scene.pass_time(keepers.UNCLEAR_S - 1, ADA, BOB, EVE, VERA)
    assert misses(scene) == [], "nothing came of it"


def test_who_is_left_out_when_that_happens_is_let_in_too(scene: Scene) -> None:
    scene.send(BOB, Goodbye())
    misses(scene)
    scene.pass_time(TRIES_S, ADA, EVE, VERA)
    assert keys(misses(scene)) == [{ADA.key, EVE.key}], "only Ada can have kept them"
    assert of(Crew, scene.send(EVE, Beat(4, 2, 1, {}, {}))) != []


def test_who_was_left_out_before_is_tried_first(scene: Scene) -> None:
    misses(scene)
    scene.pass_time(TRIES_S + keepers.SENTENCE_S + TIMING.beat_s, ADA, BOB, EVE, VERA)
    scene.send(BOB, Goodbye())
    scene.worker(BOB)
    assert keys(misses(scene))[-1] == {ADA.key, BOB.key}


def test_another_name_does_not_help(scene: Scene) -> None:
    misses(scene)
    scene.send(EVE, Goodbye())
    scene.send(EVE, Hello(2, "worker", "eve.2"), b"again")
    outputs = scene.send(EVE, Offer([SQUARE]), b"again")
    assert [told.places for _, told in of(Places, outputs)] == [[]]
    assert all(EVE.key not in each for each in keys(scene.sink.tick(scene.now)))


def test_who_names_more_than_it_has_room_for_is_left_out_after_a_lease(scene: Scene) -> None:
    beat = Beat(4, 2, 1, {"job": [(task, 1, 1) for task in range(9)]}, {})
    for _ in range(int(TIMING.lease_s)):
        assert of(Crew, scene.send(EVE, beat)) != []
        scene.pass_time(TIMING.beat_s, ADA, BOB, VERA)
    outputs = [*scene.send(EVE, beat), *scene.sink.tick(scene.now)]
    assert "worker eve holds 9 batches for long, and has room for 3 batches" in said(outputs)[0]
    assert keys(outputs) == [{ADA.key, BOB.key}]
    assert [each.left for _, each in of(Crew, outputs)] == [["eve"]]


def test_results_that_get_their_receipts_are_no_surplus(scene: Scene) -> None:
    for number in range(30):
        names = [(task, 1, 1) for task in range(number * 4, number * 4 + 9)]
        assert of(Crew, scene.send(EVE, Beat(4, 2, 1, {"job": names}, {}))) != []
        scene.pass_time(TIMING.beat_s, ADA, BOB, VERA)


def test_while_the_ledger_is_stuck_nobody_holds_too_much(scene: Scene) -> None:
    scene.fill_disk()
    scene.deliver(scene.batch(["x" * 10_000] * 2))
    beat = Beat(4, 2, 1, {"job": [(task, 1, 1) for task in range(9)]}, {})
    for _ in range(20):
        assert of(Crew, scene.send(EVE, beat)) != []
        scene.pass_time(TIMING.beat_s, ADA, BOB, VERA)


def test_a_sole_key_that_holds_too_much_is_named_and_stays(scene: Scene) -> None:
    scene.send(ADA, Goodbye())
    scene.send(BOB, Goodbye())
    scene.pass_time(0.1, EVE, VERA)
    beat = Beat(4, 2, 1, {"job": [(task, 1, 1) for task in range(9)]}, {})
    lines: list[str] = []
    for _ in range(12):
        lines += said(scene.send(EVE, beat))
        assert keys(scene.pass_time(TIMING.beat_s, VERA)) == []
    assert ["worker eve holds 9 batches" in line for line in lines] == [True]


def test_another_jobs_ventilator_cannot_speak_for_it(scene: Scene) -> None:
    scene.send(VERA, Ask("job", 0, False))
    assert scene.send(BOB, MISSING) != []
    assert keys(scene.sink.tick(scene.now)) == []


@pytest.mark.parametrize("keeper", [ADA, BOB, EVE])
def test_others_that_expose_the_same_keep_their_place_while_it_is_left_out(scene: Scene, keeper: User) -> None:
    beat = Beat(4, 2, 1, {"job": [(task, 1, 1) for task in range(9)]}, {})
    for _ in range(int(TIMING.lease_s) + 1):
        scene.send(keeper, beat)
        scene.pass_time(TIMING.beat_s, *({ADA, BOB, EVE} - {keeper}), VERA)
    for outputs in (scene.send(VERA, Ask("job", 0, True)), scene.ventilator(VITO, "other")):
        told = {peer: [place.job for place in places.places] for peer, places in of(Places, outputs)}  # type: ignore[attr-defined]
        assert [user.name for user in (ADA, BOB, EVE) if "job" not in told[user.name.encode()]] == [keeper.name]


def test_through_the_relay_it_gets_none_either(scene: Scene) -> None:
    scene.send(VERA, Goodbye())
    relayed(scene, VERA, "job", SQUARE)
    scene.pass_time(0.1, ADA, BOB, EVE, VERA)
    outputs = misses(scene)
    assert [each for each in outputs if isinstance(each, Admit)] == [Admit(frozenset({ADA.key, BOB.key}))]


def test_when_that_job_ends_the_relay_lets_its_key_in_again(scene: Scene) -> None:
    scene.send(VERA, Goodbye())
    relayed(scene, VERA, "job", SQUARE)
    scene.pass_time(0.1, ADA, BOB, EVE, VERA)
    misses(scene)
    outputs = [*scene.send(VERA, Goodbye()), *scene.pass_time(0.2, ADA, BOB, EVE)]
    assert [each for each in outputs if isinstance(each, Admit)] == [Admit(frozenset({ADA.key, BOB.key, EVE.key}))]


def test_a_job_that_is_opened_again_begins_anew(scene: Scene) -> None:
    misses(scene)
    scene.send(VERA, Goodbye())
    assert keys(scene.ventilator(VERA)) == [{ADA.key, BOB.key, EVE.key}]
    assert scene.pass_time(TRIES_S, ADA, BOB, EVE, VERA) != []
    assert not any("keep its batches" in line for line in said(scene.pass_time(TRIES_S, ADA, BOB, EVE, VERA)))


def test_a_ventilator_that_misses_batches_all_the_time_does_not_use_up_the_lines_of_workers(scene: Scene) -> None:
    for number in range(LogLimiter.A_MINUTE_MAX):
        job = f"other{number}"
        scene.send(VERA, Open(job, SQUARE, "lines of text", 5557, 0, False, False))
        scene.send(VERA, Missing(job, 5))
    assert "worker eve has left" in said(scene.send(EVE, Goodbye()))


def steal(scene: Scene, thieves: list[User], seconds: int, is_sly: bool = False) -> list[str]:
    """These keep batches whenever they get some; the sly do not while another key may be tried. What the log says."""
    lines: list[str] = []
    kept_s, waits_s, before = 0, 0, set[str]()
    for _ in range(seconds):
        barred = set(scene.sink._registry.open_jobs["job"].barred)
        if barred - before:
            # All connections are cut, and what was kept is pushed again.
            kept_s, waits_s = 0, 10 * is_sly
        before, waits_s = barred, waits_s - 1
        kept_s = kept_s + 1 if waits_s < 0 and any(user.key not in barred for user in thieves) else 0
        outputs = scene.send(VERA, MISSING) if kept_s and kept_s % 4 == 0 else []
        lines += said(outputs + scene.pass_time(1.0, ADA, BOB, EVE, VERA))
    return lines


def convicted(lines: list[str]) -> list[str]:
    """Whose key was left out, one time after another."""
    return [line.partition("workers with key ")[2].split()[0] for line in lines if "keep its batches: they" in line]


@pytest.mark.parametrize("is_sly", [False, True])
@pytest.mark.parametrize("thief", [ADA, BOB, EVE])
def test_one_thief_is_found_whenever_it_joined_and_others_are_left_out_once(
    scene: Scene, thief: User, is_sly: bool
) -> None:
    found = convicted(steal(scene, [thief], 900, is_sly))
    framed = [name for name in found if name != thief.name]
    assert len(framed) == len(set(framed)), "another key is left out again and again"
    assert found[-3:] == [thief.name] * 3
    assert set(scene.sink._registry.open_jobs["job"].barred) == {thief.key}
    assert len(convicted(steal(scene, [thief], 3_600, is_sly))) <= 3


@pytest.mark.parametrize("is_sly", [False, True])
def test_of_two_keys_the_thiefs_is_found(scene: Scene, is_sly: bool) -> None:
    scene.send(EVE, Goodbye())
    found = convicted(steal(scene, [ADA], 900, is_sly))
    assert found.count("bob") <= 1
    assert found[-3:] == ["ada"] * 3


def test_two_thieves_are_both_found(scene: Scene) -> None:
    found = convicted(steal(scene, [BOB, EVE], 900))
    assert {"bob", "eve"} == set(found)
    assert set(scene.sink._registry.open_jobs["job"].barred) == {BOB.key, EVE.key}


def test_what_is_missing_just_after_a_key_was_left_out_does_not_clear_it(scene: Scene) -> None:
    """Its ventilator may speak of what was before."""
    beat = Beat(4, 2, 1, {"job": [(task, 1, 1) for task in range(9)]}, {})
    while not convicted(said(scene.send(EVE, beat))):
        scene.pass_time(TIMING.beat_s, ADA, BOB, VERA)
    misses(scene)
    scene.pass_time(keepers.SENTENCE_S + TIMING.beat_s, ADA, BOB, EVE, VERA)
    scene.pass_time(keepers.SENTENCE_S, ADA, BOB, EVE, VERA)
    assert EVE.key not in keys(misses(scene))[-1]


def test_a_job_that_is_opened_again_knows_nobody_who_is_cleared(scene: Scene) -> None:
    steal(scene, [ADA], 60, is_sly=True)
    scene.send(VERA, Goodbye())
    scene.ventilator(VERA)
    scene.pass_time(0.1, ADA, BOB, EVE, VERA)
    assert keys(misses(scene)) == [{ADA.key, BOB.key}]
