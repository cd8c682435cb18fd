"""What a ledger must do: `Store` for the sink, its one writer, and `Reader` for every process that reads results.

The sink never waits for a disk or a server: a write is begun, and the ledger tells later what has become of it. A
ledger only stores. Which job may be opened, which failed row may be replaced and how far a mark may move is decided
above it, in `job_rules` and `rows`. tests/unit/sink/store_contract.py holds every ledger to each sentence below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

from ..errors import OperatorError
from ..protocol.messages import Mark
from ..protocol.reading import Cursor, ListedJob, RowOrder
from .rows import RowSet


class LedgerStuck(Exception):
    """A write or a read failed for a reason that may pass (disk full, locked, no server); nothing was written."""


class LedgerLost(OperatorError):
    """Another sink has taken the ledger over."""


class LedgerAway(OperatorError):
    """The server of the ledger is not reached."""


class LedgerHeld(OperatorError):
    """Another sink writes the ledger now."""

    def __init__(self, ledger: str, site: str, held_by: str, sink_key: str) -> None:
        by = f" ({held_by})" if held_by else ""
        super().__init__(f"the ledger {ledger} is in use by another sink{by}: stop it, or give another --site")
        self.ledger, self.sink_key = ledger, sink_key
        self.holder = f"the sink of site {site}{by}"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the ledger has it at this moment."""

    job: int
    name: str
    function: str
    source: str
    state: str
    """`open`, `done` or `cancelled`."""
    total: int | None
    """How many tasks it has, as far as that is known: see `read_total` too."""
    done: int
    """How many tasks have a row, the failed ones included."""
    failed: int
    mark_count: int
    mark_digest: bytes
    ticket_key: bytes
    retries: int
    attempts: int
    """The highest attempt of the runs whose failures this run repeats; its own attempts count on from there."""
    arguments: str = ""
    """How arguments are kept: `text`, `json`, or nothing when they are not."""
    base: int | None = None
    """The first task of the input that was appended last; None when none was."""

    @property
    def read_total(self) -> int | None:
        """The total, once the input was read to its end; before that, a file may still grow."""
        was_read = self.total is not None and (self.mark_count >= self.total or self.state == "done")
        return self.total if was_read else None

    @property
    def attempts_max(self) -> int:
        """The attempt at which a failure is recorded."""
        return self.attempts + 1 + self.retries


@dataclass(frozen=True, slots=True)
class Page:
    """Receipts after a position, in order of commit."""

    position: int
    runs: list[tuple[int, int]]
    """Ranges of tasks (first, count)."""
    count: int
    """How many tasks have these receipts, those that are left out of `runs` included."""
    seconds: float
    """How long they ran, all together."""
    more: bool
    """False when no receipt follows; True when one may."""


@dataclass(frozen=True, slots=True)
class DigestPage:
    """The digests of the arguments of consecutive tasks."""

    next: int
    """The task after the last of them."""
    digests: list[bytes]
    unknown: int
    """How many of these tasks have no argument here."""
    more: bool
    """False when no task follows; True when one may."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit has written."""

    rows: int
    failed: int
    """How many of them are failures."""
    seconds: float
    """How long the commit took."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Write results and marks.

    The rows are taken in the order given, each with its task's argument if the row set has it. A task that has a row
    keeps it, with one exception: a failed row of an attempt up to the row set's `replaced_attempts` is replaced. Tasks
    in `again` are passed over. Each row that is written gets a receipt, at positions above all earlier ones; what wrote
    no row gives none.

    A mark sets the job's `mark_count` and `mark_digest`, and its total unless that is None.
    """

    row_sets: Sequence[RowSet]
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """Make the job, or open it again; its state is `open` then.

    A new job gets a random `ticket_key` of 32 bytes. An old one takes over `retries`, `attempts`, and `arguments`
    unless that is empty; its function, source, counts and ticket key stay. So do total, mark and base, unless it
    `appends`: then `base` and `mark_count` are the total that it had, and there is neither digest nor total.
    """

    name: str
    function: str
    source: str
    retries: int = 0
    attempts: int = 0
    arguments: str = ""
    appends: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """Set the job's state to `done` or `cancelled`, and its total unless it is None."""

    name: str
    state: str
    total: int | None


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Remove the job: its name is free, and readers find neither it nor its rows.

    Positions and the numbers of jobs never go back, so that whoever reads on from a position misses nothing.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Tidying:
    """Give a part of the room back that forgotten jobs have taken.

    It takes milliseconds, so that the next write is not held up. A later opening of the ledger goes on with it.
    """


