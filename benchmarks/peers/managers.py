"""`multiprocessing.managers`: the tutorial's pair of queues, two workers. Nothing is stored, nothing encrypted."""

import multiprocessing
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.work import square

WORKERS = 2
_tasks: "queue.Queue[int | None]" = queue.Queue()
_results: "queue.Queue[tuple[int, int]]" = queue.Queue()


class Queues(BaseManager):
    """One queue of tasks, one of results."""


def _get_tasks() -> "queue.Queue[int | None]":
    return _tasks


def _get_results() -> "queue.Queue[tuple[int, int]]":
    return _results


Queues.register("tasks", callable=_get_tasks)
Queues.register("results", callable=_get_results)


def _connect(address: tuple[str, int]) -> tuple[Any, Any]:
    manager = Queues(address=address, authkey=b"abc")
    manager.connect()
    return manager.tasks(), manager.results()  # type: ignore[attr-defined]


def _work(address: tuple[str, int]) -> None:
    tasks, results = _connect(address)
    while (n := tasks.get()) is not None:
        results.put((n, square(n)))


@contextmanager
def _crew() -> Iterator[tuple[Any, Any]]:
    """The two queues, with workers that have done a first task."""
    manager = Queues(address=("127.0.0.1", 0), authkey=b"abc")
    manager.start()
    try:
        workers = [multiprocessing.Process(target=_work, args=(manager.address,)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        tasks, results = _connect(manager.address)  # type: ignore[arg-type]
        for _ in range(100):
            tasks.put(1)
            results.get()
        yield tasks, results
        for _ in workers:
            tasks.put(None)
        for worker in workers:
            worker.join()
    finally:
        manager.shutdown()


def rate(count: int) -> float:
    """Tasks per second."""
    with _crew() as (tasks, results):
        started = time.perf_counter()
        for n in range(count):
            tasks.put(n)
        total = sum(results.get()[1] for _ in range(count))
        seconds = time.perf_counter() - started
    assert total == sum(n * n for n in range(count))
    return count / seconds


def round_trips(count: int) -> list[float]:
    """Seconds of each of `count` tasks there and back."""
    found = []
    with _crew() as (tasks, results):
        for n in range(count):
            started = time.perf_counter()
            tasks.put(n)
            assert results.get()[1] == n * n
            found.append(time.perf_counter() - started)
    return found
