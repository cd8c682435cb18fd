"""The ventilator without sockets: it drives `Dispatch` and `Dialog` as `ventilator.py` does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from common.protocol.codec import encode
from common.protocol.messages import (
    Batch,
    BatchName,
    Crew,
    FromSink,
    Goodbye,
    Mark,
    Message,
    Opened,
    Quarantine,
    Returned,
    Roster,
    Welcome,
)
from common.protocol.users import VENTILATOR
from common.ventilator.dialog import Dialog
from common.ventilator.dispatch import Dispatch, Skip
from common.ventilator.flights import State
from common.ventilator.inputs import RangeInput
from common.ventilator.settings import DispatchSettings
from common.worker.held_batch import HeldBatch
from tests.simulation.role import INFINITY, Client
from tests.simulation.truth import JobTruth
from tests.simulation.worker_role import Worker
from tests.simulation.world import Channel, World

if TYPE_CHECKING:
    from tests.simulation.farm import Farm


class TrickleInput(RangeInput):
    """A range that comes bit by bit, like lines through a pipe."""

    def __init__(self, stop: int, world: World, tasks_per_s: float) -> None:
        super().__init__(0, stop)
        self.source = "trickle"
        self.expected = None  # type: ignore[assignment]
        self._world, self._began_at, self._per_s = world, world.now, tasks_per_s
        self._known_end = False

    @property
    def _here(self) -> int:
        return min(self._stop, int((self._world.now - self._began_at) * self._per_s))

    @property
    def ended(self) -> bool:
        """The end is known a moment after the last task."""
        return self._next >= self._stop and (self._world.now - self._began_at) * self._per_s > self._stop

    def available(self, count: int = 1) -> bool:
        """True while there are so many tasks to read now, or no more to come."""
        return self._next + count <= self._here or self._next < self._here == self._stop

    def skip(self, count: int) -> int:
        """Pass over tasks."""
        skipped = min(count, self._here - self._next)
        self._next += skipped
        return skipped

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Read tasks."""
        return super().take(min(count, self._here - self._next), bytes_max)


@dataclass(slots=True)
class Said:
    """What a worker's last delivered beat says: its room, and the batches that it then held."""

    capacity: int
    held: dict[tuple[str, int], HeldBatch]
    at: float


