"""A worker without sockets: the session of `worker.py`, with children that take virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import encode as packed
from msgspec.structs import replace as replace_fields

from common.log_line import LogLine
from common.protocol.codec import decode_batch, encode, split_results
from common.protocol.handshake import Fail, LinkEvent
from common.protocol.messages import (
    BatchName,
    Beat,
    Dropped,
    FromSink,
    Goodbye,
    Heard,
    Outcomes,
    Places,
    Recorded,
    Results,
    Returned,
    Welcome,
)
from common.protocol.users import WORKER
from common.worker.held_batch import HeldBatch, TaskSlice
from common.worker.session import (
    AwaitSignal,
    Connect,
    ConnectResults,
    Disconnect,
    End,
    LookForEdits,
    SendResults,
    SessionOutput,
    StartSlots,
    TryImport,
    WorkerSession,
)
from common.worker.settings import HoldingSettings, SessionSettings
from common.worker.slot_events import Done, Edited, Event, GivenBack, Imported, Lost, NotImported, Outcome, Ready
from common.worker.slot_orders import KillOrder, ReplaceOrder, RunOrder
from tests.simulation.role import INFINITY, Client
from tests.simulation.world import Channel

if TYPE_CHECKING:
    from tests.simulation.farm import Farm
    from tests.simulation.sink_role import Sink

FLUSH_S = 0.25
"""About how long a child keeps outcomes before it says them."""
STUCK_S = 0.08
"""How long a child runs one task before it gives back what it has not started."""
GROUP_S = 0.15
"""How long a signal to a process group takes to reach all its processes, at most."""
LATE_S = 0.01
"""How late something that is due may be done, unless the worker was stalled."""
TOLD_TO_END = "the task killed its process: the whole group was told to end"


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
        self.keeps: str | None = None
        """It keeps all batches that it gets, and is "silent" about them, or has them all "named" in its beats."""
        self._kept: dict[str, list[BatchName]] = {}
        self._leaving_dice = farm.world.dice(f"{name} leaves")
        self._edit_dice = farm.world.dice(f"{name} is edited")
        self._tries = False
        """A trial child imports the edited modules."""
        self._outdated: set[int] = set()
        """Slots whose children have imported what was edited since."""
        self.settings = self._drawn_settings()
        self.session = WorkerSession(self.settings, name, self.world.now)
        self.rules = self.session.holding
        self.started: set[tuple[str, int]] = set()
        """Tasks that have begun to run here, or were said to, and whose batch was alone with them."""
        self.functions = sorted({job.function for job in farm.jobs})
        self.is_outside = farm.world.dice(f"{name} is outside").random() < 0.5
        """It cannot connect to ventilators behind a wall."""
        self._results: Channel | None = None
        self.results_sink: Sink | None = None
        """Where results go."""
        self._queue: list[bytes] = []
        self._unreceipted: dict[int, tuple[str, int]] = {}
        """By serial: the batches of results that were sent and have no receipt, unless they were returned."""
        self._owed: set[int] = set()
        """Results that a new sink must be sent, and has not been yet."""
        self._sink_new_at = -INFINITY
        """When the worker last learnt of a new sink."""
        self._said_at: dict[int, float] = {}
        """By serial: when results were sent last."""
        self._said_started: dict[tuple[str, int], int] = {}
        """The first beat that named a batch as started, by its serial."""
        self._heard_serial = 0
        self._returned_count = 0
        self._ports: dict[int, str] = {}
        """Where it pulls tasks: the ports, and their hosts."""
        self._orders: dict[int, int] = {}
        self._children: dict[int, Child] = {}
        """Those that run an order."""
        self._ahead: dict[int, list[RunOrder]] = {}
        self._pending_signals: list[str] = []
        self._signal_count = 0
        self._told_again = False
        """A signal came when it was leaving already."""
        self._awaits = False
        self._awaits_until = 0.0
        """It waits for a signal, and does nothing else."""
        self._grace_ends_at = INFINITY
        self._over = False
        self._began_at = self._busy_at = self.world.now
        self._perform(self.session.begin())
        self.arm()

    @property
    def lies(self) -> bool:
        """It runs nothing."""
        return self.liar or self.keeps is not None

    def _drawn_settings(self) -> SessionSettings:
        """Some were told when to leave; not those that are to finish what the faults have left."""
        dice, plan = self._leaving_dice, self.farm.plan
        told = self.farm.calm_at is None and dice.random() < plan.leavers
        return SessionSettings(
            modules=["work"],
            exit_when_idle_s=dice.choice([None, 0.7, 2.0]) if told else None,
            stop_after_s=dice.choice([None, dice.uniform(0.5, 10)]) if told else None,
            holding=HoldingSettings(
                slots=self.slots, prefetch=self.prefetch, prefetch_max=plan.prefetch_limit, timing=self.farm.timing
            ),
        )

    # -- the shell's loop ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """`Worker._tick`."""
        if self._awaits:
            return
        was_leaving, was_empty = self.rules.leaving, self._has_nothing()
        self._perform_joining(self.joining.tick(self.world.now))
        if not self.alive:
            return
        self._perform(self.session.tick(self.world.now))
        self._check_leaving(was_leaving, was_empty)
        self._check_said()
        self._check_held()
        self._check_returned()
        if self._over:
            if self.joining.joined:
                self.send(Goodbye())
            self.world.note(self.name, "has left")
            self._end(lose=False)

    def deadline(self) -> float | None:
        """`Worker._deadline`."""
        instants = (self.joining.deadline(), self.session.deadline())
        return min((instant for instant in instants if instant is not None), default=None)

    def stall(self, until: float) -> None:
        """SIGSTOP until then; a SIGCONT does not cut the wait for a signal short."""
        super().stall(max(until, self._awaits_until) if self._awaits else until)

    def go_on(self) -> None:
        """SIGCONT, or the wait for a signal is over."""
        if not self.alive or self.world.now < self.stalled_until:
            return
        if self._awaits:
            self._awaits = False
            self._waited()
        inbox, self._inbox = deque(self._inbox), []
        # What has come meanwhile is there together: one turn takes it all.
        while inbox and self.alive and self.world.now >= self.stalled_until:
            action, arguments = inbox.popleft()
            action(*arguments)
        self._inbox = [*inbox, *self._inbox]
        if self.alive:
            self.turn()
            self.arm()

    def _waited(self) -> None:
        signals, self._pending_signals = self._pending_signals, []
        self._count_signals(len(signals))
        self._perform(self.session.waited(self.world.now, signals))

    def leave(self, grace_s: float) -> None:
        """SIGTERM, which sometimes is for the whole process group, and sometimes comes twice."""
        dice = self._leaving_dice
        self.world.note(self.name, "is told to end")
        if not self.rules.leaving:
            holding = replace(self.settings.holding, grace_s=grace_s)
            self.session._settings = self.settings = replace(self.settings, holding=holding)
        late_s = 0.0
        if dice.random() < 0.4:
            late_s = dice.uniform(0, GROUP_S)
            for child in list(self._children.values()):
                self.world.after(dice.uniform(0, GROUP_S), child.terminate)
        self.world.after(late_s, self._signal)
        if dice.random() < 0.1:
            self.world.after(late_s + dice.uniform(0, 3), self._signal)

    def _signal(self) -> None:
        """It is pending from now on, also while the worker is stalled."""
        self._pending_signals.append("SIGTERM")
        if self._awaits:
            super().stall(self.world.now)
        else:
            self.happen(self._take_signals)

    def _take_signals(self) -> None:
        signals, self._pending_signals = self._pending_signals, []
        for name in signals:
            self._count_signals(1)
            self._perform(self.session.signalled(self.world.now, name))

    def _count_signals(self, count: int) -> None:
        self._signal_count += count
        self._told_again = self._signal_count > 1

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
        """A message of the sink."""
        if isinstance(message, Dropped):
            lasting = {serial: named for serial, named in self._unreceipted.items() if named[0] != message.job}
            self._unreceipted = lasting
        elif isinstance(message, Heard):
            self._heard_serial = max(self._heard_serial, message.serial)
        elif isinstance(message, Recorded):
            for serial in (*message.serials, *message.refused):
                self._unreceipted.pop(serial, None)
        elif isinstance(message, Welcome) and (message.run, self._host) != self.session._sink_run:
            self._owed = set(self._unreceipted)
            self._sink_new_at = self.world.now
        self._perform(self.session.receive(self.world.now, message, self._host))
        if isinstance(message, Places):
            named = {place.port for place in message.places}
            self.world.require(self._ports.keys() == named, f"{self.name} pulls from other places than these:", named)

    @property
    def _host(self) -> str:
        return ("sink", "sink2")[self.place]

    def take_batch(self, frame: bytes, label: Any) -> None:
        """A frame of the tasks link."""
        batch = decode_batch(frame)
        if self.keeps is not None:
            self._kept.setdefault(batch.job, []).append((batch.first, batch.count, batch.attempt))
            return
        self._perform(self.session.take(self.world.now, [batch]))

    def tasks_connected(self, port: int) -> None:
        """The monitor of the tasks socket has seen the ventilator that listens there."""
        if self.wants(port):
            self._perform(self.session.link_event(self.world.now, self._ports[port], port, LinkEvent.CONNECTED))

    def call_results(self) -> None:
        """Connect the results link to the sink that is there, and send what has waited."""
        sink = self.farm.sink_at(self.place)
        if not self.alive or sink is None:
            return
        if self._results is not None:
            self._results.close(True)
        self.results_sink = sink

        def arrive(frame: bytes, label: Any) -> None:
            for results in split_results(frame):
                sink.happen(sink.results, encode(results), label)

        self._results = Channel(self.world, f"{self.name} results {sink.name}", arrive, True)
        self._results.block(self.dark_until)
        for frame in self._queue:
            self._results.send(frame)
        self._queue.clear()

    def results_cut(self) -> None:
        """The sink is gone: results wait."""
        self.results_sink = None
        if self._results is not None:
            self._results.close(True)
            self._results = None

    def darken(self, until: float) -> None:
        """The link to the sink goes dark."""
        super().darken(until)
        if self._results is not None:
            self._results.block(until)

    def wants(self, port: int) -> bool:
        """True while it pulls from the ventilator that listens there."""
        return self.alive and port in self._ports

    # -- outputs ------------------------------------------------------------------------------------------------

    def _perform(self, outputs: Iterable[SessionOutput]) -> None:
        outputs = list(outputs)
        returned = iter(sorted((each for each in outputs if isinstance(each, Returned)), key=lambda each: each.job))
        for output in outputs:
            if isinstance(output, RunOrder):
                self._run(output)
            elif isinstance(output, SendResults):
                self._send_results(output)
            elif isinstance(output, Beat):
                self._check_beat(output)
                if self.keeps == "named":
                    output = replace_fields(output, held={**self._kept})
                self.send(output, (self.name, self._named()))
            elif isinstance(output, Returned):
                # Their order is that of a set, which is another one in each process.
                self._send_returned(next(returned))
            elif isinstance(output, Fail):
                self.world.require(False, f"{self.name} fails:", output.text)
            elif not isinstance(output, LogLine):
                self._perform_order(output)

    def _perform_order(self, order: Any) -> None:
        if isinstance(order, KillOrder):
            self._replace(order.slot)
        elif isinstance(order, ReplaceOrder):
            self.world.require(order.slot not in self._children, f"{self.name} replaces a child that runs:", order)
            self._replace(order.slot)
        elif isinstance(order, LookForEdits):
            self._look_for_edits()
        elif isinstance(order, TryImport):
            self.world.after(self._edit_dice.uniform(0.01, 1.0), self.happen, self._tried)
        elif isinstance(order, StartSlots):
            for slot in order.slots:
                self.world.after(self.dice.uniform(0.01, 0.2), self.happen, self._ready, slot)
        elif isinstance(order, ConnectResults):
            self._queue.clear()
            self.results_cut()
            self.call_results()
        elif isinstance(order, Connect):
            self._ports[order.port] = order.host
            self.farm.connect_tasks(self, order.port)
        elif isinstance(order, Disconnect):
            self._ports.pop(order.port, None)
            self.farm.disconnect_tasks(self, order.port)
        elif isinstance(order, AwaitSignal):
            self._await_signal(order.until)
        elif isinstance(order, End):
            self._over = True
        else:
            self.send(order)

    def _await_signal(self, until: float) -> None:
        if self._pending_signals:
            self._waited()
        else:
            self._awaits, self._awaits_until = True, until
            self.stall(self.stalled_until)

    def _send_results(self, order: SendResults) -> None:
        self.sent_count += 1
        for results in split_results(order.frame):
            self._note_results(results)
        if self._results is None:
            self._queue.append(order.frame)
        else:
            self._results.send(order.frame)

    def _named(self) -> dict[tuple[str, int], HeldBatch]:
        return {(job, first): held for job, mine in self.rules._held.items() for first, held in mine.items()}

    # -- children -----------------------------------------------------------------------------------------------

    def _look_for_edits(self) -> None:
        if not self._tries and self._edit_dice.random() < self.farm.edits:
            self._tries = True
            self._outdated = set(range(self.slots))
            self._report(Edited(["work.py"]))

    def _tried(self) -> None:
        self._tries = False
        if self._edit_dice.random() < 0.3:
            self._outdated.clear()
            self._report(NotImported("it has no end"))
        else:
            self._report(Imported(self.functions))
        if self.liar:
            self.rules.expose(frozenset())

    def _ready(self, slot: int) -> None:
        self._orders.setdefault(slot, 0)
        self._report(Ready(slot, self.functions))
        if self.liar:
            self.rules.expose(frozenset())

    def _report(self, event: Event) -> None:
        self._perform(self.session.slot_event(self.world.now, event))

    def _replace(self, slot: int) -> None:
        self._outdated.discard(slot)
        self._orders[slot] += 1
        self._children.pop(slot, None)
        self._ahead.pop(slot, None)
        self.world.after(0.1, self.happen, self._ready, slot)

    def _run(self, order: RunOrder, given_before: bool = False) -> None:
        for held in self.rules._orders.running[order.slot][-1]:
            said = self._said_started.get((held.batch.job, held.batch.first), self._heard_serial + 1)
            fine = not held.batch.suspect or said <= self._heard_serial
            self.world.require(fine, f"{self.name} starts a suspect batch and has not said so:", held.batch)
            # Suspect batches have waited for their beat, and may have been given to the slot before.
            fine = given_before or held.batch.suspect or order.slot not in self._outdated
            self.world.require(fine, f"{self.name} gives an outdated child a new order:", held.batch)
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

    def outcomes(self, child: Child, first: int, outcomes: Outcomes, by_sigterm: bool = False) -> None:
        """A child says outcomes."""
        if self.is_current(child) and outcomes.values:
            count, seconds = len(outcomes.values), sum(outcomes.seconds)
            raw = packed(outcomes)
            self._report(Outcome(child.order.slot, first, count, seconds, raw, by_sigterm))

    def done(self, child: Child) -> None:
        """A child has done its order, and begins with the next one if it has one."""
        if not self.is_current(child):
            return
        slot = child.order.slot
        del self._children[slot]
        ahead = self._ahead.pop(slot, [])
        if ahead:
            self._run(ahead[0], given_before=True)
        self._report(Done(slot))

    def died(self, child: Child, unclear: bool = False) -> None:
        """A child is dead; another is started."""
        if self.is_current(child):
            self._replace(child.order.slot)
            self._report(Lost(child.order.slot, unclear))

    def given_back(self, child: Child, firsts: list[int]) -> None:
        """A child is stuck and gives back what it has not started."""
        if self.is_current(child):
            ahead = self._ahead.pop(child.order.slot, [])
            if firsts or ahead:
                self._report(GivenBack(child.order.slot, firsts, len(ahead)))

    # -- checks -------------------------------------------------------------------------------------------------

    def _note_results(self, results: Results) -> None:
        now, serial, require = self.world.now, results.serial, self.world.require
        said_at = self._said_at.get(serial, -INFINITY)
        # A new sink is also sent once what it need not be: of a batch that was returned since, say.
        fine = now >= said_at + self.farm.timing.resend_s or said_at < self._sink_new_at or serial in self._owed
        require(fine, f"{self.name} says a result again before its time:", serial)
        require(TOLD_TO_END.encode() not in bytes(results.outcomes), f"{self.name} blames a task for its end:", results)
        self._said_at[serial] = now
        self._owed.discard(serial)
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

    def _check_said(self) -> None:
        require = self.world.require
        require(len(self._said_at) == self.rules._serial, f"{self.name} keeps results to itself:", self.rules._serial)
        require(not self._owed, f"{self.name} does not say its results again:", self._owed)

    def _check_leaving(self, was_leaving: bool, was_empty: bool) -> None:
        """It leaves when it was told to, and not before; what has not started it gives back at once."""
        now, rules, require, settings = self.world.now, self.rules, self.world.require, self.settings
        if not was_empty:
            self._busy_at = now
        told_at = [now] if self._signal_count else []
        if settings.exit_when_idle_s is not None:
            told_at.append(self._busy_at + settings.exit_when_idle_s)
        if settings.stop_after_s is not None:
            told_at.append(self._began_at + settings.stop_after_s)
        due_at = min(told_at, default=INFINITY)
        require(rules.leaving or now < due_at, f"{self.name} does not leave")
        require(was_leaving or now >= due_at or not rules.leaving, f"{self.name} leaves although nobody has told it to")
        late = now > max(due_at, self.stalled_until) + LATE_S
        require(was_leaving or not rules.leaving or not late, f"{self.name} leaves late")
        require(not rules.leaving or not rules._queue.count(), f"{self.name} leaves, and keeps what has not started")
        if rules.leaving and self._grace_ends_at == INFINITY:
            self._grace_ends_at = now + settings.holding.grace_s
        over_at = max(self._grace_ends_at, self.stalled_until) + LATE_S
        require(self._over or now <= over_at, f"{self.name} outlives its grace")
        require(self._over or not self._told_again, f"{self.name} does not end at once")
        ends_in_order = rules.leaving and self._has_nothing()
        require(not self._over or self._told_again or ends_in_order, f"{self.name} ends, and has something left")

    def _has_nothing(self) -> bool:
        return not self.rules._held and not self.rules._unreceipted

    def _check_returned(self) -> None:
        rules = self.rules
        if self._returned_count != rules.returned_count + rules._returns.repeated_count:
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
        loads = {job: len(line) for job, line in rules._queue._lines.items()}
        given = [held for orders in rules._orders.running.values() for order in orders for held in order]
        for held in given:
            loads[held.batch.job] = loads.get(held.batch.job, 0) + 1
        room = self.slots + max(self.prefetch, self.farm.plan.prefetch_limit)
        for job, load in loads.items():
            if load > room:
                self.world.require(False, "more than it has room for:", (self.name, job, load))
            if load != rules._capacity.load[job]:
                self.world.require(False, "the load is miscounted:", (self.name, job, load))
        if rules.empty:
            self.world.require(not given and not any(loads.values()), "empty, and something is left")


class Child:
    """What runs in a slot: the tasks of one order, one after the other."""

    def __init__(self, worker: Worker, order: RunOrder, number: int) -> None:
        self.worker, self.order, self.number = worker, order, number
        self._truth = worker.farm.job(order.job)
        self._dead = False
        self._helds = [held for held in worker.rules._held[order.job].values() if held.slot == order.slot]
        self._parts: list[TaskSlice] = list(order.parts)
        self._begin_part()

    def _begin_part(self) -> None:
        self._part = self._parts.pop(0)
        first = self._next = self._outbox_first = self._part.first
        held = next(each for each in self._helds if each.batch.first <= first < each.batch.first + each.batch.count)
        self._attempt = held.batch.attempt
        self._origin = held.batch.origin
        self._alone = held.batch.count == 1
        self._outbox = Outcomes([], [], [])
        self._said_at = self.worker.world.now

    def begin(self) -> None:
        """Start the next task."""
        worker = self.worker
        if self._dead or not worker.is_current(self):
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

    def terminate(self) -> None:
        """SIGTERM, which was meant for the worker too."""
        if not self._dead and self.worker.is_current(self):
            self._dead = True
            died = Outcomes([None], [0.0], [(0, TOLD_TO_END, False)])
            self.worker.happen(self.worker.outcomes, self, self._next, died, True)
            self.worker.happen(self.worker.died, self)

    def _give_back(self, task: int) -> None:
        if not self._dead and self.worker.is_current(self) and self._next == task:
            firsts = [part.first for part in self._parts]
            self._parts.clear()
            self.worker.happen(self.worker.given_back, self, firsts)

    def _time_out(self, task: int) -> None:
        # A worker that was stalled may find that the task has ended meanwhile.
        if not self._dead and self.worker.is_current(self) and self._next == task:
            self.worker.world.note(self.worker.name, "ends a task", (self.order.job, task))
            died = Outcomes([None], [0.0], [(0, "the task ran longer than its timeout", False)])
            self.worker.outcomes(self, task, died)
            self.worker.died(self)

    def _kill_worker(self) -> None:
        if not self._dead and self.worker.is_current(self):
            self.worker.farm.kill_worker(self.worker)

    def _is_unclear(self) -> bool:
        """Sometimes nobody knows which of several tasks has ended the child."""
        others = self._parts or self._next + 1 < self._part.first + self._part.count
        return bool(others) and self.worker.dice.random() < 0.5

    def _end_task(self, task: Any, seconds: float) -> None:
        worker, index = self.worker, self._next
        if self._dead or not worker.is_current(self):
            return
        fails = self._attempt <= task.failures
        if fails and task.kills_child and self._is_unclear():
            worker.world.note(worker.name, "lost a child", (self.order.job, index))
            worker.happen(worker.died, self, True)
            return
        if fails and task.kills_child:
            # What the child had not said yet is run again by its successor.
            died = Outcomes([None], [0.0], [(0, "the task killed its process", False)])
            worker.happen(worker.outcomes, self, index, died, worker.dice.random() < 0.3)
            worker.happen(worker.died, self)
            return
        offset = index - self._outbox_first
        self._outbox.values.append(None if fails else self._truth.value(index, self._origin))
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
