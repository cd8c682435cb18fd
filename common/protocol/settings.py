"""The numbers that the roles go by: defaults in one place, units in the names, relations checked."""

from dataclasses import dataclass

RESULTS_PORT = 5558
CONTROL_PORT = 5559
TASKS_PORT = 5557
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest value or argument, and the largest frame but for its envelope."""
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
