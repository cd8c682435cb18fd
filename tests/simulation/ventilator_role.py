"""The ventilator without sockets: it drives the session that `ventilator.py` drives, and checks what that decides."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import Raw, msgpack

from common.errors import ExitCode, OperatorError
from common.log_line import LogLine
from common.protocol.codec import encode
from common.protocol.messages import (
    Batch,
    BatchName,
    Cancel,
    Crew,
    FromSink,
    Goodbye,
    Halt,
    Mark,
    Message,
    Opened,
    Present,
    Quarantine,
    Returned,
    Welcome,
)
from common.protocol.users import VENTILATOR
from common.ventilator.appended_input import AppendedInput
from common.ventilator.flights import Flight, State
from common.ventilator.inputs import Input, RangeInput, read_ahead, state_of
from common.ventilator.request import JobRequest
from common.ventilator.seen import SeenArguments
from common.ventilator.session import DRAIN_S, InputVerified, SessionOutput, UseRelay, VentilatorSession, WantInput
from common.ventilator.settings import DispatchSettings, RelayUse
from common.ventilator.summary import JobEnd
from common.worker.held_batch import HeldBatch
from tests.simulation.role import INFINITY, POLL_S, Client
from tests.simulation.truth import JobTruth
from tests.simulation.worker_role import Worker
from tests.simulation.world import Channel, World

if TYPE_CHECKING:
    from tests.simulation.farm import Farm


class BadLine(OperatorError):
    """The input has a line that cannot be a task."""


class SimulatedInput(RangeInput):
    """A range of integers, of which one may be a line that cannot be read; or it is the wrong input."""

    def __init__(self, stop: int, bad_at: int | None, is_wrong: bool) -> None:
        super().__init__(0, stop)
        self.is_wrong = is_wrong
        self.was_wanted = False
        """It may be read, and not only what was read before."""
        self._bad_at = bad_at

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were read, and which they are."""
        return super().mark()[0], b"wrong" if self.is_wrong else b"right"

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Read tasks."""
        if self._bad_at is not None and self._next <= self._bad_at < self._next + count:
            raise BadLine(f"line {self._bad_at + 1} is bad")
        return super().take(count, bytes_max)


class MixedInput(SimulatedInput):
    """The integers that a job has had and those that are new to it, in any order; new ones come in theirs."""

    def __init__(self, old: int, stop: int, dice: Random, is_wrong: bool) -> None:
        super().__init__(stop, None, is_wrong)
        self._numbers = dice.sample(range(old), old)
        for number in range(old, stop):
            self._numbers.insert(
                dice.randint(self._numbers.index(number - 1) + 1 if number > old else 0, number), number
            )

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Read tasks. Of the wrong input all are new to the job."""
        taken = [number - self.is_wrong * self._stop for number in self._numbers[self._next : self._next + count]]
        self._next += len(taken)
        return len(taken), Raw(msgpack.encode(taken))


