"""The program of a slot's child process: runs the user's functions and says their outcomes.

It belongs to the user: it imports nothing of Tradewind by name, so that the user's own `common`, `worker` or `sink` are
found, and it looks for modules in the current folder first. It loads `protocol/values.py` by its path. It is started as
`python -P child.py`; what it says to the worker goes through a socket pair, in frames of a 4-byte length and
MessagePack.
"""

from __future__ import annotations

import sys

_FRESH = frozenset(sys.modules)
"""The modules that any program has before its first line."""

import ast
import contextlib
import ctypes
import errno
import fcntl
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import io
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sysconfig
import termios
import time
import traceback
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, cast, get_origin

import msgspec

_PLAIN = frozenset((int, float, bool, type(None)))
_TEXTS = frozenset((str, bytes))
_FLUSH_S = 0.05
_READ_BYTES = 256 * 1024
_LAST_S = 0.1
_LOOK_S = 2e-6
"""After a task that took longer it is worth a look whether the link and its output are still there."""
_SETTLE_S = 200e-6
"""After a task that took longer it is worth a look whether something was printed past Python."""
_ORDER = 2
"""Where in the shared page the number of the running order is, the first one being 0."""
_UNSETTLED = 3
"""Where in it the first task is that may have printed something which is not settled."""
_LOOK_AGAIN_S = 0.001
_IOLBF = 1
"""C's name for buffering by line."""
_DEPTH_MARGIN = 100
_TASK_BYTES = 20
"""What a task adds to a message beside its value: its run time, and its value where that is a number."""
_HEADER_BYTES = 5
"""What MessagePack puts before a large string."""
_ARGUMENTS_BYTES = 1024 * 1024
"""Arguments of a batch with several tasks, which results may carry too, take at most this many bytes."""
_FLUSH_BYTES = 1024 * 1024
_ERROR_CHARACTERS_MAX = 50_000
_NAMED_MAX = 5
_NOT_USERS = (__file__, importlib.__file__, "<frozen importlib")
"""Whose frames a traceback begins with before the user's own come."""
_LINK_TAKEN = 70
"""The exit code that tells the worker that a task has taken this process's descriptors."""
_LEVELS_SURE = 900
"""With fewer brackets than this a value cannot be nested too deeply."""
_encoder = msgspec.msgpack.Encoder()
_CALL = 126
"""The extension type of an argument that is several: an array of an array and a map."""
_UNUSABLE = 127
"""The extension type of an argument that could not be made from the input; it holds the reason."""
_read, _write, _poll = os.read, os.write, select.poll
"""As they are before the user's modules may replace them: gevent and eventlet do, for greenlets of one thread."""


def _our_file(folder: str, name: str) -> ModuleType:
    """A file of Tradewind's, loaded by its path, so that no module of the user's is hidden."""
    path = Path(__file__).parents[1] / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"tradewind_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


value_forms = _our_file("protocol", "values")
"""How results are encoded."""
_INTEGER_MIN, _INTEGER_MAX = value_forms.INTEGERS


class ChildLimits(msgspec.Struct, frozen=True):
    """How the worker wants its child: descriptors, and limits where 0 means none."""

    wire: int
    lifeline: int
    progress: int
    value_bytes_max: int
    memory_bytes: int
    tasks_max: int
    slot: int
    commands: dict[str, tuple[str, str]]
    """By function, each one's program and template."""
    output_dir: str | None


class Exposed:
    """The functions that the operator named, by "module:function"."""

    def __init__(self, specs: list[str]) -> None:
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self.left_out: list[str] = []
        """What a module has under a name of its own, and what was made elsewhere."""
        for spec in specs:
            module_name, _, name = spec.partition(":")
            if hidden := _hidden_file(module_name):
                raise LookupError(hidden)
            module = importlib.import_module(module_name)
            if name:
                self.functions[spec] = _function(module, name)
            else:
                functions, others = _public_functions(module)
                self.functions |= functions
                self.left_out += others

    def said(self) -> dict[str, list[str]]:
        """What the worker is told of them."""
        return {"ready": sorted(self.functions), "left_out": sorted({*self.left_out} - self.functions.keys())}


def _own_file(name: str) -> str | None:
    """The file of the module of this name in the current folder."""
    found = importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [str(Path.cwd())])
    # Without a loader it is a folder that happens to have that name.
    return None if found is None or found.loader is None else found.origin


