"""The worker under lies: batches of a hostile ventilator, a sink that talks nonsense, children that write what they
like."""

import logging
import math
import mmap
import os
import socket
import struct

import msgspec
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol.codec import decode_batch, decode_from_sink, decode_results, encode
from common.protocol.codec import decode_to_sink as decode_at_sink
from common.protocol.messages import Batch, FromSink, Heard, Outcomes
from common.worker.child_output import ChildOutput
from common.worker.child_process import Child, Limits
from common.worker.held_batch import TaskSlice
from common.worker.holding import Holding, Output
from common.worker.settings import HoldingSettings
from common.worker.slot_events import Event, Outcome
from common.worker.slot_orders import KillOrder, RunOrder
from common.worker.slots import Slots
from common.worker.unacked import Submit
from tests.fuzz.draw import FUNCTIONS, JOBS, Draw, frame_of, index, kinds_of, message_of, mutated, packed_list

SLOTS, PREFETCH = 2, 1
_FROM_SINK = kinds_of(FromSink)
_ERROR = msgspec.msgpack.encode(Outcomes([None], [0.0], [(0, "died", False)]))


def _outcomes(count: int) -> bytes:
    return msgspec.msgpack.encode(Outcomes([None] * count, [0.0] * count, []))


class HoldingShell:
    """Does what the worker's shell does with the machine's orders, its children being obedient."""

    def __init__(self) -> None:
        self.rules = Holding(HoldingSettings(SLOTS, PREFETCH, prefetch_max=20), "ada")
        self.now = 0.0
        self.orders: dict[int, list[RunOrder]] = {}
        self.submitted = 0
        self.rules.expose(frozenset(FUNCTIONS))
        self.rules.places(dict.fromkeys(JOBS, b""), frozenset())
        for slot in range(SLOTS):
            self.perform(self.rules.slot_idle(self.now, slot))

    def perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, RunOrder):
                self.orders.setdefault(output.slot, []).append(output)
                assert len(self.orders[output.slot]) <= 2, "a slot has one order, and one ahead"
            elif isinstance(output, Submit):
                decode_results(output.frame)
                self.submitted += 1
            elif not isinstance(output, KillOrder):
                decode_at_sink(encode(output))
        for output in outputs:
            if isinstance(output, KillOrder):
                self.orders.pop(output.slot, None)
                self.perform(self.rules.slot_idle(self.now, output.slot))

    def receive(self, frame: bytes, of_ventilator: bool) -> None:
        try:
            message = decode_batch(frame) if of_ventilator else decode_from_sink(frame)
        except ProtocolError:
            return
        self.perform(self.rules.receive(self.now, message))

    def pass_time(self, seconds: float) -> None:
        deadline = self.rules.deadline()
        assert not math.isnan(deadline)
        self.now = max(self.now, min(deadline, self.now + seconds)) if seconds < 10 else self.now + seconds
        self.perform(self.rules.tick(self.now))

    def work(self, slot: int, count: int, dies: bool) -> None:
        """The slot's child says outcomes of up to `count` tasks; then it may die, with the next one if it has not."""
        if slot not in self.orders:
            return
        for part in self.orders[slot][0].parts:
            done = min(count, part.count)
            count -= done
            if done:
                self._say(slot, part.first, done, _outcomes(done))
            if done < part.count:
                self._say(slot, part.first + done, 1, _ERROR)
                dies = True
            if dies:
                break
        if dies:
            del self.orders[slot]
            self.perform(self.rules.slot_lost(self.now, slot, unclear=count % 2 == 1))
            self.perform(self.rules.slot_idle(self.now, slot))
            return
        self.orders[slot].pop(0)
        if not self.orders[slot]:
            del self.orders[slot]
        self.perform(self.rules.slot_done(self.now, slot))

    def _say(self, slot: int, first: int, count: int, outcomes: bytes) -> None:
        self.perform(self.rules.outcomes(self.now, slot, first, count, count * 1e-4, outcomes))

    def get_stuck(self, slot: int) -> None:
        """The slot's child gives back what it has not begun."""
        if slot not in self.orders:
            return
        order, *ahead = self.orders[slot]
        first, *others = order.parts
        self.orders[slot] = [RunOrder(order.slot, order.job, order.function, [first], order.timeout_s)]
        if others or ahead:
            self.perform(self.rules.given_back(self.now, slot, [part.first for part in others], len(ahead)))

    def finish(self) -> None:
        """Whatever was said before: what waits is run to its end, and a good batch is run and submitted."""
        for _ in range(10_000):
            self.perform(self.rules.receive(self.now, Heard(2**50)))
            if not self.orders:
                # A slot may wait a moment for a job that has just run dry.
                self.pass_time(1.0)
            if not self.orders:
                break
            self.work(next(iter(self.orders)), 1_000_000, False)
        assert not self.orders
        self.rules.places({"good": b""}, frozenset())
        before = self.submitted
        good = Batch("good", FUNCTIONS[0], 0, 2, 1, bytes(16), None, False, False, Raw(b"\x92\x01\x02"))
        self.receive(encode(good), True)
        assert [(order.job, order.parts[0].count) for [order] in self.orders.values()] == [("good", 2)]
        self.work(next(iter(self.orders)), 2, False)
        assert self.submitted == before + 1


