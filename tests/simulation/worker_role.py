"""A worker without sockets: it drives `Holding` as `worker.py` does, with children that take virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Raw
from msgspec.msgpack import encode as packed

from common.protocol.codec import decode_batch, decode_results
from common.protocol.messages import (
    Beat,
    Dropped,
    FromSink,
    Goodbye,
    Heard,
    Offer,
    Outcomes,
    Place,
    Places,
    Recorded,
    Returned,
    Welcome,
)
from common.protocol.users import WORKER
from common.worker.held_batch import HeldBatch, TaskSlice
from common.worker.holding import Holding
from common.worker.holding import Output as HoldingOutput
from common.worker.settings import HoldingSettings
from common.worker.slot_orders import KillOrder, RunOrder
from common.worker.unacked import Submit
from tests.simulation.role import Client
from tests.simulation.world import Channel

if TYPE_CHECKING:
    from tests.simulation.farm import Farm

FLUSH_S = 0.25
"""A child says its outcomes about so often."""
STUCK_S = 0.08
"""A child that runs one task for so long gives back what it has not started."""


class Worker(Client):
    """`worker.py` and its children."""

    role = WORKER

    def __init__(self, farm: Farm, name: str, slots: int, prefetch: int, liar: bool = False) -> None:
        super().__init__(farm, name)
        self.slots, self.prefetch = slots, prefetch
        self.slowness = 1.0
        self.liar = liar
        self.thief = False
        """It has a stolen key, and does not stop when that is revoked: not before all is calm."""
        settings = HoldingSettings(
            slots=slots, prefetch=prefetch, prefetch_max=farm.plan.prefetch_limit, timing=farm.timing
        )
        self.rules = Holding(settings, name)
        self.started: set[tuple[str, int]] = set()
        """Tasks that have begun to run here, or were said to, and whose batch was alone with them."""
        self.functions = sorted({job.function for job in farm.jobs})
        self.rules.expose(frozenset() if liar else frozenset(self.functions))
        self._sink_run: str | None = None
        self._results: Channel | None = None
        self._queue: list[bytes] = []
        self._unreceipted: dict[int, tuple[str, int]] = {}
        """By serial: the batches of results that were sent and have no receipt, unless they were returned."""
        self._said_started: dict[tuple[str, int], int] = {}
        """The first beat that named a batch as started, by its serial."""
        self._heard_serial = 0
        self._returned_count = 0
        self._places: dict[int, Place] = {}
        self._orders: dict[int, int] = {}
        self._children: dict[int, Child] = {}
        """Those that run an order."""
        self._ahead: dict[int, list[RunOrder]] = {}
        for slot in range(slots):
            self.world.after(self.dice.uniform(0.01, 0.2), self.happen, self._ready, slot)

    # -- the shell's loop ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """`Worker._tick` and `_is_over`."""
        self._perform_joining(self.joining.tick(self.world.now))
        self._perform(self.rules.tick(self.world.now))
        self._check_held()
        self._check_returned()
        if self.rules.leaving and self.rules.empty:
            if self.joining.joined:
                self.send(Goodbye())
            self.world.note(self.name, "has left")
            self._end(lose=False)

    def deadline(self) -> float | None:
        """`Worker._deadline`."""
        joining = self.joining.deadline()
        return self.rules.deadline() if joining is None else min(self.rules.deadline(), joining)

    def leave(self, grace_s: float) -> None:
        """SIGTERM."""
        if not self.rules.leaving:
            self.world.note(self.name, "leaves")
            self._perform(self.rules.leave(self.world.now, grace_s))

    def failed(self, text: str) -> None:
        """Its key was revoked: it ends, or it is a thief's and goes on."""
        self.world.require(self.user.key not in self.farm.roster, f"{self.name} is refused:", text)
        if not self.thief or self.farm.calm_at is not None:
            self.farm.kill_worker(self)

    def kill(self) -> None:
        """SIGKILL."""
        self.world.note(self.name, "is killed")
        self._end(lose=self.dice.random() < 0.5)

    def _end(self, lose: bool) -> None:
        self.alive = False
        if self._results is not None:
            self._results.close(lose)
        self.cut(lose)
        self.farm.worker_gone(self)

    # -- links --------------------------------------------------------------------------------------------------

    def receive(self, message: FromSink, label: Any) -> None:
        """`Worker._receive`."""
        if isinstance(message, Welcome):
            self._take_welcome(message)
        elif isinstance(message, Places):
            self._connect_places(message.places)
            jobs = frozenset(place.job for place in message.places)
            self.rules.places(jobs, frozenset(place.job for place in message.places if place.scarce))
        else:
            if isinstance(message, Dropped):
                lasting = {serial: named for serial, named in self._unreceipted.items() if named[0] != message.job}
                self._unreceipted = lasting
            if isinstance(message, Heard):
                self._heard_serial = max(self._heard_serial, message.serial)
            elif isinstance(message, Recorded):
                for serial in (*message.serials, *message.refused):
                    self._unreceipted.pop(serial, None)
            self._perform(self.rules.receive(self.world.now, message))

    def take_batch(self, frame: bytes, label: Any) -> None:
        """A frame of the tasks link."""
        self._perform(self.rules.receive(self.world.now, decode_batch(frame)))

    def _take_welcome(self, welcome: Welcome) -> None:
        self.send(Offer(self.functions))
        if welcome.run == self._sink_run:
            return
        self._sink_run = welcome.run
        if self._results is not None:
            self._results.close(True)
        self._queue.clear()
        self._results = None
        self.call_results()
        outputs = self.rules.sink_restarted(self.world.now)
        said = {decode_results(each.frame).serial for each in outputs if isinstance(each, Submit)}
        self.world.require(
            said >= self._unreceipted.keys(), f"{self.name} does not say its results again:", self._unreceipted
        )
        self._perform(outputs)

    def call_results(self) -> None:
        """Connect the results link to the sink that is there, and send what has waited."""
        sink = self.farm.sink
        if not self.alive or sink is None or not sink.alive:
            return
        if self._results is not None:
            self._results.close(True)
        self._results = Channel(
            self.world,
            f"{self.name} results {sink.name}",
            lambda frame, label: sink.happen(sink.results, frame, label),
            True,
        )
        self._results.block(self.dark_until)
        for frame in self._queue:
            self._results.send(frame)
        self._queue.clear()

    def results_cut(self) -> None:
        """The sink is gone: results wait."""
        if self._results is not None:
            self._results.close(True)
            self._results = None

    def darken(self, until: float) -> None:
        """The link to the sink goes dark."""
        super().darken(until)
        if self._results is not None:
            self._results.block(until)

    def _connect_places(self, places: list[Place]) -> None:
        wanted = {place.port: place for place in places}
        for gone in self._places.keys() - wanted.keys():
            self.farm.disconnect_tasks(self, gone)
        new = [port for port in wanted if port not in self._places]
        self._places = wanted
        for port in new:
            self.farm.connect_tasks(self, port)

    def wants(self, port: int) -> bool:
        """True while it pulls from the ventilator that listens there."""
        return self.alive and port in self._places

    # -- outputs ------------------------------------------------------------------------------------------------

    def _perform(self, outputs: Iterable[HoldingOutput]) -> None:
        outputs = list(outputs)
        if not outputs:
            return
        returned = iter(sorted((each for each in outputs if isinstance(each, Returned)), key=lambda each: each.job))
        for output in outputs:
            if isinstance(output, RunOrder):
                self._run(output)
            elif isinstance(output, KillOrder):
                self._replace(output.slot)
            elif isinstance(output, Submit):
                self.sent_count += 1
                self._note_submit(output)
                if self._results is None:
                    self._queue.append(output.frame)
                else:
                    self._results.send(output.frame)
            elif isinstance(output, Beat):
                self._check_beat(output)
                self.send(output, (self.name, self._named()))
            elif isinstance(output, Returned):
                # Their order is that of a set, which is another one in each process.
                self._send_returned(next(returned))
            else:
                self.send(output)

    def _named(self) -> dict[tuple[str, int], HeldBatch]:
        return {(job, first): held for job, mine in self.rules._held.items() for first, held in mine.items()}

    # -- children -----------------------------------------------------------------------------------------------

    def _ready(self, slot: int) -> None:
        self._orders.setdefault(slot, 0)
        self._perform(self.rules.slot_idle(self.world.now, slot))

    def _replace(self, slot: int) -> None:
        self._orders[slot] += 1
        self._children.pop(slot, None)
        self._ahead.pop(slot, None)
        self.world.after(0.1, self.happen, self._ready, slot)

    def _run(self, order: RunOrder) -> None:
        for held in self.rules._orders.running[order.slot][-1]:
            said = self._said_started.get((held.batch.job, held.batch.first), self._heard_serial + 1)
            fine = not held.batch.suspect or said <= self._heard_serial
            self.world.require(fine, f"{self.name} starts a suspect batch and has not said so:", held.batch)
        if order.slot in self._children:
            self._ahead.setdefault(order.slot, []).append(order)
            return
        self._orders[order.slot] += 1
        child = Child(self, order, self._orders[order.slot])
        self._children[order.slot] = child
        self.world.after(0.0, child.begin)

    def is_current(self, child: Child) -> bool:
        """True while the child was not killed."""
        return self.alive and self._orders[child.order.slot] == child.number

    def outcomes(self, child: Child, first: int, outcomes: Outcomes) -> None:
        """A child says outcomes."""
        if self.is_current(child) and outcomes.values:
            count, seconds = len(outcomes.values), sum(outcomes.seconds)
            raw = Raw(packed(outcomes))
            self._perform(self.rules.outcomes(self.world.now, child.order.slot, first, count, seconds, raw))

    def done(self, child: Child) -> None:
        """A child has done its order, and begins with the next one if it has one."""
        if not self.is_current(child):
            return
        slot = child.order.slot
        del self._children[slot]
        ahead = self._ahead.pop(slot, [])
        self._perform([ahead[0]] if ahead else [])
        self._perform(self.rules.slot_done(self.world.now, slot))

    def died(self, child: Child, unclear: bool = False) -> None:
        """A child is dead; another is started."""
        if self.is_current(child):
            self._replace(child.order.slot)
            self._perform(self.rules.slot_lost(self.world.now, child.order.slot, unclear))

    def given_back(self, child: Child, firsts: list[int]) -> None:
        """A child is stuck and gives back what it has not started."""
        if self.is_current(child):
            ahead = self._ahead.pop(child.order.slot, [])
            if firsts or ahead:
                self._perform(self.rules.given_back(self.world.now, child.order.slot, firsts, len(ahead)))

    # -- checks -------------------------------------------------------------------------------------------------

    def _note_submit(self, submit: Submit) -> None:
        results = decode_results(submit.frame)
        held = self.rules._held.get(results.job, {}).get(results.batch[0])
        if held is not None and held.batch.ticket == results.ticket:
            self._unreceipted[results.serial] = results.job, results.batch[0]

    def _send_returned(self, returned: Returned) -> None:
        self._returned_count += len(returned.batches) + len(returned.copies)
        firsts = {first for first, _, _ in returned.batches}
        for serial, (job, first) in list(self._unreceipted.items()):
            if job == returned.job and first in firsts:
                del self._unreceipted[serial]
        self.send(returned)

    def _check_returned(self) -> None:
        rules = self.rules
        if self._returned_count != rules.returned_count:
            self.world.require(False, f"{self.name} keeps its returns to itself:", rules.returned_count)

    def _check_beat(self, beat: Beat) -> None:
        if self.rules.leaving and self.rules.empty:
            # Its grace has ended: it waits for receipts no longer.
            self._unreceipted.clear()
        named = {(job, first) for job, batches in beat.held.items() for first, _, _ in batches}
        unnamed = set(self._unreceipted.values()) - named
        self.world.require(not unnamed, f"{self.name} does not name what has no receipt:", unnamed)
        for job, batches in beat.started.items():
            for first, count, _ in batches:
                self._said_started.setdefault((job, first), beat.serial)
                if count == 1:
                    # It says so before it starts; should it end in between, nobody can know.
                    self.started.add((job, first))

    def _check_held(self) -> None:
        rules = self.rules
        loads = {job: len(line) for job, line in rules._turns._lines.items()}
        given = [held for orders in rules._orders.running.values() for order in orders for held in order]
        for held in given:
            loads[held.batch.job] = loads.get(held.batch.job, 0) + 1
        room = self.slots + max(self.prefetch, self.farm.plan.prefetch_limit)
        for job, load in loads.items():
            if load > room:
                self.world.require(False, "more than it has room for:", (self.name, job, load))
            if load != rules._room.load[job]:
                self.world.require(False, "the load is miscounted:", (self.name, job, load))
        if rules.empty:
            self.world.require(not given and not any(loads.values()), "empty, and something is left")


