"""The numbers that the ventilator's rules go by."""

from dataclasses import dataclass

from ..protocol.settings import Timing


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
