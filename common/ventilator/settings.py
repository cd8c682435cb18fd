"""The numbers that the ventilator's rules use."""

from dataclasses import dataclass
from enum import StrEnum

from ..protocol.settings import Timing


class RelayUse(StrEnum):
    """When tasks go through the sink's relay: once a worker cannot connect to the ventilator, always, or never."""

    auto = "auto"
    always = "always"
    never = "never"


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """The ventilator's rules."""

    batch_tasks: int | None = None
    """How many tasks a batch has; None chooses from the measured task time."""
    batch_s: float = 0.02
    """How many seconds of work a batch should hold."""
    short_s: float = 0.002
    """At the end of the input, batches that take less than this are kept back only when receipts stay away."""
    batch_tasks_max: int = 10_000
    batch_bytes_max: int = 1024 * 1024
    """The size limit of a batch with more than one task."""
    one_free_in: int = 5
    """One worker of this many has a place left free, so that batches find one."""
    returns_free: int = 3
    """How many returned pushes of a batch are repeated at once; after that it waits."""
    return_wait_s: float = 0.001
    return_wait_max_s: float = 0.02
    retries: int = 0
    """How many times a failed task is retried."""
    retry_wait_s: float = 1.0
    """The wait before the first retry. It doubles with each retry and varies by a quarter (jitter)."""
    retry_wait_max_s: float = 60.0
    retries_waiting_max: int = 10_000
    """How many tasks may wait for their retry before no more input is read."""
    timeout_s: float | None = None
    """How long a task may run before it is stopped."""
    quarantine_after: int = 3
    """After how many workers died while running it a task is given up."""
    split_parts: int = 32
    """How many parts a batch is split into after its worker died, until a single task is the suspect."""
    keep_arguments: bool = False
    """The ledger keeps the arguments of the tasks."""
    speculate: bool = False
    """Near the end, idle slots run copies of stragglers. The first result wins."""
    straggler_s: float = 0.05
    """A batch that a worker has had for less time is not a straggler."""
    straggler_factor: float = 2.0
    """Neither is a batch that it has had for less than this multiple of its tasks' mean run time."""
    timing: Timing = Timing()

    def return_wait(self, returns: int, most_s: float) -> float:
        """How many seconds a batch waits after this many returns: none at first, then twice as long each time."""
        waits = returns - self.returns_free
        return min(most_s, self.return_wait_s * 2 ** min(waits, 20)) if waits > 0 else 0.0