def _batch(draw: Draw) -> bytes:
    count = 1 + draw.below(5) if draw.often() else index(draw)
    made = message_of(draw, Batch, count=count, job=draw.pick(JOBS), arguments=packed_list(draw, count))
    if draw.often():
        made = msgspec.structs.replace(made, ticket=b"t" * 16, timeout_s=None, attempt=1 + draw.below(2))
    return mutated(draw, encode(made))


def holding(source: bytes) -> None:
    """A worker's rules against a lying ventilator and a confused sink."""
    draw, shell = Draw(source), HoldingShell()
    while draw:
        step = draw.below(9)
        if step == 8:
            shell.get_stuck(draw.below(SLOTS))
        elif step < 3:
            shell.receive(_batch(draw), True)
        elif step < 5:
            shell.receive(frame_of(draw, _FROM_SINK), False)
        elif step == 5:
            shell.pass_time(draw.pick((0.0, 0.3, 1.0, 5.0, 30.0)))
        else:
            shell.work(draw.below(SLOTS), draw.below(6), bool(draw.below(2)))
    shell.finish()


class BareSlots(Slots):
    """Slots whose children are the far ends of their links, without processes."""

    def __init__(self) -> None:
        super().__init__(["module"], Limits())
        self.far: socket.socket | None = None
        self._start(0)

    def _start(self, slot: int) -> None:
        ours, self.far = socket.socketpair()
        ours.setblocking(False)
        memory = mmap.mmap(-1, mmap.PAGESIZE)
        struct.pack_into("=q", memory, 0, -1)
        reading, self.printing = os.pipe()
        output = ChildOutput(reading, slot)
        self._children[slot] = Child(slot, None, ours, -1, memory, output, ready=True)  # type: ignore[arg-type]

    def _end(self, child: Child, died: bool = False) -> int | None:
        assert self.far is not None
        child.wire.close()
        self.far.close()
        child.output.close()
        os.close(self.printing)
        child.progress.close()
        return None

    def _let_go(self, child: Child) -> None:
        self._end(child)

    def _write(self, child: Child) -> None:
        child.unsent = memoryview(b"")

    def heard(self, written: bytes) -> list[Event]:
        """What the shell hears once a child has written this."""
        assert self.far is not None
        self.far.sendall(written)
        return list(self._read(self._children[0]))

    def close(self) -> None:
        self._end(self._children[0])
        self._children.clear()
        self._selector.close()


def _said(draw: Draw) -> bytes:
    outcomes = {"outcomes": [(index(draw), index(draw), 0.5, draw.pick((b"\x80", None, [1])))]}
    good = {"outcomes": [(draw.below(3) * 2, 2, 0.5, b"")]}
    back = {"given_back": [draw.pick((6, 0, 9))]}
    said = draw.pick(
        (good, outcomes, back, {"done": True}, {"ready": ["m:f"]}, {"retired": True}, {}, {"broken": "text"})
    )
    frame = mutated(draw, msgspec.msgpack.encode(said))
    size = len(frame) if draw.often() else draw.pick((0, 1, len(frame) + 1, 2**32 - 1))
    return struct.pack("<I", size) + frame


def child_link(source: bytes) -> None:
    """What a task may write into its worker's link: outcomes are of the order's tasks, each once and in order."""
    draw, slots = Draw(source), BareSlots()
    logging.disable()
    while draw:
        parts = [TaskSlice(0, 6, Raw(b"\x90")), TaskSlice(6, 3, Raw(b"\x90"))]
        order = RunOrder(0, "job", "m:f", parts, None)
        slots.run(0.0, order)
        said_to = 0
        while draw and slots._children[0].order is order:
            for event in slots.heard(draw.taken(draw.below(40)) if not draw.often() else _said(draw)):
                if isinstance(event, Outcome):
                    assert event.first == said_to and event.count >= 1, event
                    said_to += event.count
                    assert said_to <= 9
            if draw.below(8) == 7:
                break
        if slots._children[0].order is order:
            slots.kill(0)
    slots.close()
    logging.disable(logging.NOTSET)
