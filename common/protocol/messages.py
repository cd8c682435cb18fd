"""The messages of the three links, and their encoding (MessagePack maps tagged by `type`).

`docs/PROTOCOL.md` describes each one for other languages; a test keeps the two equal. Messages are checked here,
where they enter, and trusted afterwards. Nothing is ever unpickled.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from .explaining import Account as Account, Explain as Explain, Explanation as Explanation
from .fields import (
    ArgumentForm as ArgumentForm,
    Attempt,
    BATCH_TASKS_MAX as BATCH_TASKS_MAX,
    BatchCount,
    BatchName as BatchName,
    BatchNames,
    Count,
    Digest,
    Function,
    HELD_FACTOR as HELD_FACTOR,
    HELD_MAX as HELD_MAX,
    Host,
    Index,
    Message as Message,
    Name,
    NamesByJob,
    Obstacle as Obstacle,
    Outcomes as Outcomes,
    PROTOCOL_VERSION as PROTOCOL_VERSION,
    Port,
    Prefetch,
    RESULTS_IN_FRAME_MAX as RESULTS_IN_FRAME_MAX,
    SECONDS_MAX as SECONDS_MAX,
    Seconds,
    Slots,
    TaskRange,
    Text,
    UNUSABLE as UNUSABLE,
    Z85Key,
)
from .gate import Missing as Missing, Present as Present, Roster as Roster
from .reading import Digests as Digests, List as List, Listing, Read as Read, Rows, Seen as Seen, Values
from .reports import (
    Counters as Counters,
    JobReport as JobReport,
    Query as Query,
    Report as Report,
    WorkerReport as WorkerReport,
)


# -- the tasks link: ventilator PUSH → worker PULL --------------------------------------------------------------


class Batch(Message, frozen=True):
    """Tasks `first` to `first + count - 1` of a job, with their arguments.

    A task that runs longer than `timeout_s` is ended. A `suspect` batch is one that a worker may have died with: the
    worker says that it starts before it starts. A `copy` is for a worker that does not have the batch: another one has.
    With `keep`, its results carry the arguments, for the ledger.
    """

    job: Name
    function: Function
    first: Index
    count: BatchCount
    attempt: Attempt
    ticket: Digest
    timeout_s: Seconds | None
    suspect: bool
    copy: bool
    arguments: Raw
    origin: Annotated[bytes, Meta(max_length=16)] = b""
    keep: bool = False


# -- the results link: worker PUSH → sink PULL ------------------------------------------------------------------


class Results(Message, frozen=True):
    """Outcomes of tasks `first` to `first + count - 1`, which are all or a part of one batch.

    `arguments` is the encoded array of their arguments, where the batch says `keep`. Those in `cuts` are nil there,
    because they are large: offset, digest and the beginning of each.
    """

    job: Name
    worker: Name
    serial: Index
    first: Index
    count: BatchCount
    batch: BatchName
    ticket: Digest
    outcomes: bytes
    """Encoded `Outcomes`: whose they are is known before they are read."""
    arguments: bytes | None = None
    cuts: tuple[tuple[Index, Digest, Text], ...] = ()

    @property
    def attempt(self) -> int:
        """The attempt at these tasks, which is the batch's."""
        return self.batch[2]

    @property
    def content_bytes(self) -> int:
        """The size of its outcomes and of what it has of the arguments."""
        return len(self.outcomes) + len(self.arguments or b"") + sum(len(start) for _, _, start in self.cuts)


# -- the control link, to the sink ------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First on every connection; its fields are the same in every version of the protocol."""

    version: int
    role: Name
    name: Name


class Offer(Message, frozen=True):
    """A worker says which functions it exposes."""

    functions: Annotated[list[Function], Meta(max_length=10_000)]


class Beat(Message, frozen=True):
    """A worker's heartbeat: its capacity, and by job the batches that it holds (waiting, running, unreceipted).

    `prefetch` may change from beat to beat. `started` are those of the held that have begun to run and have tasks left
    to run. `serial` grows with each beat.
    """

    serial: Index
    slots: Slots
    prefetch: Prefetch
    held: NamesByJob
    started: NamesByJob


class Returned(Message, frozen=True):
    """Batches that a worker hands back unrun; the sink passes it on to the job's ventilator.

    `copies` are those that it did not take because they are copies: of them it may hold the original.
    """

    job: Name
    worker: Name
    batches: BatchNames
    copies: BatchNames


class Unreachable(Message, frozen=True):
    """A worker cannot connect to the tasks link of a job; the sink passes it on to the job's ventilator."""

    job: Name
    worker: Name
    host: Host
    port: Port
    obstacle: Obstacle


class Goodbye(Message, frozen=True):
    """A worker leaves, or a ventilator closes its link."""


class Open(Message, frozen=True):
    """A ventilator opens its job, new or resumed. `source` names the kind of input and must not change.

    A task that fails is tried `retries` times more. With `retry_failed`, tasks recorded as failed count as not done.
    A ventilator that `reopens` its job has had it open in this run: if the job was cancelled since, it is not opened.
    With `append` the input adds tasks to a job that is done, or goes on with that; with `relay` they use the relay.
    """

    job: Name
    function: Function
    source: Annotated[str, Meta(max_length=200)]
    port: Port
    retries: Annotated[int, Meta(ge=0, le=100_000)]
    retry_failed: bool
    reopens: bool
    arguments: ArgumentForm = ""
    append: bool = False
    relay: bool = False


class Ask(Message, frozen=True):
    """A ventilator asks for the receipts after position `after`; `scarce`: its input has nothing to read now."""

    job: Name
    after: Index
    scarce: bool


