"""Slots and their children over the real link, without a worker around them."""

import mmap
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw, msgpack

from common.protocol.messages import Outcomes
from common.worker import child
from common.worker.child_process import Limits
from common.worker.held_batch import TaskSlice
from common.worker.slot_events import Done, Event, GivenBack, Lost, Outcome, Ready
from common.worker.slot_orders import RunOrder
from common.worker.slots import RETRY_S, Slots
from tests.conftest import PATIENCE_S, wait_until
from tests.fuzz.worker_targets import BareSlots

TASKS = """
import os, signal, time

def big(n):
    return bytes(900_000)

def fine(n):
    return n

KEPT = []

def leave_megabytes(n):
    try:
        while True:
            KEPT.append(bytes(1_000_000))
    except MemoryError:
        del KEPT[-n:]

def text_at_the_limit(n):
    leave_megabytes(n)
    return "x" * 15_000_000

def list_at_the_limit(n):
    leave_megabytes(n)
    return ["x" * 18] * 500_000

def length(text):
    return len(text)

def unnamed_signal(n):
    os.kill(os.getpid(), signal.SIGRTMIN + n)

def wait(n):
    open(f"runs{n}", "w").close()
    time.sleep(600)
"""


class Seen:
    """Slots that serve the module, and every event that they had."""

    def __init__(self, count: int, limits: Limits) -> None:
        self.slots = Slots(["tasks"], limits)
        self.events: list[Event] = []
        self.slots.start(range(count))
        self.until(lambda: self.count(Ready) == count)

    def take(self, events: Iterable[Event]) -> None:
        self.events += events

    def until(self, condition: object) -> None:
        assert callable(condition)
        while not condition():
            assert select.select([self.slots], [], [], PATIENCE_S)[0], f"nothing comes after {self.events}"
            self.take(self.slots.events())

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def run(self, now: float, slot: int, name: str, *tasks: int, timeout_s: float | None = None) -> None:
        parts = [TaskSlice(task, 1, Raw(msgpack.encode([task]))) for task in tasks]
        self.slots.run(now, RunOrder(slot, "job", f"tasks:{name}", parts, timeout_s))

    def back(self) -> tuple[list[int], int]:
        """All parts and orders that were given back."""
        found = [event for event in self.events if isinstance(event, GivenBack)]
        return [first for event in found for first in event.firsts], sum(event.orders_back for event in found)

    def outcomes(self) -> list[tuple[int, int]]:
        """Slot and first task of each."""
        return [(event.slot, event.first) for event in self.events if isinstance(event, Outcome)]

    def errors(self) -> list[str]:
        found = [msgpack.decode(event.outcomes, type=Outcomes) for event in self.events if isinstance(event, Outcome)]
        return [text for outcomes in found for _, text, _ in outcomes.errors]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two(folder: Path) -> Iterator[Seen]:
    seen = Seen(2, Limits())
    yield seen
    seen.slots.close()


def starts(path: Path) -> None:
    wait_until(path.exists, f"{path.name} is there")


def test_a_result_on_its_way_when_the_timeout_fires_is_taken(two: Seen) -> None:
    two.run(0.0, 0, "big", 7, timeout_s=5.0)
    assert select.select([two.slots], [], [], PATIENCE_S)[0]
    while not two.count(Done):
        two.take(two.slots.end_overdue(1e9))
        assert not two.count(Lost)
        two.take(two.slots.events())
    assert two.outcomes() == [(0, 7)]
    assert two.errors() == []


def test_an_order_given_while_children_are_replaced_is_not_run_twice(two: Seen, folder: Path) -> None:
    for slot in (0, 1):
        two.run(0.0, slot, "wait", slot, timeout_s=5.0)
        starts(folder / f"runs{slot}")
    for event in two.slots.end_overdue(1e9):
        two.events.append(event)
        if isinstance(event, Lost) and event.slot == 0:
            two.run(1e9, 1, "fine", 8)
    assert two.count(Lost) == 2
    two.until(lambda: two.count(Ready) == 4)
    two.run(1e9, 1, "fine", 9)
    two.until(lambda: two.count(Done) == 1)
    assert two.outcomes() == [(0, 0), (1, 1), (1, 9)], "what the old child was given is lost with it"


def test_an_order_ahead_gives_the_running_task_no_more_time(two: Seen, folder: Path) -> None:
    two.run(0.0, 0, "wait", 0, timeout_s=5.0)
    starts(folder / "runs0")
    before = two.slots.deadline()
    two.run(1e9, 0, "fine", 1, timeout_s=5.0)
    assert two.slots.deadline() == before


def test_what_waits_behind_a_stuck_task_is_given_back_as_parts_and_as_orders(two: Seen) -> None:
    two.run(0.0, 0, "wait", 0, 4)
    two.run(0.0, 0, "fine", 4)
    two.until(lambda: two.back() == ([4], 1))


def test_a_child_whose_descriptors_have_high_numbers_is_watched_like_others(two: Seen) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    taken = []
    try:
        taken += [os.dup(2) for _ in range(1_100)]
        two.slots.start(range(2, 3))
        two.until(lambda: two.count(Ready) == 3)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    two.run(0.0, 2, "wait", 0, 4)
    two.until(lambda: two.back() == ([4], 0))


def test_a_signal_without_a_name_costs_its_task_only(two: Seen) -> None:
    two.run(0.0, 0, "unnamed_signal", 3)
    two.until(lambda: two.count(Lost))
    assert two.errors() == [f"the task killed its process by signal {signal.SIGRTMIN + 3}"]