class TrickleInput(SimulatedInput):
    """A range that comes bit by bit, like lines through a pipe."""

    def __init__(self, stop: int, bad_at: int | None, is_wrong: bool, world: World, tasks_per_s: float) -> None:
        super().__init__(stop, bad_at, is_wrong)
        self.source = "trickle"
        self.expected = None  # type: ignore[assignment]
        self._world, self._began_at, self._per_s = world, world.now, tasks_per_s

    @property
    def _here(self) -> int:
        return min(self._stop, int((self._world.now - self._began_at) * self._per_s))

    @property
    def ended(self) -> bool:
        """The end is known a moment after the last task."""
        return self._next >= self._stop and (self._world.now - self._began_at) * self._per_s > self._stop

    def available(self, count: int = 1) -> bool:
        """True while there are `count` tasks to read now, or no more to come."""
        return self._next + count <= self._here or self._next < self._here == self._stop

    def skip(self, count: int) -> int:
        """Pass over tasks."""
        skipped = min(count, self._here - self._next)
        self._next += skipped
        return skipped

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Read tasks."""
        return super().take(min(count, self._here - self._next), bytes_max)


class StreamInput(TrickleInput):
    """A trickle that never brings the same again: the spool comes first. Of the wrong input the spool is lost."""

    def __init__(self, job: JobTruth, is_wrong: bool, world: World, tasks_per_s: float) -> None:
        super().__init__(len(job.tasks), job.bad_at, is_wrong, world, tasks_per_s)
        self.source = "stream"
        self._job = job
        self._spooled = 0 if is_wrong else job.spooled
        self._ended_before = job.stream_ended and not is_wrong

    @property
    def _here(self) -> int:
        if self._ended_before:
            return self._stop
        return min(self._stop, self._spooled + (super()._here if self.was_wanted else 0))

    @property
    def fresh(self) -> bool:  # type: ignore[override]
        """The spool is read."""
        return self._next >= self._spooled and (self.is_wrong or not self._job.stream_ended)

    @property
    def ended(self) -> bool:
        """The end is known a moment after the last task."""
        ended = self._ended_before or super().ended
        if self._next >= self._stop and ended and not self.is_wrong:
            self._job.stream_ended = True
        return self._next >= self._stop and ended

    def skip(self, count: int) -> int:
        """Pass over tasks."""
        return self._taken(super().skip(count))

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Read tasks."""
        taken, arguments = super().take(count, bytes_max)
        return self._taken(taken), arguments

    def _taken(self, count: int) -> int:
        self._world.require(not self.is_wrong, "takes from a stream whose spool is lost:", self._next)
        self._job.spooled = max(self._job.spooled, self._next)
        return count


@dataclass(slots=True)
class Said:
    """What a worker's last delivered beat says: its room, and the batches that it then held."""

    capacity: int
    held: dict[tuple[str, int], HeldBatch]
    at: float
    names: list[BatchName]
    """As the beat names them. Whoever keeps batches names what its session does not know."""