def _forget_namesakes() -> None:
    """Let the user's own modules be found, whatever this program has imported under their names."""
    for name in [name for name in sys.modules if "." not in name and name not in _FRESH]:
        if name not in sys.builtin_module_names and _own_file(name):
            for each in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[each]


def _hidden_file(name: str) -> str | None:
    """Why the user's module of this name cannot be found; None when it can, or when there is none."""
    name = name.partition(".")[0]
    own = _own_file(name)
    try:
        found = importlib.util.find_spec(name) if own else None
    except ValueError:
        return None
    if own is None or found is None or found.origin == own:
        return None
    return f"Python finds a module {name} of its own before {own}: rename that file"


def _files(specs: list[str]) -> dict[str, tuple[int, int]]:
    """The files of the named modules, and of those that are neither Python's nor installed: age in ns, and size."""
    named = {spec.partition(":")[0] for spec in specs}
    elsewhere = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or (name not in named and path.startswith((*elsewhere, __file__))):
            continue
        with contextlib.suppress(OSError, ValueError):
            file = Path.cwd() / path
            state = file.stat()
            found[str(file)] = state.st_mtime_ns, state.st_size
    return found


def _function(module: ModuleType, name: str) -> Callable[[Any], Any]:
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise LookupError(f"module {module.__name__} has no function {name}{_others(module)}")
    return cast("Callable[[Any], Any]", function)


def _others(module: ModuleType) -> str:
    """Which functions the module has, for an operator who named one that is not there."""
    try:
        names = [spec.partition(":")[2] for spec in _public_functions(module)[0]]
    except LookupError:
        return ""
    return f"; it has {', '.join(names[:_NAMED_MAX])}{', ...' * (len(names) > _NAMED_MAX)}"


def _public_functions(module: ModuleType) -> tuple[dict[str, Callable[[Any], Any]], list[str]]:
    """What `__all__` names, or else what the module makes itself; and what looks like it and is not taken.

    A class is no function, and neither is a type.
    """
    exported = getattr(module, "__all__", None)
    defined, assigned = _bound_names(module)
    found, others = {}, []
    for name in vars(module) if exported is None else exported:
        value = getattr(module, name, None)
        if (exported is None and name.startswith("_")) or not callable(value):
            continue
        if isinstance(value, type) or get_origin(value) is not None:
            continue
        its_own = name in defined or _comes_from(module, value)
        if exported is not None or its_own or (name in assigned and isinstance(value, functools.partial)):
            found[f"{module.__name__}:{name}"] = value
        elif name in assigned:
            others.append(f"{module.__name__}:{name}")
    if not found:
        raise LookupError(_no_function(module, exported is not None))
    return found, others


def _bound_names(module: ModuleType) -> tuple[set[str], set[str]]:
    """The names that `def` gives, whatever a decorator makes of it, and those that `=` gives, in the module itself."""
    try:
        blocks: list[list[ast.stmt]] = [ast.parse(inspect.getsource(module)).body]
    except (OSError, TypeError, SyntaxError):
        return set(), set()
    defined, assigned = set(), set()
    while blocks:
        for node in blocks.pop():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                assigned |= {target.id for target in targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.If | ast.Try | ast.With):
                blocks += [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(node, "handlers", ())]
    return defined, assigned


def _comes_from(module: ModuleType, value: Any) -> bool:
    """True for a function that was defined in the module, also below its decorators."""
    with contextlib.suppress(Exception):
        value = inspect.unwrap(value)
    return getattr(value, "__module__", None) == module.__name__


def _no_function(module: ModuleType, exports: bool) -> str:
    if exports:
        return f"__all__ of module {module.__name__} names no function"
    name = module.__name__
    return (
        f"module {name} makes no public function itself: write one whose name does not begin with _,"
        f" or name one that it has from elsewhere, as {name}:FUNCTION"
    )