@pytest.mark.parametrize("name", ["text_at_the_limit", "list_at_the_limit"])
def test_a_result_is_encoded_beside_the_memory_that_its_task_may_have(folder: Path, name: str) -> None:
    seen = Seen(1, Limits(memory_bytes=200 * 1024 * 1024))
    try:
        seen.run(0.0, 0, name, 20)
        seen.until(lambda: seen.count(Done) or seen.count(Lost))
        assert seen.errors() == []
        assert seen.outcomes() == [(0, 20)]
    finally:
        seen.slots.close()


def test_an_order_is_taken_beside_the_memory_that_the_tasks_before_it_have_kept(folder: Path) -> None:
    seen = Seen(1, Limits(memory_bytes=200 * 1024 * 1024))
    try:
        seen.run(0.0, 0, "leave_megabytes", 2)
        seen.until(lambda: seen.count(Done))
        text = TaskSlice(3, 1, Raw(msgpack.encode(["x" * 15_000_000])))
        seen.slots.run(0.0, RunOrder(0, "job", "tasks:length", [text], None))
        seen.until(lambda: seen.count(Done) == 2 or seen.count(Lost))
        assert seen.errors() == []
        assert seen.outcomes() == [(0, 2), (0, 3)]
    finally:
        seen.slots.close()


def test_a_part_comes_back_that_the_worker_takes_for_the_running_one() -> None:
    slots = BareSlots()
    parts = [TaskSlice(first, 1, Raw(b"\x91\xc0")) for first in (0, 4, 6)]
    slots.run(0.0, RunOrder(0, "job", "m:f", parts, None))

    def heard(**said: object) -> list[Event]:
        payload = msgpack.encode(said)
        return slots.heard(struct.pack("<I", len(payload)) + payload)

    assert [type(event) for event in heard(outcomes=[(0, 1, 0.1, b"\x80")])] == [Outcome]
    assert heard(given_back=[4], orders_back=0) == [GivenBack(0, [4], 0)]
    assert [type(event) for event in heard(outcomes=[(6, 1, 0.1, b"\x80")], done=True)] == [Outcome, Done]
    slots.close()


class Link:
    """The child's side of its link, and what it has said."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.wire = child.Wire(theirs.detach())
        self.progress = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self.outbox = child.Outbox(self.wire, 1_000_000)
        self.orders = child.OrderQueue(self.outbox, self.progress)

    def order(self, *tasks: int) -> None:
        payload = msgspec.msgpack.encode(("tasks:fine", "job", [(task, [task]) for task in tasks]))
        self.ours.sendall(struct.pack("<I", len(payload)) + payload)

    def said(self) -> list[dict[str, object]]:
        found, unread = [], self.ours.recv(1_000_000)
        while unread:
            end = 4 + struct.unpack_from("<I", unread)[0]
            found.append(msgspec.msgpack.decode(unread[4:end]))
            unread = unread[end:]
        return found


def test_an_order_that_is_done_gives_nothing_back_any_more() -> None:
    link = Link()
    link.progress[0] = 7
    link.order(8)
    link.progress[0] = -1
    link.orders.done(retired=False)
    link.orders.give_back(7)
    assert link.said() == [{"outcomes": [], "done": True}]
    assert link.wire.receive() is not None, "the next order is still there"


def test_the_first_part_of_an_order_is_not_given_back_for_a_task_of_the_one_before() -> None:
    link = Link()
    link.progress[0] = -1
    link.orders.begin([(8, [8]), (9, [9])])
    link.orders.give_back(7)
    assert link.orders.next() == (8, [8])
    link.progress[0] = 8
    link.orders.give_back(8)
    assert link.said() == [{"given_back": [9], "orders_back": 0}]
    assert link.orders.next() is None


class Limit(child.MemoryLimit):
    """Notes for how many sayings and hearings it was lifted."""

    def __init__(self) -> None:
        self.lifted, self.uses = False, 0

    def __enter__(self) -> None:
        self.lifted = True
        self.uses += 1

    def __exit__(self, *_: object) -> None:
        self.lifted = False


def test_only_for_what_is_said_or_heard_the_memory_limit_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    link, limit = Link(), Limit()
    link.outbox.limit = limit
    lifted = []
    for name in ("send", "waiting"):
        really = getattr(link.wire, name)
        monkeypatch.setattr(link.wire, name, lambda *said, really=really: lifted.append(limit.lifted) or really(*said))
    link.outbox.flush()
    assert (limit.uses, lifted) == (0, [])
    link.orders.begin([(8, [8])])
    link.progress[0] = 7
    link.orders.give_back(7)
    link.orders.done(retired=False)
    assert (limit.uses, lifted) == (2, [True, True, True])
    assert link.said() == [{"given_back": [8], "orders_back": 0}, {"outcomes": [], "done": True}]


def test_modules_that_can_no_longer_be_imported_empty_a_slot_until_they_can(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Seen(1, Limits())
    try:
        tasks = folder / "tasks.py"
        tasks.write_text("def broken(:\n")
        made.slots.kill(0)
        made.until(lambda: not made.slots.pids)
        assert "slot 0 has no child process until its modules can be imported again" in caplog.text
        tasks.write_text(TASKS)
        made.take(made.slots.end_overdue(1000.0))
        assert made.slots.deadline() == 1000.0 + RETRY_S
        made.take(made.slots.end_overdue(1000.0 + RETRY_S))
        made.until(lambda: made.count(Ready) == 2)
        assert made.slots.deadline() is None
    finally:
        made.slots.close()
