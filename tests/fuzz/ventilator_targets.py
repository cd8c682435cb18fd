"""The ventilator under lies: whatever the sink passes on, and what it says itself."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
from msgspec import Raw

from common.errors import ProtocolError
from common.log_line import LogLine
from common.protocol.codec import decode_from_sink, encode
from common.protocol.codec import decode_to_sink as decode_at_sink
from common.protocol.handshake import Fail, Handshake, LinkEvent, Redial
from common.protocol.messages import (
    Ask,
    Crew,
    Failed,
    FromSink,
    Member,
    Message,
    Opened,
    Quarantine,
    Receipts,
    Returned,
    Welcome,
)
from common.protocol.settings import Timing
from common.ventilator.admission import CutLinks
from common.ventilator.dialog import Dialog
from common.ventilator.dispatch import Dispatch, Skip
from common.ventilator.flights import State
from common.ventilator.request import JobRequest
from common.ventilator.settings import DispatchSettings
from tests.fuzz.draw import Draw, frame_of, kinds_of

TASKS = 40
"""Of the whole input."""
_FROM_SINK = kinds_of(FromSink)
_OFTEN = (Crew, Crew, Receipts, Returned, Failed, Opened)


class DispatchShell:
    """Does what the ventilator's shell does: an input of forty tasks, and a tasks link that takes everything."""

    def __init__(self) -> None:
        settings = DispatchSettings(batch_tasks=4, retries=1, quarantine_after=2)
        self.rules = Dispatch(settings, "job", "m:f")
        self.talk = Dialog(settings, self.rules, JobRequest("job", "m:f", "range", False))
        self.now = 0.0
        self.position = 0
        self.send(self.talk.welcome(self.now, 5557))

    def send(self, outputs: Sequence[Message | CutLinks]) -> None:
        for message in outputs:
            if isinstance(message, CutLinks):
                continue
            if isinstance(message, Ask):
                self.position = message.after
            if not isinstance(message, Quarantine):
                decode_at_sink(encode(message))

    def receive(self, frame: bytes) -> None:
        try:
            message = decode_from_sink(frame)
        except ProtocolError:
            return
        self.send(self.talk.receive(self.now, message))

    def begin(self) -> None:
        """A new job, a crew of two, and the first batches in its hands."""
        crew = [Member("ada", 2, 1, [(0, 4, 1)], [(0, 4, 1)]), Member("eve", 1, 1, [(4, 4, 1)], [])]
        opened, nothing = (
            Opened("job", "l", b"k", 0, b"", None, 0, False, 0.0),
            Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False),
        )
        for message in (opened, nothing, Crew(crew, [], [], 0)):
            self.receive(encode(message))
        self.read_input()
        self.push()

    def pass_time(self, seconds: float) -> None:
        deadline = self.talk.deadline()
        assert deadline is None or not math.isnan(deadline)
        self.now += seconds
        self.send(self.talk.tick(self.now))

    def read_input(self) -> None:
        for _ in range(2 * TASKS):
            plan = self.rules.plan(self.now)
            if plan is None or self.rules.total is not None:
                return
            assert plan.count >= 1, plan
            count = min(plan.count, TASKS - self.rules.next_task)
            if count and isinstance(plan, Skip):
                self.rules.skipped(count)
            elif count:
                self.rules.offer(self.now, count, Raw(msgspec.msgpack.encode([0] * count)))
            if count < plan.count or self.rules.next_task == TASKS:
                self.rules.input_ended()
            self.talk.mark(self.rules.next_task, b"digest", self.rules.total)

    def push(self) -> None:
        while (batch := self.rules.next_push(self.now)) is not None:
            assert len(msgspec.msgpack.decode(batch.arguments)) == batch.count
            assert batch.first + batch.count <= TASKS
            self.rules.pushed(self.now)

    def check(self) -> None:
        rules = self.rules
        flights = list(rules._flights)
        assert rules.in_flight_count == sum(flight.state is State.PUSHED for flight in flights)
        assert sorted(flight.first for flight in flights) == rules._flights._firsts
        ends = [(flight.first, flight.first + flight.count) for flight in sorted(flights, key=lambda each: each.first)]
        assert all(end <= first for (_, end), (first, _) in pairwise(ends)), "flights overlap"
        assert rules.window >= 0 and rules.outstanding >= 0

    def finish(self) -> None:
        """Whatever was said before: with a receipt for each task the job is over."""
        self.send(self.rules.receive(self.now, Opened("job", "l", b"k", 0, b"", None, 0, False, 0.0)))
        runs = [(0, TASKS)]
        done = Receipts("job", self.position, self.position, runs, TASKS, 1.0, TASKS, 0, False)
        self.send(self.talk.receive(self.now, done))
        self.pass_time(self.rules._settings.timing.gather_s)
        self.read_input()
        self.check()
        assert self.rules.finished or self.rules.dropped


def dispatch(source: bytes) -> None:
    """A ventilator's rules and conversation against any messages of the control link."""
    draw, shell = Draw(source), DispatchShell()
    if draw.often():
        shell.begin()
    while draw:
        step = draw.below(8)
        if step < 2:
            shell.receive(frame_of(draw, _FROM_SINK))
        elif step < 5:
            shell.receive(frame_of(draw, _OFTEN))
        elif step == 5:
            shell.pass_time(draw.pick((0.0, 0.02, 1.0, 5.0, 11.0)))
        else:
            shell.read_input()
            shell.push()
        shell.check()
    shell.finish()


def joining(source: bytes) -> None:
    """Any order of link events and messages: it greets, waits or gives up, and joins once it is welcomed."""
    draw, now = Draw(source), 0.0
    rules = Handshake(Timing(), "worker", "ada", draw.pick((["tcp://sink:5559"], ["tcp://a:1", "tcp://b:2"])), "key")
    events = tuple(LinkEvent)
    while draw:
        step = draw.below(3)
        outputs: list = []
        if step == 0:
            outputs = rules.event(now, draw.pick(events))
        elif step == 1:
            try:
                outputs = rules.receive(now, decode_from_sink(frame_of(draw, _FROM_SINK)))
            except ProtocolError:
                continue
        else:
            now += draw.pick((0.0, 0.5, 3.0, 10.0))
            outputs = rules.tick(now)
        assert all(isinstance(output, LogLine | Fail | Redial | Message) for output in outputs)
        assert not math.isnan(rules.deadline() or 0.0)
    rules.event(now, LinkEvent.CONNECTED)
    rules.receive(now, Welcome(1, "run", 5558, "::1", 5556))
    assert rules.joined and not rules.away(now)
