"""Which arguments count as seen, and how the sink is asked for them."""

import pytest
from msgspec import msgpack

from common.protocol.arguments import digest
from common.protocol.messages import Close, Digests, Seen
from common.ventilator.seen import SeenArguments

OLD = [msgpack.encode(each) for each in ("a", "b", "c")]


def page(first: int, arguments: list[bytes], more: bool, unknown: int = 0, job: str = "job") -> Digests:
    return Digests(job, first, first + len(arguments), b"".join(map(digest, arguments)), unknown, more)


@pytest.fixture
def seen() -> SeenArguments:
    made = SeenArguments("job")
    assert made.opened(0.0, base=3) == [Seen("job", 0)]
    return made


def test_pages_are_asked_for_until_there_are_no_more(seen: SeenArguments) -> None:
    assert seen.receive(0.0, page(0, OLD[:2], more=True)) == [Seen("job", 2)]
    assert not seen.complete
    assert seen.receive(0.0, page(2, OLD[2:], more=False)) == []
    assert (seen.complete, seen.base, seen.deadline()) == (True, 3, None)
    assert seen.opened(9.0, base=3) == [], "after the sink was away"


def test_each_argument_is_new_once(seen: SeenArguments) -> None:
    seen.receive(0.0, page(0, OLD, more=False))
    found = [seen.is_new(msgpack.encode(each)) for each in ("a", "x", "b", "x", "y", 1, "1", ["a"])]
    assert found == [False, True, False, False, True, True, True, True]
    assert seen.skipped_count == 3


def test_a_lost_answer_is_asked_for_again_and_a_late_one_changes_nothing(seen: SeenArguments) -> None:
    assert seen.tick(1.9) == []
    assert seen.deadline() == 2.0
    assert seen.tick(2.0) == [Seen("job", 0)]
    assert seen.receive(2.5, page(0, OLD[:2], more=True)) == [Seen("job", 2)]
    assert seen.receive(2.6, page(0, OLD[:2], more=False)) == []
    assert seen.receive(2.6, page(2, OLD, more=False, job="other")) == []
    assert not seen.complete
    assert seen.opened(3.0, base=3) == [Seen("job", 2)], "the sink was away"


def test_when_an_argument_is_not_known_nothing_is_appended_and_the_job_is_done_again(seen: SeenArguments) -> None:
    assert seen.receive(0.0, page(0, OLD[:1], more=True, unknown=1)) == [Close("job", 3, False)]
    assert seen.problem is not None
    assert "no arguments of some tasks of job job" in seen.problem
    assert not seen.complete
    assert (seen.deadline(), seen.tick(9.0)) == (None, [])


def test_many_arguments_are_told_apart_and_take_little_room() -> None:
    seen = SeenArguments("job")
    seen.opened(0.0, base=50_000)
    old = [msgpack.encode(number) for number in range(50_000)]
    seen.receive(0.0, page(0, old, more=False))
    assert not any(map(seen.is_new, old))
    assert all(seen.is_new(msgpack.encode(number)) for number in range(50_000, 60_000))
    assert sum(len(key) + len(rests) for key, rests in seen._rests.items()) <= 16 * 60_000
