"""News of the crew: fewer messages that mean the same."""

from hypothesis import given
from hypothesis import strategies as st

from common.protocol.messages import BatchName, Beat, Crew, Heard, Member, Message, Returned
from common.sink.crew_news import joined
from common.sink.outputs import Output, Send
from common.sink.registry import PAGE_NAMES, names_in
from tests.unit.sink.scene import ADA, BOB, VERA, VITO, Scene, of, to

WORKERS = st.sampled_from(["ada", "bob", "cleo"])
HELD: dict[int, list[BatchName]] = {names: [(0, 1, 1)] * names for names in (0, 1, PAGE_NAMES // 3, PAGE_NAMES)}


def member(worker: str, names: int = 0) -> Member:
    return Member(worker, 1, 1, HELD[names], [])


CREWS = st.builds(
    Crew,
    st.lists(st.builds(member, WORKERS, st.sampled_from(list(HELD))), max_size=2),
    st.lists(WORKERS, max_size=1),
    st.lists(WORKERS, max_size=1),
    st.integers(0, 3),
)
OTHERS = st.sampled_from([Heard(1), Returned("job", "ada", [(1, 1, 1)], [])])
OUTPUTS = st.lists(st.builds(Send, st.sampled_from([b"v", b"w"]), CREWS | OTHERS), max_size=30)


def seen_by(messages: list[Message]) -> list[object]:
    """What a ventilator takes of these, in the order in which it takes it."""
    seen: list[object] = []
    for message in messages:
        if isinstance(message, Crew):
            seen += [(each.worker, id(each)) for each in message.members]
            seen += [("left", worker) for worker in message.left] + [("lost", worker) for worker in message.lost]
        else:
            seen.append(message)
    return seen


@given(OUTPUTS)
def test_each_peer_is_told_the_same_in_order(outputs: list[Output]) -> None:
    fewer = joined(outputs)
    assert len(fewer) <= len(outputs)
    for peer in (b"v", b"w"):
        before, after = to(peer, outputs), to(peer, fewer)
        assert seen_by(after) == seen_by(before)
        crews = [[each for each in messages if isinstance(each, Crew)] for messages in (before, after)]
        assert [each.others for each in crews[0][-1:]] == [each.others for each in crews[1][-1:]]
        whole = [each.members for each in crews[0]]
        sizes = [sum(map(names_in, each.members)) for each in crews[1] if each.members not in whole]
        assert all(size <= PAGE_NAMES for size in sizes), "nothing is joined to what is too large"


def test_a_beat_after_a_farewell_is_not_joined_with_it() -> None:
    crews = [Crew([], ["ada"], [], 0), Crew([member("ada")], [], [], 0), Crew([], [], ["ada"], 1)]
    assert joined([Send(b"v", each) for each in crews]) == [
        Send(b"v", crews[0]),
        Send(b"v", Crew([member("ada")], [], ["ada"], 1)),
    ]


def test_what_one_turn_tells_of_many_beats_is_one_message(scene: Scene) -> None:
    """And it stands where the first of it stood, before the answers to later beats."""
    for user in (ADA, BOB):
        scene.worker(user)
    scene.ventilator(VERA)
    beats = [scene.send(user, Beat(7, 1, 1, {"job": [(at, 1, 1)]}, {})) for at, user in enumerate((ADA, BOB))]
    fewer = joined([output for outputs in beats for output in outputs])
    assert [(peer, [each.worker for each in crew.members]) for peer, crew in of(Crew, fewer)] == [
        (b"vera", ["ada", "bob"])
    ]
    assert [type(output.message) for output in fewer if isinstance(output, Send)] == [Heard, Crew, Heard]


def test_returned_batches_stay_behind_the_beats_before_them(scene: Scene) -> None:
    """A beat that came later may name the batch anew: the two must not change places."""
    scene.worker(ADA)
    scene.ventilator(VERA)
    scene.ventilator(VITO, "other")
    steps = [Beat(7, 1, 1, {}, {}), Returned("job", "ada", [(1, 1, 1)], []), Beat(8, 1, 1, {"job": [(1, 1, 1)]}, {})]
    fewer = joined([output for step in steps for output in scene.send(ADA, step)])
    assert [type(message) for message in to(VERA, fewer)] == [Crew, Returned, Crew]
    assert [type(message) for message in to(VITO, fewer)] == [Crew]