class Wire:
    """The socket pair to the worker."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=descriptor)
        self._file = os.fstat(descriptor)
        self._lock = allocate_lock()
        self._reading = allocate_lock()
        self._unread = bytearray()
        self.forked = False
        """True in a process that a task has forked: it must never run the next task."""
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        # Whoever outlives this child must not hold its link open: the worker waits for the end of it.
        self._socket.close()
        self.forked = True

    def receive(self) -> bytes | None:
        """The next order, or None when the worker has closed the link."""
        with self._reading:
            while (order := self._order()) is None:
                got = self._socket.recv(_READ_BYTES)
                if not got:
                    return None
                self._unread += got
            return order

    def waiting(self) -> list[bytes]:
        """The orders that have come and that nobody has received. They are taken."""
        if not self._reading.acquire(blocking=False):
            return []
        try:
            with contextlib.suppress(BlockingIOError):
                self._unread += self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            return list(iter(self._order, None))
        finally:
            self._reading.release()

    def _order(self) -> bytes | None:
        if len(self._unread) < 4:
            return None
        end = 4 + struct.unpack_from("<I", self._unread)[0]
        if len(self._unread) < end:
            return None
        order = bytes(memoryview(self._unread)[4:end])
        del self._unread[:end]
        return order

    def send(self, message: dict[str, Any]) -> None:
        payload = _encoder.encode(message)
        if not os.path.samestat(os.fstat(self.descriptor), self._file):
            # A task has closed the link and opened a file, which happens to have its number.
            raise OSError(errno.EBADF, "the link is closed")
        with self._lock:
            self._socket.sendall(struct.pack("<I", len(payload)) + payload)


class Unfit(Exception):
    """A result that cannot be sent; the text says why."""

    do_not_retry = True

    def __init__(self, text: str, of_type: bool = False) -> None:
        super().__init__(text)
        self.of_type = of_type
        """True when it is because of what the function returns, and not how much."""


class Unusable(Exception):
    """Stands in the place of an argument that could not be made from the input; the text says why."""

    do_not_retry = True


class Spread:
    """Stands in the place of the arguments of a function that takes several."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs


_worded: set[type] = {Unfit, Unusable}
"""Errors that say in words what has happened, and need no traceback."""
_spread_decoder = msgspec.msgpack.Decoder(tuple[list[Any], dict[str, Any]])
_SPECIAL = frozenset((Unusable, Spread))


def _extension(code: int, content: memoryview) -> Any:
    if code == _CALL:
        try:
            return Spread(*_spread_decoder.decode(content))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Unusable(f"the arguments cannot be read: {error}")
    text = bytes(content)
    return Unusable(text.decode("utf-8", "replace")) if code == _UNUSABLE else msgspec.msgpack.Ext(code, text)


_decoder = msgspec.msgpack.Decoder(tuple[str, str, list[tuple[int, list[Any]]]], ext_hook=_extension)


def _fitting(function: Callable[[Any], Any], arguments: list[Any]) -> Callable[[Any], Any]:
    """The function for these arguments, of which some may be unusable, or several in one."""
    if _SPECIAL.isdisjoint(map(type, arguments)):
        return function

    def _call(argument: Any) -> Any:
        if type(argument) is Spread:
            return function(*argument.args, **argument.kwargs)
        if type(argument) is Unusable:
            raise argument
        return function(argument)

    return _call


@dataclass(slots=True)
class PartOutcomes:
    """Outcomes of one part of the running order, in task order; errors and exact values by offset from `first`."""

    first: int
    values: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    final: set[int] = field(default_factory=set)
    """Offsets of errors that are not to be retried."""
    exact: dict[int, bytes] = field(default_factory=dict)
    """Exact values that were not sent."""
    unsendable: list[str] = field(default_factory=list)
    """Why results of this part cannot be sent, where that is because of their type."""
    sent: int = 0

    def unsent(self) -> int:
        """How many outcomes are complete and were not sent."""
        return len(self.seconds) - self.sent


class MemoryLimit:
    """The address space of the user's functions, in bytes; `with` it, this program's own work may take more.

    msgspec crashes where it is refused memory, and a task's result would be lost without a word.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = allocate_lock()
        self._lifted = 0
        self._hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        self._set(count)

    def _set(self, count: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (count, self._hard))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Meanwhile it is not lifted: a process that is started inherits it."""
        self._lock.acquire()
        while self._lifted:
            self._lock.release()
            time.sleep(_LOOK_AGAIN_S)
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def __enter__(self) -> None:
        with self._lock:
            self._lifted += 1
            self._set(self._hard)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._lifted -= 1
            if not self._lifted:
                self._set(self.count)


