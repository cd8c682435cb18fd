"""joblib with two processes; it sizes its batches itself. One machine, nothing stored."""

import time

from benchmarks.measuring import Skipped
from benchmarks.work import sleep, square


def rate(count: int) -> float:
    """Tasks per second."""
    try:
        from joblib import Parallel, delayed
    except ImportError:
        raise Skipped("joblib is not installed: pip install joblib, or make bench") from None
    with Parallel(n_jobs=2) as parallel:
        parallel(delayed(sleep)(0.05) for _ in range(4))
        started = time.perf_counter()
        total = sum(parallel(delayed(square)(n) for n in range(count)))
        seconds = time.perf_counter() - started
    assert total == sum(n * n for n in range(count))
    return float(count / seconds)
