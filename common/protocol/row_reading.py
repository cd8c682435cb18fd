"""How a job's rows are read through the sink, page by page. No socket, no clock."""

from ..errors import OperatorError
from .messages import FromSink
from .reading import Cursor, Read, ResultRow, RowOrder, Rows

START: Cursor = (0, 0)


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
        self.after = after
        """Up to here the rows were read."""
        self._job = job
        self._order = order
        self._failed = failed
        self._follow = follow
        self._number: int | None = None

    def request(self) -> Read:
        """What to ask the sink; it may be asked as often as one likes."""
        return Read(self._job, self._order, self.after, self._failed)

    def is_answer(self, message: FromSink) -> bool:
        """False for anything but the answer to this request: one that was asked twice has two."""
        return isinstance(message, Rows) and (message.job, message.after) == (self._job, self.after)

    def take(self, rows: Rows) -> list[ResultRow]:
        """Take the answer to the request; returns what is new. Raises OperatorError."""
        self._number = same_job(self._job, self._number, rows.number)
        self.after = rows.position
        self.over = not rows.more and not (self._follow and rows.state == "open")
        return rows.rows
