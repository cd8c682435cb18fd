"""Jobs whose tasks come through the relay: where workers find them, which workers hear of them, who is cut off."""

import itertools

import msgspec
import pytest

from common.protocol.messages import Ask, Goodbye, Place, Places
from common.protocol.settings import CUT_CONNECTION_S
from common.protocol.users import User
from common.sink.outputs import Admit, CutOff, Output
from common.sink.registry import BeatingWorker, OpenJob
from tests.unit.sink.scene import (
    ADA,
    BEAT,
    BOB,
    CUBE,
    OPEN,
    ROSTER,
    SETTINGS,
    SQUARE,
    TIMING,
    VERA,
    VITO,
    Scene,
    of,
    said,
)

MAURA = User("worker", "maura", "M" * 40)


def relayed(scene: Scene, user: User, job: str, function: str, **more: bool) -> list[Output]:
    scene.hello(user)
    return scene.send(user, msgspec.structs.replace(OPEN, job=job, function=function, relay=True, **more))


def places(outputs: list[Output]) -> dict[bytes, list[str]]:
    """By peer: the jobs that it was told last."""
    return {peer: [each.job for each in told.places] for peer, told in of(Places, outputs) if isinstance(told, Places)}


def test_workers_find_them_at_the_sink_itself(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    outputs = relayed(scene, VERA, "job", SQUARE)
    [(_, told)] = of(Places, outputs)
    assert isinstance(told, Places)
    origin = told.places[0].origin
    assert len(origin) == 16
    assert told.places == [Place("job", "", SETTINGS.relayed_tasks_port, SETTINGS.key, False, origin)]
    assert any("its tasks come through the relay" in line for line in said(outputs))


def test_whoever_pulls_from_the_relay_hears_of_all_that_comes_from_there(scene: Scene) -> None:
    """Else it could not tell what to return."""
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    assert places(relayed(scene, VERA, "squares", SQUARE)) == {b"ada": ["squares"]}
    assert places(relayed(scene, VITO, "cubes", CUBE)) == {b"bob": ["cubes", "squares"], b"ada": ["squares", "cubes"]}
    assert places(scene.send(VERA, Ask("squares", 0, True))) == {b"ada": ["squares", "cubes"]}, "its own concern"
    assert places(scene.send(VITO, Goodbye())) == {b"bob": [], b"ada": ["squares"]}


def test_a_large_crew_hears_of_a_job_without_a_look_at_each_pair(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (SQUARE, CUBE))
    for kind in (BeatingWorker, OpenJob):
        monkeypatch.setattr(kind, "__eq__", lambda *_: pytest.fail("it is compared with others"))
    assert places(relayed(scene, VERA, "squares", SQUARE)) == {b"ada": ["squares"], b"bob": ["squares"]}
    assert places(relayed(scene, VITO, "cubes", CUBE)) == {b"ada": ["squares", "cubes"], b"bob": ["squares", "cubes"]}


def test_jobs_that_are_pulled_from_their_ventilators_are_nobody_elses_concern(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    scene.ventilator(VERA, "squares", SQUARE)
    assert places(relayed(scene, VITO, "cubes", CUBE)) == {b"bob": ["cubes"]}


def test_a_job_may_go_over_to_the_relay(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.ventilator(VERA)
    outputs = relayed(scene, VERA, "job", SQUARE, reopens=True)
    [(_, told)] = of(Places, outputs)
    assert isinstance(told, Places)
    assert [(each.job, each.port) for each in told.places] == [("job", SETTINGS.relayed_tasks_port)]


def cuts(outputs: list[Output]) -> list[CutOff]:
    return [each for each in outputs if isinstance(each, CutOff)]


def test_a_worker_that_misses_its_beats_is_cut_off_at_the_relay_once(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.host = "10.0.0.2"
    scene.worker(BOB, (SQUARE,))
    relayed(scene, VERA, "job", SQUARE)
    assert cuts(scene.pass_time(TIMING.silence_s, BOB, VERA)) == []
    assert cuts(scene.pass_time(TIMING.beat_s, BOB, VERA)) == [CutOff("10.0.0.1", 0)]
    assert cuts(scene.pass_time(TIMING.gone_s, BOB, VERA)) == [CutOff(None, 1)], "it is lost, and its key with it"


def test_one_that_beats_again_may_be_cut_off_again(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (SQUARE,))
    relayed(scene, VERA, "job", SQUARE)
    for _ in range(2):
        assert cuts(scene.pass_time(TIMING.silence_s + TIMING.beat_s, BOB, VERA)) == [CutOff("10.0.0.1", 1)]
        scene.send(ADA, BEAT)


def test_a_large_crew_is_not_cut_off_all_the_time(scene: Scene) -> None:
    """Where the machine is too busy some workers miss their beats at any time; that all connect anew makes it worse."""
    users = [User("worker", f"w{number}", f"{number:040}") for number in range(100)]
    scene.sink.roster_changed(scene.now, ROSTER | {user.key: user for user in users})
    for user in users:
        scene.worker(user)
    relayed(scene, VERA, "job", SQUARE)
    # Each second another one has beaten for the last time.
    turns = (scene.pass_time(TIMING.beat_s, VERA, *users[at:]) for at in range(30))
    cut_at = [scene.now for outputs in turns if any(each.address for each in cuts(outputs))]
    assert len(cut_at) >= 4, "none is forgotten"
    for before, after in itertools.pairwise(cut_at):
        assert after - before >= 70 * CUT_CONNECTION_S


@pytest.mark.parametrize("function", [SQUARE, CUBE])
def test_who_does_not_pull_from_the_relay_is_neither_cut_off_nor_counted(scene: Scene, function: str) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (CUBE,))
    scene.ventilator(VITO, "direct", CUBE)
    relayed(scene, VERA, "job", function)
    silent, other = (ADA, BOB) if function == SQUARE else (BOB, ADA)
    assert cuts(scene.pass_time(TIMING.silence_s + TIMING.beat_s, silent, VERA)) == []
    scene.send(other, BEAT)
    outputs = scene.pass_time(TIMING.silence_s + TIMING.beat_s, other, VERA)
    assert cuts(outputs) == [CutOff("10.0.0.1", 0)]


def admitted(outputs: list[Output]) -> list[frozenset[str]]:
    return [each.keys for each in outputs if isinstance(each, Admit)]


def turn(scene: Scene) -> list[Output]:
    """One a millisecond later: keys that change again at once wait for a moment."""
    scene.now += 1e-3
    return scene.sink.tick(scene.now)


def test_only_keys_of_workers_that_are_here_pull_from_the_relay(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    assert admitted(turn(scene)) == [frozenset({ADA.key})]
    scene.worker(BOB, (CUBE,))
    assert admitted(turn(scene)) == [frozenset({ADA.key, BOB.key})]
    assert admitted(turn(scene)) == []
    scene.send(BOB, Goodbye())
    assert admitted(turn(scene)) == [frozenset({ADA.key})]


def test_who_still_pulls_with_a_key_whose_workers_have_left_is_cut_off(scene: Scene) -> None:
    scene.worker(ADA, (SQUARE,))
    scene.worker(BOB, (SQUARE,))
    relayed(scene, VERA, "job", SQUARE)
    turn(scene)
    scene.send(BOB, Goodbye())
    assert cuts(turn(scene)) == []
    assert cuts(scene.pass_time(2 * TIMING.beat_s, ADA, VERA)) == [CutOff(None, 1)]
    assert cuts(scene.pass_time(TIMING.gone_s, ADA, VERA)) == []


def test_keys_that_come_and_go_put_nothing_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pulls with the key of a worker that has left is cut off, whatever others do."""
    monkeypatch.setitem(ROSTER, MAURA.key, MAURA)
    scene.worker(ADA, (SQUARE,))
    relayed(scene, VERA, "job", SQUARE)
    scene.worker(BOB, (SQUARE,))
    scene.sink.tick(scene.now)
    scene.send(BOB, Goodbye())
    found: list[CutOff] = []
    for _ in range(3):
        found += cuts(scene.pass_time(TIMING.beat_s, ADA, VERA))
        scene.worker(MAURA, (SQUARE,))
        found += cuts(scene.sink.tick(scene.now))
        scene.send(MAURA, Goodbye())
    assert found == [CutOff(None, 1)]
