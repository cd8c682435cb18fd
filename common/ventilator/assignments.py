"""Which batches workers have: given to them, named by beats, handed back, lost. No socket, no clock."""

from collections.abc import Sequence
from typing import TypeGuard

from ..protocol.codec import slice_arguments
from ..protocol.messages import BatchName, FromSink, Member, Message, Missing, Quarantine, Returned
from ..protocol.settings import CUT_CONNECTION_S
from ..task_ranges import TaskRanges
from .admission import Admission, CutLinks
from .earlier_run import EarlierRun
from .flights import Flight, Flights, State
from .holders import Holders
from .missing import MissingBatches
from .settings import DispatchSettings
from .speculation import Speculation


class Assignments:
    """The rules by which outstanding batches go to workers and come back."""

    def __init__(
        self,
        settings: DispatchSettings,
        job: str,
        flights: Flights,
        crew: Holders,
        speculation: Speculation,
        earlier: EarlierRun,
    ) -> None:
        self.admission = Admission(settings.timing)
        self.returned_count = 0
        self._settings = settings
        self._timing = settings.timing
        self._job = job
        self._flights = flights
        self._crew = crew
        self._speculation = speculation
        self._earlier = earlier
        self._missing = MissingBatches(settings.timing, flights, crew)
        self._named_no_more: set[BatchName] = set()
        """What was adopted, or is to be, and beats have stopped naming since all receipts were read."""
        self._parted_at: float | None = None
        """When a worker has left last, while leases are to be shortened because of that."""
        self._shortened_at = float("-inf")
        self._cuts = False
        """A worker misses its beats or was lost, and the connections are not cut yet."""
        self._cut_again_at = float("-inf")
        self._quiet_at = float("-inf")
        """When workers were found last that miss their beats. Of a crew of thousands many may, one after another."""

    def insert(self, now: float, flight: Flight, adopted: bool = False) -> None:
        """Let a new flight be pushed, unless a worker has it from an earlier run of the job."""
        self._flights.add(flight)
        if adopted or (self._earlier.resumed and self._crew.is_held(flight.name)):
            flight.named = True
            self._flights.push(flight, now + self._timing.lease_s)

    def next_ready(self, now: float) -> Flight | None:
        """The batch that may be pushed first; what is recorded of it is cut out."""
        flight = self._flights.next_ready()
        while flight is not None and flight.received is not None:
            self._split(now, flight)
            flight = self._flights.next_ready()
        return flight

    def pushed(self, now: float) -> None:
        """The batch that `next_ready` gave was handed to the tasks link."""
        flight = self._flights.next_ready()
        assert flight is not None
        flight.was_pushed, flight.pushed_at = True, now
        # A worker that misses its beats may get it, and then no beat will ever name it.
        lease_s = self._timing.unnamed_s if self._crew.quiet else self._timing.lease_s
        self._flights.push(flight, now + lease_s)

    def named(self, now: float, name: BatchName, next_task: int) -> None:
        """A beat names this batch; `next_task` is the next task of the input."""
        self._earlier.named(name, next_task)
        flight = self._flights.find(name)
        if flight is not None and (flight.was_pushed or self._earlier.resumed):
            flight.named = True
            self._flights.push(flight, now + self._timing.lease_s)

    def named_no_more(self, names: list[BatchName]) -> None:
        """Beats named these batches, and none does now: a worker has a receipt for it, or has handed it back."""
        for name in names if self._earlier.resumed else ():
            if self._is_adopted(self._flights.find(name)) or self._earlier.is_adoptable(name):
                self._named_no_more.add(name)

    def all_receipts_read(self, now: float) -> None:
        """What is recorded of batches that beats no longer name is known: no result of the adopted ones is to come.

        They were over before this run was there to hear it, and their tasks failed or were handed back.
        """
        for name in self._named_no_more:
            if not self._crew.is_held(name):
                self._earlier.let_go(name)
                flight = self._flights.find(name)
                if self._is_adopted(flight) and not self._speculation.one_is_back(now, name):
                    self._take_back(now, flight)
        self._named_no_more.clear()

    def admit(self, now: float, message: FromSink) -> list[CutLinks]:
        """Once the sink is heard: see who may be connected, and shorten the leases of what may have gone to others."""
        cuts = self.admission.receive(now, message, self._cut().living)
        if cuts:
            self._missing.rest(now)
            self._shorten_unnamed(now)
        return cuts

    def look_for_quiet(self, now: float) -> None:
        """Once the sink is heard: shorten the leases of what may have gone to workers that now miss their beats."""
        if now < self._quiet_at + self._timing.beat_soon_s:
            return
        if not self._crew.fall_quiet(now - self._timing.silence_s):
            return
        self._quiet_at = now
        self._missing.rest(now)
        self._shorten_unnamed(now)
        self._cuts = True

    def look_for_missing(self, now: float) -> list[Missing]:
        """Once the sink is heard: say when batches are missing."""
        missing_count = self._missing.look(now)
        if not missing_count:
            return []
        self.admission.batches_are_missing(now)
        return [Missing(self._job, missing_count)]

    def cuts(self, now: float) -> list[CutLinks]:
        """After each message: cut the connections of workers that miss their beats or were lost, but not too often."""
        if not self._cuts or now < self._cut_again_at:
            return []
        self._missing.rest(now)
        cut = self._cut()
        self._cuts, self._cut_again_at = False, now + CUT_CONNECTION_S * cut.living
        return [cut]

    def sink_was_slow(self, now: float) -> None:
        """It may have beats that it has not passed on: the silence of all workers counts from now."""
        self._missing.rest(now)
        self._crew.excuse(now)

    def part_with(self, now: float, workers: Sequence[str], lost: bool) -> list[Message]:
        """Take back the batches of workers that left or were lost."""
        self._cuts |= lost and any(worker not in self._crew.quiet for worker in workers if worker in self._crew)
        members = [member for worker in workers if (member := self._crew.gone(worker)) is not None]
        if members and lost:
            self._missing.rest(now)
        outputs: list[Message] = []
        for member in members:
            outputs += self._take_back_all(now, member, lost)
        if members:
            self._parted_at = now
        return outputs

    def _take_back_all(self, now: float, member: Member, lost: bool) -> list[Message]:
        outputs: list[Message] = []
        started = set(member.started) if lost else set()
        for name in member.held:
            self._lose_one(now, name, lost)
        for flight in self._let_go(member.worker, member.held):
            flight.suspect = flight.suspect or lost
            flight.lost_count += flight.name in started and flight.count == 1
            if flight.lost_count >= self._settings.quarantine_after:
                outputs.append(self._quarantine(now, flight, member.worker))
            else:
                self._take_back(now, flight)
        return outputs

    def returned(self, now: float, returned: Returned) -> None:
        """A worker hands batches back unrun."""
        if returned.job != self._job:
            return
        for name in returned.copies:
            self._speculation.refused(now, name)
        both = [name for name in returned.batches if self._speculation.one_is_back(now, name)]
        for name in both:
            self._crew.let_go(returned.worker, name)
        alone = [name for name in returned.batches if name not in both] if both else returned.batches
        for flight in self._let_go(returned.worker, alone):
            self.returned_count += 1
            flight.returns += 1
            wait_s = self._settings.return_wait(flight.returns, self._settings.return_wait_max_s)
            self._flights.take_back(flight, now, wait_s)

    def expire(self, now: float, sink_away: bool) -> None:
        """Take back the batches whose leases have ended; leases stand still while the sink is away."""
        looks_at = self.deadline()
        if looks_at is not None and now >= looks_at and self._parted_at is not None:
            for flight in self._unnamed():
                if flight.pushed_at <= self._parted_at:
                    # It may have been on its way to a worker that has left.
                    self._shorten(flight, self._parted_at + self._timing.unnamed_s)
            self._parted_at, self._shortened_at = None, now
        for flight in self._flights.expired(now):
            if sink_away:
                self._flights.lease(flight, now + self._timing.beat_s)
            else:
                # Nobody named it: it may have ended a worker before its first beat.
                flight.suspect = True
                self._take_back(now, flight)

    def deadline(self) -> float | None:
        """When `expire` has leases to shorten: once for all workers that have left in a moment, for it looks at all."""
        return None if self._parted_at is None else self._shortened_at + self._timing.beat_soon_s

    def sink_is_back(self, now: float) -> None:
        """The sink was away, and nobody could name a batch: every lease begins anew."""
        self._missing.rest(now)
        for flight in self._flights:
            if flight.state is State.PUSHED:
                self._flights.lease(flight, max(flight.due_at, now + self._timing.lease_s))

    # -- rules --------------------------------------------------------------------------------------------------------

    def _lose_one(self, now: float, name: BatchName, lost: bool) -> None:
        """Of a batch and its copy, one is gone with its worker. The other goes on; it is suspect if the worker died."""
        if self._speculation.one_is_back(now, name) and lost and (flight := self._flights.find(name)) is not None:
            flight.suspect = True

    def _let_go(self, worker: str, names: list[BatchName]) -> list[Flight]:
        """A worker has these batches no more; returns those that no other worker names, each once."""
        found: dict[BatchName, Flight] = {}
        for name in names:
            self._crew.let_go(worker, name)
            if not self._crew.is_held(name):
                self._earlier.let_go(name)
                flight = self._flights.find(name)
                if flight is not None and flight.state is State.PUSHED:
                    found[name] = flight
        return list(found.values())

    @staticmethod
    def _is_adopted(flight: Flight | None) -> TypeGuard[Flight]:
        """A worker has it from an earlier run."""
        return flight is not None and flight.state is State.PUSHED and not flight.was_pushed

    def _cut(self) -> CutLinks:
        return CutLinks(len(self._crew) - len(self._crew.quiet))

    def _unnamed(self) -> list[Flight]:
        """What the crew was given and no beat ever named."""
        return [flight for flight in self._flights if flight.state is State.PUSHED and not flight.named]

    def _shorten_unnamed(self, now: float) -> None:
        for flight in self._unnamed():
            self._shorten(flight, max(now, flight.pushed_at + self._timing.unnamed_s))

    def _shorten(self, flight: Flight, ends_at: float) -> None:
        if flight.due_at > ends_at:
            self._flights.lease(flight, ends_at)

    def _quarantine(self, now: float, flight: Flight, worker: str) -> Quarantine:
        """Give the task up. If this message is lost, the lease ends, and the next worker that dies leads here again."""
        self._flights.lease(flight, now + self._timing.lease_s)
        argument = slice_arguments(flight.arguments, 0, 1)
        return Quarantine(self._job, flight.first, flight.attempt, worker, flight.lost_count, argument)

    def _take_back(self, now: float, flight: Flight) -> None:
        """Take back a batch that no worker has any more."""
        self._flights.take_back(flight, now)
        if flight.suspect and flight.count > 1:
            self._split(now, flight)

    def _split(self, now: float, flight: Flight) -> None:
        """Replace a flight by flights for its tasks without receipts: several if it is suspect, to find the culprit."""
        missing = TaskRanges([(flight.first, flight.count)])
        for first, count in flight.received or ():
            missing.discard(first, count)
        self._flights.remove(flight)
        size = -(-flight.count // self._settings.split_parts) if flight.suspect else flight.count
        for run_first, run_count in missing:
            first, end = run_first, run_first + run_count
            while first < end:
                count = min(size, end - first)
                arguments = slice_arguments(flight.arguments, first - flight.first, count)
                part = Flight(first, count, arguments, flight.attempt)
                part.was_pushed, part.suspect, part.returns = flight.was_pushed, flight.suspect, flight.returns
                self.insert(now, part)
                first += count
