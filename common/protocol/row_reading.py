"""How a job's rows are read through the sink, page by page. No socket, no clock."""

from itertools import count

from msgspec.structs import replace

from ..errors import OperatorError
from .messages import FromSink
from .reading import Cursor, Read, ResultRow, RowOrder, Rows, Values

START: Cursor = (0, 0)
_numbers = count(1)


def numbered(read: Read) -> Read:
    """The request with a number that no other one of this process has."""
    return replace(read, request=next(_numbers))


def is_answer(read: Read, answer: Rows | Values) -> bool:
    """False for the answer to another request, also to one for the same rows: that one may know less."""
    return answer.request == read.request


def same_job(name: str, before: int | None, number: int) -> int:
    """The number of the job that is read, from an answer. Raises OperatorError when it was another one before."""
    if before not in (None, number):
        raise OperatorError(
            f"job {name} was forgotten while it was read, and another job has its name now: read it again"
        )
    return number


class RowReading:
    """One request at a time: `request` until `take` has its answer, then the next one, until it is `over`.

    In order of commit it may follow a job: then it is over when the job has ended, and the sink keeps a request for a
    second while there is nothing new.
    """

    def __init__(self, job: str, order: RowOrder, failed: bool, follow: bool = False, after: Cursor = START) -> None:
        self.over = False
        self._request = numbered(Read(job, order, after, failed))
        self._follow = follow
        self._number: int | None = None

    def request(self) -> Read:
        """What to ask the sink; it may be asked as often as one likes."""
        return self._request

    def is_answer(self, message: FromSink) -> bool:
        """False for anything but the answer to this request: one that was asked twice has two."""
        return isinstance(message, Rows) and is_answer(self._request, message)

    def take(self, rows: Rows) -> list[ResultRow]:
        """Take the answer to the request; returns what is new. Raises OperatorError."""
        self._number = same_job(self._request.job, self._number, rows.number)
        self._request = numbered(replace(self._request, after=rows.position))
        self.over = not rows.more and not (self._follow and rows.state == "open")
        return rows.rows
