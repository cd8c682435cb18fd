"""The ventilator's rules: window, leases, returns and replay. No socket, no clock; `now` is monotonic seconds."""

from dataclasses import dataclass

from msgspec import Raw

from ..protocol.codec import slice_arguments, ticket
from ..protocol.messages import (
    BATCH_TASKS_MAX,
    Ask,
    Batch,
    BatchName,
    Crew,
    Dropped,
    Failed,
    FromSink,
    Member,
    Message,
    Opened,
    Quarantine,
    Receipts,
    Returned,
)
from ..task_ranges import TaskRanges
from .batch_size import BatchSize
from .flights import Flight, Flights, State
from .holders import Holders
from .retries import Retries, Retry
from .settings import DispatchSettings
from .speculation import Speculation


@dataclass(frozen=True, slots=True)
class Skip:
    """Order to the shell: the next `count` tasks of the input are recorded already."""

    count: int
    at_least: int = 1


@dataclass(frozen=True, slots=True)
class Take:
    """Order to the shell: read up to `count` tasks of the input and offer them as one batch.

    Wait until `at_least` so many are there, unless the input ends before: a worker may hold just this batch.
    """

    count: int
    at_least: int = 1


class Dispatch:
    """One job's scheduling."""

    _ADOPTABLE_MAX = 100_000
    """Batches of an earlier run of the job that are remembered; it bounds what a lying worker can cost."""

    def __init__(self, settings: DispatchSettings, job: str, function: str) -> None:
        self.done_count = 0
        self.failed_count = 0
        self.total: int | None = None
        """Tasks of the whole input, once known."""
        self.expected: int | None = None
        """Tasks of the whole input as far as one can guess; it only steers the batch size."""
        self.next_task = 0
        self.pushed_count = 0
        self.returned_count = 0
        self.dropped = False
        self.others_count = 0
        """Workers that are beating and do not expose the job's function."""
        self.caught_up = False
        """True once every receipt from before this start was read."""
        self._settings = settings
        self._timing = settings.timing
        self._job = job
        self._function = function
        self._ticket_key = b""
        self._size = BatchSize(settings)
        self._crew = Holders()
        self._flights = Flights(settings.timing.beat_soon_s)
        self._retries = Retries(settings)
        self._speculation = Speculation(settings, self._flights, self._crew)
        self._attempts = 0
        self._replayed = TaskRanges()
        self._adoptable: set[BatchName] = set()
        self._resumed = False
        self._verify_at = 0
        self._gathered_at: float | None = None
        """Until then nothing is read: workers may hold batches of an earlier run that no beat has named yet."""
        self._halted = False
        self._position = 0
        self._asked_at: float | None = None
        self._heard_at: float | None = None
        self._scarce = False
        self._scarce_at: float | None = None
        """When an input that is dry now is scarce."""
        self._straggler: Flight | None = None
        """The batch that `next_push` gave is a copy of this one."""

    # -- what the shell asks ------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Batches without a receipt for each of their tasks, and tasks that wait for their retry."""
        return len(self._flights) + len(self._retries)

    @property
    def in_flight_count(self) -> int:
        """Batches that the crew was given and that have not come back, copies included."""
        return self._flights.in_flight_count

    @property
    def copied_count(self) -> int:
        """Copies of stragglers that were pushed."""
        return self._speculation.copied_count

    @property
    def crew_count(self) -> int:
        """Workers that are beating and expose the job's function."""
        return len(self._crew)

    @property
    def slots(self) -> int:
        """Slots of the whole crew."""
        return self._crew.slots

    @property
    def window(self) -> int:
        """Batches that the crew may hold for this job."""
        crew = self._crew
        if self._scarce:
            return self._room - crew.prefetch
        # PUSH chooses the worker blindly: were one place free in a large crew, nearly all batches would come back.
        return self._room - min(crew.prefetch, len(crew) // self._settings.one_free_in)

    @property
    def batch_tasks(self) -> int:
        """Tasks that the next batch should hold."""
        return self._size.tasks(*self._left_and_window())

    @property
    def scarce(self) -> bool:
        """True while the crew has more slots than there are batches for it."""
        return self._scarce

    @property
    def finished(self) -> bool:
        """True when the input is at its end and every task has its receipt."""
        return self.total is not None and self.next_task >= self.total and not self.outstanding

    @property
    def verifying(self) -> bool:
        """True while the input was not read as far as the earlier run of this job had read it.

        Until then nothing is pushed, and batches that this run must push are kept whatever the window: they are
        the ones that the earlier run had outstanding.
        """
        return self.next_task < self._verify_at

    def plan(self, now: float) -> Skip | Take | None:
        """What to do with the input next; None while nothing may be read."""
        if not self.caught_up or self.total is not None or self._halted:
            return None
        if self._gathered_at is not None and now < self._gathered_at:
            return None
        at = self.next_task
        stops = [first if first > at else first + count for first, count, _ in self._adoptable if first != at]
        stops += [self._verify_at] if self.verifying else []
        _, adopted, _ = self._adoptable_at(at)
        end = self._replayed.end_of_run(at)
        if end is not None and end >= at + adopted:
            return Skip(min([end, *stops]) - at)
        if adopted:
            # Also what is recorded of it: read by parts, it would be another batch than the one that a worker holds.
            count = min([at + adopted, *stops]) - at
            return Take(count, at_least=count)
        if self._is_full() and not self.verifying:
            return None
        start = self._replayed.next_start(at)
        stops += [] if start is None else [start]
        return Take(min([at + self.batch_tasks, *stops]) - at)

    def halt(self) -> None:
        """Read and push nothing more; what is in the crew's hands may still come in."""
        self._halted = True

    def skipped(self, count: int) -> None:
        """The shell has passed over `count` tasks of the input."""
        self._replayed.discard(self.next_task, count)
        self._advance(count)

    def offer(self, now: float, count: int, arguments: Raw) -> None:
        """The next `count` tasks of the input, their arguments encoded as one array."""
        first, end = self.next_task, self.next_task + count
        _, adopted, attempt = self._adoptable_at(first)
        flight = Flight(first, count, arguments, attempt if adopted == count else self._attempts + 1)
        # What an earlier run has pushed it may have pushed by other bounds.
        flight.is_part = self.verifying or self._is_otherwise_adoptable(flight)
        self._insert(now, flight, adopted == count)
        for start, length in self._replayed.within(first, end):
            self._flights.settle(start, start + length)
        self._replayed.discard(first, count)
        self._advance(count)

    def input_scarce(self, now: float, dry: bool) -> list[Message]:
        """Say whether the input has nothing to read now (it ended, or it is slow); the answer is what to send.

        An input that may go on is scarce once it was dry for `beat_soon_s` seconds on end, until it fills the crew
        again: each change is told to every worker. Batches that are done in no time are not worth it.
        """
        dry = dry and not self._size.is_short(*self._left_and_window())
        may_go_on = dry and self.total is None
        if dry == self._scarce or not self.caught_up:
            self._scarce_at = None
        elif may_go_on and self._scarce_at is None:
            self._scarce_at = now + self._timing.beat_soon_s
        elif not may_go_on and (dry or self._is_full()):
            return self._be_scarce(now, dry)
        return []

    def next_push(self, now: float) -> Batch | None:
        """The batch to push now, if there is one and the crew has room; `pushed` must follow once it is sent."""
        self._straggler = None
        self._speculation.forget()
        if self.verifying or self._halted or self.dropped or self.in_flight_count >= self.window:
            return None
        flight = self._flights.next_ready()
        while flight is not None and (flight.received is not None or self._cuts(flight)):
            self._split(now, flight)
            flight = self._flights.next_ready()
        if self.in_flight_count >= self.window:
            return None
        may_copy = self._settings.speculate and self.total is not None and not self._sink_away(now)
        if flight is None and may_copy:
            flight = self._straggler = self._speculation.straggler(now)
        if flight is None:
            return None
        # Adopted from an earlier run of what failed in it, no result at its old attempt would be new.
        flight.attempt = max(flight.attempt, self._attempts + 1)
        return Batch(
            job=self._job,
            function=self._function,
            first=flight.first,
            count=flight.count,
            attempt=flight.attempt,
            ticket=ticket(self._ticket_key, flight.first, flight.count, flight.attempt),
            timeout_s=self._settings.timeout_s,
            suspect=flight.suspect,
            copy=flight is self._straggler,
            arguments=flight.arguments,
        )

    def pushed(self, now: float) -> None:
        """The batch that `next_push` gave was handed to the tasks link."""
        self.pushed_count += 1
        if self._straggler is not None:
            self._speculation.pushed(now, self._straggler)
            self._straggler = None
            return
        flight = self._flights.next_ready()
        assert flight is not None
        flight.was_pushed, flight.pushed_at = True, now
        self._flights.push(flight, now + self._timing.lease_s)

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: FromSink) -> list[Message]:
        """Take a message of the sink; the answer is what to send to it."""
        self._hear(now)
        if isinstance(message, Receipts):
            return self._receive_receipts(now, message)
        if isinstance(message, Crew):
            return self._receive_crew(now, message)
        if isinstance(message, Failed):
            self._receive_failed(now, message)
        elif isinstance(message, Returned):
            self._receive_returned(now, message)
        elif isinstance(message, Opened):
            # The crew follows, whole: who died while the sink was away is never said to have left.
            self._crew.clear()
            self._ticket_key = message.ticket_key
            self._attempts = message.attempts
            if not self.caught_up:
                self._resumed = message.resumed
                self._verify_at = message.mark_count
                gather_s = min(message.gather_s, self._timing.gather_s) if message.resumed else 0.0
                self._gathered_at = now + gather_s if gather_s else None
            return [self._ask(now)]
        elif isinstance(message, Dropped):
            self.dropped = self.dropped or message.job == self._job
        return []

    def tick(self, now: float) -> list[Message]:
        """Do what is due; the answer is what to send to the sink."""
        if self._gathered_at is not None and now >= self._gathered_at:
            self._gathered_at = None
        self._flights.wake(now)
        for flight in self._flights.expired(now):
            if self._sink_away(now):
                self._flights.lease(flight, now + self._timing.beat_s)
            else:
                # Nobody named it: it may have ended a worker before its first beat.
                flight.suspect = True
                self._take_back(now, flight)
        self._speculation.tick(now, self._sink_away(now))
        for retry in self._retries.due(now):
            self._try_again(now, retry)
        if self._scarce_at is not None and now >= self._scarce_at:
            return self._be_scarce(now, True)
        if self._asked_at is not None and now >= self._asked_at + self._timing.silence_s:
            return [self._ask(now)]
        return []

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        asks_at = None if self._asked_at is None else self._asked_at + self._timing.silence_s
        machines = (self._flights, self._retries, self._speculation)
        instants = (*(machine.deadline() for machine in machines), asks_at, self._gathered_at, self._scarce_at)
        return min((instant for instant in instants if instant is not None), default=None)

    # -- rules --------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        """Batches that are read ahead, whether the crew may hold all of them now or not."""
        return self._crew.slots + self._crew.prefetch

    def _left_and_window(self) -> tuple[int | None, int]:
        """What the batch size goes by. That short batches are prefetched is no reason to make them shorter."""
        left = None if self.expected is None else self.expected - self.next_task
        return left, min(self.window, 2 * self._crew.slots)

    def _is_full(self) -> bool:
        return len(self._flights) >= self._room or len(self._retries) >= self._settings.retries_waiting_max

    def _advance(self, count: int) -> None:
        self.next_task += count
        if self._adoptable:
            self._adoptable = {name for name in self._adoptable if name[0] + name[1] > self.next_task}

    def _adoptable_at(self, task: int) -> BatchName:
        """The batch of an earlier run that begins with this task; one without tasks if there is none.

        Of several it is the one at the latest attempt, of these the longest.
        """
        found = (name for name in self._adoptable if name[0] == task)
        return max(found, key=lambda name: (name[2], name[1]), default=(task, 0, 0))

    def _is_otherwise_adoptable(self, flight: Flight) -> bool:
        """True when somebody has some of its tasks by other bounds."""
        end = flight.first + flight.count
        return any(
            first < end and flight.first < first + count and (first, count) != (flight.first, flight.count)
            for first, count, _ in self._adoptable
        )

    def _be_scarce(self, now: float, scarce: bool) -> list[Message]:
        self._scarce, self._scarce_at = scarce, None
        return [self._ask(now)]

    def _ask(self, now: float) -> Ask:
        self._asked_at = now
        return Ask(self._job, self._position, self._scarce)

    def _sink_away(self, now: float) -> bool:
        return self._heard_at is None or now - self._heard_at > self._timing.silence_s

    def _hear(self, now: float) -> None:
        if self._sink_away(now):
            for flight in self._flights:
                if flight.state is State.PUSHED:
                    self._flights.lease(flight, max(flight.due_at, now + self._timing.lease_s))
        self._heard_at = now

    def _receive_receipts(self, now: float, receipts: Receipts) -> list[Message]:
        if receipts.job != self._job or receipts.after != self._position:
            return []
        self._position = receipts.position
        self.done_count = receipts.done
        self.failed_count = receipts.failed
        for first, count in receipts.runs:
            self._settle(first, first + count)
        self._speculation.measured(receipts.count, receipts.seconds)
        if self.caught_up:
            self._size.measured(receipts.count, receipts.seconds)
        elif not receipts.more:
            self.caught_up = True
        return [self._ask(now)]

    def _receive_crew(self, now: float, crew: Crew) -> list[Message]:
        self.others_count = crew.others
        for member in crew.members:
            self._crew.heard(member)
            for name in member.held:
                self._extend(now, name)
        outputs: list[Message] = []
        for worker in crew.left:
            outputs += self._part_with(now, self._crew.gone(worker), lost=False)
        for worker in crew.lost:
            outputs += self._part_with(now, self._crew.gone(worker), lost=True)
        return outputs

    def _extend(self, now: float, name: BatchName) -> None:
        """A beat names this batch."""
        if self._resumed:
            # The mark may not have been committed when the sink was killed: also beyond it bounds may differ.
            self._flights.are_parts(name)
        for flight in self._flights.called(name):
            if flight.was_pushed or self._resumed:
                flight.named = True
                self._flights.push(flight, now + self._timing.lease_s)
        is_ahead = self._resumed and name[0] + name[1] > self.next_task and name[1] <= BATCH_TASKS_MAX
        if is_ahead and len(self._adoptable) < self._ADOPTABLE_MAX:
            self._adoptable.add(name)

    def _part_with(self, now: float, member: Member | None, lost: bool) -> list[Message]:
        """Have back what a worker held that left, or that was lost."""
        if member is None:
            return []
        outputs: list[Message] = []
        started = set(member.started) if lost else set()
        for name in member.held:
            self._lose_one(now, name, lost)
        for name, flight in self._let_go(member.worker, member.held):
            flight.suspect = flight.suspect or lost
            flight.lost_count += name in started and flight.name == name and flight.count == 1
            if flight.lost_count >= self._settings.quarantine_after:
                outputs.append(self._quarantine(now, flight, member.worker))
            else:
                self._take_back(now, flight)
        self._shorten_unnamed(now)
        return outputs

    def _lose_one(self, now: float, name: BatchName, lost: bool) -> None:
        """Of a batch and its copy one is gone with its worker: the other goes on, and is not copied if it may kill."""
        if self._speculation.one_is_back(now, name) and lost:
            for flight in self._flights.called(name):
                flight.suspect = True

    def _let_go(self, worker: str, names: list[BatchName]) -> list[tuple[BatchName, Flight]]:
        """A worker has these batches no more; returns those that nobody else says to hold, each once."""
        found: dict[int, tuple[BatchName, Flight]] = {}
        for name in names:
            self._crew.let_go(worker, name)
        for name in names:
            if not self._crew.holders(name):
                self._adoptable.discard(name)
            for flight in self._flights.called(name):
                free = flight.state is State.PUSHED and not self._crew.is_held(flight.name, flight.is_part)
                # What nobody has named yet is on its way by its own name, whatever becomes of the batch that it was in.
                was_it = flight.name == name or flight.named
                # It may be named twice: by its own name, and by that of the batch that it was in.
                if free and was_it and (flight.name == name or flight.first not in found):
                    found[flight.first] = name, flight
        return list(found.values())

    def _shorten_unnamed(self, now: float) -> None:
        """What no beat ever named may have been on its way to the worker that has left."""
        ends_at = now + self._timing.unnamed_s
        for flight in self._flights:
            if flight.state is State.PUSHED and not flight.named and flight.due_at > ends_at:
                self._flights.lease(flight, ends_at)

    def _quarantine(self, now: float, flight: Flight, worker: str) -> Quarantine:
        """Give the task up; should the word be lost, the lease ends, and the next lost worker brings it up again."""
        self._flights.lease(flight, now + self._timing.lease_s)
        argument = slice_arguments(flight.arguments, 0, 1)
        return Quarantine(self._job, flight.first, flight.attempt, worker, flight.lost_count, argument)

    def _receive_returned(self, now: float, returned: Returned) -> None:
        if returned.job != self._job:
            return
        for name in returned.copies:
            self._speculation.refused(now, name)
        both = [name for name in returned.batches if self._speculation.one_is_back(now, name)]
        for name in both:
            self._crew.let_go(returned.worker, name)
        alone = [name for name in returned.batches if name not in both] if both else returned.batches
        for _, flight in self._let_go(returned.worker, alone):
            self.returned_count += 1
            flight.returns += 1
            wait_s = self._settings.return_wait(flight.returns, self._settings.return_wait_max_s)
            self._flights.take_back(flight, now, wait_s)

    def _receive_failed(self, now: float, failed: Failed) -> None:
        """Take the tasks out of their flights and let them wait for their next attempt."""
        for task in failed.tasks if failed.job == self._job else ():
            flight = self._flights.holding(task)
            if flight is None or flight.attempt != failed.attempt:
                continue
            if flight.received is not None and task in flight.received:
                continue
            argument = slice_arguments(flight.arguments, task - flight.first, 1)
            self._settle(task, task + 1)
            self._retries.add(now, Retry(task, failed.attempt + 1, argument), failed.attempt - self._attempts)

    def _try_again(self, now: float, retry: Retry) -> None:
        if self._flights.holding(retry.task) is not None:
            # The batch that it failed in still runs its other tasks; flights must not overlap.
            self._retries.put_off(now + self._timing.beat_s / 4, retry)
        else:
            self._insert(now, Flight(retry.task, 1, retry.argument, retry.attempt))

    def _insert(self, now: float, flight: Flight, adopted: bool = False) -> None:
        """Let a new flight be pushed, unless a worker has it from an earlier run of the job."""
        self._flights.add(flight)
        may_be_held = self._resumed or flight.is_part
        if adopted or (may_be_held and self._crew.is_held(flight.name, flight.is_part)):
            flight.named = True
            self._flights.push(flight, now + self._timing.lease_s)

    def _take_back(self, now: float, flight: Flight) -> None:
        """Have a batch back that is in nobody's hands any more."""
        self._flights.take_back(flight, now)
        if flight.suspect and flight.count > 1:
            self._split(now, flight)

    def _settle(self, first: int, end: int) -> None:
        """Take note that the tasks from `first` to `end - 1` have their receipts."""
        if end > self.next_task:
            start = max(first, self.next_task)
            self._replayed.add(start, end - start)
        self._retries.settle(first, end)
        self._flights.settle(first, end)

    def _cuts(self, flight: Flight) -> list[int]:
        """Where a batch ends or begins that somebody in the crew has of an earlier run, by other bounds than this."""
        return self._crew.bounds_within(flight.name) if flight.is_part else []

    def _split(self, now: float, flight: Flight) -> None:
        """Replace a flight by flights for its tasks without receipts: several if it is suspect, to find the culprit."""
        missing = TaskRanges([(flight.first, flight.count)])
        for first, count in flight.received or ():
            missing.discard(first, count)
        cuts = self._cuts(flight)
        self._flights.remove(flight)
        size = -(-flight.count // self._settings.split_parts) if flight.suspect else flight.count
        for run_first, run_count in missing:
            first, end = run_first, run_first + run_count
            while first < end:
                count = min([first + size, end, *(cut for cut in cuts if cut > first)]) - first
                arguments = slice_arguments(flight.arguments, first - flight.first, count)
                part = Flight(first, count, arguments, flight.attempt, is_part=True)
                part.was_pushed, part.suspect, part.returns = flight.was_pushed, flight.suspect, flight.returns
                self._insert(now, part)
                first += count
