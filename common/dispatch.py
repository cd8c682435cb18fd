"""The ventilator's rules: window, leases, returns and replay. No socket, no clock; `now` is monotonic seconds.

A batch in the hands of the crew is a flight. It is ready (to be pushed, at once or a little later) or pushed, and it
ends when all its tasks have their receipts.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

from msgspec import Raw

from common.batching import BatchSize
from common.messages import (
    Ask,
    Batch,
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
    slice_arguments,
    ticket,
)
from common.runs import Runs
from common.settings import DispatchSettings


@dataclass(slots=True)
class Flight:
    """One outstanding batch. `due_at` is when it may be pushed (ready) or when its lease ends (pushed)."""

    first: int
    count: int
    arguments: Raw
    due_at: float
    timer_at: float = -1.0
    pushed: bool = False
    named: bool = False
    attempt: int = 1
    returns: int = 0
    received: Runs | None = None
    suspect: bool = False
    """A worker died with it: it is split, and workers say that they start it before they do."""
    lost_count: int = 0
    """Workers that died after they had started it, while it was one task."""


@dataclass(slots=True)
class Retry:
    """A task that failed and waits to be tried again."""

    task: int
    attempt: int
    argument: Raw


@dataclass(frozen=True, slots=True)
class Skip:
    """Order to the shell: the next `count` tasks of the input are recorded already."""

    count: int


@dataclass(frozen=True, slots=True)
class Take:
    """Order to the shell: read up to `count` tasks of the input and offer them as one batch."""

    count: int


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
        self._crew: dict[str, Member] = {}
        self._flights: dict[int, Flight] = {}
        self._firsts: list[int] = []
        self._in_hands = 0
        self._ready: deque[int] = deque()
        self._timers: list[tuple[float, int]] = []
        self._retries: dict[int, Retry] = {}
        self._retry_timers: list[tuple[float, int]] = []
        self._attempts = 0
        self._replayed = Runs()
        self._adoptable: dict[int, int] = {}
        self._verify_at = 0
        self._halted = False
        self._position = 0
        self._asked_at: float | None = None
        self._heard_at: float | None = None
        self._scarce = False

    # -- what the shell asks ------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Batches without a receipt for each of their tasks, and tasks that wait for their retry."""
        return len(self._flights) + len(self._retries)

    @property
    def crew_count(self) -> int:
        """Workers that are beating and expose the job's function."""
        return len(self._crew)

    @property
    def slots(self) -> int:
        """Slots of the whole crew."""
        return sum(member.slots for member in self._crew.values())

    @property
    def window(self) -> int:
        """Batches that the crew may hold for this job."""
        if self._scarce:
            return self.slots
        return sum(member.slots + member.prefetch for member in self._crew.values())

    @property
    def batch_tasks(self) -> int:
        """Tasks that the next batch should hold."""
        left = None if self.expected is None else self.expected - self.next_task
        return self._size.tasks(left, self.window)

    @property
    def scarce(self) -> bool:
        """True while the crew has more slots than there are batches for it."""
        return self._scarce

    @property
    def finished(self) -> bool:
        """True when the input is at its end and every task has its receipt."""
        all_read = self.total is not None and self.next_task >= self.total
        return all_read and not self._flights and not self._retries

    def plan(self) -> Skip | Take | None:
        """What to do with the input next; None while nothing may be read."""
        if not self.caught_up or self.total is not None or self._halted:
            return None
        stops = [self._verify_at] if self.verifying else []
        end = self._replayed.end_of_run(self.next_task)
        if end is not None:
            return Skip(min(end, *stops, end) - self.next_task)
        if self._is_full() and not self.verifying and self.next_task not in self._adoptable:
            return None
        count = self._adoptable.get(self.next_task, self.batch_tasks)
        start = self._replayed.next_start(self.next_task)
        stops += [] if start is None else [start]
        stops += [first for first in self._adoptable if first > self.next_task]
        return Take(min([self.next_task + count, *stops]) - self.next_task)

    @property
    def verifying(self) -> bool:
        """True while the input was not read as far as the earlier run of this job had read it.

        Until then nothing is pushed, and batches that this run must push are kept whatever the window: they are
        the ones that the earlier run had outstanding.
        """
        return self.next_task < self._verify_at

    def halt(self) -> None:
        """Read and push nothing more; what is in the crew's hands may still come in."""
        self._halted = True

    @property
    def in_hands(self) -> int:
        """Batches that the crew was given and that have not come back."""
        return self._in_hands

    def skipped(self, count: int) -> None:
        """The shell has passed over `count` tasks of the input."""
        self._replayed.discard(self.next_task, count)
        self._advance(count)

    def offer(self, now: float, count: int, arguments: Raw) -> None:
        """The next `count` tasks of the input, their arguments encoded as one array."""
        flight = Flight(self.next_task, count, arguments, due_at=now, attempt=self._attempts + 1)
        adopted = self._adoptable.get(self.next_task)
        self._advance(count)
        insort(self._firsts, flight.first)
        self._flights[flight.first] = flight
        if adopted == count:
            flight.pushed = flight.named = True
            self._in_hands += 1
            self._arm(flight, now + self._timing.lease_s)
        else:
            self._ready.append(flight.first)

    def input_scarce(self, now: float, dry: bool) -> list[Message]:
        """Say whether the input has nothing to read now (it ended, or it is slow); the answer is what to send."""
        if not self.caught_up or dry == self._scarce:
            return []
        if not dry and not self._is_full():
            return []
        self._scarce = dry
        return [self._ask(now)]

    def next_push(self) -> Batch | None:
        """The batch to push now, if there is one and the crew has room; `pushed` must follow once it is sent."""
        while self._ready and not self.verifying and not self._halted:
            flight = self._flights.get(self._ready[0])
            if flight is None or flight.pushed:
                self._ready.popleft()
                continue
            if self._in_hands >= self.window:
                return None
            if flight.received is not None:
                self._split(flight)
                continue
            return Batch(
                job=self._job,
                function=self._function,
                first=flight.first,
                count=flight.count,
                attempt=flight.attempt,
                ticket=ticket(self._ticket_key, flight.first, flight.count, flight.attempt),
                timeout_s=self._settings.timeout_s,
                suspect=flight.suspect,
                arguments=flight.arguments,
            )
        return None

    def pushed(self, now: float) -> None:
        """The batch that `next_push` gave was handed to the tasks link."""
        flight = self._flights[self._ready.popleft()]
        flight.pushed = True
        flight.named = False
        self._in_hands += 1
        self.pushed_count += 1
        self._arm(flight, now + self._timing.lease_s)

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
                self._verify_at = message.mark_count
            return [self._ask(now)]
        elif isinstance(message, Dropped):
            self.dropped = self.dropped or message.job == self._job
        return []

    def tick(self, now: float) -> list[Message]:
        """Do what is due; the answer is what to send to the sink."""
        while self._timers and self._timers[0][0] <= now:
            at, first = heappop(self._timers)
            flight = self._flights.get(first)
            if flight is None or flight.timer_at != at:
                continue
            if flight.due_at > now:
                self._arm(flight, flight.due_at)
            elif not flight.pushed:
                flight.timer_at = -1.0
                self._ready.append(first)
            elif self._sink_away(now):
                self._arm(flight, now + self._timing.beat_s)
            else:
                # Nobody named it: it may have ended a worker before its first beat.
                flight.suspect = True
                self._take_back(now, flight)
        while self._retry_timers and self._retry_timers[0][0] <= now:
            _, task = heappop(self._retry_timers)
            self._try_again(now, task)
        if self._asked_at is not None and now >= self._asked_at + self._timing.silence_s:
            return [self._ask(now)]
        return []

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = []
        instants += [timers[0][0] for timers in (self._timers, self._retry_timers) if timers]
        if self._asked_at is not None:
            instants.append(self._asked_at + self._timing.silence_s)
        return min(instants, default=None)

    # -- rules --------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return len(self._flights) >= self.window or len(self._retries) >= self._settings.retries_waiting_max

    def _advance(self, count: int) -> None:
        self.next_task += count
        if self._adoptable:
            self._adoptable = {at: count for at, count in self._adoptable.items() if at >= self.next_task}

    def _ask(self, now: float) -> Ask:
        self._asked_at = now
        return Ask(self._job, self._position, self._scarce)

    def _sink_away(self, now: float) -> bool:
        return self._heard_at is None or now - self._heard_at > self._timing.silence_s

    def _hear(self, now: float) -> None:
        if self._sink_away(now):
            for flight in self._flights.values():
                if flight.pushed:
                    flight.due_at = max(flight.due_at, now + self._timing.lease_s)
        self._heard_at = now

    def _receive_receipts(self, now: float, receipts: Receipts) -> list[Message]:
        if receipts.job != self._job or receipts.after != self._position:
            return []
        self._position = receipts.position
        self.done_count = receipts.done
        self.failed_count = receipts.failed
        for first, count in receipts.runs:
            self._settle(first, first + count)
        if self.caught_up:
            self._size.measured(receipts.count, receipts.seconds)
        elif not receipts.more:
            self.caught_up = True
        return [self._ask(now)]

    def _receive_crew(self, now: float, crew: Crew) -> list[Message]:
        self.others_count = crew.others
        for member in crew.members:
            self._crew[member.worker] = member
            for first, count in member.held:
                self._extend(now, first, count)
        outputs: list[Message] = []
        for worker in (*crew.left, *crew.lost):
            member_gone = self._crew.pop(worker, None)
            if member_gone is None:
                continue
            started = {first for first, _ in member_gone.started} if worker in crew.lost else set()
            for first, count in member_gone.held:
                self._adoptable.pop(first, None)
                flight = self._flights.get(first)
                if flight is None or flight.count != count or not flight.pushed or self._is_named(first, count):
                    continue
                flight.suspect = flight.suspect or worker in crew.lost
                flight.lost_count += first in started and flight.count == 1
                if flight.lost_count >= self._settings.quarantine_after:
                    outputs.append(self._quarantine(now, flight, worker))
                else:
                    self._take_back(now, flight)
            self._shorten_unnamed(now)
        return outputs

    def _quarantine(self, now: float, flight: Flight, worker: str) -> Quarantine:
        """Give the task up; should the word be lost, the lease ends, and the next lost worker brings it up again."""
        self._arm(flight, now + self._timing.lease_s)
        argument = slice_arguments(flight.arguments, 0, 1)
        return Quarantine(self._job, flight.first, flight.attempt, worker, flight.lost_count, argument)

    def _receive_failed(self, now: float, failed: Failed) -> None:
        """Take the tasks out of their flights and let them wait for their next attempt."""
        for task in failed.tasks if failed.job == self._job else ():
            flight = self._flight_of(task)
            if flight is None or flight.attempt != failed.attempt:
                continue
            if flight.received is not None and task in flight.received:
                continue
            argument = slice_arguments(flight.arguments, task - flight.first, 1)
            self._settle(task, task + 1)
            self._retries[task] = Retry(task, failed.attempt + 1, argument)
            heappush(self._retry_timers, (now + self._retry_wait(task, failed.attempt), task))

    def _retry_wait(self, task: int, attempt: int) -> float:
        """Seconds before the attempt after this one. Spread by a fixed hash: the machine throws no dice."""
        tries = attempt - self._attempts
        wait_s = min(self._settings.retry_wait_s * 2 ** min(tries - 1, 30), self._settings.retry_wait_max_s)
        spread = (task * 2654435761 + attempt * 40503) % 1024 / 1024
        return float(wait_s * (0.75 + 0.5 * spread))

    def _flight_of(self, task: int) -> Flight | None:
        """The flight that holds the task."""
        place = bisect_right(self._firsts, task) - 1
        flight = self._flights[self._firsts[place]] if place >= 0 else None
        return flight if flight is not None and task < flight.first + flight.count else None

    def _try_again(self, now: float, task: int) -> None:
        retry = self._retries.get(task)
        if retry is None:
            return
        if self._flight_of(task) is not None:
            # The batch that it failed in still runs its other tasks; flights must not overlap.
            heappush(self._retry_timers, (now + self._timing.beat_s / 4, task))
            return
        del self._retries[task]
        self._insert(Flight(task, 1, retry.argument, due_at=now, attempt=retry.attempt))

    def _insert(self, flight: Flight) -> None:
        insort(self._firsts, flight.first)
        self._flights[flight.first] = flight
        self._ready.append(flight.first)

    def _extend(self, now: float, first: int, count: int) -> None:
        flight = self._flights.get(first)
        if flight is not None and flight.count == count:
            if not flight.pushed:
                flight.pushed = True
                self._in_hands += 1
                self._arm(flight, now + self._timing.lease_s)
            flight.named = True
            flight.due_at = now + self._timing.lease_s
        elif first >= self.next_task and len(self._adoptable) < self._ADOPTABLE_MAX:
            self._adoptable[first] = count

    def _is_named(self, first: int, count: int) -> bool:
        return any((first, count) in member.held for member in self._crew.values())

    def _shorten_unnamed(self, now: float) -> None:
        for flight in self._flights.values():
            if flight.pushed and not flight.named and flight.due_at > now + self._timing.unnamed_s:
                self._arm(flight, now + self._timing.unnamed_s)

    def _receive_returned(self, now: float, returned: Returned) -> None:
        if returned.job != self._job:
            return
        for first, count in returned.batches:
            self._adoptable.pop(first, None)
            flight = self._flights.get(first)
            if flight is None or flight.count != count or not flight.pushed:
                continue
            self.returned_count += 1
            flight.returns += 1
            flight.pushed = False
            self._in_hands -= 1
            waits = flight.returns - self._settings.returns_free
            if waits <= 0:
                flight.timer_at = -1.0
                self._ready.append(first)
            else:
                wait_s = self._settings.return_wait_s * 2 ** min(waits, 20)
                self._arm(flight, now + min(wait_s, self._settings.return_wait_max_s))

    def _take_back(self, now: float, flight: Flight) -> None:
        """Have a batch back that is in nobody's hands any more."""
        flight.pushed = False
        flight.due_at = now
        flight.timer_at = -1.0
        self._in_hands -= 1
        if flight.suspect and flight.count > 1:
            self._split(flight)
        else:
            self._ready.append(flight.first)

    def _arm(self, flight: Flight, at: float) -> None:
        flight.due_at = at
        flight.timer_at = at
        heappush(self._timers, (at, flight.first))

    def _settle(self, first: int, end: int) -> None:
        """Take note that the tasks from `first` to `end - 1` have their receipts."""
        if end > self.next_task:
            start = max(first, self.next_task)
            self._replayed.add(start, end - start)
        if self._retries:
            few = end - first < len(self._retries)
            tasks = range(first, end) if few else [task for task in self._retries if first <= task < end]
            for task in tasks:
                self._retries.pop(task, None)
        low = max(0, bisect_right(self._firsts, first) - 1)
        high = bisect_left(self._firsts, end)
        for key in self._firsts[low:high]:
            flight = self._flights[key]
            stop = flight.first + flight.count
            if first <= flight.first and stop <= end:
                self._land(flight)
            elif first < stop:
                flight.received = flight.received or Runs()
                start = max(first, flight.first)
                flight.received.add(start, min(end, stop) - start)
                if flight.received.count() == flight.count:
                    self._land(flight)

    def _land(self, flight: Flight) -> None:
        del self._flights[flight.first]
        del self._firsts[bisect_left(self._firsts, flight.first)]
        if flight.pushed:
            self._in_hands -= 1

    def _split(self, flight: Flight) -> None:
        """Replace a flight by flights for its tasks without receipts: several if it is suspect, to find the culprit."""
        missing = Runs([(flight.first, flight.count)])
        for first, count in flight.received or ():
            missing.discard(first, count)
        self._land(flight)
        size = -(-flight.count // self._settings.split_parts) if flight.suspect else flight.count
        for run_first, run_count in missing:
            for first in range(run_first, run_first + run_count, size):
                count = min(size, run_first + run_count - first)
                arguments = slice_arguments(flight.arguments, first - flight.first, count)
                part = Flight(first, count, arguments, due_at=flight.due_at, attempt=flight.attempt)
                part.suspect, part.returns = flight.suspect, flight.returns
                self._insert(part)
