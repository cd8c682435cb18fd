"""Batches that were pushed, and that no worker names although each has beaten since: somebody keeps them. No clock."""

from ..protocol.settings import Timing
from .flights import Flights, State
from .holders import Holders


class MissingBatches:
    """Looks for them now and then. The sink is told, and finds out whose they are: nobody here knows who got what.

    A batch is named within a beat of its arrival, also at a worker that is far away. What makes a batch unnamed for
    another reason (a worker is silent, links were cut, the sink was slow) stops the search for a while.
    """

    def __init__(self, timing: Timing, flights: Flights, crew: Holders) -> None:
        self._arrives_s = 2 * timing.beat_s
        """How long a batch may be on its way to a worker, and what names it on its way here, together."""
        self._lasts_s = timing.beat_s
        """How long batches must be missing before that is said."""
        self._rests_s = timing.unnamed_s + timing.beat_s
        self._again_s = 4 * timing.beat_s
        self._each_s = timing.beat_soon_s
        self._old_s = timing.lease_s
        self._flights = flights
        self._crew = crew
        self._looks_at = float("-inf")
        self._since: float | None = None

    def rest(self, now: float) -> None:
        """Batches may be unnamed for another reason: wait until that is over."""
        self._looks_at, self._since = now + self._rests_s, None

    def look(self, now: float) -> int:
        """How many batches are missing, when that is to be said now; else 0."""
        heard_at = self._crew.all_heard_at
        if now < self._looks_at or heard_at is None:
            return 0
        self._looks_at = now + self._each_s
        count = moving = 0
        for flight in self._flights:
            if flight.state is not State.PUSHED:
                continue
            if not flight.named and flight.pushed_at + self._arrives_s <= heard_at:
                count += 1
            # What a worker has for long, and says so, shows nothing: it may be a worker that says anything.
            elif flight.pushed_at + self._old_s > now:
                moving += 1
        if count < 2 or count < moving:
            self._since = None
            return 0
        self._since = now if self._since is None else self._since
        if now < self._since + self._lasts_s:
            return 0
        self._looks_at, self._since = now + self._again_s, None
        return count
