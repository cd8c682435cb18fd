"""The worker's rules: run, hold or return; keep each result until its receipt. No socket, no clock.

`now` is monotonic seconds. The answers are messages to send and orders to the shell.
"""

from collections.abc import Iterable, Sequence

from ..protocol.messages import (
    Again,
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
)
from ..protocol.settings import MESSAGE_BYTES_MAX
from .beats import Beats
from .capacity import Capacity
from .fair_queue import FairQueue
from .held_batch import HeldBatch
from .returns import Returns
from .service_times import ServiceTimes
from .settings import HoldingSettings
from .slot_orders import KillOrder, ReplaceOrder, RunOrder, SlotOrders
from .slot_time import SlotTime
from .unacked import Submit, Unacked

Output = Message | RunOrder | KillOrder | ReplaceOrder | Submit


class Holding:
    """What one worker holds, for all its jobs."""

    def __init__(self, settings: HoldingSettings, worker: str) -> None:
        self.returned_count = 0
        self.duplicate_count = 0
        self._settings = settings
        self._worker = worker
        self._orders = SlotOrders(settings.slots)
        self._slot_time = SlotTime()
        self._queue = FairQueue(settings, self._slot_time)
        self._capacity = Capacity(settings)
        self._beats = Beats(settings)
        self._held: dict[str, dict[int, HeldBatch]] = {}
        self._jobs: dict[str, bytes] = {}
        """Those that the sink has named and not dropped, with their origin."""
        self._returns = Returns(worker)
        self._unreceipted: Unacked[HeldBatch] = Unacked(settings.timing)
        self._times = ServiceTimes(settings)
        self._serial = 0
        self._leave_by: float | None = None
        self._replaces = False
        """Outdated children are replaced as soon as they have nothing to do."""

    # -- what the shell asks ------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """True when nothing waits, runs or lacks its receipt."""
        return not self._held and not self._unreceipted

    def origin(self, job: str) -> bytes | None:
        """What the batches of the job's ventilator bear; None when the sink has not named it, or has dropped it."""
        return self._jobs.get(job)

    @property
    def leaving(self) -> bool:
        """True once `leave` was called."""
        return self._leave_by is not None

    def expose(self, functions: frozenset[str]) -> None:
        """Name the functions that this worker runs; batches of others are returned."""
        self._capacity.functions = functions

    # -- events of the shell ------------------------------------------------------------------------------------

    def slot_idle(self, now: float, slot: int) -> list[Output]:
        """A slot's child is ready for its first order."""
        self._orders.ready(slot)
        return [*self._replaced(), *self._fill(now)]

    def slot_lost(self, now: float, slot: int, unclear: bool = False) -> list[Output]:
        """A slot's child is gone: what it left undone is run again, task by task when any of them may be to blame."""
        self._slot_time.end(now, slot)
        self._put_back(self._orders.lost(slot, unclear))
        return self._fill(now)

    def slot_done(self, now: float, slot: int) -> list[Output]:
        """A slot's child has done an order, and begins with the next one if it has one."""
        self._slot_time.end(now, slot)
        self._put_back(self._orders.done(slot))
        if (job := self._orders.job_of(slot)) is not None:
            self._slot_time.begin(now, slot, job)
        return [*self._replaced(), *self._fill(now)]

    def park(self) -> None:
        """The children have imported what was edited since: they finish what they run, and begin nothing new."""
        self._replaces = False
        self._orders.park()

    def unpark(self, now: float) -> list[Output]:
        """The children go on as they are."""
        self._orders.unpark()
        return self._fill(now)

    def replace_children(self, functions: frozenset[str]) -> list[Output]:
        """New children are to take the place of those that were parked, and serve these functions."""
        self._replaces = True
        self.expose(functions)
        for job, mine in list(self._held.items()):
            if all(held.batch.function not in functions for held in mine.values()):
                self._give_back_waiting(job, self._capacity.load[job])
        return self._replaced()

    def outcomes(self, now: float, slot: int, first: int, count: int, seconds: float, outcomes: bytes) -> list[Output]:
        """A slot has outcomes (encoded `Outcomes`) for the tasks from `first` on, which ran for `seconds` seconds."""
        held = self._orders.batch_of(slot, first)
        held.settle(first, count)
        self._measure(now, seconds)
        submit = self._submit(now, held, first, count, outcomes)
        if held.is_done:
            self._orders.settled(held)
            self._capacity.unload(held.batch.job)
            self._forget_if_over(held)
        return [submit]

    def given_back(self, now: float, slot: int, firsts: Sequence[int], orders_back: int) -> list[Output]:
        """A slot is stuck with a task, and has not started the parts of its order that begin with these.

        Nor has it started its last `orders_back` orders.
        """
        self._put_back(self._orders.given_back(slot, firsts, orders_back))
        return self._fill(now)

    def leave(self, now: float, grace_s: float) -> list[Output]:
        """Stop taking work: return what has not started, give what runs `grace_s` seconds."""
        self._leave_by = now + grace_s
        for job in self._queue.jobs():
            self._give_back_waiting(job, self._capacity.load[job])
        return self.tick(now)

    def sink_joined(self) -> None:
        """The sink knows this worker now; what was handed back before may have been dropped there."""
        self._returns.repeat(self._holds)

    def sink_restarted(self, now: float) -> list[Output]:
        """A sink that does not know this worker's beats and results is there: send them anew."""
        self._beats.due_at = now
        return [*self._unreceipted.all(now)]

    def places(self, origins: dict[str, bytes], scarce: frozenset[str]) -> None:
        """Name the jobs that have a ventilator, with what its batches bear, and those that are scarce.

        These have fewer batches than the crew has slots: of them only free slots take batches.
        """
        self._jobs |= origins
        self._capacity.scarce = scarce
        self._slot_time.forget(origins.keys() | self._held.keys())

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: Batch | FromSink) -> list[Output]:
        """Take a batch of the tasks link or a message of the sink."""
        if isinstance(message, Batch):
            return self.take(now, [message])
        if isinstance(message, Heard):
            self._returns.heard(message.serial)
            return [*self._orders.heard(message.serial)]
        if isinstance(message, Again):
            self._returns.dropped()
        elif isinstance(message, Recorded):
            for serial in (*message.serials, *message.refused):
                self._receipt(serial)
        elif isinstance(message, Recall):
            self._give_back_waiting(message.job, self._capacity.load[message.job])
        elif isinstance(message, Dropped):
            return self._drop(now, message.job)
        return []

    def take(self, now: float, batches: Iterable[Batch]) -> list[Output]:
        """Take batches that came together: idle slots share them."""
        for batch in batches:
            self._receive_batch(now, batch)
        return self._fill(now)

    def tick(self, now: float) -> list[Output]:
        """Send what is due: returns, results without a receipt, the beat; end what outlived the grace."""
        outputs: list[Output] = []
        if self._queue.patience_until is not None and now >= self._queue.patience_until:
            outputs += self._fill(now)
        if not self._orders.idle:
            self._return_surplus(now)
        if self._leave_by is not None and now >= self._leave_by:
            outputs += self._end_grace(now)
        outputs += self._returns.due(self._beats.serial)
        outputs += self._unreceipted.overdue(now)
        if now >= self._beats.next_at():
            outputs.append(self._beat(now))
        return outputs

    def deadline(self) -> float:
        """When `tick` has something to do next."""
        instants = [self._beats.next_at()]
        if self._leave_by is not None and not self.empty:
            instants.append(self._leave_by)
        if self._queue.patience_until is not None:
            instants.append(self._queue.patience_until)
        if not self._orders.idle and self._queue.count() and self._prefetches_more():
            instants.append(self._times.look_at())
        if (overdue_at := self._unreceipted.deadline()) is not None:
            instants.append(overdue_at)
        return min(instants)

    # -- rules --------------------------------------------------------------------------------------------------

    def _receive_batch(self, now: float, batch: Batch) -> None:
        if batch.job not in self._jobs:
            return
        known = self._held.get(batch.job, {}).get(batch.first)
        if known is not None and known.batch.ticket == batch.ticket and not batch.copy:
            self.duplicate_count += 1
        elif known is not None or self.leaving or not self._capacity.takes(batch, self._has_free_slot()):
            self._return(batch, refused=True)
        else:
            held = HeldBatch(batch)
            self._held.setdefault(batch.job, {})[batch.first] = held
            self._beats.changed = True
            self._capacity.load[batch.job] += 1
            self._queue.append(now, held)

    def _holds(self, job: str, name: BatchName) -> bool:
        held = self._held.get(job, {}).get(name[0])
        return held is not None and (held.batch.count, held.batch.attempt) == name[1:]

    def _replaced(self) -> list[Output]:
        return [ReplaceOrder(slot) for slot in self._orders.replaceable()] if self._replaces else []

    def _prefetches_more(self) -> bool:
        """True while batches are done in no time, as the last beat has said it."""
        return self._capacity.prefetch > self._settings.prefetch

    def _has_free_slot(self) -> bool:
        """True when more slots are idle than batches wait."""
        return len(self._orders.idle) > self._queue.count()

    def _fill(self, now: float) -> list[Output]:
        """Give idle slots the waiting batches of all jobs by turns, and then those that run their next order."""
        orders: list[Output] = []
        idle = self._orders.idle
        self._queue.patience_until = None
        while idle and (job := self._queue.next_job(now)) is not None:
            taken = self._queue.take(job, len(idle), self._times.order_batches())
            orders += self._start(now, idle.popleft(), taken)
        if self._queue.count() and self._settings.ahead_bytes_max:
            for slot in self._orders.without_next():
                ahead = self._start_ahead(now, slot)
                if not ahead:
                    # What is next may not be given ahead, whatever slot asks for it.
                    break
                orders += ahead
        return orders

    def _start_ahead(self, now: float, slot: int) -> list[Output]:
        """Give a slot that runs its next order, so that it need not wait for it; what is stuck there comes back."""
        job = self._queue.next_job(now)
        if job is None or job in self._capacity.scarce:
            return []
        held = self._queue.first(job)
        small = memoryview(held.batch.arguments).nbytes <= self._settings.ahead_bytes_max
        if not small or held.one_by_one or held.batch.suspect:
            return []
        taken = self._queue.take(job, len(self._orders.running), self._times.order_batches())
        return self._start(now, slot, taken)

    def _start(self, now: float, slot: int, taken: list[HeldBatch]) -> list[Output]:
        batch = taken[0].batch
        self._times.began(now)
        if slot not in self._orders.running:
            self._slot_time.begin(now, slot, batch.job)
        order = self._orders.give(slot, taken)
        if not batch.suspect:
            return [order]
        # Should it end this worker, the ventilator must know that it had begun.
        beat = self._beat(self._beats.at)
        self._orders.announce(slot, beat.serial, order)
        return [beat]

    def _put_back(self, helds: list[HeldBatch]) -> None:
        """Batches that a slot has not finished wait again, before all others; or they are returned."""
        for held in reversed(helds):
            held.slot = None
            if self.leaving or not held.can_be_cut() or held.batch.function not in self._capacity.functions:
                self._give_back(held)
            else:
                self._queue.put_first(held)

    def _measure(self, now: float, seconds: float) -> None:
        self._times.measured(now, seconds)
        if now >= self._beats.at + self._settings.stuck_s:
            wanted, said = self._times.prefetch(), self._capacity.prefetch
            if wanted > 2 * said or said > 2 * wanted:
                self._beats.due_at = now

    def _submit(self, now: float, held: HeldBatch, first: int, count: int, outcomes: bytes) -> Submit:
        batch = held.batch
        self._serial += 1
        held.unreceipted_count += 1
        arguments, cuts = held.kept(first, count, MESSAGE_BYTES_MAX - memoryview(outcomes).nbytes)
        results = Results(
            job=batch.job,
            worker=self._worker,
            serial=self._serial,
            first=first,
            count=count,
            batch=(batch.first, batch.count, batch.attempt),
            ticket=batch.ticket,
            outcomes=outcomes,
            arguments=arguments,
            cuts=tuple(cuts),
        )
        return self._unreceipted.submit(now, results, held)

    def _receipt(self, serial: int) -> None:
        held = self._unreceipted.receipt(serial)
        if held is not None:
            held.unreceipted_count -= 1
            self._forget_if_over(held)

    def _forget_if_over(self, held: HeldBatch) -> None:
        if held.slot is None and not held.unreceipted_count and held.is_done:
            self._forget(held)

    def _forget(self, held: HeldBatch) -> None:
        mine = self._held.get(held.batch.job, {})
        if mine.get(held.batch.first) is held:
            del mine[held.batch.first]
            self._beats.changed = True
            if not mine:
                del self._held[held.batch.job]
            if not self._held and self._prefetches_more():
                # What comes next may last longer: let nobody send too much of it.
                self._beats.due_at = self._beats.at + self._settings.stuck_s

    def _return(self, batch: Batch, refused: bool = False) -> None:
        """Hand a batch back: one that was held, or one that was `refused` as it came."""
        self.returned_count += 1
        self._returns.add(batch, refused and batch.copy)

    def _return_surplus(self, now: float) -> None:
        """Hand back what waits beyond the capacity, which shrinks when a job becomes scarce or its tasks slow."""
        if self._queue.count() and self._prefetches_more():
            self._times.look(now)
            if self._times.prefetch() <= self._settings.prefetch:
                self._capacity.prefetch = self._settings.prefetch
                self._beats.due_at = now
        for job in self._queue.jobs():
            self._give_back_waiting(job, self._capacity.load[job] - self._capacity.share(job))

    def _give_back_waiting(self, job: str, count: int) -> None:
        """Return the `count` batches of the job that came last."""
        for held in self._queue.take_back(job, count):
            self._give_back(held)

    def _give_back(self, held: HeldBatch) -> None:
        """Return a batch. Results of it that were sent are kept until their receipt, but beats no longer name it."""
        self._capacity.unload(held.batch.job)
        self._return(held.batch)
        self._forget(held)

    def _end_grace(self, now: float) -> list[Output]:
        """End and return what still runs. A sink that is away has no receipts to give: they are waited for no more."""
        slots, left = self._orders.end()
        for slot in slots:
            self._slot_time.end(now, slot)
        self._put_back(left)
        self._unreceipted.clear()
        self._held.clear()
        return [KillOrder(slot) for slot in slots]

    def _drop(self, now: float, job: str) -> list[Output]:
        """Forget a cancelled job: what waits, what runs, what has no receipt, and what of it is still to arrive."""
        self._jobs.pop(job, None)
        slots, others = self._orders.drop(job)
        for slot in slots:
            self._slot_time.end(now, slot)
        self._put_back(others)
        self._unreceipted.drop(job)
        self._queue.take_back(job, self._capacity.load[job])
        del self._capacity.load[job]
        self._beats.changed = self._held.pop(job, None) is not None or self._beats.changed
        return [KillOrder(slot) for slot in slots]

    def _beat(self, now: float) -> Beat:
        if not self._held:
            self._times.forget()
        self._capacity.prefetch = self._times.prefetch()
        held = (held for mine in self._held.values() for held in mine.values())
        return self._beats.beat(now, self._capacity.prefetch, held, self._orders.started())
