"""Why a job or a task of it does not move: `explain`, `account` and `explanation`. They are of the control link."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .fields import Attempt, BatchCount, BatchName, Count, Function, Host, Index, Message, Name, Obstacle, Port, Seconds

NAMED_MAX = 5
"""At most how many of each kind an explanation names."""
AnyCount = Annotated[int, Meta(ge=0)]


class Explain(Message, frozen=True):
    """A ventilator's or observer's key asks why a job, or one task of it, stands where it stands.

    The sink asks the job's ventilator by the same message, which answers with `Account`.
    """

    job: Name
    task: Index | None


class TaskPlace(Struct, frozen=True, gc=False):
    """Where a task is at its ventilator.

    `unread`: the input was not read that far. `ready`: to be pushed when there is room. `given`: in a batch that the
    crew has, or that is on its way there; its lease ends in `wait_s`. `returned`: the batch came back, and is pushed
    again in `wait_s`. `retry`: it failed, and is tried again in `wait_s`. `settled`: it has its receipt.
    """

    state: Literal["unread", "ready", "given", "returned", "retry", "settled"]
    attempt: Attempt = 1
    wait_s: Seconds = 0.0
    returns: Count = 0
    lost: Count = 0
    """Workers that died after they had started it alone."""
    is_suspect: bool = False


class Account(Message, frozen=True):
    """A ventilator's answer to `Explain`: `outstanding` batches and retries, of which the crew has `in_flight`.

    `phase`: `opening` until it knows what is recorded, `verifying` while it reads again what an earlier run has read,
    `running`, or `ending` when it pushes no more. `input`: `dry` while it has nothing to read, `ended`, or `open`.
    """

    job: Name
    task: Index | None
    phase: Literal["opening", "verifying", "running", "ending"]
    input: Literal["open", "dry", "ended"]
    read: Count
    outstanding: Count
    in_flight: Count
    window: Count
    place: TaskPlace | None


class RecordedTask(Struct, frozen=True, gc=False):
    """A task's row."""

    status: Literal["ok", "failed"]
    attempt: Attempt
    worker: Name
    seconds: Seconds


class Holder(Struct, frozen=True, gc=False):
    """A worker whose last beat named a batch that the task is in; `runs_s` is set once it has begun."""

    worker: Name
    batch: BatchName
    runs_s: Seconds | None
    ahead: Count
    """Batches of this job that it named before this one and has not begun."""


class Barred(Struct, frozen=True, gc=False):
    """A worker that cannot connect to where the job's tasks are: its ventilator, or the relay."""

    worker: Name
    host: Host
    port: Port
    obstacle: Obstacle


class Running(Struct, frozen=True, gc=False):
    """A batch that runs, since `seconds`."""

    worker: Name
    first: Index
    count: BatchCount
    seconds: Seconds


class Explanation(Message, frozen=True):
    """Answer to `Explain`: how the job stands, what the crew does, and what its ventilator says.

    `workers` is the whole crew, `crew` those of it that expose the function, and `slots` and `busy` theirs. `held` and
    `running` count batches of this job. `others` are the jobs that the busy slots run instead. `near` are functions
    with a similar name. `account` is nil when the ventilator did not answer, or there is none: `ventilator` is empty
    then. `relayed`: its tasks come through the sink's relay. `state` is the job's: open, done or cancelled.
    """

    job: Name
    task: Index | None
    state: str
    function: Function
    done: Count
    failed: Count
    total: Count | None
    is_stuck: bool
    ventilator: str
    relayed: bool
    silent_s: Seconds
    workers: Count
    crew: Count
    slots: AnyCount
    busy: AnyCount
    held: Count
    running: Count
    others: Annotated[list[tuple[Name, Count]], Meta(max_length=NAMED_MAX)]
    near: Annotated[list[Function], Meta(max_length=NAMED_MAX)]
    cut_off: Annotated[list[Barred], Meta(max_length=NAMED_MAX)]
    cut_off_count: Count
    longest: Annotated[list[Running], Meta(max_length=NAMED_MAX)]
    recorded: RecordedTask | None
    holders: Annotated[list[Holder], Meta(max_length=NAMED_MAX)]
    account: Account | None
