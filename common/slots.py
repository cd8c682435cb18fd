"""A worker's slots: child processes that run the user's functions. Only here processes of the user's code start."""

import logging
import mmap
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Raw

from common.child_output import ChildOutput
from common.errors import OperatorError
from common.held import Part
from common.messages import Outcomes
from common.orders import Run
from common.settings import MESSAGE_BYTES_MAX

log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("child.py")
_READ_BYTES = 1024 * 1024
_FRAME_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""More than any child says at once; what claims to be longer is none of `child.py`'s."""
_EXIT_S = 0.2
_LINK_BYTES = 1024 * 1024
"""How much a child's link holds, as far as the system allows: a large value comes in fewer turns of the loop."""
_LINK_TAKEN = 70
"""What `child.py` exits with when a task has closed its descriptors."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A child has imported the modules and waits for its first run."""

    slot: int
    functions: list[str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A child could not import the modules; the text says why."""

    slot: int
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Encoded `Outcomes` of the tasks from `first` on, and the seconds that they ran."""

    slot: int
    first: int
    count: int
    seconds: float
    outcomes: Raw
    by_sigterm: bool = False
    """Its child was ended by SIGTERM, which may have been meant for the worker and all its children."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A child is stuck with a task, and will not run what waits behind it."""

    slot: int
    firsts: list[int]
    """Where the parts of its order begin that it gives back."""
    orders_back: int
    """How many of the orders ahead it gives back, the last ones."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A child is gone with what it had left; `unclear` when nobody knows which task of its order is to blame.

    The slot's next child says when it is ready.
    """

    slot: int
    unclear: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The slot has run all tasks of its order."""

    slot: int


Event = Ready | Broken | Outcome | GivenBack | Lost | Done


class _Said(msgspec.Struct, frozen=True):
    """One frame from a child: ready, broken, given back, or outcomes with how the order ended."""

    ready: list[str] | None = None
    broken: str | None = None
    outcomes: list[tuple[int, int, float, Raw]] | None = None
    given_back: list[int] | None = None
    orders_back: int = 0
    done: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use; None means no limit."""

    memory_bytes: int | None = None
    tasks: int | None = None
    """A child that has run so many tasks is replaced."""


@dataclass(slots=True)
class _Child:
    """One process and what belongs to it. `progress` is shared memory: the running task's index, or -1."""

    slot: int
    process: subprocess.Popen[bytes]
    wire: socket.socket
    lifeline: int
    progress: mmap.mmap
    output: ChildOutput
    ready: bool = False
    heard: bool = False
    """It has said something since its time for its order began."""
    ordered_at: float = 0.0
    orders: deque[Run] = field(default_factory=deque)
    """What it was given and has not said to be done, the one that runs first."""
    parts: deque[Part] = field(default_factory=deque)
    """Of its order, those with tasks that have no outcome."""
    reported: int = 0
    """The next task of the first part that has no outcome."""
    unread: bytearray = field(default_factory=bytearray)
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))

    @property
    def order(self) -> Run | None:
        """What it runs."""
        return self.orders[0] if self.orders else None

    def begin_order(self) -> None:
        """The first order, if there is one, is begun."""
        self.parts = deque(self.orders[0].parts) if self.orders else deque()
        self.reported = self.parts[0].first if self.parts else 0

    def is_at_first_part(self) -> bool:
        """True while the first part of its order has tasks without an outcome."""
        return self.order is not None and bool(self.parts) and self.parts[0] is self.order.parts[0]

    def job(self) -> str | None:
        """The job whose tasks it runs."""
        return self.order.job if self.order else None

    def running_task(self) -> int | None:
        """The index of the task that runs, if one does."""
        index = struct.unpack_from("=q", self.progress)[0]
        return None if index < 0 else int(index)

    def has_left(self, task: int) -> bool:
        """True when the task is of its order and has no outcome."""
        head, *others = self.parts
        in_head = self.reported <= task < head.first + head.count
        return in_head or any(part.first <= task < part.first + part.count for part in others)

    def overdue_at(self) -> float | None:
        """When the running task's time is over, in seconds of the monotonic clock, which all processes share.

        A child that does not begin its order has as much time for that.
        """
        if self.order is None or self.order.timeout_s is None:
            return None
        began_at = float(struct.unpack_from("=d", self.progress, 8)[0])
        return max(began_at, self.ordered_at) + self.order.timeout_s

    def is_overdue(self, now: float) -> bool:
        """True when the running task's time is over."""
        overdue_at = self.overdue_at()
        return overdue_at is not None and now >= overdue_at


