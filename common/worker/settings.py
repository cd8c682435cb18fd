"""The numbers that the worker's rules go by."""

from dataclasses import dataclass

from ..protocol.settings import Timing


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
