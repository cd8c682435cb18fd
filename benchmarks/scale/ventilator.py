"""What a crew of thousands costs a ventilator: its rules, without sockets."""

import time
from collections.abc import Iterator

from msgspec import Raw
from msgspec.msgpack import encode as packed

from benchmarks.scale.costs import Cost
from common.protocol.codec import decode_from_sink, encode
from common.protocol.messages import BatchName, Crew, Member, Opened, Present, Receipts, Roster
from common.ventilator.dispatch import Dispatch, Skip
from common.ventilator.settings import DispatchSettings

JOB = "job"


class Ventilator:
    """The rules of a ventilator with a crew."""

    def __init__(self, workers: int, slots: int) -> None:
        self.now = 0.0
        self.slots = slots
        self.names = [f"node{number:05}.{number:06}-{number % 65536:04x}" for number in range(workers)]
        self.keys = [f"{number:040}" for number in range(workers)]
        self.held: list[list[BatchName]] = [[] for _ in self.names]
        self.rules = Dispatch(DispatchSettings(batch_tasks=1), JOB, "work:square")
        self.rules.receive(0.0, Opened(JOB, "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0))
        self.rules.receive(0.0, Receipts(JOB, 0, 0, [], 0, 0.0, 0, 0, False))

    def member(self, place: int) -> Member:
        """The worker at this place as its beat tells it."""
        held = self.held[place]
        return Member(self.names[place], self.slots, self.slots, held, held[: self.slots])

    def take(self, cost: Cost, frame: bytes) -> None:
        """A message of the sink comes, and the loop has its turn."""
        cost.in_bytes += len(frame)
        self.rules.receive(self.now, decode_from_sink(frame))
        self.rules.tick(self.now)
        self.rules.deadline()

    def timed(self, what: str, count: int, frames: list[bytes]) -> Cost:
        """These frames come; they stand for `count` things."""
        cost = Cost(what, count, 0.0)
        began = time.process_time()
        for frame in frames:
            self.take(cost, frame)
        cost.seconds = time.process_time() - began
        return cost

    def fill(self) -> Cost:
        """Read and push until the window is full; hand out what is pushed in turn."""
        argument = Raw(packed([0]))
        began, count = time.process_time(), 0
        while True:
            order = self.rules.plan(self.now)
            if order is not None and not isinstance(order, Skip):
                self.rules.offer(self.now, 1, argument)
            batch = self.rules.next_push(self.now)
            if batch is None and order is None:
                break
            if batch is not None:
                encode(batch)
                self.rules.pushed(self.now)
                self.held[count % len(self.names)].append((batch.first, batch.count, batch.attempt))
                count += 1
        return Cost("a push", count, time.process_time() - began)


def resumed(workers: int) -> Cost:
    """A job that is resumed reads what each worker holds of its earlier run."""
    rules = Dispatch(DispatchSettings(batch_tasks=1), JOB, "work:square")
    rules.receive(0.0, Opened(JOB, "ledger", b"k" * 32, 0, b"", None, 0, True, 0.0))
    held: list[list[BatchName]] = [[(place, 1, 1)] for place in range(workers)]
    members = [Member(f"w{place}", 1, 1, names, names) for place, names in enumerate(held)]
    for at in range(0, workers, 200):
        rules.receive(0.0, Crew(members[at : at + 200], [], [], 0))
    rules.receive(0.0, Receipts(JOB, 0, 0, [], 0, 0.0, 0, 0, False))
    argument, began = Raw(packed([0])), time.process_time()
    for _ in range(workers):
        order = rules.plan(0.0)
        assert order is not None
        rules.offer(0.0, 1, argument)
    return Cost("a batch is read that a worker holds", workers, time.process_time() - began)


def measure(workers: int, slots: int) -> Iterator[Cost]:
    """All kinds."""
    made = Ventilator(workers, slots)
    everybody = range(workers)

    def crews(size: int) -> list[bytes]:
        return [
            encode(Crew([made.member(place) for place in everybody[at : at + size]], [], [], 0))
            for at in range(0, workers, size)
        ]

    yield made.timed("crew: a worker that comes", workers, crews(1))
    yield made.timed("roster", 1, [encode(Roster(made.keys))])
    yield made.timed("present", 1, [encode(Present(made.keys))])
    yield made.fill()
    yield made.timed("crew: a beat, one a message", workers, crews(1))
    yield made.timed("crew: a beat, 200 a message", workers, crews(200))
    made.now += 0.3
    yield made.timed("a turn, leases looked through", 1, [encode(Crew([], [], [], 0))])
    done = sorted(first for held in made.held for first, _, _ in held)[::7][:1_000]
    runs = [(first, 1) for first in done]
    yield made.timed(
        "a receipt of one task", len(runs), [encode(Receipts(JOB, 0, 1, runs, len(runs), 1.0, len(runs), 0, False))]
    )
    half = workers // 2
    lost = made.names[: half // 2]
    yield made.timed("present: half the keys have gone", 1, [encode(Present(made.keys[half:]))])
    yield made.timed("crew: a beat, one a message, after that", workers - half, crews(1)[half:])
    yield made.timed(
        "crew: a worker is lost, one a message", len(lost), [encode(Crew([], [], [each], 0)) for each in lost]
    )
    lost = made.names[half // 2 : half]
    yield made.timed("crew: a worker is lost, all in one message", len(lost), [encode(Crew([], [], lost, 0))])
    yield resumed(workers)
