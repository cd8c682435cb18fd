"""The scheduling of one job: its phases, its input, its window. No socket, no clock; `now` is monotonic seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Raw

from ..protocol.codec import origin, slice_arguments, ticket
from ..protocol.explaining import TaskPlace
from ..protocol.messages import Batch, Crew, Dropped, Failed, FromSink, Message, Opened, Receipts, Returned
from .account import place_of
from .admission import Admission, CutLinks
from .assignments import Assignments
from .batch_size import BatchSize
from .earlier_run import EarlierRun
from .flights import Flight, Flights
from .holders import Holders
from .phases import OVER, PHASES, Phase
from .receipt_cursor import ReceiptCursor
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

    Wait until `at_least` tasks are there, unless the input ends before: a worker may hold just this batch.
    """

    count: int
    at_least: int = 1


class Dispatch:
    """One job's scheduling."""

    def __init__(self, settings: DispatchSettings, job: str, function: str) -> None:
        self.total: int | None = None
        """Tasks of the whole input, once its end was read."""
        self.next_task = 0
        self.pushed_count = 0
        self.others_count = 0
        """Workers that are beating and do not expose the job's function."""
        self._settings = settings
        self._job = job
        self._function = function
        self._opened: Opened | None = None
        self._origin = b""
        self._phase = Phase.OPENING
        self._expected: int | None = None
        self._size = BatchSize(settings)
        self._crew = Holders()
        self._flights = Flights(settings.timing.beat_soon_s)
        self._retries = Retries(settings)
        self._speculation = Speculation(settings, self._flights, self._crew)
        self._earlier = EarlierRun()
        self._assignments = Assignments(settings, job, self._flights, self._crew, self._speculation, self._earlier)
        self._cursor = ReceiptCursor(settings.timing, job)
        self._scarce_at: float | None = None
        """When an input that is dry now is scarce."""

    # -- what the shell asks ------------------------------------------------------------------------------------

    @property
    def caught_up(self) -> bool:
        """True once the job is open and every receipt from before this start was read."""
        return self._earlier.caught_up

    @property
    def dropped(self) -> bool:
        """True once the job was cancelled."""
        return self._phase is Phase.DROPPED

    @property
    def admission(self) -> Admission:
        """Which keys may connect to the tasks link."""
        return self._assignments.admission

    @property
    def done_count(self) -> int:
        """Tasks that are recorded, the failed ones among them."""
        return self._cursor.done_count

    @property
    def failed_count(self) -> int:
        """Tasks that are recorded as failed."""
        return self._cursor.failed_count

    @property
    def failed_in_run(self) -> int:
        """Tasks that this run has recorded as failed."""
        return self._cursor.failed_in_run

    @property
    def outstanding(self) -> int:
        """Batches without a receipt for each of their tasks, and tasks that wait for their retry."""
        return len(self._flights) + len(self._retries)

    @property
    def in_flight_count(self) -> int:
        """Batches that the crew was given and that have not come back, copies included."""
        return self._flights.in_flight_count

    @property
    def returned_count(self) -> int:
        """Batches that workers handed back unrun."""
        return self._assignments.returned_count

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
        if self.scarce:
            return self._room - crew.prefetch
        # PUSH chooses the worker blindly: were one place free in a large crew, nearly all batches would come back.
        return self._room - min(crew.prefetch, len(crew) // self._settings.one_free_in)

    @property
    def batch_tasks(self) -> int:
        """Tasks that the next batch should hold."""
        return self._size.tasks(*self._left_and_window())

    @property
    def scarce(self) -> bool:
        """True while the input has nothing to read now; a job that pushes no more stays as it was."""
        return self._cursor.told_scarce if self._phase in OVER else self._phase is Phase.SCARCE

    @property
    def finished(self) -> bool:
        """True when the input is at its end and every task has its receipt."""
        return self._phase is Phase.CLOSED

    @property
    def verifying(self) -> bool:
        """True while the input was not read as far as the earlier run of this job had read it.

        Until then nothing is pushed, and batches that this run must push are kept whatever the window: they are
        the ones that the earlier run had outstanding.
        """
        return self.next_task < self._earlier.read_count

    @property
    def earlier_goes_on(self) -> bool:
        """True while an earlier run of this job has read or recorded tasks that this run has not come to."""
        return self._earlier.goes_on(self.next_task)

    def place_of(self, now: float, task: int) -> TaskPlace:
        """Where this task is."""
        return place_of(now, task, self.next_task, self._flights, self._retries)

    def plan(self, now: float) -> Skip | Take | None:
        """What to do with the input next; None while nothing may be read."""
        self._end_gathering(now)
        if self.total is not None or self._phase not in (Phase.VERIFYING, Phase.RUNNING, Phase.SCARCE):
            return None
        at, earlier = self.next_task, self._earlier
        held = earlier.adoptable_at(at)
        adopted = 0 if held is None else held[1]
        recorded = earlier.recorded_count(at)
        if recorded and recorded >= adopted:
            return Skip(earlier.count_to_bound(at, recorded))
        if adopted:
            # Also what is recorded of it: read by parts, it would be another batch than the one that a worker holds.
            return Take(adopted, at_least=adopted)
        if self._is_full() and not self.verifying:
            return None
        return Take(earlier.count_to_recorded(at, self.batch_tasks))

    def expect(self, count: int | None) -> None:
        """Guess that the whole input has this many tasks (None: unknown); it only steers the batch size."""
        self._expected = count

    def input_ended(self) -> None:
        """The input has no more tasks than were read."""
        assert self._phase is not Phase.OPENING
        if self.total is None and self._phase not in (Phase.HALTED, Phase.DROPPED):
            self.total = self.next_task
            self._close_if_done()

    def halt(self) -> None:
        """Read and push nothing more; results of what the crew has may still come in."""
        if self._phase not in OVER:
            self._enter(Phase.HALTED)

    def skipped(self, count: int) -> None:
        """The shell has passed over `count` tasks of the input."""
        self._advance(count)

    def offer(self, now: float, count: int, arguments: Raw) -> None:
        """The next `count` tasks of the input, their arguments encoded as one array."""
        first, end = self.next_task, self.next_task + count
        held = self._earlier.adoptable_at(first)
        is_adopted = held is not None and held[1] == count
        attempt = held[2] if held is not None and is_adopted else self._attempts + 1
        self._assignments.insert(now, Flight(first, count, arguments, attempt), is_adopted)
        for start, length in self._earlier.recorded_within(first, end):
            self._flights.settle(start, start + length)
        self._advance(count)

    def input_scarce(self, now: float, dry: bool) -> list[Message]:
        """Say whether the input has nothing to read now (it ended, or it is slow); the answer is what to send.

        An input that may go on is scarce once it was dry for `beat_soon_s` seconds on end, until it fills the crew
        again: each change is told to every worker. An input at its end waits as long while its batches are done in no
        time: telling all workers would cost more than it saves, unless one of the batches hangs.
        """
        waits = dry and (self.total is None or self._size.is_short(*self._left_and_window()))
        if dry == self.scarce or not self._may_push:
            self._scarce_at = None
        elif waits and self._scarce_at is None:
            self._scarce_at = now + self._settings.timing.beat_soon_s
        elif not waits and (dry or self._is_full()):
            return self._be_scarce(now, dry)
        return []

    def next_push(self, now: float) -> Batch | None:
        """The batch to push now, if there is one and the crew has room; `pushed` must follow once it is sent."""
        self._speculation.forget()
        if not self._may_push or self.in_flight_count >= self.window:
            return None
        flight = self._assignments.next_ready(now)
        if self.in_flight_count >= self.window:
            return None
        may_copy = self._settings.speculate and self.total is not None and not self._sink_away(now)
        if flight is None and may_copy:
            flight = self._speculation.straggler(now)
        if flight is None:
            return None
        # Adopted from an earlier run of what failed in it, no result at its old attempt would be new.
        flight.attempt = max(flight.attempt, self._attempts + 1)
        assert self._opened is not None
        return Batch(
            job=self._job,
            function=self._function,
            first=flight.first,
            count=flight.count,
            attempt=flight.attempt,
            ticket=ticket(self._opened.ticket_key, flight.first, flight.count, flight.attempt),
            timeout_s=self._settings.timeout_s,
            suspect=flight.suspect,
            copy=flight is self._speculation.candidate,
            arguments=flight.arguments,
            origin=self._origin,
            keep=self._settings.keep_arguments,
        )

    def pushed(self, now: float) -> None:
        """The batch that `next_push` gave was handed to the tasks link."""
        self.pushed_count += 1
        if self._speculation.candidate is not None:
            self._speculation.pushed(now)
        else:
            self._assignments.pushed(now)

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: FromSink) -> list[Message | CutLinks]:
        """Take a message of the sink; the answer is what to send to it, and whether to cut the tasks link."""
        self._hear(now)
        cuts = self._assignments.admit(now, message)
        outputs = self._take(now, message)
        self._assignments.look_for_quiet(now)
        return [*cuts, *outputs, *self._assignments.look_for_missing(now), *self._assignments.cuts(now)]

    def _take(self, now: float, message: FromSink) -> Sequence[Message]:
        if isinstance(message, Receipts):
            return self._receive_receipts(now, message)
        if isinstance(message, Crew):
            return self._receive_crew(now, message)
        if isinstance(message, Failed):
            self._receive_failed(now, message)
        elif isinstance(message, Returned):
            self._assignments.returned(now, message)
        elif isinstance(message, Opened):
            return self._receive_opened(now, message)
        elif isinstance(message, Dropped) and message.job == self._job and not self.dropped:
            self._enter(Phase.DROPPED)
        return []

    def tick(self, now: float) -> list[Message]:
        """Do what is due; the answer is what to send to the sink."""
        self._end_gathering(now)
        self._flights.wake(now)
        self._assignments.expire(now, self._sink_away(now))
        self._speculation.tick(now, self._sink_away(now))
        for retry in self._retries.due(now):
            self._try_again(now, retry)
        if self._scarce_at is not None and now >= self._scarce_at:
            return self._be_scarce(now, True)
        return [self._cursor.ask(now, self.scarce)] if self._cursor.is_overdue(now) else []

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        machines = (self._flights, self._assignments, self._retries, self._speculation, self._cursor)
        gathered_at = self._earlier.gathered_at if self._phase is Phase.GATHERING else None
        instants = (*(machine.deadline() for machine in machines), gathered_at, self._scarce_at)
        return min((instant for instant in instants if instant is not None), default=None)

    # -- rules --------------------------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        """Go on to this phase; only the table says which ones may follow."""
        assert phase in PHASES[self._phase], (self._phase, phase)
        self._phase = phase
        self._scarce_at = None

    def _end_gathering(self, now: float) -> None:
        gathered_at = self._earlier.gathered_at
        if self._phase is Phase.GATHERING and (gathered_at is None or now >= gathered_at):
            self._enter(Phase.VERIFYING if self.verifying else Phase.RUNNING)

    def _close_if_done(self) -> None:
        is_live = self._phase not in (Phase.CLOSED, Phase.DROPPED)
        if is_live and self.total is not None and self.next_task >= self.total and not self.outstanding:
            self._enter(Phase.CLOSED)

    @property
    def _may_push(self) -> bool:
        return self._phase in (Phase.RUNNING, Phase.SCARCE)

    @property
    def _attempts(self) -> int:
        """The attempts of earlier runs."""
        return 0 if self._opened is None else self._opened.attempts

    @property
    def _room(self) -> int:
        """Batches that are read ahead, whether the crew may hold all of them now or not."""
        return self._crew.slots + self._crew.prefetch

    def _left_and_window(self) -> tuple[int | None, int]:
        """What the batch size goes by. That short batches are prefetched is no reason to make them shorter."""
        left = None if self._expected is None else self._expected - self.next_task
        return left, min(self.window, 2 * self._crew.slots)

    def _is_full(self) -> bool:
        return len(self._flights) >= self._room or len(self._retries) >= self._settings.retries_waiting_max

    def _advance(self, count: int) -> None:
        self._earlier.passed(self.next_task, count)
        self.next_task += count
        if self._phase is Phase.VERIFYING and not self.verifying:
            self._enter(Phase.RUNNING)

    def _be_scarce(self, now: float, scarce: bool) -> list[Message]:
        self._enter(Phase.SCARCE if scarce else Phase.RUNNING)
        return [self._cursor.ask(now, self.scarce)]

    def _sink_away(self, now: float) -> bool:
        return self._cursor.is_away(now)

    def _hear(self, now: float) -> None:
        if self._sink_away(now):
            self._assignments.sink_is_back(now)
        if self._cursor.was_slow(now):
            self._assignments.sink_was_slow(now)
        self._cursor.hear(now)

    def _receive_opened(self, now: float, opened: Opened) -> list[Message]:
        # The sink names the whole crew next, and never says which workers died while it was away.
        self._crew.clear()
        self._opened, self._origin = opened, origin(opened.ticket_key)
        if not self.caught_up:
            self.next_task = opened.base
            self._earlier.opened(now, opened, self._settings.timing.gather_s)
        return [self._cursor.ask(now, self.scarce)]

    def _receive_receipts(self, now: float, receipts: Receipts) -> list[Message]:
        if not self._cursor.take(receipts):
            return []
        if receipts.count and self.total is not None:
            # Short batches still come back: none of them hangs.
            self._scarce_at = None
        for first, count in receipts.runs:
            self._settle(first, first + count)
        if not receipts.more:
            self._assignments.all_receipts_read(now)
        self._close_if_done()
        self._speculation.measured(receipts.count, receipts.seconds)
        if self.caught_up:
            self._size.measured(receipts.count, receipts.seconds)
        elif not receipts.more and self._opened is not None:
            self._earlier.caught_up = True
            self._cursor.begin_run()
            if self._phase is Phase.OPENING:
                self._enter(Phase.GATHERING)
                self._end_gathering(now)
        return [self._cursor.ask(now, self.scarce)]

    def _receive_crew(self, now: float, crew: Crew) -> list[Message]:
        self.others_count = crew.others
        for member in crew.members:
            self._assignments.named_no_more(self._crew.heard(now, member))
            for name in member.held:
                self._assignments.named(now, name, self.next_task)
        left = self._assignments.part_with(now, crew.left, lost=False)
        return left + self._assignments.part_with(now, crew.lost, lost=True)

    def _receive_failed(self, now: float, failed: Failed) -> None:
        """Take the tasks out of their flights and let them wait for their next attempt."""
        for task in failed.tasks if failed.job == self._job else ():
            flight = self._flights.holding(task)
            if flight is None or flight.attempt != failed.attempt or task in (flight.received or ()):
                continue
            argument = slice_arguments(flight.arguments, task - flight.first, 1)
            self._settle(task, task + 1)
            self._retries.add(now, Retry(task, failed.attempt + 1, argument), failed.attempt - self._attempts)

    def _try_again(self, now: float, retry: Retry) -> None:
        if self._flights.holding(retry.task) is not None:
            # The batch that it failed in still runs its other tasks; flights must not overlap.
            self._retries.put_off(now + self._settings.timing.beat_s / 4, retry)
        else:
            self._assignments.insert(now, Flight(retry.task, 1, retry.argument, retry.attempt))

    def _settle(self, first: int, end: int) -> None:
        """Take note that the tasks from `first` to `end - 1` have their receipts."""
        if end > self.next_task:
            self._earlier.record(max(first, self.next_task), end)
        self._retries.settle(first, end)
        self._flights.settle(first, end)
