"""What a worker's slots were given to run, and which of them are free."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .held_batch import HeldBatch, TaskSlice


@dataclass(frozen=True, slots=True)
class RunOrder:
    """Order to the shell: let the slot run these tasks of a job, part after part."""

    slot: int
    job: str
    function: str
    parts: Sequence[TaskSlice]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class KillOrder:
    """Order to the shell: end what the slot runs."""

    slot: int


@dataclass(frozen=True, slots=True)
class ReplaceOrder:
    """Order to the shell: give the slot a new child; its old one has nothing to do."""

    slot: int


class SlotOrders:
    """The orders of each slot; a slot may have one ahead of the one that it runs."""

    def __init__(self, slots: int) -> None:
        self._slots = range(slots)
        self.idle: deque[int] = deque()
        self.running: dict[int, deque[list[HeldBatch]]] = {}
        """By slot, the batches without outcomes of each order that was given to it; the first one runs."""
        self._outdated: set[int] = set()
        """Slots whose children have imported what was edited since, or may have: they get no new order."""
        self._parked: list[int] = []
        """Those of them that have nothing to do."""
        self._stuck: set[int] = set()
        """Slots that have given back what was behind the task that they run."""
        self._announced: dict[int, tuple[int, RunOrder]] = {}
        """Suspect batches that start in their slots once the sink has heard the beat of this serial."""

    def ready(self, slot: int) -> None:
        """The slot's child waits for its first order."""
        free = self._parked if slot in self._outdated else self.idle
        if slot not in free and slot not in self.running:
            free.append(slot)

    def park(self) -> None:
        """No child that runs or starts now gets a new order."""
        self._outdated.update(self._slots)
        self._parked += self.idle
        self.idle.clear()

    def unpark(self) -> None:
        """All slots go on as they are."""
        self.idle += self._parked
        self._parked.clear()
        self._outdated.clear()

    def replaceable(self) -> list[int]:
        """The outdated slots that have nothing to do; each is named once."""
        found, self._parked = self._parked, []
        self._outdated.difference_update(found)
        return found

    def give(self, slot: int, taken: list[HeldBatch]) -> RunOrder:
        """The slot is given these batches."""
        for held in taken:
            held.slot = slot
        self.running.setdefault(slot, deque()).append(taken)
        batch = taken[0].batch
        return RunOrder(
            slot, batch.job, batch.function, [part for held in taken for part in held.parts()], batch.timeout_s
        )

    def announce(self, slot: int, serial: int, order: RunOrder) -> None:
        """The order waits until the sink has heard the beat of this serial."""
        self._announced[slot] = serial, order

    def heard(self, serial: int) -> list[RunOrder]:
        """The announced orders that may start now that this beat was heard."""
        found = [(slot, order) for slot, (said, order) in self._announced.items() if said <= serial]
        for slot, _ in found:
            del self._announced[slot]
        return [order for _, order in found]

    def without_next(self) -> list[int]:
        """The slots that run, and may be given an order ahead."""
        return [
            slot
            for slot, orders in self.running.items()
            if len(orders) == 1
            and slot not in self._stuck
            and slot not in self._announced
            and slot not in self._outdated
        ]

    def started(self) -> Iterator[HeldBatch]:
        """The batch that each slot runs."""
        return (orders[0][0] for orders in self.running.values() if orders[0])

    def job_of(self, slot: int) -> str | None:
        """The job of the order that the slot runs; None when it runs nothing."""
        orders = self.running.get(slot)
        return orders[0][0].batch.job if orders and orders[0] else None

    def batch_of(self, slot: int, task: int) -> HeldBatch:
        """The batch that the task belongs to, which the slot runs."""
        return next(
            held for held in self.running[slot][0] if held.batch.first <= task < held.batch.first + held.batch.count
        )

    def settled(self, held: HeldBatch) -> None:
        """The batch has all its outcomes."""
        assert held.slot is not None
        self.running[held.slot][0].remove(held)
        held.slot = None

    def done(self, slot: int) -> list[HeldBatch]:
        """The slot has done its order: what it has left undone."""
        orders = self.running[slot]
        left = orders.popleft()
        self._stuck.discard(slot)
        if not orders:
            del self.running[slot]
            (self._parked if slot in self._outdated else self.idle).append(slot)
        return left

    def lost(self, slot: int, unclear: bool) -> list[HeldBatch]:
        """The slot's child is gone: what it left undone, to be run one by one when any of its order may be to blame."""
        orders = self._forget(slot)
        if slot in self._parked:
            self._parked.remove(slot)
        for held in orders[0] if orders and unclear else ():
            held.one_by_one = True
        if slot in self.idle:
            self.idle.remove(slot)
        return [held for order in orders for held in order]

    def given_back(self, slot: int, firsts: Sequence[int], orders_back: int) -> list[HeldBatch]:
        """The slot is stuck, and gives back the parts that begin with these, and its last orders."""
        self._stuck.add(slot)
        orders = self.running[slot]
        ahead = [orders.pop() for _ in range(orders_back)]
        # A part of the first batch that comes back is seen when the order is done, like one of a batch that has begun.
        unstarted = [held for held in orders[0][1:] if held.next_task() in firsts]
        orders[0] = [held for held in orders[0] if held not in unstarted]
        return [*unstarted, *(held for order in reversed(ahead) for held in order)]

    def drop(self, job: str) -> tuple[list[int], list[HeldBatch]]:
        """End what slots run of the job: those slots, and what they had of other jobs."""
        slots, others = [], []
        for slot, orders in list(self.running.items()):
            helds = [held for order in orders for held in order]
            if any(held.batch.job == job for held in helds):
                slots.append(slot)
                self._forget(slot)
                others.append([held for held in helds if held.batch.job != job])
        return slots, [held for each in reversed(others) for held in each]

    def end(self) -> tuple[list[int], list[HeldBatch]]:
        """End all: the slots that ran, and what they had."""
        slots = list(self.running)
        return slots, [held for slot in slots for order in self._forget(slot) for held in order]

    def _forget(self, slot: int) -> deque[list[HeldBatch]]:
        """The slot gets a new child: the orders that the old one had."""
        self._outdated.discard(slot)
        self._announced.pop(slot, None)
        self._stuck.discard(slot)
        return self.running.pop(slot, deque())
