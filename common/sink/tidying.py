"""When the sink gives the room of forgotten jobs back: a little now and then. No socket, no clock."""

from .store import LedgerStuck, Store

_EACH_S = 0.05
"""A part takes some milliseconds: nine tenths of the time stay for results."""
_STUCK_S = 1.0


class Tidying:
    """Has the ledger tidied part by part, until there is nothing more to do."""

    def __init__(self, now: float, ledger: Store) -> None:
        self._ledger = ledger
        self.next_at: float | None = now
        """When to do the next part. A ledger may have been closed in the middle of it."""

    def begin(self, now: float) -> None:
        """A job was forgotten."""
        self.next_at = now

    def tick(self, now: float) -> None:
        """Do a part if it is time."""
        if self.next_at is None or now < self.next_at:
            return
        try:
            self.next_at = now + _EACH_S if self._ledger.tidy() else None
        except LedgerStuck:
            # Who commits says so.
            self.next_at = now + _STUCK_S
