"""When the sink gives the room of forgotten jobs back: a little now and then. No socket, no clock."""

from .store import Completion

_EACH_S = 0.05
"""A part takes some milliseconds: nine tenths of the time stay for results."""
_STUCK_S = 1.0


class Housekeeping:
    """Has the ledger tidied part by part, until there is nothing more to do."""

    def __init__(self, now: float) -> None:
        self.next_at: float | None = now
        """When to do the next part. A ledger may have been closed in the middle of it."""

    def begin(self, now: float) -> None:
        """A job was forgotten."""
        self.next_at = now + _EACH_S

    def is_due(self, now: float) -> bool:
        """True when it is time for a part."""
        return self.next_at is not None and now >= self.next_at

    def done(self, now: float, completion: Completion) -> None:
        """A part has ended."""
        if completion.stuck is not None:
            # Whoever commits says so.
            self.next_at = now + _STUCK_S
        else:
            self.next_at = now + _EACH_S if completion.result else None