class Outbox:
    """Outcomes of the running order. The task loop appends; the watch thread may send what is there."""

    def __init__(self, wire: Wire, value_bytes_max: int) -> None:
        self.limit: MemoryLimit | contextlib.nullcontext[None] = contextlib.nullcontext()
        self.size = 0
        """Encoded bytes of the values that were not sent, except plain ones."""
        self.wire = wire
        self._value_bytes_max = value_bytes_max
        self._lock = allocate_lock()
        self._before: list[PartOutcomes] = []
        self._before_count = 0
        self.part = PartOutcomes(0)

    def begin(self, first: int) -> PartOutcomes:
        """The next part of the order begins with this task."""
        with self._lock:
            if unsent := self.part.unsent():
                self._before.append(self.part)
                self._before_count += unsent
            self.part = PartOutcomes(first)
            return self.part

    def flush(self, ending: dict[str, Any] | None = None) -> None:
        """Send the outcomes that are complete and were not sent yet; with the last ones goes how the order ended."""
        with self._lock:
            parts = [part for part in (*self._before, self.part) if part.unsent()]
            if parts or ending:
                with self.limit:
                    said = [self._said(part) for part in parts]
                    self.wire.send({"outcomes": said, **(ending or {})})
            self._before, self._before_count, self.size = [], 0, 0

    def _said(self, part: PartOutcomes) -> tuple[int, int, float, bytes]:
        low, high = part.sent, len(part.seconds)
        part.sent = high
        values, seconds = part.values[low:high], part.seconds[low:high]
        errors = {at - low: text for at, text in part.errors.items() if low <= at < high}
        outcomes = {"values": values, "seconds": seconds}
        outcomes["errors"] = [(at, text, at + low in part.final) for at, text in errors.items()]
        if part.exact:
            outcomes["exact"] = [(at - low, part.exact.pop(at)) for at in range(low, high) if at in part.exact]
        return part.first + low, high - low, sum(seconds), _encoder.encode(outcomes)

    def sealed(self, value: Any, offset: int) -> msgspec.Raw:
        """The value encoded now, so that the function may change it afterwards. Raises Unfit."""
        with self.limit:
            encoded, exact = self._encoded(value)
        size = len(encoded) + (0 if exact is None else len(exact) + _HEADER_BYTES)
        unsent = self._before_count + self.part.unsent()
        if self.size + size + _TASK_BYTES * unsent > self._value_bytes_max - _ARGUMENTS_BYTES:
            # Together they would not fit into a message.
            self.flush()
        self.size += size
        if exact is not None:
            self.part.exact[offset] = exact
        return msgspec.Raw(encoded)

    def _encoded(self, value: Any) -> tuple[bytes, bytes | None]:
        """The readable form, encoded, and the exact one where the readable one does not give the result back."""
        try:
            if type(value) in _TEXTS:
                # Looked at before there is a second copy of it, for which the memory may not suffice.
                self._check_size(len(value) + _HEADER_BYTES)
                return _encoder.encode(value), None
        except UnicodeEncodeError:
            # It has surrogates, as names of files that are no UTF-8.
            pass
        try:
            return self._forms(value)
        except RecursionError:
            raise Unfit("the result is nested too deeply, or contains itself") from None
        except value_forms.Unsendable as error:
            raise Unfit(str(error), of_type=True) from None
        except (Unfit, MemoryError):
            raise
        except Exception as error:
            kind = type(value).__qualname__
            raise Unfit(f"the result, of type {kind}, cannot be sent: {error!r}", of_type=True) from None

    def _forms(self, value: Any) -> tuple[bytes, bytes | None]:
        readable, exact = value_forms.forms(value)
        if type(readable) is msgspec.msgpack.Ext:
            text = bytes(readable.data)
            if text.count(b"[") + text.count(b"{") >= _LEVELS_SURE:
                _check_depth(text)
        encoded = _encoder.encode(readable)
        if exact is not None and len(encoded) + len(exact) > self._value_bytes_max >= len(exact) + _TASK_BYTES:
            encoded = _encoder.encode(f"{type(value).__name__}, {len(exact)} bytes")
        self._check_size(len(encoded) + len(exact or b""))
        return encoded, exact

    def _check_size(self, count: int) -> None:
        if count > self._value_bytes_max:
            raise Unfit(
                f"the result has {count} bytes, but a message holds {self._value_bytes_max}:"
                " write it to a file and return the path"
            )