class Mark(Message, frozen=True):
    """How much input a ventilator has read: `count` tasks whose text has this digest, of `total` if that is known."""

    job: Name
    count: Count
    digest: Annotated[bytes, Meta(max_length=32)]
    total: Count | None


class Quarantine(Message, frozen=True):
    """A ventilator gives a task up that had started on `lost_count` workers that died, the last of them `worker`."""

    job: Name
    task: Index
    attempt: Attempt
    worker: Name
    lost_count: Count
    argument: Raw


class Close(Message, frozen=True):
    """A ventilator has its receipt for every task; with `drop`, what still runs of the job is to be ended."""

    job: Name
    total: Count
    drop: bool


class Halt(Message, frozen=True):
    """A ventilator was interrupted: the crew should hand back what has not started."""

    job: Name


class Cancel(Message, frozen=True):
    """A ventilator's key asks that a job be dropped."""

    job: Name


class Forget(Message, frozen=True):
    """A ventilator's key asks that a job that nobody runs be removed from the ledger with its results."""

    job: Name


# -- the control link, from the sink ----------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """Answer to `Hello`. `run` is new each time the sink starts.

    `loopback` is the loopback address that the sink listens at, empty when other machines can reach it. Ventilators
    that workers cannot reach push to `relay_port`, and workers pull that from `tasks_port`. `time` is the sink's clock,
    in seconds since 1970. Either is 0 when the sink does not say.
    """

    version: int
    run: str
    results_port: Port
    loopback: Host
    relay_port: Port
    time: Annotated[float, Meta(ge=0)] = 0.0
    tasks_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class Refused(Message, frozen=True):
    """The sink will not do it, and why, in words. `version` is the sink's protocol version."""

    version: int
    reason: str


class Again(Message, frozen=True):
    """The sink does not know this connection: say hello (again)."""


class Heard(Message, frozen=True):
    """Answer to the beat of this serial."""

    serial: Index


class Place(Struct, frozen=True, gc=False):
    """Where a job's tasks come from. An empty `host` means: the host at which you reach the sink."""

    job: Name
    host: str
    port: Port
    key: Z85Key
    scarce: bool
    origin: Annotated[bytes, Meta(max_length=16)] = b""


class Places(Message, frozen=True):
    """To a worker: where the jobs are whose functions it exposes, and all that share its relay; replaces the last."""

    places: list[Place]


class Recorded(Message, frozen=True):
    """To a worker: these results are committed, or can never be (`refused`); forget them."""

    serials: list[Index]
    refused: list[Index]


class Dropped(Message, frozen=True):
    """What runs of a job is not wanted any more: it was cancelled, or is done. Also the answer to `Cancel`."""

    job: Name


class Forgotten(Message, frozen=True):
    """Answer to `Forget`: the job is no longer in the ledger."""

    job: Name


class Recall(Message, frozen=True):
    """To a worker: hand back the job's batches that have not started."""

    job: Name


class Opened(Message, frozen=True):
    """Answer to `Open`: what the ledger knows of the job. `total` is None until the input was read to its end.

    `resumed`: an earlier run has opened it, and workers may hold batches of that.

    Attempts of this run count from `attempts + 1` on; it is above 0 where failed tasks are run again. A sink that has
    just started knows its crew in `gather_s` seconds: until then a worker may hold what no beat has named. The tasks
    of this run's input are numbered from `base`: what is before was appended to.
    """

    job: Name
    ledger: str
    ticket_key: bytes
    mark_count: Count
    mark_digest: bytes
    total: Count | None
    attempts: Count
    resumed: bool
    gather_s: Seconds
    base: Count = 0


class Receipts(Message, frozen=True):
    """Answer to `Ask`: tasks committed after position `after` and up to `position`; `more` when there are more.

    `done` and `failed` count the job's recorded tasks, `count` and `seconds` those of this answer.
    """

    job: Name
    after: Index
    position: Index
    runs: list[TaskRange]
    count: Count
    seconds: Seconds
    done: Count
    failed: Count
    more: bool


class Failed(Message, frozen=True):
    """To a ventilator: these tasks failed at this attempt, are not recorded, and may be tried again."""

    job: Name
    attempt: Attempt
    tasks: list[Index]


class Member(Struct, frozen=True, gc=False):
    """A worker of the crew as its last beat told it, with the batches of one job that it holds and has started."""

    worker: Name
    slots: Slots
    prefetch: Prefetch
    held: BatchNames
    started: BatchNames


class Crew(Message, frozen=True):
    """To a ventilator: beats of workers that expose its job's function, who left in order, and who fell silent.

    `others` counts the workers that are beating and do not expose the function.
    """

    members: list[Member]
    left: list[Name]
    lost: list[Name]
    others: Count


class Closed(Message, frozen=True):
    """Answer to `Close`: the job's counts and its first failures (task, headline of the error, argument or nil)."""

    job: Name
    done: Count
    failed: Count
    failures: list[tuple[Index, str, str | None]]


ToSink = (
    Hello
    | Offer
    | Beat
    | Returned
    | Unreachable
    | Goodbye
    | Open
    | Ask
    | Seen
    | Mark
    | Quarantine
    | Missing
    | Close
    | Halt
    | Cancel
    | Forget
    | Account
    | Explain
    | Query
    | Read
    | List
)
FromSink = (
    Welcome
    | Refused
    | Again
    | Heard
    | Places
    | Recorded
    | Dropped
    | Forgotten
    | Recall
    | Opened
    | Receipts
    | Digests
    | Failed
    | Crew
    | Returned
    | Unreachable
    | Roster
    | Present
    | Closed
    | Report
    | Explain
    | Explanation
    | Rows
    | Values
    | Listing
)
