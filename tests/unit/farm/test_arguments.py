"""Arguments of any iterable, read in a thread as a ventilator's input."""

import select
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from common.errors import OperatorError
from common.farm.arguments import ArgumentEncoder, ArgumentsInput, input_of
from common.ventilator.inputs import RangeInput
from tests.conftest import wait_until


def started(arguments: Any, ahead: int = 100) -> ArgumentsInput:
    made = ArgumentsInput(arguments, ahead, None)
    made.start()
    return made


def filled(made: ArgumentsInput, count: int) -> None:
    """Do as the loop does until this many are there, or there will be no more."""

    def is_there() -> bool:
        descriptor = made.fileno()
        if descriptor is not None and select.select([descriptor], [], [], 0.01)[0]:
            made.fill()
        return made.available(count)

    wait_until(is_there, f"{count} arguments")


def test_they_come_in_order_and_their_end_is_seen() -> None:
    made = started(iter(["a", {"b": [1]}, None]))
    filled(made, 2)
    count, first = made.take(2, 1_000)
    filled(made, 1)
    _, second = made.take(5, 1_000)
    assert (count, msgspec.msgpack.decode(first), msgspec.msgpack.decode(second)) == (2, ["a", {"b": [1]}], [None])
    wait_until(lambda: _ended(made), "the end")
    assert made.fileno() is None


def _ended(made: ArgumentsInput) -> bool:
    if (descriptor := made.fileno()) is not None and select.select([descriptor], [], [], 0.01)[0]:
        made.fill()
    return made.ended


def test_at_most_so_many_are_read_ahead() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(1_000):
            read.append(n)
            yield n

    made = started(numbers(), ahead=10)
    filled(made, 10)
    wait_until(lambda: made._waits, "the thread waits")
    assert len(read) == 11
    made.skip(10)
    wait_until(lambda: made._waits and len(read) > 11, "it reads on")
    assert len(read) == 21
    made.leave(False)
    wait_until(lambda: not any(each.name == "tradewind-input" for each in threading.enumerate()), "it leaves")
    assert len(read) == 21


def test_what_is_asked_for_and_never_fits_in_is_taken_in_parts() -> None:
    made = started(iter(range(100)), ahead=4)
    filled(made, 50)
    assert made.take(50, 1_000)[0] <= 5
    made.leave(False)


def test_the_digest_does_not_depend_on_how_they_are_taken() -> None:
    marks = []
    for parts in ((3, 1), (1, 1, 2)):
        made = started(iter([1, "two", [3], None]))
        for part in parts:
            filled(made, part)
            made.take(part, 1_000)
        marks.append(made.mark())
    assert marks[0] == marks[1]
    assert marks[0][0] == 4


def test_what_a_generator_changes_after_it_has_given_it_is_not_changed() -> None:
    def shared() -> Iterator[list[int]]:
        one = [0]
        for n in range(3):
            one[0] = n
            yield one

    made = started(shared())
    filled(made, 3)
    assert msgspec.msgpack.decode(made.take(3, 1_000)[1]) == [[0], [1], [2]]


def test_the_exception_of_a_generator_is_kept() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    made = started(broken())
    wait_until(lambda: made.failure is not None, "it raises")
    with pytest.raises(OperatorError, match="KeyError: 'gone'"):
        wait_until(lambda: _ended(made), "never")
    assert isinstance(made.failure, KeyError)


@pytest.mark.parametrize(
    ("argument", "error", "words"),
    [
        (object(), TypeError, "object"),
        (2**64, ValueError, "64 bits"),
        ("\ud800", ValueError, "surrogates"),
        (b"x" * 17_000_000, ValueError, "write it to a file"),
    ],
)
def test_what_no_message_holds_is_refused_in_words(argument: Any, error: type[Exception], words: str) -> None:
    made = started([1, argument])
    wait_until(lambda: made.failure is not None, "it is refused")
    assert type(made.failure) is error
    assert words in str(made.failure)
    assert "argument 1, of type" in str(made.failure)


def test_numbers_of_numpy_are_plain_numbers() -> None:
    given = [np.int8(3), np.float64(0.5), np.bool_(True), {"a": np.float32(0.25)}, np.array(7), *np.arange(2)]
    encode = ArgumentEncoder().encoded
    assert [msgspec.msgpack.decode(encode(each)) for each in given] == [3, 0.5, True, {"a": 0.25}, 7, 0, 1]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (np.arange(3), r"numpy\.ndarray cannot be sent: give its tolist\(\), or the path"),
        (np.longdouble(1), r"numpy\.longdouble cannot be sent"),
        ([Path("a")], r"pathlib\.\w+ cannot be sent: give str\(\) of it"),
        ({"a": 1 + 2j}, r"^complex cannot be sent: give numbers, text, bytes, lists or maps"),
    ],
)
def test_what_has_no_form_is_named_with_what_to_give_instead(argument: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        ArgumentEncoder().encoded(argument)


def test_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    deep.append(deep)
    with pytest.raises(ValueError, match="nested too deeply"):
        ArgumentEncoder().encoded(deep)


def test_a_range_is_never_written_out() -> None:
    made = input_of(range(5, 10**12), 10, None)
    assert isinstance(made, RangeInput)
    assert made.expected == 10**12 - 5
    assert input_of(range(7, 3), 10, None).expected == 0
    assert input_of(range(0, 10, 3), 10, None).expected == 4
    assert input_of([1, 2], 10, None).expected == 2
    assert input_of(iter([1, 2]), 10, 7).expected == 7
    assert input_of(iter([1, 2]), 10, None).expected is None


def test_what_cannot_be_iterated_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        input_of(3, 10, None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("hasty_threads")
def test_they_are_taken_while_more_are_read() -> None:
    count = 300_000
    made = started(iter(range(count)), ahead=20_000)
    taken = 0
    while taken < count:
        filled(made, 5_000)
        taken += made.take(10_000, 1_000_000)[0]
    wait_until(lambda: _ended(made), "the end")


def test_who_looked_before_the_thread_has_begun_to_wait_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than were asked for, not half of what may be read ahead, and no more will come: all that there is."""
    monkeypatch.setattr("common.farm.arguments._AHEAD_BYTES_MAX", 100)
    goes_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield bytes(120)
        goes_on.wait()
        yield bytes(1)

    made = started(slow(), ahead=1_000)
    filled(made, 1)
    assert not made.available(2)
    goes_on.set()
    assert select.select([made.fileno()], [], [], 30)[0]
    made.fill()
    assert made.available(2)
    assert made.take(2, 1_000)[0] == 1
    made.leave(False)


def test_an_argument_is_let_go_once_it_is_encoded() -> None:
    class Held(dict[str, int]):
        """What can be referred to weakly."""

    encoder, argument = ArgumentEncoder(), Held(a=1)
    held = weakref.ref(argument)
    assert encoder.encoded(argument)
    del argument
    assert held() is None


def test_large_arguments_are_not_read_ahead_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.farm.arguments._AHEAD_BYTES_MAX", 100)
    made = started((bytes(60) for _ in range(50)), ahead=1_000)
    filled(made, 50)
    assert made.take(50, 1_000_000)[0] == 2
    made.leave(False)