class Ventilator(Client):
    """`ventilator.py`."""

    role = VENTILATOR

    def __init__(self, farm: Farm, name: str, job: JobTruth, port: int) -> None:
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
            timing=farm.timing,
        )
        count = len(job.tasks)
        self.input = TrickleInput(count, self.world, farm.trickle_per_s) if job.trickles else RangeInput(0, count)
        self.rules = Dispatch(settings, job.name, job.function)
        self.talk = Dialog(settings, self.rules, job.name, job.function, self.input.source, job.retries_failed)
        self.bytes_max = settings.batch_bytes_max
        self.pullers: deque[tuple[Worker, Channel]] = deque()
        self.flights_max = 0
        self.payload_max = 0
        self.other_max = 0
        self.worker_keys: frozenset[str] = frozenset()
        self._crew: dict[str, Said] = {}
        """What the delivered beats say, of those who have not left."""
        self._named_since_opened: set[str] = set()
        """Workers in crews since the job was opened the last time; what others held, only their leases bring back."""
        self._heard_at = 0.0
        self._gathered_at = 0.0
        """Until then the sink may not know who holds what."""
        self._came_back: set[int] = set()
        self._copied_at: dict[BatchName, float] = {}
        """When copies were pushed that have not come back, and are not lost with a worker."""
        self._mark: Mark | None = None
        self._wants_input = False

    # -- the shell's loop ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """`Ventilator._tick` and `_is_over`."""
        now = self.world.now
        self._perform_joining(self.joining.tick(now))
        self._read_input(now)
        self._send(self.talk.tick(now))
        self.world.require(self.talk.problem is None, "the ventilator gives up:", self.talk.problem)
        self._push()
        if self.rules.dropped:
            self.world.note(self.name, "is told that its job was cancelled")
            self.farm.kill_ventilator(self)
        elif self.talk.closed is not None:
            self._check_end()
            if self.joining.joined:
                self.send(Goodbye())
            self.world.note(self.name, "is done")
            self.alive = False
            self.cut(lose=False)
            self.farm.ventilator_done(self)

    def deadline(self) -> float | None:
        """`Ventilator._deadline`; a trickling input is looked at now and then."""
        instants = [self.joining.deadline(), self.talk.deadline()]
        if self.job.trickles and self._wants_input:
            instants.append(self.world.now + 0.1)
        return min([instant for instant in instants if instant is not None], default=None)

    def _read_input(self, now: float) -> None:
        plan = self.rules.plan(now)
        while plan is not None and self.input.available(plan.at_least):
            if isinstance(plan, Skip):
                skipped = self.input.skip(plan.count)
                self._check_input()
                self.rules.skipped(skipped)
            else:
                taken = self.input.take(plan.count, self.bytes_max)
                self._check_input()
                self.rules.offer(now, *taken)
            plan = self.rules.plan(now)
        self._wants_input = plan is not None and not self.input.ended
        self.rules.expected = self.input.expected
        if self.input.ended and self.rules.caught_up and self.rules.total is None:
            self._check_input()
            self.rules.total = self.rules.next_task
        if not self.rules.verifying:
            self.talk.mark(*self.input.mark(), self.rules.total is not None)
        dry = self.input.ended or (self._wants_input and self.input.expected is None)
        self._send(self.rules.input_scarce(now, dry))

    def _check_input(self) -> None:
        mark, ended = self.input.mark(), self.input.ended
        differs = self.talk.is_another_input(*mark, ended)
        self.world.require(not differs, "the same input is refused:", (mark, ended, self.talk.opened))

    def _push(self) -> None:
        in_flight_count = -1
        while (batch := self.rules.next_push(self.world.now)) is not None and self.pullers:
            if in_flight_count != self.rules.in_flight_count:
                flights = list(self.rules._flights)
                in_flight_count = sum((flight.state is State.PUSHED) + flight.is_copied for flight in flights)
            self._check_push(batch, in_flight_count)
            self.pullers.rotate(-1)
            worker, channel = self.pullers[-1]
            self.world.note(self.name, f"-> {worker.name}", _said(batch))
            channel.send(encode(batch))
            self.rules.pushed(self.world.now)
            in_flight_count += 1
            self.sent_count += 1
        self.flights_max = max(self.flights_max, len(self.rules._flights))
        if self.farm.weighs:
            flights = list(self.rules._flights)
            self.payload_max = max(self.payload_max, sum(len(bytes(flight.arguments)) for flight in flights))
            machines = (self.rules, self.rules._flights, self.rules._retries, self.rules._crew)
            sized = [each for machine in machines for each in vars(machine).values() if hasattr(each, "__len__")]
            self.other_max = max(self.other_max, sum(map(len, sized)) + len(list(self.rules._replayed)))

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
        gone: list[Said] = []
        if isinstance(message, Crew):
            for member in message.members:
                capacity = member.slots + member.prefetch + member.extra
                self._crew[member.worker] = Said(capacity, label[member.worker] or {}, now)
            popped = {worker: self._crew.pop(worker, None) for worker in (*message.left, *message.lost)}
            for held in [held for said in popped.values() if said is not None for held in said.held.values()]:
                self._copied_at.pop(_name(held.batch), None)
            named = self._named_since_opened
            gone = [said for worker, said in popped.items() if said is not None and worker in named]
            named |= {member.worker for member in message.members}
        elif isinstance(message, Opened):
            self._mark = None
            self._named_since_opened.clear()
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
            self._send(self.talk.welcome(now, self.port))
        elif isinstance(message, Roster):
            self._take_roster(frozenset(message.keys))
        else:
            answers = self.talk.receive(now, message)
            self._check_taken_back(gone, answers)
            self._send(answers)

    def _take_roster(self, keys: frozenset[str]) -> None:
        revoked, self.worker_keys = self.worker_keys - keys, keys
        if revoked:
            self.farm.rebind(self)

    def failed(self, text: str) -> None:
        """Another ventilator seems to run the job, or is believed to: the operator tries again."""
        self.world.require("is run by a ventilator" in text, "the ventilator is refused:", text)
        self.farm.kill_ventilator(self)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Mark):
                self.world.require(message != self._mark, "says again what costs the sink a commit:", message)
                self._mark = message
            self.send(message)

    # -- checks -------------------------------------------------------------------------------------------------

    def _check_push(self, batch: Batch, in_flight_count: int) -> None:
        require, first, count = self.world.require, batch.first, batch.count
        capacity = sum(said.capacity for said in self._crew.values())
        require(
            in_flight_count == self.rules.in_flight_count,
            "batches in hands are miscounted:",
            (in_flight_count, self.rules.in_flight_count),
        )
        require(not self.rules.dropped, "pushed although the job was cancelled:", batch)
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
                its = range(held.batch.first, held.batch.first + held.batch.count)
                if still and held.batch.attempt == batch.attempt and not tasks.isdisjoint(its):
                    require(False, f"pushed again although {name} says that it holds it:", (self.job.name, its))

    def _check_copy(self, batch: Batch) -> None:
        """A copy is of a batch in somebody's hands, the only one of it, and the last thing to push."""
        rules, require = self.rules, self.world.require
        name = _name(batch)
        [flight] = rules._flights.called(name)
        require(self.job.speculates and self.input.ended, "a copy that nobody asked for:", flight)
        ready = rules._flights.next_ready()
        require(flight.state is State.PUSHED and ready is None, "a copy before the first executions:", flight)
        copied_s = self.world.now - self._copied_at.get(name, -INFINITY)
        require(copied_s >= self.farm.timing.lease_s, "a second copy beside the first:", flight)
        self._copied_at[name] = self.world.now
        require(not flight.suspect, "a copy of what may end its worker:", flight)
        require(rules.in_flight_count < rules._crew.slots, "a copy for which no slot is idle:", flight)

    def _check_taken_back(self, gone: list[Said], answers: list[Message]) -> None:
        """What a worker held that is gone is in nobody's hands, unless another one names it."""
        given_up = {answer.task for answer in answers if isinstance(answer, Quarantine)}
        others = [held.batch for said in self._crew.values() for held in said.held.values()]
        for batch in [held.batch for said in gone for held in said.held.values()]:
            if batch.job != self.job.name:
                continue
            for flight in self.rules._flights.called(_name(batch)):
                kept = (
                    flight.state is not State.PUSHED
                    or flight.first in given_up
                    or any(
                        other.job == batch.job and other.first <= flight.first < other.first + other.count
                        for other in others
                    )
                )
                self.world.require(kept, "a worker is gone and keeps its batch:", (batch.job, flight.name))

    def _check_end(self) -> None:
        rules = self.rules
        self.world.require(rules.finished, "closed, and not finished")
        left = (len(rules._flights), len(rules._retries), rules.in_flight_count)
        self.world.require(not any(left), "closed, and something is left:", left)
        self.world.require(rules.done_count == len(self.job.tasks), "the count of what is done is wrong")
        self.farm.check_ghosts(self)


def _name(batch: Batch) -> BatchName:
    return batch.first, batch.count, batch.attempt


def _said(batch: Batch) -> str:
    return f"{batch.job} {batch.first}+{batch.count} @{batch.attempt}{' copy' * batch.copy}"