class Slots:
    """Children that serve `modules`; a child that ends is replaced."""

    _STARTS_MAX = 5

    def __init__(self, modules: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._modules = list(modules)
        self._was_ready = False
        self._failed_starts = 0
        """Children in a row that died while they were importing."""
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Child] = {}
        self._buffer = memoryview(bytearray(_READ_BYTES))
        """One for all: a new one for each read would cost more than the read."""
        self._decoder = msgspec.msgpack.Decoder(_Said)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """A descriptor that is readable when a child has news."""
        return self._selector.fileno()

    def start(self, slots: range) -> None:
        """Start the children of these slots."""
        for slot in slots:
            self._start(slot)

    def run(self, now: float, order: Run) -> None:
        """Let the slot's child run the order, after the one that it runs."""
        child = self._children[order.slot]
        child.orders.append(order)
        if len(child.orders) == 1:
            child.begin_order()
            child.ordered_at, child.heard = now, False
        payload = self._encoder.encode((order.function, [(part.first, part.arguments) for part in order.parts]))
        child.unsent = memoryview(b"".join((child.unsent, struct.pack("<I", len(payload)), payload)))
        self._write(child)

    def kill(self, slot: int) -> None:
        """End the slot's child at once, with its whole process group; it is replaced, and nothing is reported."""
        child = self._children[slot]
        child.orders.clear()
        self._replace(child)

    def events(self) -> Iterator[Event]:
        """What the children have said. Act on each event before taking the next: that may bring a new child."""
        for key, ready in self._selector.select(timeout=0):
            child: _Child = key.data
            if not self._is_there(child):
                continue
            if key.fileobj is child.output:
                if not child.output.log_lines(child.job(), child.running_task()):
                    self._selector.unregister(child.output)
                continue
            if ready & selectors.EVENT_WRITE:
                self._write(child)
            if ready & selectors.EVENT_READ:
                yield from self._read(child)

    def end_overdue(self, now: float) -> Iterator[Event]:
        """End the children whose task has outlived its timeout. Act on each event before taking the next."""
        for child in list(self._children.values()):
            if not child.is_overdue(now):
                continue
            # What it has said and nobody has read may be the end of that task.
            yield from self._read(child)
            task = child.running_task() if self._is_there(child) else None
            if not self._is_there(child) or not child.is_overdue(now):
                continue
            assert child.order is not None
            if task is not None:
                yield from self._died(child, f"ran longer than its timeout of {child.order.timeout_s:g} seconds", task)
            elif child.heard:
                # It is saying its results, or has just come to this order: from now on it has its time for that.
                child.ordered_at, child.heard = now, False
            else:
                log.warning("slot %d does not begin with its order: it gets a new child", child.slot)
                yield self._replace(child)

    def deadline(self) -> float | None:
        """When `end_overdue` has something to do next, as far as one can see now."""
        instants = [child.overdue_at() for child in self._children.values() if child.order and child.order.timeout_s]
        return min((instant for instant in instants if instant is not None), default=None)

    def close(self) -> None:
        """End all children."""
        for child in self._children.values():
            self._end(child)
        self._children.clear()
        self._selector.close()

    # -- one child ----------------------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        try:
            self._start_process(slot)
        except OSError as error:
            raise OperatorError(
                f"cannot start the process of slot {slot}: {error.strerror};"
                " give fewer --slots, or raise what this machine allows (ulimit -n, ulimit -u)"
            ) from None

    def _start_process(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LINK_BYTES)
        lifeline_theirs, lifeline = os.pipe()
        output, output_theirs = os.pipe()
        with tempfile.TemporaryFile() as memory:
            memory.truncate(mmap.PAGESIZE)
            progress = mmap.mmap(memory.fileno(), mmap.PAGESIZE)
            orders = {
                "wire": theirs.fileno(),
                "lifeline": lifeline_theirs,
                "progress": memory.fileno(),
                "value_bytes_max": MESSAGE_BYTES_MAX,
                "memory_bytes": self._limits.memory_bytes or 0,
                "tasks_max": self._limits.tasks or 0,
            }
            process = subprocess.Popen(
                [sys.executable, "-P", _PROGRAM, msgspec.json.encode(orders), *self._modules],
                stdin=subprocess.DEVNULL,
                stdout=output_theirs,
                stderr=output_theirs,
                pass_fds=(theirs.fileno(), lifeline_theirs, memory.fileno()),
                process_group=0,
            )
        theirs.close()
        os.close(lifeline_theirs)
        os.close(output_theirs)
        ours.setblocking(False)
        child = _Child(slot, process, ours, lifeline, progress, ChildOutput(output, slot))
        self._children[slot] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def _write(self, child: _Child) -> None:
        try:
            while child.unsent:
                child.unsent = child.unsent[child.wire.send(child.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # The child is gone: reading says so.
            child.unsent = memoryview(b"")
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
        if self._selector.get_key(child.wire).events != events:
            self._selector.modify(child.wire, events, child)

    def _is_there(self, child: _Child) -> bool:
        """False once the slot has another child."""
        return self._children.get(child.slot) is child

    def _read(self, child: _Child) -> Iterator[Event]:
        try:
            count = child.wire.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            yield from self._died(child)
            return
        child.heard = True
        child.unread += self._buffer[:count]
        while len(child.unread) >= 4 and self._is_there(child):
            size = struct.unpack_from("<I", child.unread)[0]
            if size > _FRAME_BYTES_MAX:
                yield from self._link_misused(child)
                return
            if len(child.unread) < 4 + size:
                break
            frame = bytes(memoryview(child.unread)[4 : 4 + size])
            del child.unread[: 4 + size]
            try:
                events = self._event(child, self._decoder.decode(frame))
            except (msgspec.DecodeError, ValueError, RecursionError):
                events = self._link_misused(child)
            yield from events

    def _link_misused(self, child: _Child) -> list[Event]:
        log.warning("a task of slot %d has written into its worker's link: the child is replaced", child.slot)
        return self._died(child)

    def _event(self, child: _Child, said: _Said) -> list[Event]:
        if said.ready is not None:
            child.ready = True
            self._was_ready = True
            self._failed_starts = 0
            return [Ready(child.slot, said.ready)]
        if said.broken is not None:
            return [Broken(child.slot, said.broken)]
        if said.given_back is not None:
            return [self._given_back(child, said.given_back, said.orders_back)]
        found: list[Event] = [self._outcome(child, *each) for each in said.outcomes or ()]
        if said.retired:
            found.append(self._replace(child))
        elif said.done:
            found.append(self._done(child))
        return found

    def _given_back(self, child: _Child, firsts: list[int], orders_back: int) -> GivenBack:
        # Of the task that it is stuck with the outcome may be here already: then the first part has not begun.
        begun = child.is_at_first_part() or (bool(child.parts) and child.reported > child.parts[0].first)
        unstarted = {part.first for part in list(child.parts)[begun:]}
        if not 0 <= orders_back <= len(child.orders) - 1 or not unstarted.issuperset(firsts):
            raise ValueError("other parts than it has")
        for _ in range(orders_back):
            child.orders.pop()
        child.parts = deque(part for part in child.parts if part.first not in firsts)
        if child.parts and not begun:
            child.reported = child.parts[0].first
        return GivenBack(child.slot, firsts, orders_back)

    def _done(self, child: _Child) -> Done:
        if child.order is None or child.parts:
            raise ValueError("done before its time")
        # What its tasks have printed was written before this word, and is theirs only as long as the order stands.
        child.output.log_lines(child.job(), child.running_task())
        child.orders.popleft()
        child.begin_order()
        return Done(child.slot)

    def _outcome(self, child: _Child, first: int, count: int, seconds: float, outcomes: Raw) -> Outcome:
        if not child.parts or first != child.reported or count < 1:
            raise ValueError("outcomes of other tasks")
        end = child.parts[0].first + child.parts[0].count
        if first + count > end:
            raise ValueError("outcomes of other tasks")
        child.reported += count
        if child.reported == end:
            child.parts.popleft()
            child.reported = child.parts[0].first if child.parts else end
        return Outcome(child.slot, first, count, seconds, outcomes)

    def _died(self, child: _Child, cause: str | None = None, overdue: int | None = None) -> list[Event]:
        """The running task is to blame; tasks of the order without an outcome are run by another child."""
        order, parts = child.order, child.parts
        task = child.running_task() if overdue is None else overdue
        returncode = self._end(child, died=cause is None)
        timed_out = cause is not None
        cause = cause or _how_it_ended(returncode)
        if not child.ready:
            self._failed_starts += 1
            # Modules that end their process do so each time, but not by these: they come from outside.
            by_itself = not self._was_ready and returncode not in (-signal.SIGKILL, -signal.SIGTERM)
            if by_itself or self._failed_starts >= self._STARTS_MAX:
                del self._children[child.slot]
                return [Broken(child.slot, f"importing {', '.join(self._modules)} {cause}")]
        self._start(child.slot)
        lost = Lost(child.slot)
        if order is None or not parts:
            return [lost]
        # Which task runs is what the child itself says: only one that it has left is believed.
        blamed = task if task is not None and child.has_left(task) else None
        if blamed is None and sum(part.count for part in parts) > 1:
            log.warning(
                "a task of job %s %s; slot %d has a new child and runs them singly", order.job, cause, child.slot
            )
            return [Lost(child.slot, unclear=True)]
        blamed = child.reported if blamed is None else blamed
        log.warning("task %d of job %s %s; its slot has a new child", blamed, order.job, cause)
        by_sigterm = not timed_out and returncode == -signal.SIGTERM
        text = f"the task {cause}"
        seconds = order.timeout_s if timed_out and order.timeout_s else 0.0
        outcomes = self._encoder.encode(Outcomes(values=[None], seconds=[seconds], errors=[(0, text, False)]))
        return [Outcome(child.slot, blamed, 1, seconds, Raw(outcomes), by_sigterm), lost]

    def _replace(self, child: _Child) -> Lost:
        self._end(child)
        self._start(child.slot)
        return Lost(child.slot)

    def _end(self, child: _Child, died: bool = False) -> int | None:
        """End the process group and reap the child; what it ended with by itself, None when it had to be ended."""
        try:
            # The end of the link comes a moment before the end of the process.
            returncode = child.process.wait(_EXIT_S if died else 0)
        except subprocess.TimeoutExpired:
            returncode = None
        try:
            os.killpg(child.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        # It may have left its group.
        child.process.kill()
        child.process.wait()
        child.output.log_lines(child.job(), child.running_task())
        for mine in (child.wire, child.output):
            if mine.fileno() in self._selector.get_map():
                self._selector.unregister(mine)
        child.output.close()
        child.wire.close()
        os.close(child.lifeline)
        child.progress.close()
        return returncode


def _how_it_ended(returncode: int | None) -> str:
    if returncode is None or returncode == _LINK_TAKEN:
        return "closed its process's link to the worker"
    if returncode < 0:
        return f"killed its process by signal {_signal_text(-returncode)}"
    return f"ended its process with exit code {returncode}"


def _signal_text(number: int) -> str:
    """The signal's number, and its name where it has one: most real-time signals have none."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
