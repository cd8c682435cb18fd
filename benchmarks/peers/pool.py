"""`multiprocessing.Pool.imap_unordered`: one machine, nothing stored."""

import time
from multiprocessing import Pool

from benchmarks.work import sleep, square


def rate(count: int, chunksize: int) -> float:
    """Tasks per second with two processes."""
    with Pool(2) as pool:
        pool.map(sleep, [0.05] * 4, chunksize=1)
        started = time.perf_counter()
        total = sum(pool.imap_unordered(square, range(count), chunksize=chunksize))
        seconds = time.perf_counter() - started
    assert total == sum(n * n for n in range(count))
    return count / seconds
