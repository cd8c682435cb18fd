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
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from .. import descriptors
from ..errors import OperatorError
from ..protocol.messages import Outcomes
from ..protocol.settings import MESSAGE_BYTES_MAX
from .child_output import ChildOutput
from .child_process import Child, Limits, Said, how_it_ended, shared_page
from .cores import child_environment
from .edits import Edits
from .slot_events import Broken, Done, Edited, Event, GivenBack, Imported, Lost, NotImported, Outcome, Ready
from .slot_orders import RunOrder

log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("child.py")
_READ_BYTES = 1024 * 1024
_FRAME_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""More than any child says at once; what claims to be longer is none of `child.py`'s."""
_EXIT_S = 0.2
LEAVE_S = 5.0
"""How long a child that was let go may take to end."""
RETRY_S = 5.0
"""How long a slot stays empty after its modules could not be imported."""
_TRIAL = -1
"""Its slot only imports the modules."""
_NO_ORDER = struct.pack("<I", 4) + msgspec.msgpack.encode(("", "", []))
_LINK_BYTES = 1024 * 1024
"""How much a child's link holds, as far as the system allows: a large value comes in fewer turns of the loop."""


class Slots:
    """Children that serve `modules`; a child that ends is replaced."""

    _STARTS_MAX = 5

    def __init__(self, modules: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._modules, self._named = list(modules), ", ".join((*modules, *limits.commands))
        self._was_ready = False
        self._failed_starts = 0
        """Children in a row that died while they were importing."""
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._leaving: list[Child] = []
        """Those that were let go and end by themselves."""
        self._vacant: dict[int, float | None] = {}
        """Slots whose children could not import the modules, and when that is tried again."""
        self._edits = Edits()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        """One for all: a new one for each read would cost more than the read."""
        self._decoder = msgspec.msgpack.Decoder(Said)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """A descriptor that is readable when a child has news."""
        return self._selector.fileno()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children."""
        return [child.process.pid for child in (*self._children.values(), *self._leaving)]

    def start(self, slots: range) -> None:
        """Start the children of these slots."""
        for slot in slots:
            self._start(slot)

    def run(self, now: float, order: RunOrder) -> None:
        """Let the slot's child run the order, after the one that it runs."""
        child = self._children[order.slot]
        child.orders.append(order)
        if len(child.orders) == 1:
            child.begin_order()
            child.ordered_at, child.heard = now, False
        parts = [(part.first, part.arguments) for part in order.parts]
        payload = self._encoder.encode((order.function, order.job, parts))
        child.unsent = memoryview(b"".join((child.unsent, struct.pack("<I", len(payload)), payload)))
        self._write(child)

    def replace(self, slot: int) -> None:
        """Let the slot's child go, which has nothing to do, and start another one."""
        self._let_go(self._children[slot])
        self._start(slot)

    def edits(self) -> list[Event]:
        """Says so when the modules' files are no longer what the children have imported."""
        edited = [] if _TRIAL in self._children else self._edits.found()
        return [Edited(edited, self._edits.are_refused)] if edited else []

    def try_import(self) -> list[Event]:
        """Start a child that only imports the modules; says so when that is not possible."""
        try:
            self._start(_TRIAL)
        except OperatorError as error:
            return [NotImported(str(error))]
        return []

    def kill(self, slot: int) -> None:
        """End the slot's child at once, with its whole process group; it is replaced, and nothing is reported."""
        child = self._children[slot]
        child.orders.clear()
        self._replace(child)

    def events(self) -> Iterator[Event]:
        """What the children have said. Act on each event before taking the next: that may bring a new child."""
        for key, ready in self._selector.select(timeout=0):
            child: Child = key.data
            if not self._is_there(child) and child not in self._leaving:
                continue
            if key.fileobj is child.output:
                if not child.log_output():
                    self._selector.unregister(child.output)
                continue
            if ready & selectors.EVENT_WRITE:
                self._write(child)
            if ready & selectors.EVENT_READ:
                yield from self._read(child)

    def end_overdue(self, now: float) -> Iterator[Event]:
        """End the children whose task has outlived its timeout. Act on each event before taking the next."""
        self._end_leaving(now)
        self._fill_vacant(now)
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
                log.warning("slot %d does not start its batch: it gets a new child process", child.slot)
                yield self._replace(child)

    def deadline(self) -> float | None:
        """When `end_overdue` has something to do next, as far as one can see now."""
        instants = [child.overdue_at() for child in self._children.values() if child.order and child.order.timeout_s]
        instants += [child.leaves_by for child in self._leaving]
        instants += [retry_at for slot, retry_at in self._vacant.items() if slot not in self._children]
        return min((instant for instant in instants if instant is not None), default=None)

    def dismiss(self) -> None:
        """Let the idle children go, and end the others."""
        for child in self._children.values():
            if child.ready and not child.orders:
                self._let_go(child)
            else:
                self._end(child)
        self._children.clear()

    def have_left(self) -> bool:
        """True once all the children that were let go have ended."""
        return all(child.process.poll() is not None for child in self._leaving)

    def close(self) -> None:
        """End all children."""
        for child in (*self._children.values(), *self._leaving):
            self._end(child)
        self._children.clear()
        self._leaving.clear()
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
        page = shared_page()
        progress = mmap.mmap(page, mmap.PAGESIZE)
        orders = {
            "wire": theirs.fileno(),
            "lifeline": lifeline_theirs,
            "progress": page,
            "value_bytes_max": MESSAGE_BYTES_MAX,
            **self._limits.said(slot),
        }
        with descriptors.as_started():
            process = subprocess.Popen(
                [sys.executable, "-P", _PROGRAM, msgspec.json.encode(orders), *self._modules],
                env=child_environment(os.environ, self._limits.threads),
                stdin=subprocess.DEVNULL,
                stdout=output_theirs,
                stderr=output_theirs,
                pass_fds=(theirs.fileno(), lifeline_theirs, page),
                # A process group to end, and no terminal: a task that asks there would be stopped for ever.
                start_new_session=True,
            )
        os.close(page)
        theirs.close()
        os.close(lifeline_theirs)
        os.close(output_theirs)
        ours.setblocking(False)
        child = Child(slot, process, ours, lifeline, progress, ChildOutput(output, slot))
        self._children[slot] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def _write(self, child: Child) -> None:
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

    def _is_there(self, child: Child) -> bool:
        """False once the slot has another child."""
        return self._children.get(child.slot) is child

    def _read(self, child: Child) -> Iterator[Event]:
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

    def _link_misused(self, child: Child) -> list[Event]:
        log.warning("a task of slot %d wrote into its worker's link: its child process is replaced", child.slot)
        return self._died(child)

    def _trial_event(self, child: Child, said: Said) -> list[Event]:
        self._children.pop(_TRIAL)
        self._let_go(child)
        if said.ready is None:
            self._edits.refused()
            return [NotImported(said.broken or "nothing is known")]
        self._edits.imported(said.files)
        return [Imported(said.ready)]

    def _event(self, child: Child, said: Said) -> list[Event]:
        if child.slot == _TRIAL:
            return self._trial_event(child, said)
        if said.ready is not None:
            child.ready = True
            if said.left_out and not self._was_ready:
                log.info("not exposed, because made elsewhere: %s; name them to expose them", ", ".join(said.left_out))
            if not self._was_ready:
                self._edits.imported(said.files)
            self._was_ready = True
            self._failed_starts = 0
            self._vacant.pop(child.slot, None)
            return [Ready(child.slot, said.ready)]
        if said.broken is not None:
            if child.ready:
                raise ValueError("broken after it was ready")
            return self._vacated(child, said.broken) if self._was_ready else [Broken(child.slot, said.broken)]
        if said.given_back is not None:
            return [self._given_back(child, said.given_back, said.orders_back)]
        found: list[Event] = [self._outcome(child, *each) for each in said.outcomes or ()]
        if said.retired:
            self._let_go(child)
            self._start(child.slot)
            found.append(Lost(child.slot))
        elif said.done:
            found.append(self._done(child))
        return found

    def _vacated(self, child: Child, text: str) -> list[Event]:
        """The modules cannot be imported any more: they may have been edited, and will be again."""
        del self._children[child.slot]
        self._end(child)
        if not self._vacant:
            log.error("slot %d has no child process until its modules can be imported again: %s", child.slot, text)
        self._vacant[child.slot] = None
        return []

    def _fill_vacant(self, now: float) -> None:
        for slot, retry_at in list(self._vacant.items()):
            if retry_at is None:
                self._vacant[slot] = now + RETRY_S
            elif now >= retry_at and slot not in self._children:
                self._start(slot)
                self._vacant[slot] = now + RETRY_S

    def _given_back(self, child: Child, firsts: list[int], orders_back: int) -> GivenBack:
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

    def _done(self, child: Child) -> Done:
        if child.order is None or child.parts:
            raise ValueError("done before its time")
        child.end_order()
        return Done(child.slot)

    def _outcome(self, child: Child, first: int, count: int, seconds: float, outcomes: bytes) -> Outcome:
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

    def _died(self, child: Child, cause: str | None = None, overdue: int | None = None) -> list[Event]:
        """The running task is to blame; tasks of the order without an outcome are run by another child."""
        order, parts = child.order, child.parts
        task = child.running_task() if overdue is None else overdue
        returncode = self._end(child, died=cause is None)
        timed_out = cause is not None
        cause = cause or how_it_ended(returncode)
        if child.slot == _TRIAL:
            del self._children[_TRIAL]
            self._edits.refused()
            return [NotImported(f"importing {self._named} {cause}")]
        if not child.ready:
            self._failed_starts += 1
            # Modules that end their process do so each time, but not by these: they come from outside.
            by_itself = not self._was_ready and returncode not in (-signal.SIGKILL, -signal.SIGTERM)
            if by_itself or self._failed_starts >= self._STARTS_MAX:
                del self._children[child.slot]
                return [Broken(child.slot, f"importing {self._named} {cause}")]
        self._start(child.slot)
        if order is None or not parts:
            return [Lost(child.slot)]
        # Which task runs is what the child itself says: only one that it has left is believed.
        blamed = task if task is not None and child.has_left(task) else None
        if blamed is None and sum(part.count for part in parts) > 1:
            log.warning(
                "a task of job %s %s; slot %d has a new child and runs them one by one", order.job, cause, child.slot
            )
            return [Lost(child.slot, unclear=True)]
        blamed = child.reported if blamed is None else blamed
        log.warning("task %d of job %s %s; its slot has a new child", blamed, order.job, cause)
        by_sigterm = not timed_out and returncode == -signal.SIGTERM
        text = f"the task {cause}"
        seconds = order.timeout_s if timed_out and order.timeout_s else 0.0
        outcomes = self._encoder.encode(Outcomes(values=[None], seconds=[seconds], errors=[(0, text, False)]))
        return [Outcome(child.slot, blamed, 1, seconds, outcomes, by_sigterm), Lost(child.slot)]

    def _let_go(self, child: Child) -> None:
        """Let the child end like any other program: what the user's modules have registered with atexit runs."""
        child.log_output()
        child.orders.clear()
        try:
            child.wire.send(_NO_ORDER)
        except OSError:
            # It has ended already, or says itself that it does.
            pass
        self._selector.unregister(child.wire)
        self._leaving.append(child)

    def _end_leaving(self, now: float) -> None:
        for child in list(self._leaving):
            child.leaves_by = child.leaves_by or now + LEAVE_S
            has_left = child.process.poll() is not None
            if has_left or now >= child.leaves_by:
                if not has_left:
                    log.warning("a child process of slot %d does not end by itself: it is killed", child.slot)
                self._leaving.remove(child)
                self._end(child)

    def _replace(self, child: Child) -> Lost:
        self._end(child)
        self._start(child.slot)
        return Lost(child.slot)

    def _end(self, child: Child, died: bool = False) -> int | None:
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
        child.log_output()
        for mine in (child.wire, child.output):
            if mine.fileno() in self._selector.get_map():
                self._selector.unregister(mine)
        child.output.close()
        child.wire.close()
        os.close(child.lifeline)
        child.progress.close()
        return returncode
