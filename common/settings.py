"""The numbers that the roles go by: defaults in one place, units in the names, relations checked."""

from dataclasses import dataclass

RESULTS_PORT = 5558
CONTROL_PORT = 5559
TASKS_PORT = 5557
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest value or argument, and the largest frame but for its envelope."""
BATCH_TASKS_MAX = 100_000
"""The largest batch that a user may ask for."""
ENVELOPE_BYTES = 64 * 1024
"""What a frame may weigh beyond its payload: names, tickets, CURVE."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods of the control link in seconds, the same in all roles."""

    beat_s: float = 1.0
    """A worker beats at least this often."""
    beat_soon_s: float = 0.25
    """A worker whose holdings changed beats no more often than this."""
    gone_s: float = 5.0
    """A worker, or a ventilator, that was silent for so long has left."""
    lease_s: float = 10.0
    """A batch that no beat has named for so long is pushed again."""
    unnamed_s: float = 2.5
    """The lease of a batch that no beat ever named, once some worker has left."""
    silence_s: float = 3.0
    """A sink that was silent for so long is away: leases stand still."""
    gather_s: float = 3.0
    """A sink that has started so long ago knows its crew."""
    ask_s: float = 1.0
    """The sink answers a request for receipts after so long even when there are none."""
    resend_s: float = 10.0
    """A worker says results again that had no receipt for so long; twice as long each further time."""
    resend_max_s: float = 60.0
    """But never longer than this."""
    voice_s: float = 5.0
    """Who waits says for what after so long, and again while it lasts."""

    def __post_init__(self) -> None:
        if not self.beat_s < self.lease_s / 3:
            raise ValueError("beat_s must be less than a third of lease_s")
        if not self.beat_s < self.gone_s / 2:
            raise ValueError("beat_s must be less than half of gone_s")
        if not self.gone_s < self.lease_s:
            raise ValueError("gone_s must be less than lease_s")
        if not self.ask_s < self.silence_s:
            raise ValueError("ask_s must be less than silence_s")


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """The ventilator's rules."""

    batch_tasks: int | None = None
    """Tasks in a batch; None lets the measured task time choose."""
    batch_s: float = 0.02
    """How much work a batch should hold."""
    batch_tasks_max: int = 10_000
    batch_bytes_max: int = 1024 * 1024
    """A batch of more than one task is cut to stay below this."""
    one_free_in: int = 5
    """One in so many workers has a place left free, that batches find one."""
    returns_free: int = 3
    """So often a batch is pushed again at once after a return; then it waits."""
    return_wait_s: float = 0.001
    return_wait_max_s: float = 0.02
    retries: int = 0
    """So often a task that failed is tried again."""
    retry_wait_s: float = 1.0
    """The wait before the first retry; it doubles with each, and varies by a quarter (jitter)."""
    retry_wait_max_s: float = 60.0
    retries_waiting_max: int = 10_000
    """While so many tasks wait for their retry, no further input is read."""
    timeout_s: float | None = None
    """A task that runs longer is ended."""
    quarantine_after: int = 3
    """A task that had started on so many workers that died is given up."""
    split_parts: int = 32
    """Into so many parts a batch is split that a worker died with, until one task is left to suspect."""
    speculate: bool = False
    """Near the end idle slots run copies of stragglers; the first result wins."""
    straggler_s: float = 0.05
    """A batch that a worker has for less is no straggler."""
    straggler_factor: float = 2.0
    """Nor is one that it has for less than so many times the mean run time of its tasks."""
    timing: Timing = Timing()

    def return_wait(self, returns: int, most_s: float) -> float:
        """Seconds that a batch waits which came back so often: none at first, then twice as long each time."""
        waits = returns - self.returns_free
        return min(most_s, self.return_wait_s * 2 ** min(waits, 20)) if waits > 0 else 0.0


@dataclass(frozen=True, slots=True)
class HoldingSettings:
    """The worker's rules."""

    slots: int
    prefetch: int
    extra_max: int = 0
    """Of jobs whose batches are done in no time up to so many more are held."""
    short_s: float = 0.002
    """Batches that take less are done in no time."""
    extra_s: float = 0.02
    """About so much work a slot is held extra."""
    order_s: float = 0.005
    """About so much work is given to a slot at once."""
    order_batches_max: int = 256
    order_bytes_max: int = 1024 * 1024
    ahead_bytes_max: int = 64 * 1024
    """A slot that runs is given its next order before it asks, if that is no larger; 0: never."""
    stuck_s: float = 0.05
    """Batches that were thought to be done in no time are not, when none of them was for so long."""
    grace_s: float = 30.0
    """How long running tasks may go on once the worker leaves."""
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """The sink's rules."""

    results_port: int = RESULTS_PORT
    loopback: bool = False
    """True when the sink listens on the loopback interface only."""
    receipts_page: int = 10_000
    """Runs in one answer to a ventilator."""
    failures_shown: int = 5
    retry_commit_s: float = 1.0
    """How long the sink waits before it tries a commit again that the disk refused."""
    timing: Timing = Timing()
