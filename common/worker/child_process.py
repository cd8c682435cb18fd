"""One child process of a slot, as its worker sees it."""

import mmap
import os
import socket
import struct
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..errors import OperatorError
from ..plain_text import signal_text
from .child_output import ChildOutput, Owner
from .held_batch import TaskSlice
from .slot_orders import RunOrder

LINK_TAKEN = 70
"""What `child.py` exits with when a task has closed its descriptors."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use, None meaning no limit, and which commands it runs."""

    memory_bytes: int | None = None
    tasks: int | None = None
    """A child that has run this many tasks is replaced."""
    threads: int | None = None
    """How many threads numeric libraries start; None leaves that to them."""
    commands: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By function, each one's program and template."""
    output_dir: str | None = None
    """Where the outputs of commands are written whole."""

    def said(self, slot: int) -> dict[str, object]:
        """What the slot's child is told of it."""
        return {
            "memory_bytes": self.memory_bytes or 0,
            "tasks_max": self.tasks or 0,
            "slot": slot,
            "commands": self.commands,
            "output_dir": self.output_dir,
        }


class Said(msgspec.Struct, frozen=True):
    """One frame from a child: ready, broken, given back, or outcomes with how the order ended."""

    ready: list[str] | None = None
    left_out: list[str] = []
    files: dict[str, tuple[int, int]] = {}
    """The files of the user's modules, with when they were changed last, and their sizes."""
    broken: str | None = None
    outcomes: list[tuple[int, int, float, bytes]] | None = None
    given_back: list[int] | None = None
    orders_back: int = 0
    done: bool = False
    retired: bool = False


@dataclass(slots=True, eq=False)
class Child:
    """One process and what belongs to it. `progress` is shared memory: the running task's index or -1, when
    it began, its order's number, and the first task whose output is not settled."""

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
    orders: deque[RunOrder] = field(default_factory=deque)
    """What it was given and has not said to be done, the one that runs first."""
    done_count: int = 0
    parts: deque[TaskSlice] = field(default_factory=deque)
    """Of its order, those with tasks that have no outcome."""
    reported: int = 0
    """The next task of the first part that has no outcome."""
    leaves_by: float | None = None
    """When it must have ended, once it was let go."""
    unread: bytearray = field(default_factory=bytearray)
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))

    @property
    def order(self) -> RunOrder | None:
        """What it runs."""
        return self.orders[0] if self.orders else None

    def begin_order(self) -> None:
        """The first order, if there is one, is begun."""
        self.parts = deque(self.orders[0].parts) if self.orders else deque()
        self.reported = self.parts[0].first if self.parts else 0

    def is_at_first_part(self) -> bool:
        """True while the first part of its order has tasks without an outcome."""
        return self.order is not None and bool(self.parts) and self.parts[0] is self.order.parts[0]

    def job_of(self, number: int) -> str | None:
        """The job of the order of this number, if it has not said that it is done."""
        at = number - self.done_count
        return self.orders[at].job if 0 <= at < len(self.orders) else None

    def printing(self) -> Owner:
        """The order that runs, and which of its tasks may have printed what has not been read; None between tasks."""
        last, _, order, first = struct.unpack_from("=4q", self.progress)
        return None if last < 0 else (order, min(first, last), last)

    def log_output(self) -> bool:
        """Log what its tasks have printed; False at the end of its output."""
        return self.output.log_lines(self.job_of, self.printing)

    def end_order(self) -> None:
        """It has done its order; it begins with the next one if it has one."""
        # What its tasks have printed was written before this word, and is theirs only as long as the order stands.
        self.output.end_order(self.job_of, self.printing)
        self.orders.popleft()
        self.done_count += 1
        self.begin_order()

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


def shared_page() -> int:
    """The descriptor of a page of memory to share with a child. Raises OperatorError.

    Not of a sparse file: where its disk is full, whoever touches it is killed by SIGBUS.
    """
    try:
        page = os.memfd_create("tradewind")
    except (AttributeError, OSError):
        # Not Linux, or a sandbox that refuses it.
        page = _page_of_a_file()
    else:
        os.truncate(page, mmap.PAGESIZE)
    return page


def _page_of_a_file() -> int:
    folder = "the folder for temporary files"
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(buffering=0) as file:
            if file.write(bytes(mmap.PAGESIZE)) == mmap.PAGESIZE:
                return os.dup(file.fileno())
        why = "no space left"
    except OSError as error:
        why = error.strerror or str(error)
    raise OperatorError(
        f"cannot make a page of shared memory in {folder}: {why}; make room, or set TMPDIR to another folder"
    )


def how_it_ended(returncode: int | None) -> str:
    if returncode is None or returncode == LINK_TAKEN:
        return "closed its process's link to the worker"
    if returncode < 0:
        return f"killed its process by signal {signal_text(-returncode)}"
    return f"ended its process with exit code {returncode}"
