"""Which batches get a copy: those that a worker has for much longer than such work takes, when slots are idle."""

from ..protocol.messages import BatchName
from .flights import Flight, Flights, State
from .holders import Holders
from .settings import DispatchSettings


class Speculation:
    """The last stragglers of one job, and their copies. The first result wins; the ledger drops the other.

    A copy is of the whole batch, whatever of it is recorded: by another name its own worker would not know it.
    """

    def __init__(self, settings: DispatchSettings, flights: Flights, crew: Holders) -> None:
        self.copied_count = 0
        self.candidate: Flight | None = None
        """What `straggler` gave last: the batch to copy, should it be pushed now."""
        self._settings = settings
        self._flights = flights
        self._crew = crew
        self._task_count = 0
        self._task_seconds = 0.0
        self._straggles_at: float | None = None
        """When the next batch will have been in hands for too long."""

    def measured(self, count: int, seconds: float) -> None:
        """Take note of `count` tasks that ran for `seconds` seconds together."""
        self._task_count += count
        self._task_seconds += seconds

    def straggler(self, now: float) -> Flight | None:
        """The batch to copy now, if a slot has nothing else to do: of those that are overdue the oldest one."""
        self._straggles_at = None
        if not self._task_count or self._flights.in_flight_count >= self._crew.slots:
            return None
        due_at = {flight.first: self._due_at(flight) for flight in self._flights if _may_be_copied(flight)}
        overdue = [self._flights.at(first) for first, at in due_at.items() if at <= now]
        if not overdue:
            self._straggles_at = min(due_at.values(), default=None)
        self.candidate = min(overdue, key=lambda flight: flight.pushed_at, default=None)
        return self.candidate

    def forget(self) -> None:
        """Copy nothing before `straggler` is asked again."""
        self._straggles_at = self.candidate = None

    def pushed(self, now: float) -> None:
        """A copy of the candidate was handed to the tasks link."""
        assert self.candidate is not None
        self.copied_count += 1
        self._flights.copy(self.candidate, now + self._settings.timing.lease_s)
        self.candidate = None

    def refused(self, now: float, name: BatchName) -> None:
        """A copy came back unrun: it is pushed again after a wait that grows."""
        flight = self._copied(name)
        if flight is None:
            return
        flight.copy_returns += 1
        # Whoever is asked in vain for long is asked seldom: all others may be busy with another job.
        wait_s = self._settings.return_wait(flight.copy_returns, self._settings.timing.beat_s)
        self._flights.uncopy(flight, now + wait_s)

    def one_is_back(self, now: float, name: BatchName) -> bool:
        """A worker that had the batch or its copy has it no more; returns whether the other one goes on."""
        flight = self._copied(name)
        if flight is not None:
            self._flights.uncopy(flight, now + self._settings.straggler_s)
        return flight is not None

    def tick(self, now: float, sink_away: bool) -> None:
        """A copy that was out for a lease, and that no beat names beside the batch, has got lost."""
        if self._straggles_at is not None and now >= self._straggles_at:
            self._straggles_at = None
        for flight in list(self._flights.copied.values()):
            if now >= flight.copy_at:
                if sink_away or self._crew.holders(flight.name) > 1:
                    flight.copy_at = now + self._settings.timing.lease_s
                else:
                    self._flights.uncopy(flight, now)

    def deadline(self) -> float | None:
        """When a straggler, or a copy, is overdue next."""
        instants = [flight.copy_at for flight in self._flights.copied.values()]
        if self._straggles_at is not None:
            instants.append(self._straggles_at)
        return min(instants, default=None)

    def _copied(self, name: BatchName) -> Flight | None:
        flight = self._flights.copied.get(name[0])
        return flight if flight is not None and flight.name == name else None

    def _due_at(self, flight: Flight) -> float:
        mean_s = self._task_seconds / self._task_count
        straggler_s = max(self._settings.straggler_s, self._settings.straggler_factor * mean_s * flight.count)
        return max(flight.pushed_at + straggler_s, flight.copy_at)


def _may_be_copied(flight: Flight) -> bool:
    """One copy at a time, and none of what may be to blame for the death of a worker."""
    return flight.state is State.PUSHED and not flight.is_copied and not flight.suspect
