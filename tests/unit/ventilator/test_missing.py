"""Batches that somebody keeps: when their ventilator says that they are missing, and when not."""

from collections.abc import Callable
from typing import Any

import pytest

from common.protocol.messages import BatchName, Crew, Member, Missing, Present, Roster
from common.protocol.settings import Timing
from common.ventilator.admission import CutLinks
from tests.unit.ventilator.test_dispatch import ONE, Scene

T = Timing()
ADA, EVE = "A" * 40, "E" * 40
NAMED: list[BatchName] = [(0, 1, 1), (2, 1, 1)]


def member(worker: str, *held: BatchName) -> Member:
    return Member(worker, 2, 2, list(held), [])


def kept() -> Scene:
    """Of eight batches two are named by their worker, and nobody names the others."""
    scene = Scene(ONE)
    scene.rules.receive(scene.now, Roster([ADA, EVE]))
    scene.rules.receive(scene.now, Present([ADA, EVE]))
    scene.catch_up()
    scene.rules.receive(scene.now, Crew([member("ada"), member("eve")], [], [], 0))
    assert len(scene.go()) == 8
    return scene


def said(outputs: list[Any]) -> list[Missing]:
    return [output for output in outputs if isinstance(output, Missing)]


def test_batches_are_missing_when_every_worker_has_beaten_and_none_names_them() -> None:
    scene = kept()
    both = member("ada", *NAMED), member("eve")
    assert said(scene.after(T.unnamed_s + 2 * T.beat_s - 0.1, *both)) == [], "the sink was not heard before"
    assert said(scene.after(1.1, *both)) == [Missing("job", 6)]
    assert said(scene.after(4 * T.beat_s, *both)) == [], "it is not repeated at once"
    assert said(scene.after(T.beat_s, *both)) == [Missing("job", 6)], "it is missing still"


def test_whoever_names_what_it_has_keeps_nothing() -> None:
    scene = kept()
    others = [(task, 1, 1) for task in (1, 3, 4, 5, 6)]
    assert said(scene.after(T.lease_s - 1, member("ada", *NAMED), member("eve", *others))) == [], "only one is missing"


def test_nothing_is_missing_while_a_worker_has_not_been_heard_for_longer() -> None:
    scene = kept()
    assert said(scene.after(T.silence_s - 0.1, member("ada", *NAMED))) == []


def test_few_that_are_missing_among_many_that_come_and_go_are_left_to_their_leases() -> None:
    scene = kept()
    names: list[BatchName] = [(task, 1, 1) for task in range(6)]
    assert said(scene.after(T.lease_s - 1, member("ada", *names), member("eve"))) == []


def test_what_was_named_for_long_does_not_hide_what_is_missing() -> None:
    """Else a worker that names many and keeps as many would be never found."""
    scene = kept()
    names: list[BatchName] = [(task, 1, 1) for task in range(5)]
    scene.after(T.lease_s - 1, member("ada"), member("eve", *names))
    scene.receipts((5, 3))
    scene.go()
    scene.after(1.0, member("ada"), member("eve", *names))
    assert said(scene.after(2.6, member("ada"), member("eve", *names))) == [Missing("job", 3)]


def test_after_a_worker_was_lost_there_is_another_reason() -> None:
    scene = kept()
    scene.after(2.0, member("ada", *NAMED), member("eve"))
    scene.rules.receive(scene.now, Crew([], [], ["eve"], 0))
    assert said(scene.after(T.unnamed_s + T.beat_s, member("ada", *NAMED))) == []


def be_lost(scene: Scene) -> None:
    scene.rules.receive(scene.now, Crew([], [], ["bob"], 0))


def strike_out(scene: Scene) -> None:
    assert scene.rules.receive(scene.now, Roster([EVE])) == [CutLinks(0)]


def be_slow(scene: Scene) -> None:
    scene.now += T.silence_s


def be_away(scene: Scene) -> None:
    scene.now += T.gone_s + T.beat_s


@pytest.mark.parametrize("happens", [be_lost, strike_out, be_slow, be_away])
def test_after_what_leaves_batches_unnamed_by_itself_none_is_missing_for_a_while(
    happens: Callable[[Scene], None],
) -> None:
    scene = kept()
    both = member("ada", *NAMED), member("eve")
    assert said(scene.after(T.unnamed_s + 2 * T.beat_s - 0.1, *both, member("bob"))) == [], "they will be in a moment"
    happens(scene)
    assert said(scene.after(T.unnamed_s - 0.1, *both)) == []


@pytest.mark.parametrize(("recorded", "says"), [(6, False), (5, True)])
def test_one_that_is_missing_is_left_to_its_lease_and_two_are_not(recorded: int, says: bool) -> None:
    scene = kept()
    scene.receipts((1, recorded))
    assert bool(said(scene.after(T.lease_s - 1, member("ada", NAMED[0]), member("eve")))) == says


def test_a_key_that_goes_later_than_the_sink_would_answer_has_left_in_order() -> None:
    scene = kept()
    both = member("ada"), member("eve")
    while not said(scene.after(0.5, *both)):
        pass
    scene.after(2 * T.beat_s, *both)
    assert scene.rules.receive(scene.now, Present([ADA])) == []


def test_the_key_that_the_sink_then_leaves_out_is_cut_off_at_once() -> None:
    scene = kept()
    scene.after(T.beat_s, member("ada"), member("eve"))
    assert scene.rules.receive(scene.now, Present([ADA])) == [], "its worker has left in order"
    scene.rules.receive(scene.now, Present([ADA, EVE]))
    while not said(scene.after(0.5, member("ada"), member("eve"))):
        pass
    outputs = scene.rules.receive(scene.now, Present([ADA]))
    assert outputs == [CutLinks(0)]
    assert scene.rules.admission.judge(EVE) is None
    scene.rules.tick(scene.now + T.unnamed_s)
    assert len(scene.push()) == 8, "what it has is pushed again"
