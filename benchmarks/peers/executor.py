"""`concurrent.futures.ProcessPoolExecutor`: one machine, nothing stored."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.work import sleep, square


def _warm(pool: ProcessPoolExecutor, workers: int) -> None:
    for future in [pool.submit(sleep, 0.05) for _ in range(2 * workers)]:
        future.result()


def rate(count: int, chunksize: int) -> float:
    """Tasks per second with two processes."""
    with ProcessPoolExecutor(2) as pool:
        _warm(pool, 2)
        started = time.perf_counter()
        total = sum(pool.map(square, range(count), chunksize=chunksize))
        seconds = time.perf_counter() - started
    assert total == sum(n * n for n in range(count))
    return count / seconds


def round_trips(count: int) -> list[float]:
    """Seconds of each of `count` tasks there and back."""
    found = []
    with ProcessPoolExecutor(2) as pool:
        _warm(pool, 2)
        for n in range(count):
            started = time.perf_counter()
            assert pool.submit(square, n).result() == n * n
            found.append(time.perf_counter() - started)
    return found


def makespan(times: Sequence[float], workers: int) -> float:
    """Seconds for sleeps of these lengths."""
    with ProcessPoolExecutor(workers) as pool:
        _warm(pool, workers)
        started = time.perf_counter()
        for future in as_completed([pool.submit(sleep, each) for each in times]):
            future.result()
        return time.perf_counter() - started