Write = Recording | Opening | Ending | Forgetting | Tidying


def jobs_of(write: Write) -> set[str]:
    """The names of the jobs that it changes."""
    match write:
        case Recording():
            return {each.results.job for each in write.row_sets} | {mark.job for mark in write.marks}
        case Opening() | Ending() | Forgetting():
            return {write.name}
        case Tidying():
            return set()


@dataclass(frozen=True, slots=True)
class Completion:
    """What has become of a write."""

    write: Write
    result: "Written | Job | bool | None" = None
    """Of a Recording what was written, of an Opening the job, of Tidying whether there is more to do."""
    stuck: str | None = None
    """Why nothing was written, when the same write may succeed later; None when it was written."""


class Store(Protocol):
    """The ledger as its one writer, the sink, needs it.

    Opening it fails with OperatorError when it cannot be used or another sink has it. Each write is one transaction:
    when its completion has come, neither a crash nor a power cut takes it back; when the completion is stuck, nothing
    of it was written, and the same write may be submitted again. A sink that dies in between leaves it written or not.
    Names given to all methods but `job`, and in all writes but an Opening, are those of jobs that exist.

    `job` and `receipts` tell of the writes that have completed and of no other, so that the counts of a job are those
    of its receipts. All other reads see whole writes, and perhaps the one in flight too. A read that cannot be answered
    at the moment raises LedgerStuck, `job` only when it has not told of the job before.
    """

    id: str
    """Random, made with the ledger; it never changes."""

    def submit(self, write: Write) -> None:
        """Begin a write. There must be none in flight: none whose completion has not been taken."""

    def completed(self) -> Completion | None:
        """What has become of the write in flight; None while that is open, or when there is none.

        It is called in each turn of the sink's loop, and never waits. Raises OperatorError when the sink must end: the
        ledger is damaged, or LedgerLost, which may come without a write too.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable when a write has ended after `submit` had returned, until it is taken.

        None when each write ends within `submit`.
        """

    @property
    def waits_for(self) -> str:
        """What the write in flight waits for, in words; empty when it is nothing special."""

    def job(self, name: str) -> Job | None:
        """The job as it was when the last write completed, or None.

        The sink calls this for each message, so it must be fast.
        """

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int) -> Page:
        """At most `limit` receipts of the job, those next after the position `after`; 0 is before the first.

        A receipt covers a range of tasks of one commit. `runs` leaves out tasks that have a failed row of an attempt
        up to `skipped_attempts`; position, count and seconds do not. After the last receipt the position stays.
        """

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the job's failed rows; 0 when there is none."""

    def failures(self, name: str, limit: int) -> list[tuple[int, str, str | bytes | None]]:
        """The first `limit` failed tasks of the job in task order, each with its error and its argument."""

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of the arguments of recorded tasks, in task order from `first` to before the job's `base`.

        A page covers at most `limit` tasks, at least one while there are more.
        """

    def listed(self, after: int, limit: int) -> list[ListedJob]:
        """The first `limit` jobs with a number above `after`, in order of their numbers: that of being made."""

    def size_bytes(self) -> int:
        """How much room the ledger takes, about."""

    def read(self, name: str, query: "RowQuery") -> "RowPage":
        """Rows of the job. It looks at so few that the sink is not held up.

        In order of commit a row comes at each of its receipts, as it is now: twice, if it replaced a failed one.
        """

    def values(self, name: str, query: "RowQuery") -> "ValuePage":
        """What `read` finds, whatever `failed` says, without all that is about the values."""

    def close(self) -> None:
        """Close the ledger, so that another sink can open it. What was committed stays.

        A write in flight is waited for a little; it may have been made afterwards or not.
        """


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows of a job to read, and how many at once."""

    order: RowOrder
    after: Cursor
    failed: bool
    """Only failed ones."""
    rows_max: int
    bytes_max: int
    """At most this much text and bytes, unless one row alone has more."""
    scanned_max: int
    """At most how many tasks to look at."""


