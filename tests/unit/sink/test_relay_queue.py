"""What the relay holds: each ventilator's batches in turn, none for too long, and of none too much."""

from common.sink.relay_queue import RelayQueue

AGE_S = 10.0


def given(queue: RelayQueue, now: float = 0.0) -> list[bytes]:
    """All that it gives at that instant."""
    found = []
    while (content := queue.next(now)) is not None:
        found.append(content)
        queue.sent()
    return found


def test_batches_of_a_ventilator_keep_their_order() -> None:
    queue = RelayQueue(AGE_S, 1_000)
    for content in (b"1", b"2", b"3"):
        queue.put(0.0, "v", content)
    assert len(queue) == 3
    assert queue.next(0.0) == queue.next(0.0) == b"1"
    assert given(queue) == [b"1", b"2", b"3"]
    assert (len(queue), queue.next(0.0), queue.deadline()) == (0, None, None)


def test_a_flood_holds_nobody_up() -> None:
    queue = RelayQueue(AGE_S, 1_000)
    for number in range(500):
        queue.put(0.0, "flood", b"%3d" % number)
    queue.put(0.0, "v", b"a")
    queue.put(0.0, "v", b"b")
    assert given(queue)[:4] == [b"  0", b"a", b"  1", b"b"]


def test_of_a_key_it_holds_so_much_and_of_others_all_the_same() -> None:
    queue = RelayQueue(AGE_S, 10)
    for _ in range(5):
        queue.put(0.0, "flood", b"1234")
    queue.put(0.0, "v", b"1234567890")
    assert queue.dropped_count == 3
    assert given(queue) == [b"1234", b"1234567890", b"1234"]
    queue.put(1.0, "flood", b"1234567890")
    assert given(queue, 1.0) == [b"1234567890"], "what is gone takes no room"


def test_what_was_pushed_again_meanwhile_is_dropped() -> None:
    queue = RelayQueue(AGE_S, 1_000)
    queue.put(0.0, "v", b"old")
    queue.put(4.0, "w", b"new")
    queue.put(5.0, "v", b"newer")
    assert queue.deadline() == AGE_S
    assert given(queue, AGE_S) == [b"new", b"newer"]
    assert queue.dropped_count == 1


def test_what_was_dropped_is_said_once_a_minute() -> None:
    queue = RelayQueue(AGE_S, 1)
    assert (queue.words(0.0), queue.deadline()) == (None, None)
    queue.put(0.0, "v", b"12")
    assert queue.deadline() is not None
    assert (
        queue.words(0.0) == "the relay dropped 1 batch that no worker had room for; their ventilators push them again"
    )
    assert (queue.words(0.0), queue.deadline()) == (None, None)
    for _ in range(3):
        queue.put(1.0, "v", b"12")
    assert (queue.words(59.0), queue.deadline()) == (None, 60.0)
    assert "dropped 3 batches" in (queue.words(60.0) or "")