def _check_depth(text: bytes) -> None:
    """Raise RecursionError for JSON that whoever reads it, with less room for depth than this process, could not."""
    msgspec.json.decode(b"[" * _DEPTH_MARGIN + text + b"]" * _DEPTH_MARGIN, type=msgspec.Raw)


class Trial:
    """Functions that return only what cannot be sent: after a few tasks of one its others fail without being run.

    Hours of work would be thrown away, task by task. One task is not enough to judge by: the results of a function may
    be of several types.
    """

    _TRIALS = 3

    def __init__(self) -> None:
        self._trials: dict[str, int] = {}
        """By function: how many more results that cannot be sent it may return."""
        self.refused: dict[str, str] = {}
        """Each with the reason."""

    def trials(self, name: str) -> int:
        """How many more results of this function may be unsendable."""
        return self._trials.get(name, self._TRIALS)

    def judge(self, name: str, part: PartOutcomes) -> None:
        """A part of an order of this function was run."""
        if len(part.errors) < len(part.seconds):
            self._trials[name] = sys.maxsize
        elif part.unsendable:
            self._trials[name] = self.trials(name) - len(part.unsendable)
            if self._trials[name] <= 0:
                self.refused[name] = part.unsendable[-1]


class TaskOutput(io.RawIOBase):
    """Where a task's `print` goes: each line to the worker, behind the numbers of the order and the task that run."""

    def __init__(self, descriptor: int, progress: memoryview[int]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._progress = progress
        self.open_line = False
        """True when the last line may have no end yet."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: Any) -> int:
        if not text:
            return 0
        mark = b"\x1d%d %d\x1d" % (self._progress[_ORDER], self._progress[0])
        lines = bytes(text).splitlines(keepends=True)
        rest = memoryview(b"".join(mark + line for line in lines))
        while rest:
            rest = rest[_write(self._descriptor, rest) :]
        self.open_line = not lines[-1].endswith(b"\n")
        return len(text)

    def close(self) -> None:
        """No task closes it for the next one."""


class TaskText(io.TextIOWrapper):
    """A task's `sys.stdout` or `sys.stderr`: nothing that a task does to it is there for the next one.

    Its `buffer` keeps nothing back, as with `python -u`.
    """

    def __init__(self, descriptor: int, progress: memoryview[int]) -> None:
        self.output = TaskOutput(os.dup(descriptor), progress)
        super().__init__(cast("Any", self.output), encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        if "\n" in text:
            return super().write(text)
        self.output.open_line = True
        return super().write(text)

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        self.flush()
        return self.output

    def reconfigure(self, **options: Any) -> None:
        super().reconfigure(**{**options, "line_buffering": True})


class TaskPrints:
    """Standard output and standard error, for Python and for what is below it.

    Whatever way a task prints, it is written when the task is over. The next task finds both as they were after the
    import: what a module puts in their place then, stays.
    """

    def __init__(self, progress: memoryview[int]) -> None:
        self._progress = progress
        self.own = TaskText(1, progress), TaskText(2, progress)
        self.home: tuple[Any, Any] = self.own
        self.is_wrapped = False
        self._kept = sys.__stdout__, sys.__stderr__
        self._flush_c = _line_buffered_c()
        self._pipe = os.fstat(1)
        self._unread = bytearray(4)
        sys.stdout = sys.__stdout__ = self.own[0]  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self.own[1]  # type: ignore[misc]

    def imported(self) -> None:
        """The user's modules are there."""
        self.home = vars(sys).get("stdout"), vars(sys).get("stderr")
        self.is_wrapped = self.home != self.own

    def put_back(self) -> None:
        """Put back what a task has replaced."""
        now = vars(sys).get
        if now("stdout") is not self.home[0] or now("stderr") is not self.home[1]:
            self.tidy()

    def tidy(self) -> None:
        """Write what Python still has of a task, with the end of its last line; and put back what it has replaced."""
        now = vars(sys).get
        self.home = sys.stdout, sys.stderr = self._tidied(0, now("stdout")), self._tidied(1, now("stderr"))

    def _tidied(self, at: int, replaced: Any) -> Any:
        home, own = self.home[at], self.own[at]
        for each in (replaced, home, own):
            # They are the user's, and may do anything.
            with contextlib.suppress(Exception):
                each.flush()
        with contextlib.suppress(OSError):
            if own.output.open_line:
                own.write("\n")
        with contextlib.suppress(Exception):
            if home is None or not home.closed:
                return home
        return own

    def settle(self, first: int, last: int) -> None:
        """What has come past Python, and is not marked, is of these tasks."""
        self._flush_c()
        output = self.own[0].output
        with contextlib.suppress(OSError):
            # What the worker has read it has found a task for.
            fcntl.ioctl(output.fileno(), termios.FIONREAD, self._unread)
            if any(self._unread):
                _write(output.fileno(), b"\x1e%d %d %d\x1e" % (self._progress[_ORDER], first, last))

    def restore_descriptors(self) -> None:
        """A task may have closed 1 and 2, or sent them elsewhere."""
        for number, own in enumerate(self.own, 1):
            try:
                is_ours = os.path.samestat(os.fstat(number), self._pipe)
            except OSError:
                is_ours = False
            if not is_ours:
                with contextlib.suppress(OSError):
                    os.dup2(own.output.fileno(), number)


def _line_buffered_c() -> Callable[[], object]:
    """Let C write each line of its standard output at once; returns what writes the rest of the last one."""
    try:
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
        libc.setvbuf(stdout, None, _IOLBF, ctypes.c_size_t(0))
    except (OSError, ValueError, AttributeError):
        return bool
    return functools.partial(libc.fflush, stdout)


class OrderQueue:
    """The parts of the order that have not begun. The task loop takes them; the watch thread may give them back."""

    def __init__(self, outbox: Outbox, progress: memoryview[int]) -> None:
        self._outbox = outbox
        self._progress = progress
        self._lock = allocate_lock()
        self._parts: deque[tuple[int, list[Any]]] = deque()

    def begin(self, parts: list[tuple[int, list[Any]]]) -> None:
        self._parts.extend(parts)

    def next(self) -> tuple[int, list[Any]] | None:
        try:
            return self._parts.popleft()
        except IndexError:
            return None

    def give_back(self, task: int) -> None:
        """Let others run what waits behind this task, if it still runs."""
        wire = self._outbox.wire
        with self._lock:
            if self._progress[0] != task:
                return
            with self._outbox.limit:
                firsts: deque[int] = deque()
                # One by one from the end: the task loop may take the next part at any moment.
                with contextlib.suppress(IndexError):
                    while True:
                        firsts.appendleft(self._parts.pop()[0])
                orders_back = len(wire.waiting())
                if firsts or orders_back:
                    wire.send({"given_back": list(firsts), "orders_back": orders_back})

    def done(self, retired: bool) -> None:
        """Say that the order is done, or that this process has run as many tasks as it may."""
        # What was given back must be said before.
        with self._lock:
            self._parts.clear()
            self._outbox.flush({"retired": True} if retired else {"done": True})


class ParentWatch:
    """Sends outcomes that wait behind a slow task, gives back what has not begun, and ends the process group when the
    worker is gone.

    It does so in a thread of its own, which `threading` does not know: that module is the user's to change.
    """

    def __init__(self, lifeline: int, outbox: Outbox, orders: OrderQueue, progress: memoryview[int]) -> None:
        self._lifeline = lifeline
        self._pipe = os.fstat(lifeline)
        self._outbox = outbox
        self._orders = orders
        self._progress = progress
        self._woken, self._wake = os.pipe()
        self._parked = False
        self.busy = False

    def start(self) -> None:
        start_new_thread(self._run, ())

    def begin(self) -> None:
        self.busy = True
        if self._parked:
            self._parked = False
            _write(self._wake, b".")

    def _run(self) -> None:
        try:
            self._watch()
        except OSError:
            self.end()

    def end(self) -> NoReturn:
        """End this process: with its group when the worker is gone, else saying that a task took the descriptors."""
        with contextlib.suppress(OSError):
            # A descriptor that a task has closed may be another file by now.
            if os.path.samestat(os.fstat(self._lifeline), self._pipe):
                lifeline = _poll()
                lifeline.register(self._lifeline, select.POLLIN)
                if lifeline.poll(_LAST_S * 1000):
                    os.killpg(0, signal.SIGKILL)
        os._exit(_LINK_TAKEN)

    def _watch(self) -> None:
        idle, running = 0, -1
        # Not `select`, for which the numbers of a worker with many slots are too high.
        news = _poll()
        for descriptor in (self._lifeline, self._woken):
            news.register(descriptor, select.POLLIN)
        while True:
            self._parked = idle > 20
            if self.busy:
                self._parked = False
            ready = dict(news.poll(None if self._parked else _FLUSH_S * 1000))
            if self._lifeline in ready:
                self.end()
            if self._woken in ready:
                _read(self._woken, 64)
            idle = 0 if self.busy else idle + 1
            before, running = running, self._progress[0]
            if self.busy:
                self._outbox.flush()
                if running == before and running >= 0:
                    self._orders.give_back(running)


def _next_order(outbox: Outbox) -> tuple[str, str, list[tuple[int, list[Any]]]] | None:
    """The function, the job and the parts of the next order, or None when the worker has closed the link."""
    with outbox.limit:
        frame = outbox.wire.receive()
        return None if frame is None else _decoder.decode(frame)


def _run(
    function: Callable[[Any], Any],
    arguments: list[Any],
    outbox: Outbox,
    part: PartOutcomes,
    progress: memoryview[int],
    started: memoryview[float],
    prints: TaskPrints,
    trials: int,
) -> None:
    """Call the function for each argument. One clock reading a task: an end is the next one's beginning.

    It stops early when none of its results could be sent, and `trials` of them because of their type.
    """
    clock, first = time.monotonic, part.first
    wire, unsettled = outbox.wire, first
    (out, err), is_wrapped = (text.output for text in prints.own), prints.is_wrapped
    values, seconds = part.values, part.seconds
    stops = False
    progress[_UNSETTLED] = first
    began = clock()
    for offset, argument in enumerate(arguments):
        started[1] = began
        progress[0] = first + offset
        try:
            value = function(argument)
            kind = type(value)
            if kind is int:
                if not _INTEGER_MIN <= value <= _INTEGER_MAX:
                    value = outbox.sealed(value, offset)
            elif kind not in _PLAIN:
                value = outbox.sealed(value, offset)
        except BaseException as error:
            value = None
            part.errors[offset] = _described(error, outbox.limit)
            outbox.size += len(part.errors[offset].encode())
            if _is_final(error):
                part.final.add(offset)
            if type(error) is Unfit and error.of_type:
                part.unsendable.append(str(error))
                stops = len(part.unsendable) >= trials and len(part.errors) == offset + 1
        if wire.forked:
            os._exit(0)
        if out.open_line or err.open_line or is_wrapped:
            prints.tidy()
        values.append(value)
        ended = clock()
        seconds.append(ended - began)
        if ended - began > _LOOK_S:
            prints.put_back()
            # Said here, and not when the batch is over, the task is to blame that has closed it.
            os.get_inheritable(wire.descriptor)
            if ended - began > _SETTLE_S:
                prints.settle(unsettled, first + offset)
                progress[_UNSETTLED] = unsettled = first + offset + 1
        began = ended
        if outbox.size > _FLUSH_BYTES:
            outbox.flush()
        if stops:
            break
    prints.put_back()
    end = first + len(seconds)
    if unsettled < end:
        prints.settle(unsettled, end - 1)
    progress[0] = -1


def _fail_unrun(outbox: Outbox, part: PartOutcomes, count: int, reason: str) -> None:
    """The rest of the part's `count` tasks, of a function of which no result can be sent, are not run for nothing."""
    for offset in range(len(part.seconds), count):
        part.errors[offset] = f"not run: none of the results of this function so far could be sent\n{reason}"
        part.final.add(offset)
        outbox.size += len(part.errors[offset].encode())
        part.values.append(None)
        part.seconds.append(0.0)
        if outbox.size > _FLUSH_BYTES:
            outbox.flush()


def _is_final(error: BaseException) -> bool:
    """True when the error says that trying again is no use."""
    try:
        return bool(getattr(error, "do_not_retry", False))
    except Exception:
        return False


def _described(error: BaseException, limit: object = None) -> str:
    """The traceback from the user's function on."""
    if type(error) in _worded:
        return str(error)
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_NOT_USERS):
            frames = frames.tb_next
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:
        text = type(error).__name__
    text = text.encode("utf-8", "replace").decode()[-_ERROR_CHARACTERS_MAX:].rstrip()
    if issubclass(type(error), MemoryError) and isinstance(limit, MemoryLimit):
        text += f": the child's memory is limited to {limit.count} bytes"
    return text


