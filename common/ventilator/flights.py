"""The ventilator's outstanding batches: which may be pushed, which the crew has, until when. No rules of its own."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from heapq import heappop, heappush

from msgspec import Raw

from ..protocol.messages import BatchName
from ..task_ranges import TaskRanges


class State(Enum):
    """Where an outstanding batch is."""

    READY = auto()
    """It may be pushed now."""
    PUSHED = auto()
    """The crew has it, or it is on its way there."""
    WAITING = auto()
    """It came back several times, and is pushed a little later."""
    SETTLED = auto()
    """Each of its tasks has its receipt, or smaller batches have taken its place."""


STATES: dict[State, set[State]] = {
    State.READY: {State.PUSHED, State.SETTLED},
    State.PUSHED: {State.READY, State.WAITING, State.SETTLED},
    State.WAITING: {State.READY, State.PUSHED, State.SETTLED},
    State.SETTLED: set(),
}
"""Which states may follow each one."""


@dataclass(slots=True)
class Flight:
    """One outstanding batch. `due_at` is when it may be pushed (waiting) or when its lease ends (pushed)."""

    first: int
    count: int
    arguments: Raw
    attempt: int = 1
    due_at: float = 0.0
    state: State = State.READY
    was_pushed: bool = False
    named: bool = False
    """Some beat has named it since it was pushed."""
    returns: int = 0
    received: TaskRanges | None = None
    """Those of its tasks that have their receipts."""
    suspect: bool = False
    """A worker died with it: it is split, and workers say that they start it before they do."""
    pushed_at: float = 0.0
    is_copied: bool = False
    """The crew has a copy of it too."""
    copy_at: float = 0.0
    """When the copy counts as lost, or before which there is none."""
    copy_returns: int = 0
    lost_count: int = 0
    """Workers that died after they had started it, while it was one task."""

    @property
    def name(self) -> BatchName:
        """What beats and returns call it."""
        return self.first, self.count, self.attempt

    def become(self, state: State) -> None:
        """Go on to this state; only the table says which ones may follow."""
        assert state in STATES[self.state], (self.name, self.state, state)
        self.state = state


class Flights:
    """All outstanding batches of a job, in task order; no two share a task."""

    def __init__(self, sweep_s: float) -> None:
        self.in_flight_count = 0
        """Batches that the crew has, and copies."""
        self.copied: dict[int, Flight] = {}
        """Those that the crew has a copy of, by first task."""
        self._sweep_s = sweep_s
        self._by_first: dict[int, Flight] = {}
        self._firsts: list[int] = []
        self._ready: deque[Flight] = deque()
        self._waiting: list[tuple[float, int]] = []
        self._sweep_at: float | None = None

    def __len__(self) -> int:
        return len(self._firsts)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_first.values())

    def find(self, name: BatchName) -> Flight | None:
        """The batch of this name."""
        flight = self._by_first.get(name[0])
        return flight if flight is not None and flight.name == name else None

    def holding(self, task: int) -> Flight | None:
        """The batch that the task is in."""
        place = bisect_right(self._firsts, task) - 1
        flight = self._by_first[self._firsts[place]] if place >= 0 else None
        return flight if flight is not None and task < flight.first + flight.count else None

    def at(self, first: int) -> Flight:
        """The batch that begins with the task."""
        return self._by_first[first]

    def next_ready(self) -> Flight | None:
        """The batch that may be pushed first."""
        while self._ready:
            flight = self._ready[0]
            if flight.state is State.READY:
                return flight
            self._ready.popleft()
        return None

    def add(self, flight: Flight) -> None:
        """One more, which may be pushed at once."""
        insort(self._firsts, flight.first)
        self._by_first[flight.first] = flight
        self._ready.append(flight)

    def remove(self, flight: Flight) -> None:
        """It is outstanding no more."""
        del self._by_first[flight.first]
        del self._firsts[bisect_left(self._firsts, flight.first)]
        self._end(flight)

    def push(self, flight: Flight, due_at: float) -> None:
        """The crew has it, with a lease until then."""
        if flight.state is not State.PUSHED:
            flight.become(State.PUSHED)
            self.in_flight_count += 1
            if self._ready and self._ready[0] is flight:
                self._ready.popleft()
        self.lease(flight, due_at)

    def lease(self, flight: Flight, due_at: float) -> None:
        """Let its lease end then."""
        flight.due_at = due_at
        if self._sweep_at is None or due_at < self._sweep_at:
            self._sweep_at = due_at

    def copy(self, flight: Flight, due_at: float) -> None:
        """The crew has a copy of it too, which counts as lost from then on."""
        flight.is_copied, flight.copy_at = True, due_at
        self.copied[flight.first] = flight
        self.in_flight_count += 1

    def uncopy(self, flight: Flight, not_before: float) -> None:
        """The crew has one of the two no more; there is no further copy before that instant."""
        flight.is_copied, flight.copy_at = False, not_before
        del self.copied[flight.first]
        self.in_flight_count -= 1

    def take_back(self, flight: Flight, now: float, wait_s: float = 0.0) -> None:
        """The crew has it no more; it may be pushed again after `wait_s` seconds."""
        self.in_flight_count -= 1
        flight.named = False
        if wait_s > 0:
            flight.become(State.WAITING)
            flight.due_at = now + wait_s
            heappush(self._waiting, (flight.due_at, flight.first))
        else:
            flight.become(State.READY)
            self._ready.append(flight)

    def wake(self, now: float) -> None:
        """Let those whose wait is over be pushed."""
        while self._waiting and self._waiting[0][0] <= now:
            at, first = heappop(self._waiting)
            flight = self._by_first.get(first)
            if flight is not None and flight.state is State.WAITING and flight.due_at == at:
                flight.become(State.READY)
                self._ready.append(flight)

    def expired(self, now: float) -> list[Flight]:
        """Those whose lease has ended; looked for no more often than each `sweep_s` seconds."""
        if self._sweep_at is None or now < self._sweep_at:
            return []
        pushed = [flight for flight in self if flight.state is State.PUSHED]
        later = [flight.due_at for flight in pushed if flight.due_at > now]
        self._sweep_at = max(min(later), now + self._sweep_s) if later else None
        return [flight for flight in pushed if flight.due_at <= now]

    def deadline(self) -> float | None:
        """When `wake` or `expired` has something to do next."""
        instants = [self._waiting[0][0]] if self._waiting else []
        if self._sweep_at is not None:
            instants.append(self._sweep_at)
        return min(instants, default=None)

    def settle(self, first: int, end: int) -> None:
        """The tasks from `first` to `end - 1` have their receipts: batches with nothing else in them are over."""
        low = max(0, bisect_right(self._firsts, first) - 1)
        high = bisect_left(self._firsts, end)
        kept = []
        for key in self._firsts[low:high]:
            flight = self._by_first[key]
            if self._is_over(flight, first, end):
                del self._by_first[key]
                self._end(flight)
            else:
                kept.append(key)
        self._firsts[low:high] = kept

    def _end(self, flight: Flight) -> None:
        self.in_flight_count -= flight.state is State.PUSHED
        flight.become(State.SETTLED)
        if self.copied.pop(flight.first, None) is not None:
            self.in_flight_count -= 1

    def _is_over(self, flight: Flight, first: int, end: int) -> bool:
        stop = flight.first + flight.count
        if first <= flight.first and stop <= end:
            return True
        if first < stop:
            flight.received = flight.received or TaskRanges()
            start = max(first, flight.first)
            flight.received.add(start, min(end, stop) - start)
        return flight.received is not None and flight.received.count() == flight.count
