"""How things stand: `query` and its answer. They are of the control link, like those of `messages.py`."""

from typing import Annotated

from msgspec import Meta, Struct, field

from .fields import SECONDS_MAX, BatchCount, Count, Function, Index, Message, Name, Rate, Seconds, Slots

LONGEST_MAX = 5
"""Of how many batches of a job a report says how long they run."""
WORKER_JOBS_MAX = 10
"""Of how many jobs a report says what a worker runs of them."""
InList = Annotated[int, Meta(ge=0, le=1_000_000)]
"""A place in another list of the same report, from 0."""
Total = Annotated[float, Meta(ge=0, le=SECONDS_MAX * 1_000)]


class Query(Message, frozen=True):
    """Anybody asks how things stand."""


class JobReport(Struct, frozen=True, gc=False):
    """One open job as the sink sees it; `rate` is how many tasks were recorded in a second, of late.

    `longest` has those of its batches that run longest: the worker's place in `workers`, first task, count, and since
    how many seconds.
    """

    job: Name
    function: Function
    done: Count
    failed: Count
    total: Count | None
    workers: Count
    rate: Rate
    longest: Annotated[list[tuple[InList, Index, BatchCount, Seconds]], Meta(max_length=LONGEST_MAX)] = []


class WorkerReport(Struct, frozen=True, gc=False):
    """One worker of the crew as the sink sees it; `silent_s` is the time since its last beat in seconds.

    `runs` has how many batches it runs of which jobs: the job's place in `jobs`, and the count.
    """

    worker: Name
    key: str
    address: str
    slots: Slots
    running: Count
    held: Count
    silent_s: Seconds
    runs: Annotated[list[tuple[InList, Count]], Meta(max_length=WORKER_JOBS_MAX)] = []


class Counters(Struct, gc=False):
    """What the sink has counted since its start."""

    ok: Count = 0
    """Tasks that it has recorded with a value."""
    failed: Count = 0
    """Tasks that it has recorded as failed."""
    retried: Count = 0
    """Failures that were not recorded, because the task is retried."""
    duplicates: Count = 0
    """Results of tasks that had a row."""
    returned: Count = 0
    """Batches that workers have handed back."""
    quarantined: Count = 0
    """Tasks that their ventilator has given up on."""
    workers_lost: Count = 0
    """Workers that fell silent."""
    commits: Count = 0
    """Transactions that wrote results."""
    commit_s: Total = 0.0
    """How long they took together."""


class Report(Message, frozen=True):
    """Answer to `Query`. `ledger` is the id of the ledger; `is_stuck` while that accepts no results."""

    jobs: list[JobReport]
    workers: list[WorkerReport]
    counters: Counters = field(default_factory=Counters)
    is_stuck: bool = False
    ledger_bytes: Count = 0
    ledger: str = ""