def _broken(error: BaseException, specs: list[str]) -> str:
    """Why the modules cannot be served, for the operator."""
    if isinstance(error, ModuleNotFoundError) and any(
        spec.partition(":")[0] == error.name or spec.startswith(f"{error.name}.") for spec in specs
    ):
        return f"module {error.name} not found: it is not in {Path.cwd()} nor on Python's module path"
    if isinstance(error, ImportError) and error.name and (hidden := _hidden_file(error.name)):
        return f"{_which(specs)} cannot be imported: {error}: {hidden}"
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, LookupError) and frames[-1] == __file__:
        return str(error.args[0])
    return f"{_which(specs)} cannot be imported:\n" + _described(error)


def _which(specs: list[str]) -> str:
    """Which module has failed: the first one that is not there, because Python takes such a one out again."""
    missing = [spec.partition(":")[0] for spec in specs if spec.partition(":")[0] not in sys.modules]
    return f"module {missing[0]}" if missing else "the module"


class Commands:
    """The commands that the operator named, as functions; their code is loaded where there are some."""

    def __init__(self, limits: ChildLimits, limit: object, progress: memoryview[int]) -> None:
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self._around: Any = None
        if not limits.commands:
            return
        starting = limit.kept if isinstance(limit, MemoryLimit) else contextlib.nullcontext
        template, run = _our_file("worker", "command_template"), _our_file("worker", "command_run")
        _worded.update((template.Unfilled, run.CommandFailed))
        self._around = run.Surroundings(limits.slot, limits.output_dir, starting, lambda: progress[0])
        for name, (program, text) in limits.commands.items():
            self.functions[name] = run.NamedCommand(program, template.Template(text), self._around)

    def begin_order(self, job: str) -> None:
        """The tasks that run from now on are of this job."""
        if self._around is not None:
            self._around.job = job