class Ventilator(Client):
    """`ventilator.py`."""

    role = VENTILATOR

    def __init__(
        self, farm: Farm, name: str, job: JobTruth, port: int, wrong_input: bool = False, hasty: bool = False
    ) -> None:
        super().__init__(farm, name)
        self.job, self.port = job, port
        self.user = farm.ventilator_users[job.name]
        settings = DispatchSettings(
            batch_tasks=job.batch_tasks,
            retries=job.retries,
            retry_wait_s=0.3,
            retry_wait_max_s=3.0,
            return_wait_max_s=farm.return_wait_max_s,
            quarantine_after=job.quarantine_after,
            speculate=job.speculates,
            timeout_s=job.timeout_s,
            keep_arguments=True,
            timing=farm.timing,
        )
        kind = (job.count, job.bad_at, wrong_input)
        self.is_wrong = wrong_input
        self._is_hasty = hasty
        """The operator appends to a job of which it is not known that it is done."""
        self.input: Input = SimulatedInput(*kind)
        seen = SeenArguments(job.name) if job.appends or hasty else None
        if seen is not None:
            self.input = AppendedInput(
                MixedInput(job.first_count or 0, len(job.tasks), Random(job.name), wrong_input), seen
            )
        elif job.streams:
            self.input = StreamInput(job, wrong_input, self.world, farm.trickle_per_s)
        elif job.trickles:
            self.input = TrickleInput(*kind, self.world, farm.trickle_per_s)
        source = "a stream" if job.streams else "tasks"
        request = JobRequest(
            job.name,
            job.function,
            source,
            job.retries_failed and not hasty,
            arguments="json",
            seen=seen,
            relay=job.relay,
            max_fails=job.max_fails,
        )
        self.session = VentilatorSession(self.world.now, settings, request)
        self.rules = self.session.inspect().rules
        """For checks."""
        self.bytes_max = settings.batch_bytes_max
        self.pullers: deque[tuple[Worker, Channel]] = deque()
        self.flights_max = 0
        self.payload_max = 0
        self.other_max = 0
        self.relay: Channel | None = None
        """To the sink's relay, while that is there."""
        self.waiting: list[Worker] = []
        """They connect, and it is not known yet whether they may."""
        self._crew: dict[str, Said] = {}
        """What the delivered beats say, of those who have not left."""
        self._named_since_opened: set[str] = set()
        """Workers in crews since the job was opened the last time; what others held, only their leases bring back."""
        self._heard_at = 0.0
        self._gathered_at = 0.0
        """Until then the sink may not know who holds what."""
        self._other_bounds: set[tuple[str, BatchName]] = set()
        """Batches, by worker, whose tasks may be pushed again by other bounds."""
        self._contested: set[BatchName] = set()
        """Batches that overlap with others which workers name: only one of them can be adopted."""
        self._came_back: set[int] = set()
        self._copied_at: dict[BatchName, float] = {}
        """When copies were pushed that have not come back, and are not lost with a worker."""
        self._mark: Mark | None = None
        self._wants_input = False
        self._gone: list[Said] = []
        """What those held that were said to be gone in this turn."""
        self._signals_at: list[float] = []
        self._silent_at = self.world.now
        self._halts = False
        """It has asked for what has not started."""
        self._halted_at: float | None = None
        """When as many tasks had failed as may."""
        self._failed_before = farm.disk.failed_counts[job.name]
        """How many times tasks had failed when it was started."""
        self._failed_when_caught_up: int | None = None
        """And when it had read what was recorded until then."""

    def flights(self) -> list[Flight]:
        """All batches that have no receipt for some of their tasks."""
        return list(self.rules._flights)

    # -- the shell's loop ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """`Ventilator._turn`."""
        now = self.world.now
        self._perform_joining(self.joining.tick(now))
        read_ahead(self.input, self.session, now, self.bytes_max)
        outputs = self.session.tick(now, self.joining.away(now), state_of(self.input))
        reads = self.session.next_read(now) is not None and not self.input.ended
        self._check_taken_back(outputs)
        self._check_failures()
        self._check_interrupted(outputs)
        self._check_words(outputs)
        self._push()
        for output in outputs:
            self._perform(output)
        if outputs and isinstance(outputs[-1], JobEnd):
            self._leave(outputs[-1], outputs)
        else:
            self.world.require(self._wants_input or not reads, "does not wait for its input:", state_of(self.input))

    def _perform(self, output: SessionOutput) -> None:
        if isinstance(output, WantInput):
            self._wants_input = output.wanted
            if isinstance(self.input, SimulatedInput):
                self.input.was_wanted |= output.wanted
        elif isinstance(output, LogLine):
            self.world.note(self.name, "says", output.text)
        elif isinstance(output, UseRelay):
            self.farm.connect_relay(self)
        elif not isinstance(output, JobEnd | InputVerified):
            self._check_message(output)
            self.send(output)

    def _leave(self, end: JobEnd, outputs: list[SessionOutput]) -> None:
        """`Ventilator.run`, from where its loop ends; the operator fixes what can be fixed and runs the job again."""
        self.world.note(self.name, "ends", end)
        self._check_end(end, outputs)
        if self.joining.joined:
            self.send(Goodbye())
        if isinstance(end.error, BadLine):
            self.job.bad_at = None
        if self._halted_at is not None:
            self.job.was_halted()
        self.alive = False
        self.cut(lose=False)
        self.farm.ventilator_ended(self, is_done=end.error is None and self.session.inspect().is_closed)

    def interrupt(self) -> None:
        """SIGINT or SIGTERM."""
        self.world.note(self.name, "is interrupted")
        self._signals_at.append(self.world.now)
        self.session.interrupt(self.world.now, "SIGINT")

    def deadline(self) -> float | None:
        """`Ventilator._deadline`; a trickling input is looked at now and then."""
        instants = [self.joining.deadline(), self.session.deadline()]
        if self.job.trickles and self._wants_input:
            instants.append(self.world.now + 0.1)
        return min([instant for instant in instants if instant is not None], default=None)

    def _push(self) -> None:
        in_flight_count = -1
        relayed = self.session.route.relayed
        connected = self.relay is not None if relayed else bool(self.pullers)
        while connected and (batch := self.session.next_push(self.world.now)) is not None:
            if in_flight_count != self.rules.in_flight_count:
                in_flight_count = sum((flight.state is State.PUSHED) + flight.is_copied for flight in self.flights())
            self._check_push(batch, in_flight_count)
            if not relayed:
                self.pullers.rotate(-1)
            name, channel = ("relay", self.relay) if relayed else (self.pullers[-1][0].name, self.pullers[-1][1])
            assert channel is not None
            self.world.note(self.name, f"-> {name}", _said(batch))
            channel.send(encode(batch))
            self.session.pushed(self.world.now)
            in_flight_count += 1
            self.sent_count += 1
        self.flights_max = max(self.flights_max, len(self.rules._flights))
        if self.farm.weighs:
            self.payload_max = max(self.payload_max, sum(len(bytes(flight.arguments)) for flight in self.flights()))
            machines = (self.rules, self.rules._flights, self.rules._retries, self.rules._crew, self.rules._earlier)
            sized = [each for machine in machines for each in vars(machine).values() if hasattr(each, "__len__")]
            self.other_max = max(self.other_max, sum(map(len, sized)) + len(list(self.rules._earlier._recorded)))

    # -- messages -----------------------------------------------------------------------------------------------

    def receive(self, message: FromSink, label: Any) -> None:
        """`Ventilator._receive`."""
        now = self.world.now
        away_at = self._heard_at + self.farm.timing.silence_s
        if now > away_at:
            # What nobody could say while the sink was away is not held against it; what was over before stays so.
            for said in self._crew.values():
                said.at = now if said.at + self.farm.timing.lease_s > away_at else said.at
        self._heard_at = now
        if isinstance(message, Crew):
            for member, held in zip(message.members, label, strict=True):
                capacity = member.slots + member.prefetch
                said = Said(capacity, held or {}, now, member.held)
                self._note_other_bounds(member.worker, self._crew.get(member.worker), said)
                self._crew[member.worker] = said
            popped = {worker: self._crew.pop(worker, None) for worker in (*message.left, *message.lost)}
            for name in [name for said in popped.values() if said is not None for name in said.names]:
                self._copied_at.pop(name, None)
            named = self._named_since_opened
            self._gone += [said for worker, said in popped.items() if said is not None and worker in named]
            named |= {member.worker for member in message.members}
        elif isinstance(message, Opened):
            self._mark = None
            self._named_since_opened.clear()
            if self.is_wrong and message.mark_count == message.base:
                # Nothing was read of the right one, as far as the ledger knows: the operator has to see it.
                self.farm.kill_ventilator(self)
                return
            if message.resumed and not self.rules.caught_up:
                self._gathered_at = now + message.gather_s
        elif isinstance(message, Returned):
            for name in (*message.batches, *message.copies):
                self._copied_at.pop(name, None)
            if (said := self._crew.get(message.worker)) is not None:
                returned = {(message.job, name) for name in message.batches}
                said.held = {
                    key: held for key, held in said.held.items() if (held.batch.job, _name(held.batch)) not in returned
                }
            self._came_back.update(task for first, count, _ in message.batches for task in range(first, first + count))
        if isinstance(message, Welcome):
            self.session.welcome(now, 0 if self.job.relay is RelayUse.always else self.port, message.relay_port)
            if self.session.route.relayed:
                self.farm.connect_relay(self)
            return
        for order in self.session.receive(now, message):
            if len(self.pullers) > order.living and not self.session.route.relayed:
                self.farm.cut_links(self)
        if isinstance(message, Present):
            waiting, self.waiting = self.waiting, []
            for worker in waiting:
                self.farm.admit(worker, self)

    def failed(self, text: str) -> None:
        """Another ventilator seems to run the job, or is believed to, or it is not done: the operator tries again."""
        early = self._is_hasty and ("that are not recorded, and only its own" in text or "there is no job" in text)
        self.world.require(early or "is run by a ventilator" in text, "the ventilator is refused:", text)
        self.farm.kill_ventilator(self)

    # -- checks -------------------------------------------------------------------------------------------------

    def _note_other_bounds(self, worker: str, before: Said | None, said: Said) -> None:
        """Which of the batches that this worker names anew the ventilator cannot adopt under their names.

        It has read their tasks with other bounds, because the worker was away until now; or it will, because the mark
        of an earlier run lies inside, or batches of earlier runs overlap: of these it adopts one at the latest attempt.
        """
        all_held = [held for each in (*self._crew.values(), said) for held in each.held.values()]
        names = {_name(held.batch) for held in all_held if self._is_its(held)}
        if before is not None and said.at >= before.at + self.farm.timing.lease_s:
            # It was not heard for a lease: what it names, it names anew.
            before = None
        for key, held in said.held.items():
            name = _name(held.batch)
            if not self._is_its(held) or (before is not None and before.held.get(key) is held):
                continue
            first, end = name[0], name[0] + name[1]
            is_read = first < self.rules.next_task and self.rules._flights.find(name) is None
            self._other_bounds.discard((worker, name))
            if is_read or first < self.rules._earlier.read_count < end:
                self._other_bounds.add((worker, name))
            elif first >= self.rules.next_task:
                overlapping = {each for each in names if each[0] < end and first < each[0] + each[1]}
                newest = max(attempt for _, _, attempt in overlapping)
                if len(overlapping) > 1:
                    self._contested |= {each for each in overlapping if each[2] < newest or name[2] == newest}

    def _is_its(self, held: HeldBatch) -> bool:
        return held.batch.job == self.job.name

    def _check_push(self, batch: Batch, in_flight_count: int) -> None:
        require, first, count = self.world.require, batch.first, batch.count
        capacity = sum(said.capacity for said in self._crew.values())
        require(
            in_flight_count == self.rules.in_flight_count,
            "batches in hands are miscounted:",
            (in_flight_count, self.rules.in_flight_count),
        )
        require(not self.rules.dropped, "pushed although the job was cancelled:", batch)
        require(not self._signals_at, "pushed after a signal:", batch)
        require(self._halted_at is None, "pushed after enough tasks have failed:", batch)
        require(not self.is_wrong, "pushed from the wrong input:", batch)
        require(self.world.now >= self._gathered_at, "pushed before the crew is known:", self._gathered_at)
        require(in_flight_count < capacity, "a push beyond the crew's capacity:", (in_flight_count, capacity))
        tasks = set(range(first, first + count))
        if batch.copy:
            self._check_copy(batch)
            return
        if tasks <= self._came_back:
            self._came_back -= tasks
            return
        # While the sink is away, leases stand still.
        now = min(self.world.now, self._heard_at + self.farm.timing.silence_s)
        for name, said in self._crew.items():
            worker = self.farm.workers.get(name)
            if worker is None or now >= said.at + self.farm.timing.lease_s:
                continue
            for held in said.held.values():
                still = worker.rules._held.get(self.job.name, {}).get(held.batch.first) is held
                # What is left of a job that was forgotten is nothing of the one that has its name now.
                still = still and held.batch.origin in (b"", self.job.origins[-1])
                its = range(held.batch.first, held.batch.first + held.batch.count)
                may = _name(held.batch) in self._contested or (name, _name(held.batch)) in self._other_bounds
                may = may and _name(held.batch) != _name(batch)
                if still and not may and held.batch.attempt == batch.attempt and not tasks.isdisjoint(its):
                    require(False, f"pushed again although {name} says that it holds it:", (self.job.name, its))

    def _check_copy(self, batch: Batch) -> None:
        """A copy is of a batch in somebody's hands, the only one of it, and the last thing to push."""
        rules, require = self.rules, self.world.require
        name = _name(batch)
        flight = rules._flights.find(name)
        assert flight is not None
        require(self.job.speculates and self.input.ended, "a copy that nobody asked for:", flight)
        ready = rules._flights.next_ready()
        require(flight.state is State.PUSHED and ready is None, "a copy before the first executions:", flight)
        copied_s = self.world.now - self._copied_at.get(name, -INFINITY)
        require(copied_s >= self.farm.timing.lease_s, "a second copy beside the first:", flight)
        self._copied_at[name] = self.world.now
        require(not flight.suspect, "a copy of what may end its worker:", flight)
        require(rules.in_flight_count < rules._crew.slots, "a copy for which no slot is idle:", flight)

    def _check_message(self, message: Message) -> None:
        require, opened = self.world.require, self.session.inspect().opened
        if isinstance(message, Mark):
            require(message != self._mark, "says again what costs the sink a commit:", message)
            self._mark = message
        elif isinstance(message, Cancel):
            require(opened is not None and not opened.resumed, "cancels a job of an earlier run:", message)
            require(not self._is_begun(), "cancels a job that is not empty:", message)

    def _is_begun(self) -> bool:
        """True when a task of the job is recorded, or in somebody's hands."""
        held = any(flight.state is State.PUSHED for flight in self.flights())
        return held or any(name == self.job.name for name, _ in self.farm.disk.rows)

    def _check_failures(self) -> None:
        """What it knows of tasks that have failed in this run is true, and when they are enough it halts."""
        now_failed, rules = self.farm.disk.failed_counts[self.job.name], self.rules
        if rules.caught_up and self._failed_when_caught_up is None:
            self._failed_when_caught_up = now_failed
        since = now_failed - self._failed_before
        self.world.require(rules.failed_in_run <= since, "counts failures of other runs:", (rules.failed_in_run, since))
        if self.job.max_fails is not None and rules.failed_in_run >= self.job.max_fails and not rules.finished:
            self._halted_at = self.world.now if self._halted_at is None else self._halted_at

    def _stops_at(self) -> list[float]:
        """When signals have told it to stop, and when enough tasks had failed for that."""
        return [*self._signals_at, *([] if self._halted_at is None else [self._halted_at])]

    def _check_interrupted(self, outputs: list[SessionOutput]) -> None:
        """The first signal has the crew hand back what has not started and waits for the rest, but not for ever."""
        self._halts = self._halts or any(isinstance(output, Halt) for output in outputs)
        begun = self._stops_at()
        if not begun:
            return
        require, now, first_at = self.world.require, self.world.now, min(begun)
        ends = outputs != [] and isinstance(outputs[-1], JobEnd)
        require(self._halts, "does not ask for what has not started:", outputs)
        if not ends:
            halts_itself = self._halted_at is not None and self._halted_at <= min(self._signals_at, default=INFINITY)
            require(len(self._signals_at) + halts_itself == 1, "a second signal does not end it:", self._signals_at)
            require(now < first_at + DRAIN_S, "drains for too long:", first_at)

    def stall(self, until: float) -> None:
        """A stopped process says nothing: its silence counts from when it goes on."""
        super().stall(until)
        self._silent_at += max(0.0, until - self.world.now)

    def _check_words(self, outputs: list[SessionOutput]) -> None:
        """Whatever the job waits for, it says so."""
        rules, now = self.rules, self.world.now
        waits = not self.joining.away(now) and not (rules.caught_up and rules.crew_count)
        if not waits or any(isinstance(output, LogLine | JobEnd) for output in outputs):
            self._silent_at = now
        silent_s = now - self._silent_at
        self.world.require(silent_s <= 2 * self.farm.timing.voice_s + POLL_S, "waits in silence:", silent_s)

    def _check_taken_back(self, outputs: list[SessionOutput]) -> None:
        """What a worker held that is gone is in nobody's hands, unless another one names it."""
        gone, self._gone = self._gone, []
        if not gone:
            return
        given_up = {output.task for output in outputs if isinstance(output, Quarantine)}
        others = [held.batch for said in self._crew.values() for held in said.held.values()]
        for batch in [held.batch for said in gone for held in said.held.values()]:
            if batch.job != self.job.name or batch.origin not in (b"", self.job.origins[-1]):
                # Or it is of a job that was forgotten, and had the same name.
                continue
            flight = self.rules._flights.find(_name(batch))
            if flight is not None and flight.state is State.PUSHED and flight.first not in given_up:
                kept = any(other.job == batch.job and _name(other) == flight.name for other in others)
                self.world.require(kept, "a worker is gone and keeps its batch:", (batch.job, flight.name))

    def _check_end(self, end: JobEnd, outputs: list[SessionOutput]) -> None:
        rules, view, require = self.rules, self.session.inspect(), self.world.require
        begun = self._stops_at()
        if end.error is None and view.is_closed:
            self._check_done(end)
        elif begun:
            code = ExitCode.TASKS_FAILED if self._halted_at == min(begun) else ExitCode.INTERRUPTED
            require(end.error is not None or end.code is code, "the exit code is wrong:", end)
            waited = len(begun) > 1 or self.world.now >= begun[0] + DRAIN_S
            require(waited or not rules.in_flight_count, "does not wait for what runs:", rules.in_flight_count)
        elif isinstance(end.error, BadLine):
            recorded = {task for name, task in self.farm.disk.rows if name == self.job.name}
            missing = set(range(rules.next_task)) - recorded
            require(not missing or rules.verifying, "does not wait for the tasks before a bad line:", missing)
            require(not rules.verifying or not rules.pushed_count, "pushed before it has verified the input:", missing)
            is_new = view.opened is not None and not view.opened.resumed
            cancels = any(isinstance(output, Cancel) for output in outputs)
            require(cancels or recorded or not is_new, "leaves an empty job open:", end)
        elif "no worker exposes" in str(end.error):
            require(not rules.crew_count, "misses workers that are there:", rules.crew_count)
        elif "of its stream is not in" in str(end.error) or "the stream of job" in str(end.error):
            require(self.is_wrong, "a stream is refused whose spool is there:", (state_of(self.input), view.opened))
        elif "the input is not the one" in str(end.error) or "has not finished the input" in str(end.error):
            require(self.is_wrong, "the same input is refused:", (state_of(self.input), view.opened))
        else:
            require(rules.dropped, "the ventilator gives up:", end)

    def _check_done(self, end: JobEnd) -> None:
        rules, require = self.rules, self.world.require
        require(rules.finished, "closed, and not finished")
        left = (len(rules._flights), len(rules._retries), rules.in_flight_count)
        require(not any(left), "closed, and something is left:", left)
        require(rules.done_count == self.job.count, "the count of what is done is wrong")
        missed = self.farm.disk.failed_counts[self.job.name] - (self._failed_when_caught_up or 0) - rules.failed_in_run
        require(missed <= 0, "misses failures of this run:", missed)
        failed = any(name == self.job.name and row[0] == "failed" for (name, _), row in self.farm.disk.rows.items())
        require((end.code is ExitCode.TASKS_FAILED) == failed, "the exit code is wrong:", end)
        self.farm.check_ghosts(self)


def _name(batch: Batch) -> BatchName:
    return batch.first, batch.count, batch.attempt


def _said(batch: Batch) -> str:
    return f"{batch.job} {batch.first}+{batch.count} @{batch.attempt}{' copy' * batch.copy}"
