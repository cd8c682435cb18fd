"""An executor whose job breaks: every future is done all the same."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

import pytest

from common.farm.errors import SinkAway
from common.farm.executor import Executor


class BreakingJob:
    """Its outcomes break off when `breaks` is set."""

    name = "breaking"

    def __init__(self, arguments: Iterable[Any]) -> None:
        self.arguments = iter(arguments)
        self.breaks = threading.Event()

    def outcomes(self) -> Iterator[Any]:
        self.breaks.wait()
        raise SinkAway("away")
        yield

    def halt(self) -> None:
        pass


class Farm:
    def __init__(self, reads: bool = False) -> None:
        self.jobs: list[BreakingJob] = []
        self._reads = reads
        """A thread reads the calls of each job, which breaks when there is one."""

    def begin_open(self, function: str | Callable[..., Any], arguments: Iterable[Any], ahead: int) -> Any:
        job = BreakingJob(arguments)
        self.jobs.append(job)
        if self._reads:
            threading.Thread(target=lambda: [job.breaks.set() for _ in job.arguments], daemon=True).start()
        return job

    def own(self, executor: futures.Executor) -> None:
        pass


def test_a_call_that_is_taken_while_the_job_breaks_fails() -> None:
    farm = Farm()
    executor = Executor(farm)
    future = executor.submit("m:f", 1)
    job, [calls] = farm.jobs[0], executor._calls.values()
    begins = future.set_running_or_notify_cancel

    def break_first() -> bool:
        job.breaks.set()
        calls._reader.join()
        return begins()

    future.set_running_or_notify_cancel = break_first  # type: ignore[method-assign]
    assert next(job.arguments, None) is None
    with pytest.raises(futures.BrokenExecutor, match="away"):
        future.result(0)


def test_two_threads_that_fail_all_calls_do_not_wait_for_each_other() -> None:
    class EmptiedMeanwhile(queue.SimpleQueue[Any]):
        def empty(self) -> bool:
            return False

    farm = Farm()
    executor = Executor(farm)
    future = executor.submit("m:f", 1)
    [calls] = executor._calls.values()
    full, calls._queue = calls._queue, EmptiedMeanwhile()
    while not full.empty():
        calls._queue.put(full.get())
    farm.jobs[0].breaks.set()
    calls._reader.join(5)
    assert not calls._reader.is_alive()
    with pytest.raises(futures.BrokenExecutor, match="away"):
        future.result(0)


@pytest.mark.usefixtures("hasty_threads")
def test_whenever_the_job_breaks_all_futures_are_done() -> None:
    for _ in range(100):
        executor = Executor(Farm(reads=True))
        assert not futures.wait([executor.submit("m:f", n) for n in range(30)], 5).not_done
