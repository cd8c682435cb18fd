"""A farm as an executor of Python's own `concurrent.futures`."""

import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol, TypeVar

from ..transport import clock
from .arguments import ArgumentEncoder, Encoded
from .errors import TaskFailed, TradewindError
from .job import Job
from .names import named

log = logging.getLogger(__name__)

T = TypeVar("T")
_AHEAD = 100
"""How many calls are taken from the queue before they are pushed: these cannot be cancelled any more."""
_WINDOW = 1_000


class OpenFarm(Protocol):
    """What an executor needs of its farm."""

    def begin_open(self, function: str | Callable[..., Any], arguments: Iterable[Any], ahead: int) -> Job: ...
    def own(self, executor: futures.Executor) -> None: ...


class Executor(futures.Executor):
    """Runs calls on the workers of a farm: what takes an executor takes this one.

    The futures are Python's own: `wait`, `as_completed`, `asyncio.wrap_future` and `loop.run_in_executor` work. Each
    function has one open job, whose results stay in the ledger; futures hold theirs in memory, so use `Farm.map` for
    millions. A failed call raises TaskFailed. BrokenExecutor is raised when the sink refuses or stays away.

    >>> with farm.executor() as executor:
    ...     future = executor.submit("squares:square", 3)
    ...     future.result(), list(executor.map("squares:square", [1, 2]))
    (9, [1, 4])
    """

    def __init__(self, farm: OpenFarm) -> None:
        self._farm = farm
        self._lock = threading.Lock()
        self._calls: dict[str, _OpenJob] = {}
        self._is_shut = False
        farm.own(self)
        # Dropped without a shutdown it takes no more calls either.
        weakref.finalize(self, _close_all, self._calls).atexit = False

    def submit(self, fn: Callable[..., T] | str, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Let a worker call the function; it goes by its name, and its arguments are data, as for `Farm.map`.

        Raises TypeError when workers cannot find the function, RuntimeError after `shutdown`.

        `cancel()` of the future succeeds until the call is among the next hundred to be sent.
        """
        function = named(fn)
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            job = self._calls.get(function.name)
            if job is None or job.is_broken:
                job = self._calls[function.name] = _OpenJob(self._farm, fn, function.name)
            return job.submit(args, kwargs)

    def map(
        self,
        fn: Callable[..., T] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results in order. The iterables are read lazily, `buffersize` calls (1,000) ahead of what is taken.

        `chunksize` is there for programs that give it: batches size themselves. Raises TimeoutError when a result is
        not there within `timeout` seconds from the call of `map`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        ends_at = None if timeout is None else clock.now() + timeout
        calls = zip(*iterables, strict=False)
        waiting = deque(self.submit(fn, *each) for each in islice(calls, buffersize or _WINDOW))
        return self._results(fn, calls, waiting, ends_at)

    def _results(
        self, fn: Callable[..., Any] | str, calls: Iterator[Any], waiting: deque[Future[Any]], ends_at: float | None
    ) -> Iterator[Any]:
        try:
            while waiting:
                waiting[0].exception(None if ends_at is None else ends_at - clock.now())
                waiting.extend(self.submit(fn, *each) for each in islice(calls, 1))
                # Nothing here holds on to the result.
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `wait` return when all are done, with `cancel_futures` leave out what can be."""
        with self._lock:
            self._is_shut = True
            jobs = list(self._calls.values())
        for job in jobs:
            job.close(cancel_futures)
        if wait:
            for job in jobs:
                job.wait()


def _close_all(calls: "dict[str, _OpenJob]") -> None:
    for job in calls.values():
        job.close(cancels=False)


class _OpenJob:
    """The calls of one function: a job whose arguments end with the executor."""

    def __init__(self, farm: OpenFarm, function: str | Callable[..., Any], name: str) -> None:
        self.is_broken = False
        self._name = name
        self._encoder = ArgumentEncoder()
        self._queue: queue.SimpleQueue[tuple[Future[Any], Encoded] | None] = queue.SimpleQueue()
        self._running: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._cancels = False
        self._broke_by: BaseException | None = None
        self._job = farm.begin_open(function, self._arguments(), _AHEAD)
        self._reader = threading.Thread(target=self._read, name="tradewind-results", daemon=True)
        self._reader.start()

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """The future of one more call. The executor's lock is held."""
        future: Future[Any] = Future()
        try:
            encoded = Encoded(self._encoder.spread(args, kwargs))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            future.set_exception(kind(f"the arguments of {self._name} cannot be sent: {error}"))
            return future
        self._queue.put((future, encoded))
        if self.is_broken:
            self._fail_all()
        return future

    def close(self, cancels: bool) -> None:
        """Take no more calls."""
        self._cancels = self._cancels or cancels
        self._queue.put(None)

    def wait(self) -> None:
        """Wait until all futures are done. What the job waits for is in the log."""
        self._reader.join()

    def _arguments(self) -> Iterator[Encoded]:
        """In the thread that reads arguments."""
        at = 0
        while (call := self._queue.get()) is not None:
            future, encoded = call
            if self._cancels:
                future.cancel()
            if future.set_running_or_notify_cancel():
                with self._lock:
                    self._running[at] = future
                if self.is_broken:
                    # What ran was failed before this one did.
                    self._fail_all()
                    return
                at += 1
                yield encoded

    def _read(self) -> None:
        """In a thread of its own: outcomes to futures."""
        try:
            for outcome in self._job.outcomes():
                with self._lock:
                    future = self._running.pop(outcome.task)
                if outcome.ok:
                    future.set_result(outcome.value)
                else:
                    text, job = outcome.error or "", self._job.name
                    future.set_exception(TaskFailed(outcome.task, text, outcome.worker, outcome.attempt, job))
        except BaseException as error:
            self._broke_by = error
            if not isinstance(error, TradewindError):
                log.exception("job %s of an executor is broken", self._job.name)
        finally:
            self.is_broken = True
            self._job.halt()
            self._fail_all()

    def _fail_all(self) -> None:
        with self._lock:
            left, self._running = list(self._running.values()), {}
            # Another thread may take from it meanwhile.
            with suppress(queue.Empty):
                while True:
                    call = self._queue.get_nowait()
                    if call is not None and call[0].set_running_or_notify_cancel():
                        left.append(call[0])
        # The thread that reads arguments ends too.
        self._queue.put(None)
        for future in left:
            future.set_exception(BrokenExecutor(str(self._broke_by or f"job {self._job.name} has ended")))
