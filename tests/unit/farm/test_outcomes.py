"""A stream of rows takes the answers to its own requests, on a connection that others have used before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.farm.outcomes import RowStream
from common.farm.row_order import AsCommitted
from common.protocol.reading import Read, ResultRow, Rows


class Talk:
    """A connection. Each answer that comes tells of one row more; `late` ones were not waited for."""

    def __init__(self) -> None:
        self.late: list[Rows] = []
        self._asked: Read | None = None

    @contextmanager
    def talk(self, join_s: float) -> Iterator["Talk"]:
        yield self

    def watch(self, what: Any, call: Callable[[], object]) -> None: ...

    def unwatch(self, what: Any) -> None: ...

    def begin(self, question: Read) -> None:
        if self._asked is not None:
            self.late.append(answer(self._asked, "open"))
        self._asked = question

    def ask(self, question: Read, kind: type[Rows], is_answer: Callable[[Rows], bool], by: float) -> Rows:
        if question != self._asked:
            self.begin(question)
        self._asked = None
        arrived, self.late = [*self.late, answer(question, "done")], []
        return next(rows for rows in arrived if is_answer(rows))


def answer(read: Read, state: str) -> Rows:
    task = read.after[0]
    row = ResultRow(task, task, False, None, None, 1, "w", 0.0, False)
    more = state == "open" or task < 2
    # The answer that comes late is of a job that was forgotten since.
    number = 1 if state == "open" else 2
    return Rows("job", read.after, (task + 1, 0), [row], more, state, number, read.request)


def test_what_was_asked_by_an_abandoned_stream_is_not_taken_by_the_next() -> None:
    talk = Talk()

    def stream() -> RowStream[Any]:
        return RowStream(talk, "job", None, lambda: AsCommitted("job", 0, False, 0))  # type: ignore[arg-type]

    abandoned = stream()
    abandoned.interrupt()
    assert list(abandoned.pages()) == []
    abandoned.close()
    again = stream()
    assert [row.task for page in again.pages() for row, _ in page] == [0, 1, 2]
    again.close()
