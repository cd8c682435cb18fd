"""The numbers that the worker's rules go by."""

from dataclasses import dataclass

from ..protocol.settings import Timing


@dataclass(frozen=True, slots=True)
class HoldingSettings:
    """The worker's rules."""

    slots: int
    prefetch: int
    prefetch_max: int = 0
    """The prefetch grows up to this while batches are done in no time."""
    short_s: float = 0.002
    """Batches that take less are done in no time."""
    prefetch_s: float = 0.02
    """About how much work for each slot the prefetch is then."""
    order_s: float = 0.005
    """About how much work is given to a slot at once."""
    order_bytes_max: int = 1024 * 1024
    ahead_bytes_max: int = 64 * 1024
    """A slot that runs is given its next order before it asks, if that is no larger; 0: never."""
    stuck_s: float = 0.05
    """After this long without a finished batch, batches no longer count as short."""
    patience: float = 0.02
    """A slot waits this part of what an order of a job takes for a job whose turn it is and that ran dry just now."""
    patience_max_s: float = 0.05
    grace_s: float = 30.0
    """How long running tasks may go on once the worker leaves."""
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """One run of a worker; None means never."""

    modules: list[str]
    exit_when_idle_s: float | None
    stop_after_s: float | None
    holding: HoldingSettings
    reloads: bool = True
    """Edited modules are imported again before the next job."""
