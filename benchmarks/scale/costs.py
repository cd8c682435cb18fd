"""What each message costs the rules of the sink: to decode, to decide, and to encode what it answers.

The real `Collector` is driven with real frames, in one process and without sockets; seconds are those of the
processor, so that other programs do not count.
"""

import gc
import select
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.msgpack import encode as packed

from common.protocol.codec import decode_to_sink, encode, join_results, split_results, ticket
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Ask,
    BatchName,
    Beat,
    Goodbye,
    Hello,
    Message,
    Offer,
    Open,
    Outcomes,
    Query,
    Results,
    Returned,
)
from common.protocol.users import VENTILATOR, WORKER, User
from common.sink.collector import Collector
from common.sink.crew_news import joined
from common.sink.outputs import Output, Send
from common.sink.settings import CollectorSettings
from common.sink.sqlite_ledger import Ledger

ADDRESS = "10.0.0.1"
TOGETHER = 100
"""How many messages a busy sink reads in one turn."""


@dataclass
class Cost:
    """One kind of message, or of work, at the sink."""

    what: str
    count: int
    seconds: float
    in_bytes: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    """Messages that it answered with, by type."""
    sent_bytes: int = 0

    @property
    def micros(self) -> float:
        """Of one."""
        return self.seconds / self.count * 1e6

    def answers(self) -> str:
        """What one is answered with."""
        return ", ".join(f"{count / self.count:.3g} {kind}" for kind, count in self.sent.items())