class Child:
    """What runs in a slot: the tasks of one order, one after the other."""

    def __init__(self, worker: Worker, order: RunOrder, number: int) -> None:
        self.worker, self.order, self.number = worker, order, number
        self._truth = worker.farm.job(order.job)
        self._helds = [held for held in worker.rules._held[order.job].values() if held.slot == order.slot]
        self._parts: list[TaskSlice] = list(order.parts)
        self._begin_part()

    def _begin_part(self) -> None:
        self._part = self._parts.pop(0)
        first = self._next = self._outbox_first = self._part.first
        held = next(each for each in self._helds if each.batch.first <= first < each.batch.first + each.batch.count)
        self._attempt = held.batch.attempt
        self._alone = held.batch.count == 1
        self._outbox = Outcomes([], [], [])
        self._said_at = self.worker.world.now

    def begin(self) -> None:
        """Start the next task."""
        worker = self.worker
        if not worker.is_current(self):
            return
        task = self._truth.tasks[self._next]
        self._truth.executions[self._next] += 1
        if self._alone:
            worker.started.add((self.order.job, self._next))
        if task.kills_worker:
            worker.world.note(worker.name, "is poisoned", (self.order.job, self._next))
            worker.world.after(worker.dice.uniform(0.001, 0.3), self._kill_worker)
            return
        seconds = task.seconds * worker.slowness
        if seconds > STUCK_S:
            worker.world.after(STUCK_S, self._give_back, self._next)
        if self.order.timeout_s is not None and seconds > self.order.timeout_s:
            worker.world.after(self.order.timeout_s, worker.happen, self._time_out, self._next)
        worker.world.after(seconds, self._end_task, task, seconds)

    def _give_back(self, task: int) -> None:
        if self.worker.is_current(self) and self._next == task:
            firsts = [part.first for part in self._parts]
            self._parts.clear()
            self.worker.happen(self.worker.given_back, self, firsts)

    def _time_out(self, task: int) -> None:
        # A worker that was stalled may find that the task has ended meanwhile.
        if self.worker.is_current(self) and self._next == task:
            self.worker.world.note(self.worker.name, "ends a task", (self.order.job, task))
            died = Outcomes([None], [0.0], [(0, "the task ran longer than its timeout", False)])
            self.worker.outcomes(self, task, died)
            self.worker.died(self)

    def _kill_worker(self) -> None:
        if self.worker.is_current(self):
            self.worker.farm.kill_worker(self.worker)

    def _is_unclear(self) -> bool:
        """Sometimes nobody knows which of several tasks has ended the child."""
        others = self._parts or self._next + 1 < self._part.first + self._part.count
        return bool(others) and self.worker.dice.random() < 0.5

    def _end_task(self, task: Any, seconds: float) -> None:
        worker, index = self.worker, self._next
        if not worker.is_current(self):
            return
        fails = self._attempt <= task.failures
        if fails and task.kills_child and self._is_unclear():
            worker.world.note(worker.name, "lost a child", (self.order.job, index))
            worker.happen(worker.died, self, True)
            return
        if fails and task.kills_child:
            # What the child had not said yet is run again by its successor.
            died = Outcomes([None], [0.0], [(0, "the task killed its process", False)])
            worker.happen(worker.outcomes, self, index, died)
            worker.happen(worker.died, self)
            return
        offset = index - self._outbox_first
        self._outbox.values.append(None if fails else self._truth.value(index))
        self._outbox.seconds.append(seconds)
        if fails:
            self._outbox.errors.append((offset, "ValueError: as foreseen", task.final))
        self._next += 1
        ended = self._next == self._part.first + self._part.count
        if ended or worker.world.now >= self._said_at + FLUSH_S:
            said, first = self._outbox, self._outbox_first
            self._outbox, self._outbox_first, self._said_at = Outcomes([], [], []), self._next, worker.world.now
            worker.happen(worker.outcomes, self, first, said)
        if ended and self._parts:
            self._begin_part()
        elif ended:
            worker.happen(worker.done, self)
            return
        self.begin()