def main() -> None:
    limits = msgspec.json.decode(sys.argv[1], type=ChildLimits)
    specs = sys.argv[2:]
    wire = Wire(limits.wire)
    memory = mmap.mmap(limits.progress, mmap.PAGESIZE)
    progress, started = memoryview(memory).cast("q"), memoryview(memory).cast("d")
    progress[0] = -1
    sys.argv = specs[:1] or [""]
    sys.path.insert(0, str(Path.cwd()))
    # What a task starts gets its output, and nothing else of ours.
    for descriptor in (limits.wire, limits.lifeline, limits.progress):
        os.set_inheritable(descriptor, False)
    prints = TaskPrints(progress)
    outbox = Outbox(wire, limits.value_bytes_max)
    orders = OrderQueue(outbox, progress)
    # Before the import: that may take long, and the worker may be killed meanwhile.
    watch = ParentWatch(limits.lifeline, outbox, orders, progress)
    watch.start()
    try:
        if limits.memory_bytes:
            outbox.limit = MemoryLimit(limits.memory_bytes)
        commands = Commands(limits, outbox.limit, progress)
        _forget_namesakes()
        exposed = Exposed(specs)
        exposed.functions |= commands.functions
    except BaseException as error:
        wire.send({"broken": _broken(error, specs)})
        return
    prints.imported()
    wire.send({**exposed.said(), "files": _files(specs)})
    tasks_left, order_count, trial = limits.tasks_max or sys.maxsize, 0, Trial()
    try:
        while tasks_left and (order := _next_order(outbox)) is not None:
            name, job, parts = order
            if not parts:
                # This process is no longer needed: it ends like any other program.
                return
            progress[_ORDER] = order_count
            order_count += 1
            commands.begin_order(job)
            orders.begin(parts)
            watch.begin()
            while tasks_left and (part := orders.next()) is not None:
                first, arguments = part[0], part[1][:tasks_left]
                made = outbox.begin(first)
                if name not in trial.refused:
                    function = _fitting(exposed.functions[name], arguments)
                    _run(function, arguments, outbox, made, progress, started, prints, trial.trials(name))
                    trial.judge(name, made)
                if name in trial.refused:
                    _fail_unrun(outbox, made, len(arguments), trial.refused[name])
                tasks_left -= len(arguments)
            watch.busy = False
            prints.restore_descriptors()
            orders.done(retired=not tasks_left)
    except (OSError, KeyboardInterrupt):
        watch.end()
    if tasks_left:
        watch.end()


if __name__ == "__main__":
    main()
