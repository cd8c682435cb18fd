"""Of an input that is appended only the new tasks count, the same ones each time that it is read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, msgpack

from common.errors import OperatorError
from common.protocol.arguments import digest
from common.protocol.fields import ArgumentForm
from common.protocol.messages import Digests
from common.ventilator.appended_input import AppendedInput
from common.ventilator.seen import SeenArguments

BAD = OperatorError("line 3 is bad")


class Whole:
    """An input that has read `here` of its tasks; one may be bad."""

    source = "lines of text"
    arguments: ArgumentForm = "text"

    def __init__(self, tasks: list[Any], here: int | None = None, bad_at: int | None = None) -> None:
        self.tasks, self.bad_at, self.next = tasks, bad_at, 0
        self.here = len(tasks) if here is None else here
        self.expected = len(tasks)
        self.is_estimate = False

    @property
    def ended(self) -> bool:
        return self.next == len(self.tasks)

    fresh = False

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        return []

    def verified(self) -> None:
        pass

    def leave(self, is_done: bool) -> list[str]:
        return []

    def fileno(self) -> int:
        return 7

    def fill(self) -> None:
        self.here = min(self.here + 2, len(self.tasks))

    def available(self, count: int = 1) -> bool:
        return self.next + count <= self.here or self.next < self.here == len(self.tasks)

    def skip(self, count: int) -> int:
        raise AssertionError("what is skipped must be looked at")

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        if self.next == self.bad_at:
            raise BAD
        end = min(self.next + count, self.here, len(self.tasks) if self.bad_at is None else self.bad_at)
        taken, self.next = self.tasks[self.next : end], end
        return len(taken), Raw(msgpack.encode(taken))

    def mark(self) -> tuple[int, bytes]:
        raise AssertionError("the marks are those of the new tasks")


def seen_of(*arguments: Any) -> SeenArguments:
    seen = SeenArguments("job")
    seen.opened(0.0, len(arguments))
    sealed = b"".join(digest(msgpack.encode(each)) for each in arguments)
    seen.receive(0.0, Digests("job", 0, len(arguments), sealed, 0, False))
    return seen


def read(appended: AppendedInput, count: int = 2) -> list[Any]:
    found: list[Any] = []
    for _ in range(1_000):
        while appended.available():
            taken, arguments = appended.take(count, 1_000)
            found += msgpack.decode(arguments)
            assert 1 <= taken <= count
        if appended.ended:
            break
        appended.fill()
    return found


def test_only_the_new_tasks_are_taken_and_counted_from_the_base() -> None:
    seen = seen_of("a", "b")
    appended = AppendedInput(Whole(["b", "x", "a", "y", "x", "z"]), seen)
    assert appended.mark() == (2, b"")
    assert read(appended) == ["x", "y", "z"]
    assert (appended.mark()[0], appended.expected, appended.ended, seen.skipped_count) == (5, 5, True, 3)


def test_nothing_is_taken_before_all_seen_arguments_are_known() -> None:
    seen = SeenArguments("job")
    appended = AppendedInput(Whole(["x"]), seen)
    assert not appended.available()
    assert not appended.ended


def test_an_input_without_a_new_task_ends() -> None:
    appended = AppendedInput(Whole(["a", "a"]), seen_of("a"))
    assert not appended.available()
    assert appended.ended
    assert appended.mark() == (1, b"")


@given(tasks=st.lists(st.integers(0, 9), max_size=30), old=st.sets(st.integers(0, 9)), sizes=st.integers(1, 7))
def test_the_marks_are_the_same_however_it_is_read(tasks: list[int], old: set[int], sizes: int) -> None:
    one, other = (AppendedInput(Whole(tasks, here), seen_of(*old)) for here in (0, None))
    assert read(one, sizes) == read(other, 30) == [each for each in dict.fromkeys(tasks) if each not in old]
    assert one.mark() == other.mark()
    third = AppendedInput(Whole(tasks), seen_of(*old))
    while third.available():
        third.skip(sizes)
    assert third.mark() == one.mark()


def test_a_batch_is_no_larger_than_it_may_be_and_has_one_task_at_least() -> None:
    appended = AppendedInput(Whole(["x" * 60, "y" * 60, "z"]), seen_of())
    assert appended.available(3)
    assert [appended.take(3, 100)[0] for _ in range(2)] == [1, 2]


def test_the_tasks_before_a_bad_one_are_taken_first() -> None:
    appended = AppendedInput(Whole(["x", "y", "bad"], bad_at=2), seen_of())
    assert appended.available(9)
    assert not appended.ended
    assert appended.take(9, 1_000)[0] == 2
    assert not appended.ended
    with pytest.raises(OperatorError, match="line 3 is bad"):
        appended.available()


def test_it_waits_for_what_the_whole_input_waits_for() -> None:
    appended = AppendedInput(Whole(["a", "x"], here=1), seen_of("a"))
    assert not appended.available()
    assert (appended.fileno(), appended.ended) == (7, False)
    appended.fill()
    assert appended.available()
