"""The worker's rules: run, hold or return; keep each result until its receipt. No socket, no clock.

`now` is monotonic seconds. The answers are messages to send and orders to the shell (`Run`, `Kill`).
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Raw

from common.messages import (
    Batch,
    Beat,
    Dropped,
    FromSink,
    Message,
    Recall,
    Recorded,
    Results,
    Returned,
    encode,
    slice_arguments,
)
from common.runs import Runs
from common.settings import HoldingSettings


@dataclass(slots=True)
class Held:
    """A batch in this worker's care, until each of its tasks has a receipt or the batch was returned."""

    batch: Batch
    todo: Runs
    arrived_at: float
    slot: int | None = None
    serials: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Unreceipted:
    """A results message that was sent and has no receipt yet."""

    frame: bytes
    held: Held
    again_at: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """Order to the shell: let the slot run these tasks of a job; their indexes begin at `first`."""

    slot: int
    job: str
    function: str
    first: int
    count: int
    arguments: Raw
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Kill:
    """Order to the shell: end what the slot runs."""

    slot: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Order to the shell: PUSH this results frame to the sink."""

    frame: bytes


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
        self._running: dict[int, Held] = {}
        self._held: dict[str, dict[int, Held]] = {}
        self._waiting: dict[str, deque[Held]] = {}
        self._turns: deque[str] = deque()
        self._load: Counter[str] = Counter()
        self._scarce: frozenset[str] = frozenset()
        self._returns: dict[str, list[tuple[int, int]]] = {}
        self._unreceipted: dict[int, Unreceipted] = {}
        self._resend_at: float | None = None
        self._serial = 0
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
        """Slots that run a batch."""
        return len(self._running)

    @property
    def unreceipted_count(self) -> int:
        """Results messages without a receipt."""
        return len(self._unreceipted)

    def expose(self, functions: frozenset[str]) -> None:
        """Name the functions that this worker runs; batches of others are returned."""
        self._functions = functions

    # -- events of the shell ------------------------------------------------------------------------------------

    def slot_idle(self, slot: int) -> list[Output]:
        """A slot's child is ready for its first batch, or again after the child was replaced."""
        if slot in self._running:
            return self.slot_done(slot)
        if slot not in self._idle:
            self._idle.append(slot)
        return self._fill()

    def outcomes(self, now: float, slot: int, first: int, count: int, outcomes: Raw) -> list[Output]:
        """A slot has outcomes (encoded `Outcomes`) for the tasks from `first` on of the batch that it runs."""
        held = self._running[slot]
        held.todo.discard(first, count)
        return [self._submit(now, held, first, count, outcomes)]

    def slot_done(self, slot: int) -> list[Output]:
        """A slot has said all its outcomes for the last `Run`."""
        held = self._running[slot]
        if held.todo:
            return self._next_part(held)
        self._stop(held)
        self.finished_count += 1
        self._forget_if_over(held)
        self._idle.append(slot)
        return self._fill()

    def leave(self, now: float, grace_s: float) -> list[Output]:
        """Stop taking work: return what has not started, give what runs `grace_s` seconds."""
        self._leave_by = now + grace_s
        for job, waiting in self._waiting.items():
            self._give_back_waiting(job, len(waiting))
        return self.tick(now)

    def sink_restarted(self, now: float) -> list[Output]:
        """A sink that does not know this worker's beats and results is there: say them again."""
        again: list[Output] = []
        for unreceipted in self._unreceipted.values():
            unreceipted.again_at = now + self._timing.resend_s
            unreceipted.wait_s = self._timing.resend_s
            again.append(Submit(unreceipted.frame))
        self._resend_at = now + self._timing.resend_s if again else None
        self._beat_due_at = now
        return again

    def places(self, scarce: frozenset[str]) -> None:
        """Name the jobs that have fewer batches than the crew has slots: of these only free slots take batches."""
        self._scarce = scarce

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: Batch | FromSink) -> list[Output]:
        """Take a batch of the tasks link or a message of the sink."""
        if isinstance(message, Batch):
            return self._receive_batch(now, message)
        if isinstance(message, Recorded):
            for serial in (*message.serials, *message.refused):
                self._receipt(serial)
        elif isinstance(message, Recall):
            self._give_back_waiting(message.job, self._settings.slots + self._settings.prefetch)
        elif isinstance(message, Dropped):
            return self._drop(message.job)
        return []

    def tick(self, now: float) -> list[Output]:
        """Send what is due: returns, results without a receipt, the beat; end what outlived the grace."""
        outputs: list[Output] = []
        if not self._idle:
            for job in self._scarce & self._waiting.keys():
                self._give_back_waiting(job, self._load[job] - self._capacity(job))
        if self._leave_by is not None and now >= self._leave_by:
            for slot, held in list(self._running.items()):
                outputs.append(Kill(slot))
                self._stop(held)
                self._give_back(held)
            # A sink that is away has no receipts to give: what it does not know is run again elsewhere.
            self._unreceipted.clear()
            self._held.clear()
        outputs += [Returned(job, batches) for job, batches in self._returns.items()]
        self._returns.clear()
        if self._resend_at is not None and now >= self._resend_at:
            outputs += self._resend(now)
        if now >= self._next_beat():
            outputs.append(self._beat(now))
        return outputs

    def deadline(self) -> float:
        """When `tick` has something to do next."""
        instants = [self._next_beat()]
        if self._leave_by is not None and not self.empty:
            instants.append(self._leave_by)
        if self._resend_at is not None:
            instants.append(self._resend_at)
        return min(instants)

    # -- rules --------------------------------------------------------------------------------------------------

    def _receive_batch(self, now: float, batch: Batch) -> list[Output]:
        mine = self._held.setdefault(batch.job, {})
        known = mine.get(batch.first)
        if known is not None and (known.batch.count, known.batch.attempt) == (batch.count, batch.attempt):
            self.duplicate_count += 1
            return []
        if known is not None or not self._has_room(batch):
            self._return(batch)
            if not mine:
                del self._held[batch.job]
            return []
        held = Held(batch, Runs([(batch.first, batch.count)]), arrived_at=now)
        mine[batch.first] = held
        self._changed = True
        self._load[batch.job] += 1
        if batch.job not in self._waiting:
            self._waiting[batch.job] = deque()
            self._turns.append(batch.job)
        self._waiting[batch.job].append(held)
        return self._fill()

    def _has_room(self, batch: Batch) -> bool:
        if self.leaving or batch.function not in self._functions:
            return False
        return self._load[batch.job] < self._capacity(batch.job) or (bool(self._idle) and not self._turns)

    def _capacity(self, job: str) -> int:
        """Batches of the job that may wait or run here: of a scarce job only its share of the slots."""
        if job not in self._scarce:
            return self._settings.slots + self._settings.prefetch
        others = sum(1 for other, load in self._load.items() if load and other != job)
        return max(1, self._settings.slots // (1 + others))

    def _fill(self) -> list[Output]:
        """Give idle slots the waiting batches of all jobs in turn."""
        orders: list[Output] = []
        while self._idle and self._turns:
            job = self._turns.popleft()
            waiting = self._waiting[job]
            if not waiting:
                del self._waiting[job]
                continue
            self._turns.append(job)
            held = waiting.popleft()
            held.slot = self._idle.popleft()
            self._running[held.slot] = held
            if held.batch.suspect:
                # Should this batch end this worker, the ventilator must know that it had begun.
                orders.append(self._beat(self._beat_at))
            orders += self._next_part(held)
        return orders

    def _next_part(self, held: Held) -> list[Output]:
        """The first run of the batch's tasks that have no outcome yet: usually the whole batch."""
        assert held.slot is not None
        first, count = next(iter(held.todo))
        batch = held.batch
        arguments = batch.arguments
        if count != batch.count:
            arguments = slice_arguments(arguments, first - batch.first, count)
        return [Run(held.slot, batch.job, batch.function, first, count, arguments, batch.timeout_s)]

    def _submit(self, now: float, held: Held, first: int, count: int, outcomes: Raw) -> Submit:
        batch = held.batch
        self._serial += 1
        frame = encode(
            Results(
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
        )
        wait_s = self._timing.resend_s
        self._unreceipted[self._serial] = Unreceipted(frame, held, now + wait_s, wait_s)
        self._resend_at = now + wait_s if self._resend_at is None else min(self._resend_at, now + wait_s)
        held.serials.add(self._serial)
        return Submit(frame)

    def _receipt(self, serial: int) -> None:
        unreceipted = self._unreceipted.pop(serial, None)
        if unreceipted is not None:
            unreceipted.held.serials.discard(serial)
            self._forget_if_over(unreceipted.held)

    def _forget_if_over(self, held: Held) -> None:
        if held.slot is None and not held.serials and not held.todo:
            self._forget(held)

    def _forget(self, held: Held) -> None:
        mine = self._held.get(held.batch.job, {})
        if mine.get(held.batch.first) is held:
            del mine[held.batch.first]
            self._changed = True
            if not mine:
                del self._held[held.batch.job]

    def _return(self, batch: Batch) -> None:
        self.returned_count += 1
        self._returns.setdefault(batch.job, []).append((batch.first, batch.count))

    def _resend(self, now: float) -> list[Output]:
        """Say results again whose receipt is overdue."""
        again: list[Output] = []
        for unreceipted in self._unreceipted.values():
            if now >= unreceipted.again_at:
                unreceipted.wait_s = min(2 * unreceipted.wait_s, self._timing.resend_max_s)
                unreceipted.again_at = now + unreceipted.wait_s
                again.append(Submit(unreceipted.frame))
        self._resend_at = min((each.again_at for each in self._unreceipted.values()), default=None)
        return again

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

    def _unload(self, job: str) -> None:
        self._load[job] -= 1
        if not self._load[job]:
            del self._load[job]

    def _stop(self, held: Held) -> None:
        """Take note that the batch no longer runs."""
        assert held.slot is not None
        del self._running[held.slot]
        held.slot = None
        self._unload(held.batch.job)

    def _drop(self, job: str) -> list[Output]:
        """Forget a cancelled job: what waits, what runs and what has no receipt."""
        orders: list[Output] = []
        for slot, held in list(self._running.items()):
            if held.batch.job == job:
                self._stop(held)
                orders.append(Kill(slot))
        self._unreceipted = {
            serial: unreceipted
            for serial, unreceipted in self._unreceipted.items()
            if unreceipted.held.batch.job != job
        }
        if job in self._waiting:
            self._waiting[job].clear()
        del self._load[job]
        self._changed = self._held.pop(job, None) is not None or self._changed
        return orders

    def _next_beat(self) -> float:
        if self._beat_due_at is not None:
            return self._beat_due_at
        return self._beat_at + (self._timing.beat_soon_s if self._changed else self._timing.beat_s)

    def _beat(self, now: float) -> Beat:
        self._beat_at = now
        self._beat_due_at = None
        self._changed = False
        return Beat(
            slots=self._settings.slots,
            prefetch=self._settings.prefetch,
            held=_named(held for mine in self._held.values() for held in mine.values()),
            started=_named(self._running.values()),
        )


def _named(batches: Iterable[Held]) -> dict[str, list[tuple[int, int]]]:
    """Batches by job, as beats name them."""
    named: dict[str, list[tuple[int, int]]] = {}
    for held in batches:
        named.setdefault(held.batch.job, []).append((held.batch.first, held.batch.count))
    return named