class Sink:
    """The rules of a sink with a crew and open jobs."""

    def __init__(self, folder: str, workers: int, jobs: int, keys: int) -> None:
        self.now = 0.0
        self.jobs = [f"job-{number}" for number in range(jobs)]
        self.names = [f"node{number:05}.{number:06}-{number % 65536:04x}" for number in range(workers)]
        self.users = [User(WORKER, f"w{number}", f"{number:040}") for number in range(keys)]
        self.ventilators = [User(VENTILATOR, f"v{number}", f"v{number:039}") for number in range(jobs)]
        roster = {user.key: user for user in (*self.users, *self.ventilators)}
        self.ledger = Ledger(str(Path(folder) / "results.db"))
        self.rules = Collector(self.now, CollectorSettings(), self.ledger, "run", roster)
        self.serials = Counter[str]()

    def user_of(self, place: int) -> User:
        """The key of the worker at this place; several workers may share one."""
        return self.users[place % len(self.users)]

    def peer_of(self, place: int) -> bytes:
        """The connection of the worker at this place."""
        return b"\0" + place.to_bytes(4)

    @contextmanager
    def measured(self, what: str, count: int) -> Iterator[Cost]:
        """Take the processor time of what is done inside."""
        cost = Cost(what, count, 0.0)
        gc.collect()
        began = time.process_time()
        yield cost
        cost.seconds = time.process_time() - began

    def control(self, cost: Cost, peer: bytes, user: User, frame: bytes) -> list[Output]:
        """A frame of the control link comes."""
        cost.in_bytes += len(frame)
        return self.rules.receive(self.now, peer, user, ADDRESS, decode_to_sink(frame))

    def send(self, cost: Cost, outputs: Iterable[Output]) -> None:
        """Encode what is to be sent, as in the loop."""
        last, content = None, b""
        for output in joined(outputs):
            if isinstance(output, Send):
                if output.message is not last:
                    last, content = output.message, encode(output.message)
                cost.sent[type(output.message).__name__] += 1
                cost.sent_bytes += len(content)

    def from_each(self, what: str, frames: list[bytes], first: int = 0) -> Cost:
        """One frame from each worker in turn, from this place on; the sink reads some of them together."""
        with self.measured(what, len(frames)) as cost:
            outputs: list[Output] = []
            for place, frame in enumerate(frames, first):
                outputs += self.control(cost, self.peer_of(place), self.user_of(place), frame)
                if place % TOGETHER == TOGETHER - 1:
                    self.send(cost, outputs)
                    outputs = []
            self.send(cost, outputs)
        return cost

    def from_ventilator(self, what: str, number: int, *messages: Message) -> Cost:
        """These come from the ventilator of this number, and what they cause in the ledger is done."""
        with self.measured(what, 1) as cost:
            for message in messages:
                self.send(cost, self.control(cost, b"v%d" % number, self.ventilators[number], encode(message)))
                self.settle(cost)
        return cost

    def settle(self, cost: Cost) -> None:
        """Let the ledger do what it was given."""
        self.send(cost, self.rules.tick(self.now))
        while not self.rules.inspect().is_idle:
            descriptor: int | None = self.ledger.fileno()
            select.select([] if descriptor is None else [descriptor], [], [], 0.01)
            self.send(cost, self.rules.tick(self.now))

    def tick(self, what: str, count: int = 1) -> Cost:
        """Turns of the loop in which nothing has come."""
        with self.measured(what, count) as cost:
            for _ in range(count):
                self.send(cost, self.rules.tick(self.now))
        return cost

    def beats(self, names: int, count: int, first: int = 0) -> list[bytes]:
        """A beat of each of `count` workers that hold this many batches of each job."""
        made = []
        for place in range(first, first + count):
            held: dict[str, list[BatchName]] = {
                job: [(1_000_000 + 2_000 * place + at, 1, 1) for at in range(names)] for job in self.jobs if names
            }
            started = {job: batches[: max(1, names // 2)] for job, batches in held.items()}
            made.append(encode(Beat(7, max(1, names // 2), max(1, names // 2), held, started)))
        return made

    def results(self, count: int, tasks: int, first: int) -> list[bytes]:
        """Results of one job from a worker each."""
        made = []
        job = self.ledger.job(self.jobs[0])
        assert job is not None
        for place in range(count):
            at = first + place * tasks
            outcomes = packed(Outcomes(list(range(tasks)), [0.01] * tasks, [], []))
            seal = ticket(job.ticket_key, at, tasks, 1)
            name = self.names[place % len(self.names)]
            self.serials[name] += 1
            message = Results(job.name, name, self.serials[name], at, tasks, (at, tasks, 1), seal, outcomes)
            made.append(join_results([encode(message)]))
        return made


def _encoded(message: Message, count: int) -> list[bytes]:
    return [encode(message)] * count


def measure(workers: int, jobs: int, keys: int, names: Iterable[int]) -> list[Cost]:
    """All kinds, at a sink with this many workers, which all serve this many jobs."""
    with tempfile.TemporaryDirectory(prefix="tradewind-scale-") as folder:
        sink = Sink(folder, workers, jobs, keys)
        try:
            found = list(_joining(sink))
            return [*found, *_working(sink, tuple(names)), *_leaving(sink)] if jobs else found
        finally:
            sink.ledger.close()


def _joining(sink: Sink) -> Iterator[Cost]:
    functions = [f"work:f{number}" for number in range(len(sink.jobs))]
    hellos = [encode(Hello(PROTOCOL_VERSION, WORKER, name)) for name in sink.names]
    yield sink.from_each("hello of a worker", hellos)
    for number, job in enumerate(sink.jobs):
        hello = Hello(PROTOCOL_VERSION, VENTILATOR, sink.ventilators[number].name)
        opening = Open(job, functions[number], "range 0:1", 5557, 0, False, False)
        sink.from_ventilator("", number, hello, opening, Ask(job, 0, False))
    yield sink.from_each("offer", _encoded(Offer(functions), len(sink.names)))
    yield sink.tick("present, after the crew has joined")
    yield sink.from_each("first beat", sink.beats(0, len(sink.names)))


def _working(sink: Sink, names: tuple[int, ...]) -> Iterator[Cost]:
    count = len(sink.names)
    for each in names:
        beats = sink.beats(each, min(count, max(200, 20_000 // max(1, each))))
        what = f"beat, {each} batches of each job"
        yield min((sink.from_each(what, beats) for _ in range(4)), key=lambda cost: cost.seconds)
    returned = [encode(Returned(sink.jobs[0], name, [(5 * place, 1, 1)], [])) for place, name in enumerate(sink.names)]
    yield sink.from_each("returned, 1 batch", returned)
    for tasks in (1, 100):
        frames = sink.results(min(count, 2_000), tasks, 10_000_000 * tasks)
        with sink.measured(f"results, {tasks} tasks, and their receipts", len(frames)) as cost:
            for place, frame in enumerate(frames):
                cost.in_bytes += len(frame)
                for results in split_results(frame):
                    sink.send(cost, sink.rules.results(sink.user_of(place), results))
                if place % TOGETHER == TOGETHER - 1:
                    sink.settle(cost)
        yield cost
    yield sink.from_ventilator("ask, and its receipts", 0, Ask(sink.jobs[0], 0, False))
    yield sink.tick("a turn in which nothing is due", 1_000)
    sink.now += 1.0
    for place in range(count):
        sink.rules._registry.workers[sink.names[place]].heard_at = sink.now  # all have beaten meanwhile
    yield sink.tick("a look for who is silent, each second")
    yield sink.from_ventilator("scarce, told to the crew", 0, Ask(sink.jobs[0], 0, True))
    opening = Open(sink.jobs[0], "work:f0", "range 0:1", 5557, 0, False, False)
    yield sink.from_ventilator("open, with the crew there", 0, opening)
    yield sink.from_ventilator("query of the page", 0, Query())
    roster = dict(sink.rules._roster)
    with sink.measured("the roster has changed", 1) as cost:
        sink.send(cost, sink.rules.roster_changed(sink.now, roster))
    yield cost


def _leaving(sink: Sink) -> Iterator[Cost]:
    count = len(sink.names) // 2
    yield sink.from_each("goodbye", _encoded(Goodbye(), count))
    yield sink.tick("present, after half of the crew has left")
    for _ in range(5):
        sink.now += 1.0
        for number, job in enumerate(sink.jobs):
            sink.from_ventilator("", number, Ask(job, 0, False))
    sink.now += 1.0
    cost = sink.tick("a worker is lost, with half of the crew")
    cost.count = len(sink.names) - count
    yield cost


def memory(workers: int, jobs: int, names: int) -> float:
    """Bytes that the rules of a sink hold for each worker."""
    with tempfile.TemporaryDirectory(prefix="tradewind-scale-") as folder:
        sink = Sink(folder, workers, jobs, workers)
        beats = sink.beats(names, workers)
        tracemalloc.start()
        for _ in _joining(sink):
            pass
        before = tracemalloc.get_traced_memory()[0]
        sink.from_each("", beats)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        sink.ledger.close()
        return max(before, after) / workers
