"""The worker's rules: run, hold or return; keep each result until its receipt. No socket, no clock.

`now` is monotonic seconds. The answers are messages to send and orders to the shell (`Run`, `Kill`, `Submit`).
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import Raw

from common.errors import ProtocolError
from common.messages import (
    Batch,
    BatchName,
    Beat,
    Dropped,
    FromSink,
    Heard,
    Message,
    Recall,
    Recorded,
    Results,
    Returned,
    slice_arguments,
)
from common.pacing import Pacing
from common.runs import Runs
from common.settings import HoldingSettings
from common.unreceipted import Submit, Unreceipted

_NOTHING = Runs()


@dataclass(slots=True, eq=False)
class Held:
    """A batch in this worker's care, until each of its tasks has a receipt or the batch was returned."""

    batch: Batch
    left: Runs | None = None
    """Its tasks without an outcome; None: all of them."""
    slot: int | None = None
    unreceipted_count: int = 0
    singly: bool = False
    """Its tasks run one at a time, so that it is clear which one ends its child."""

    @property
    def is_done(self) -> bool:
        """True when every task has its outcome."""
        return self.left is not None and not self.left

    def settle(self, first: int, count: int) -> None:
        """These tasks have their outcomes."""
        if self.left is None and count == self.batch.count:
            self.left = _NOTHING
        else:
            self.left = self.left or Runs([(self.batch.first, self.batch.count)])
            self.left.discard(first, count)

    def parts(self) -> list["Part"]:
        """What to run next of what is left: usually all of it."""
        batch = self.batch
        if self.left is None and not self.singly:
            return [Part(batch.first, batch.count, batch.arguments)]
        runs = list(self.left or [(batch.first, batch.count)])
        runs = [(runs[0][0], 1)] if self.singly else runs
        return [
            Part(first, count, slice_arguments(batch.arguments, first - batch.first, count)) for first, count in runs
        ]

    def next_task(self) -> int:
        """The first of its tasks without an outcome."""
        return next(iter(self.left))[0] if self.left else self.batch.first

    def can_be_cut(self) -> bool:
        """False when `parts` would fail: a false ventilator may nest arguments just too deep for it."""
        try:
            self.parts()
        except ProtocolError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive tasks of one batch, with their arguments as one array."""

    first: int
    count: int
    arguments: Raw


@dataclass(frozen=True, slots=True)
class Run:
    """Order to the shell: let the slot run these tasks of a job, part after part."""

    slot: int
    job: str
    function: str
    parts: Sequence[Part]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Kill:
    """Order to the shell: end what the slot runs."""

    slot: int


Output = Message | Run | Kill | Submit


class Holding:
    """What one worker holds, for all its jobs."""

    def __init__(self, settings: HoldingSettings, worker: str) -> None:
        self.returned_count = 0
        self.duplicate_count = 0
        self.finished_count = 0
        self._settings = settings
        self._timing = settings.timing
        self._worker = worker
        self._functions: frozenset[str] = frozenset()
        self._idle: deque[int] = deque()
        self._running: dict[int, deque[list[Held]]] = {}
        """By slot, the batches without outcomes of each order that was given to it; the first one runs."""
        self._stuck: set[int] = set()
        """Slots that have given back what was behind the task that they run."""
        self._held: dict[str, dict[int, Held]] = {}
        self._waiting: dict[str, deque[Held]] = {}
        self._turns: deque[str] = deque()
        self._load: Counter[str] = Counter()
        self._scarce: frozenset[str] = frozenset()
        self._jobs: set[str] = set()
        """Those that the sink has named and not dropped."""
        self._returns: dict[str, Returned] = {}
        self._unreceipted: Unreceipted[Held] = Unreceipted(settings.timing)
        self._pacing = Pacing(settings)
        self._extra: dict[str, int] = {}
        """As the last beat has said it."""
        self._announced: dict[int, tuple[int, Run]] = {}
        """Suspect batches that start in their slots once the sink has heard the beat of this serial."""
        self._serial = 0
        self._beat_serial = 0
        self._beat_at = float("-inf")
        self._beat_due_at: float | None = None
        self._changed = False
        self._leave_by: float | None = None

    # -- what the shell asks ------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """True when nothing waits, runs or lacks its receipt."""
        return not self._held and not self._unreceipted

    @property
    def leaving(self) -> bool:
        """True once `leave` was called."""
        return self._leave_by is not None

    @property
    def running_count(self) -> int:
        """Slots that run something."""
        return len(self._running)

    @property
    def unreceipted_count(self) -> int:
        """Results messages without a receipt."""
        return len(self._unreceipted)

    def expose(self, functions: frozenset[str]) -> None:
        """Name the functions that this worker runs; batches of others are returned."""
        self._functions = functions

    # -- events of the shell ------------------------------------------------------------------------------------

    def slot_idle(self, now: float, slot: int) -> list[Output]:
        """A slot's child is ready for its first order."""
        if slot not in self._idle and slot not in self._running:
            self._idle.append(slot)
        return self._fill(now)

    def slot_lost(self, now: float, slot: int, unclear: bool = False) -> list[Output]:
        """A slot's child is gone: what it left undone is run again, task by task when any of them may be to blame."""
        orders = self._running.pop(slot, deque())
        for held in orders[0] if orders and unclear else ():
            held.singly = True
        for order in reversed(orders):
            self._put_back(order)
        self._announced.pop(slot, None)
        self._stuck.discard(slot)
        if slot in self._idle:
            self._idle.remove(slot)
        return self._fill(now)

    def slot_done(self, now: float, slot: int) -> list[Output]:
        """A slot's child has done an order, and begins with the next one if it has one."""
        orders = self._running[slot]
        self._put_back(orders.popleft())
        self._stuck.discard(slot)
        if not orders:
            del self._running[slot]
            self._idle.append(slot)
        return self._fill(now)

    def outcomes(self, now: float, slot: int, first: int, count: int, seconds: float, outcomes: Raw) -> list[Output]:
        """A slot has outcomes (encoded `Outcomes`) for the tasks from `first` on, which ran for `seconds` seconds."""
        running = self._running[slot][0]
        held = next(each for each in running if each.batch.first <= first < each.batch.first + each.batch.count)
        held.settle(first, count)
        self._measure(now, held.batch.job, seconds)
        submit = self._submit(now, held, first, count, outcomes)
        if held.is_done:
            running.remove(held)
            self._stop(held)
            self.finished_count += 1
        return [submit]

    def given_back(self, now: float, slot: int, firsts: Sequence[int], orders_back: int) -> list[Output]:
        """A slot is stuck with a task, and has not started the parts of its order that begin with these.

        Nor has it started its last `orders_back` orders.
        """
        self._stuck.add(slot)
        orders = self._running[slot]
        back = [orders.pop() for _ in range(orders_back)]
        for order in back:
            self._put_back(order)
        behind = orders[0][1:]
        # A part of the first batch that comes back is seen when the order is done, like one of a batch that has begun.
        unstarted = [held for held in behind if held.next_task() in firsts]
        orders[0] = [held for held in orders[0] if held not in unstarted]
        self._put_back(unstarted)
        return self._fill(now)

    def leave(self, now: float, grace_s: float) -> list[Output]:
        """Stop taking work: return what has not started, give what runs `grace_s` seconds."""
        self._leave_by = now + grace_s
        for job, waiting in self._waiting.items():
            self._give_back_waiting(job, len(waiting))
        return self.tick(now)

    def sink_restarted(self, now: float) -> list[Output]:
        """A sink that does not know this worker's beats and results is there: say them again."""
        self._beat_due_at = now
        return [*self._unreceipted.all(now)]

    def places(self, jobs: frozenset[str], scarce: frozenset[str]) -> None:
        """Name the jobs that have a ventilator, and those of them with fewer batches than the crew has slots.

        Of a scarce job only free slots take batches.
        """
        self._jobs |= jobs
        self._scarce = scarce
        self._pacing.keep(jobs)

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: Batch | FromSink) -> list[Output]:
        """Take a batch of the tasks link or a message of the sink."""
        if isinstance(message, Batch):
            return self.take(now, [message])
        if isinstance(message, Heard):
            return self._start_announced(message.serial)
        if isinstance(message, Recorded):
            for serial in (*message.serials, *message.refused):
                self._receipt(serial)
        elif isinstance(message, Recall):
            self._give_back_waiting(message.job, self._load[message.job])
        elif isinstance(message, Dropped):
            return self._drop(message.job)
        return []

    def take(self, now: float, batches: Iterable[Batch]) -> list[Output]:
        """Take batches that came together: idle slots share them."""
        for batch in batches:
            self._receive_batch(batch)
        return self._fill(now)

    def tick(self, now: float) -> list[Output]:
        """Send what is due: returns, results without a receipt, the beat; end what outlived the grace."""
        outputs: list[Output] = []
        if not self._idle:
            self._return_surplus(now)
        if self._leave_by is not None and now >= self._leave_by:
            outputs += self._end_grace()
        outputs += self._returns.values()
        self._returns.clear()
        outputs += self._unreceipted.overdue(now)
        if now >= self._next_beat():
            outputs.append(self._beat(now))
        return outputs

    def deadline(self) -> float:
        """When `tick` has something to do next."""
        instants = [self._next_beat()]
        if self._leave_by is not None and not self.empty:
            instants.append(self._leave_by)
        looks_at = [] if self._idle else [self._pacing.look_at(job) for job in self._extra if self._waiting.get(job)]
        instants += [instant for instant in (self._unreceipted.deadline(), *looks_at) if instant is not None]
        return min(instants)

    # -- rules --------------------------------------------------------------------------------------------------

    def _receive_batch(self, batch: Batch) -> None:
        if batch.job not in self._jobs:
            return
        known = self._held.get(batch.job, {}).get(batch.first)
        if known is not None and known.batch.ticket == batch.ticket and not batch.copy:
            self.duplicate_count += 1
        elif known is not None or not self._has_room(batch):
            self._return(batch, refused=True)
        else:
            held = Held(batch)
            self._held.setdefault(batch.job, {})[batch.first] = held
            self._changed = True
            self._load[batch.job] += 1
            self._line(batch.job).append(held)

    def _line(self, job: str) -> deque[Held]:
        """The job's batches that wait for a slot; the job has its turn among the others."""
        if job not in self._waiting:
            self._waiting[job] = deque()
            self._turns.append(job)
        return self._waiting[job]

    def _has_room(self, batch: Batch) -> bool:
        if self.leaving or batch.function not in self._functions:
            return False
        load = self._load[batch.job]
        if load >= self._capacity(batch.job):
            return False
        return load < self._share(batch.job) or len(self._idle) > sum(map(len, self._waiting.values()))

    def _capacity(self, job: str) -> int:
        """Batches of the job that may wait or run here."""
        return self._settings.slots + self._settings.prefetch + self._extra.get(job, 0)

    def _share(self, job: str) -> int:
        """So many of them whether a slot is free or not: of a scarce job its share of the slots, and the extra."""
        if job not in self._scarce:
            return self._capacity(job)
        others = sum(1 for other, load in self._load.items() if load and other != job)
        return max(1, self._settings.slots // (1 + others)) + self._extra.get(job, 0)

    def _fill(self, now: float) -> list[Output]:
        """Give idle slots the waiting batches of all jobs in turn, and then those that run their next order."""
        orders: list[Output] = []
        while self._idle and (job := self._next_job()) is not None:
            taken = self._take(job, len(self._idle))
            orders += self._start(now, self._idle.popleft(), taken)
        if self._turns and self._settings.ahead_bytes_max:
            for slot, running in self._running.items():
                if len(running) == 1 and slot not in self._stuck and slot not in self._announced:
                    orders += self._start_ahead(now, slot)
        return orders

    def _next_job(self) -> str | None:
        """The job whose turn it is, of those with waiting batches."""
        while self._turns:
            job = self._turns[0]
            if self._waiting[job]:
                return job
            del self._waiting[self._turns.popleft()]
        return None

    def _take(self, job: str, sharers: int) -> list[Held]:
        """What a slot is given at once: one batch, or several that are done in no time. It takes the job's turn."""
        self._turns.rotate(-1)
        waiting = self._waiting[job]
        most = min(self._pacing.order_batches(job), -(-len(waiting) // sharers))
        taken = [waiting.popleft()]
        first = taken[0].batch
        room = self._settings.order_bytes_max - memoryview(first.arguments).nbytes
        alone = first.suspect or taken[0].singly
        while waiting and len(taken) < most and not alone:
            batch = waiting[0].batch
            room -= memoryview(batch.arguments).nbytes
            alike = (batch.function, batch.timeout_s) == (first.function, first.timeout_s)
            alike = alike and not batch.suspect and not waiting[0].singly
            if not alike or room < 0:
                break
            taken.append(waiting.popleft())
        return taken

    def _start_ahead(self, now: float, slot: int) -> list[Output]:
        """Give a slot that runs its next order, so that it need not wait for it; what is stuck there comes back."""
        job = self._next_job()
        if job is None or job in self._scarce:
            return []
        held = self._waiting[job][0]
        small = memoryview(held.batch.arguments).nbytes <= self._settings.ahead_bytes_max
        if not small or held.singly or held.batch.suspect:
            return []
        return self._start(now, slot, self._take(job, len(self._running)))

    def _start(self, now: float, slot: int, taken: list[Held]) -> list[Output]:
        job, batch = taken[0].batch.job, taken[0].batch
        for held in taken:
            held.slot = slot
        self._running.setdefault(slot, deque()).append(taken)
        self._pacing.began(now, job)
        parts = [part for held in taken for part in held.parts()]
        order = Run(slot, job, batch.function, parts, batch.timeout_s)
        if not batch.suspect:
            return [order]
        # Should it end this worker, the ventilator must know that it had begun.
        beat = self._beat(self._beat_at)
        self._announced[slot] = beat.serial, order
        return [beat]

    def _start_announced(self, heard: int) -> list[Output]:
        found = [(slot, order) for slot, (serial, order) in self._announced.items() if serial <= heard]
        for slot, _ in found:
            del self._announced[slot]
        return [order for _, order in found]

    def _put_back(self, helds: list[Held]) -> None:
        """Batches that a slot has not finished wait again, before all others; or they are returned."""
        for held in reversed(helds):
            held.slot = None
            job = held.batch.job
            if self.leaving or not held.can_be_cut():
                self._unload(job)
                self._give_back(held)
            else:
                self._line(job).appendleft(held)

    def _measure(self, now: float, job: str, seconds: float) -> None:
        self._pacing.measured(now, job, seconds)
        if now >= self._beat_at + self._settings.stuck_s:
            extra, said = self._pacing.extra(job), self._extra.get(job, 0)
            if extra > 2 * said or said > 2 * extra:
                self._beat_due_at = now

    def _submit(self, now: float, held: Held, first: int, count: int, outcomes: Raw) -> Submit:
        batch = held.batch
        self._serial += 1
        held.unreceipted_count += 1
        results = Results(
            job=batch.job,
            worker=self._worker,
            serial=self._serial,
            first=first,
            count=count,
            attempt=batch.attempt,
            batch=(batch.first, batch.count),
            ticket=batch.ticket,
            outcomes=outcomes,
        )
        return self._unreceipted.submit(now, results, held)

    def _receipt(self, serial: int) -> None:
        held = self._unreceipted.receipt(serial)
        if held is not None:
            held.unreceipted_count -= 1
            self._forget_if_over(held)

    def _forget_if_over(self, held: Held) -> None:
        if held.slot is None and not held.unreceipted_count and held.is_done:
            self._forget(held)

    def _forget(self, held: Held) -> None:
        mine = self._held.get(held.batch.job, {})
        if mine.get(held.batch.first) is held:
            del mine[held.batch.first]
            self._changed = True
            if not mine:
                del self._held[held.batch.job]

    def _return(self, batch: Batch, refused: bool = False) -> None:
        """Hand a batch back: one that was held, or one that was `refused` as it came."""
        self.returned_count += 1
        returned = self._returns.setdefault(batch.job, Returned(batch.job, self._worker, [], []))
        # Of a copy that is refused the original may be here, and stay.
        names = returned.copies if refused and batch.copy else returned.batches
        names.append((batch.first, batch.count, batch.attempt))

    def _return_surplus(self, now: float) -> None:
        """Hand back what waits beyond the capacity, which shrinks when a job becomes scarce or its tasks slow."""
        for job, waiting in self._waiting.items():
            if waiting and self._extra.get(job):
                self._pacing.look(now, job)
                if not self._pacing.extra(job):
                    del self._extra[job]
                    self._beat_due_at = now
            self._give_back_waiting(job, self._load[job] - self._share(job))

    def _give_back_waiting(self, job: str, count: int) -> None:
        """Return the `count` batches of the job that came last."""
        waiting = self._waiting.get(job, deque())
        for _ in range(min(count, len(waiting))):
            self._unload(job)
            self._give_back(waiting.pop())

    def _give_back(self, held: Held) -> None:
        """Return a batch; results of it that were sent stay in care until their receipt, unnamed by beats."""
        self._return(held.batch)
        self._forget(held)

    def _end_grace(self) -> list[Output]:
        """End and return what still runs. A sink that is away has no receipts to give: they are waited for no more."""
        outputs: list[Output] = []
        self._announced.clear()
        for slot, orders in list(self._running.items()):
            outputs.append(Kill(slot))
            for order in orders:
                self._put_back(order)
        self._running.clear()
        self._unreceipted.clear()
        self._held.clear()
        return outputs

    def _unload(self, job: str) -> None:
        self._load[job] -= 1
        if not self._load[job]:
            del self._load[job]

    def _stop(self, held: Held) -> None:
        """Take note that the batch no longer runs."""
        held.slot = None
        self._unload(held.batch.job)
        self._forget_if_over(held)

    def _drop(self, job: str) -> list[Output]:
        """Forget a cancelled job: what waits, what runs, what has no receipt, and what of it is still to arrive."""
        self._jobs.discard(job)
        slots = []
        for slot, orders in list(self._running.items()):
            helds = [held for order in orders for held in order]
            if any(held.batch.job == job for held in helds):
                slots.append(slot)
                del self._running[slot]
                self._announced.pop(slot, None)
                self._put_back([held for held in helds if held.batch.job != job])
        self._unreceipted.drop(job)
        if job in self._waiting:
            self._waiting[job].clear()
        del self._load[job]
        self._changed = self._held.pop(job, None) is not None or self._changed
        return [Kill(slot) for slot in slots]

    def _next_beat(self) -> float:
        if self._beat_due_at is not None:
            return self._beat_due_at
        return self._beat_at + (self._timing.beat_soon_s if self._changed else self._timing.beat_s)

    def _beat(self, now: float) -> Beat:
        self._beat_at = now
        self._beat_due_at = None
        self._beat_serial += 1
        self._changed = False
        extras = {job: self._pacing.extra(job) for job in self._held}
        self._extra = {job: extra for job, extra in extras.items() if extra}
        return Beat(
            serial=self._beat_serial,
            slots=self._settings.slots,
            prefetch=self._settings.prefetch,
            extra=self._extra,
            held=_named(held for mine in self._held.values() for held in mine.values()),
            started=_named(orders[0][0] for orders in self._running.values() if orders[0]),
        )


def _named(batches: Iterable[Held]) -> dict[str, list[BatchName]]:
    """Batches by job, as beats name them."""
    named: dict[str, list[BatchName]] = {}
    for held in batches:
        batch = held.batch
        named.setdefault(batch.job, []).append((batch.first, batch.count, batch.attempt))
    return named