class Row(Struct, frozen=True):
    """The result of a task as a reader sees it. A Struct is made in a tenth of a dataclass's time."""

    task: int
    status: str
    """`ok` or `failed`."""
    value: Any
    json: int | None
    """1 when `value` is JSON text; `rows.as_json` tells."""
    error: str | None
    attempt: int
    worker: str
    seconds: float
    exact: bytes | None = None
    """The result as `values.restored` reads it, where `value` cannot give it back."""
    argument: str | bytes | int | None = None
    """None where it was not kept. Of a range it is the integer."""
    argument_json: int | None = None
    """1 when `argument` is JSON text."""
    argument_digest: bytes | None = None
    """Where the argument was too large to be kept: its digest. Then `argument` is its beginning."""


def weight(row: Row) -> int:
    """About how many bytes the row is, when it is sent."""
    found = 100
    for text in (row.value, row.error, row.exact, row.argument):
        if isinstance(text, str):
            found += len(text.encode())
        elif isinstance(text, bytes):
            found += len(text)
    return found


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows, where to go on, and whether there may be more."""

    rows: list[Row]
    position: Cursor
    more: bool

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class ValuePage:
    """Values, where to go on, and whether there may be more."""

    runs: list[tuple[int, int]]
    """Whose they are: ranges of tasks (first, count)."""
    values: list[Any]
    """As `value_array.sent_value` gives them; None for the tasks of `others`."""
    others: list[Row]
    """Failed tasks, and those whose rows do not fit into a message, in the order of `runs`."""
    position: Cursor
    more: bool

    @property
    def count(self) -> int:
        """How many values, those of `others` included."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as a reader sees it."""

    name: str
    function: str
    state: str
    total: int | None
    done: int
    failed: int
    opened_at: str
    """In UTC, as ISO 8601 writes it."""
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """How many tasks were recorded when."""

    position: int
    """Where to go on."""
    points: list[tuple[int, int]]
    """Instants in seconds since 1970, in order of commit, each with a count of tasks."""
    more: bool
    """False when nothing follows; True when something may."""


class Reader(Protocol):
    """The ledger as any process reads it, also while a sink writes it; it must not hold the sink up.

    A reader sees whole commits only, each as soon as it is written. All methods and the making of a reader raise
    OperatorError, in one line, when the ledger is not there or cannot be read.
    """

    id: str
    """As its writer has it."""

    def jobs(self) -> list[JobSummary]:
        """All jobs, oldest first."""

    def job(self, name: str | None) -> int:
        """The number of the job, of the newest when `name` is None. Raises OperatorError when there is none."""

    def ended(self, job: int) -> bool:
        """True when the job is done or cancelled."""

    def rows(self, job: int, failed: bool) -> Iterator[Row]:
        """The job's rows in task order; only the failed ones when `failed`."""

    def rows_after(self, job: int, position: int, failed: bool) -> Iterator[tuple[int, Row | None]]:
        """Rows in order of commit after `position`, each with a position; positions without a wanted row have None.

        To continue later, pass the last position of which all rows were read; 0 is before the first.
        """

    def follow(self, job: int, failed: bool) -> Iterator[Row | None]:
        """Rows in order of commit as they come, until the job has ended; None now and then while none comes."""

    def page(self, job: int, after: int, limit: int, failed: bool) -> list[Row]:
        """At most `limit` rows of the tasks after this one, in task order; only the failed ones when `failed`."""

    def history(self, job: int | None, after: int, limit: int) -> HistoryPage:
        """When tasks of the job, or of all, were recorded, from `limit` receipts after a position.

        What was recorded before the ledger kept instants is left out.
        """

    def position_before(self, at: int) -> int:
        """A position before everything that was recorded at this instant or later, and not long before it."""

    def sample(self, job: int, count: int) -> list[float]:
        """The run times of about `count` of the job's tasks, spread evenly over them; of all, if it has fewer."""

    def close(self) -> None:
        """Stop reading."""
