"""The messages with which the ledger is read through the sink: `read`, `list` and `seen`, and their answers.

They are of the control link, like those of `messages.py`.
"""

from typing import Any, Literal

from msgspec import Raw, Struct

from .fields import Attempt, Count, Function, Index, Message, Name, Seconds, TaskRange

Cursor = tuple[Index, Index]
"""How far a job's rows are read: a position and how many tasks of the receipt after it; or the next task, and 0."""
RowOrder = Literal["commit", "task"]


class Read(Message, frozen=True):
    """A ventilator's or observer's key asks for a job's rows after `after`, in order of commit or of their tasks.

    With `values` the answer is `Values`, of rows of any kind; otherwise it is `Rows`. `request` comes back in it.
    """

    job: Name
    order: RowOrder
    after: Cursor
    failed: bool
    values: bool = False
    request: Index = 0


class List(Message, frozen=True):
    """A ventilator's or observer's key asks for the jobs of the ledger after the one with this number."""

    after: Index


class ResultRow(Struct, frozen=True, gc=False):
    """A recorded task. `value` is as the ledger has it: number, text, bytes or nil, JSON text when `json` is set.

    Where that cannot give the result back, `exact` has it as the worker has sent it. A failed task has an `error`.
    The `argument` is likewise, and with a digest only the beginning.

    Of a row that does not fit into a message value and error are cut, and `exact` is left out: `is_cut`.
    """

    task: Index
    value: Any
    json: bool
    exact: bytes | None
    error: str | None
    attempt: Attempt
    worker: Name
    seconds: Seconds
    is_cut: bool
    argument: Any = None
    argument_json: bool = False
    argument_digest: bytes | None = None


class Rows(Message, frozen=True):
    """Answer to `Read`: the rows after `after`; the next ones are after `position`. `more` when there may be some now.

    `state` is the job's: open, done or cancelled. So is `number`: with another one than before the job was forgotten,
    and its name is that of another one.
    """

    job: Name
    after: Cursor
    position: Cursor
    rows: list[ResultRow]
    more: bool
    state: str
    number: Index = 0
    request: Index = 0


class Values(Message, frozen=True):
    """Answer to `Read` with `values`: what the functions returned, all in one array, which costs a tenth of the rows.

    `values` has one for each task of `runs`, in their order: a plain one as the ledger has it, `Ext(JSON_EXT, text)`,
    or `Ext(EXACT_EXT, exact form)`. Where a task failed, or its row does not fit into a message, there is nil in
    `values` and the row in `others`.
    """

    job: Name
    after: Cursor
    position: Cursor
    runs: list[TaskRange]
    values: Raw
    others: list[ResultRow]
    more: bool
    state: str
    number: Index = 0
    request: Index = 0


class ListedJob(Struct, frozen=True, gc=False):
    """A job of the ledger. Later ones have higher numbers. Instants are in UTC, as ISO 8601 writes them."""

    number: Index
    job: Name
    function: Function
    state: str
    total: Count | None
    done: Count
    failed: Count
    opened_at: str
    ended_at: str | None


class Listing(Message, frozen=True):
    """Answer to `List`, oldest first; `more` when there are more jobs after the last of them."""

    after: Index
    jobs: list[ListedJob]
    more: bool


class Seen(Message, frozen=True):
    """A ventilator that appends asks for the digests of the arguments that the job had before, from this task on."""

    job: Name
    first: Index


class Digests(Message, frozen=True):
    """Answer to `Seen`: the digests of the arguments of the tasks from `first` to `next - 1`, 16 bytes each.

    `unknown` counts those of these tasks whose argument the ledger does not have; `more` when other tasks follow.
    """

    job: Name
    first: Index
    next: Index
    digests: bytes
    unknown: Count
    more: bool
