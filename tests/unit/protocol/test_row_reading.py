"""A reader asks page by page, takes each answer once, and knows when it is over."""

from typing import Any

import pytest
from msgspec import structs

from common.errors import OperatorError
from common.protocol.messages import Again
from common.protocol.reading import Cursor, Read, ResultRow, Rows
from common.protocol.row_reading import START, RowReading

ROW = ResultRow(3, "value", False, None, None, 1, "ada", 0.5, False)


def answer(
    reading: RowReading, position: Cursor = (1, 0), rows: Any = (), more: bool = False, state: str = "open"
) -> Rows:
    return Rows("job", reading.request().after, position, list(rows), more, state, request=reading.request().request)


def unnumbered(read: Read) -> Read:
    return structs.replace(read, request=0)


def test_it_goes_on_where_the_last_answer_ended() -> None:
    reading = RowReading("job", "task", failed=True)
    assert unnumbered(reading.request()) == Read("job", "task", START, True)
    assert reading.take(answer(reading, (4, 0), [ROW], more=True)) == [ROW]
    assert unnumbered(reading.request()) == Read("job", "task", (4, 0), True)
    assert not reading.over
    assert reading.take(answer(reading, (4, 0))) == []
    assert reading.over


def test_an_answer_counts_once() -> None:
    reading = RowReading("job", "commit", failed=False, after=(7, 2))
    first = answer(reading, (8, 0), [ROW], more=True)
    assert reading.is_answer(first)
    reading.take(first)
    assert not reading.is_answer(first), "it was asked twice"
    assert not reading.is_answer(Rows("other", reading.request().after, (9, 0), [], False, "open"))
    assert not reading.is_answer(Again())


def test_an_answer_is_of_one_request() -> None:
    before, reading = (RowReading("job", "commit", failed=False, follow=True) for _ in range(2))
    first = answer(reading, START)
    assert not reading.is_answer(answer(before)), "it was given up, and its connection is used again"
    reading.take(first)
    assert not reading.is_answer(first), "nothing had come, and this is the answer to what was asked twice"
    assert reading.is_answer(answer(reading))


def test_another_job_of_the_same_name_is_not_read_on() -> None:
    reading = RowReading("job", "task", failed=False)
    reading.take(structs.replace(answer(reading, (4, 0), more=True), number=1))
    with pytest.raises(OperatorError, match="job job was forgotten while it was read"):
        reading.take(structs.replace(answer(reading, (8, 0), more=True), number=2))


@pytest.mark.parametrize(
    ("follow", "more", "state", "over"),
    [
        (False, False, "open", True),
        (False, True, "done", False),
        (True, False, "open", False),
        (True, True, "done", False),
        (True, False, "done", True),
        (True, False, "cancelled", True),
    ],
)
def test_it_is_over_when_all_was_read_and_a_followed_job_has_ended(
    follow: bool, more: bool, state: str, over: bool
) -> None:
    reading = RowReading("job", "commit", failed=False, follow=follow)
    reading.take(answer(reading, more=more, state=state))
    assert reading.over is over
