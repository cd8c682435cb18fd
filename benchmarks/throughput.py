"""Tasks per second of n·n on two slots, durable and encrypted, against `multiprocessing.managers` in the same run.

python -m benchmarks.throughput [TASKS] [ROUNDS]
"""

import multiprocessing
import queue
import statistics
import sys
import time
from multiprocessing.managers import BaseManager

from benchmarks.farm import farm

SQUARES = "def square(n):\n    return n * n\n"
PEER_TASKS = 8_000


class Queues(BaseManager):
    """The tutorial's manager: one queue of tasks, one of results."""


_tasks: "queue.Queue[int | None]" = queue.Queue()
_results: "queue.Queue[tuple[int, int]]" = queue.Queue()


def _get_tasks() -> "queue.Queue[int | None]":
    return _tasks


def _get_results() -> "queue.Queue[tuple[int, int]]":
    return _results


Queues.register("tasks", callable=_get_tasks)
Queues.register("results", callable=_get_results)


def _work(address: tuple[str, int]) -> None:
    Queues.register("tasks")
    Queues.register("results")
    manager = Queues(address=address, authkey=b"abc")
    manager.connect()
    tasks, results = manager.tasks(), manager.results()  # type: ignore[attr-defined]
    while (n := tasks.get()) is not None:
        results.put((n, n * n))


def managers_rate(count: int) -> float:
    """Tasks per second of the tutorial's queue pair with two workers; nothing is stored."""
    manager = Queues(address=("127.0.0.1", 0), authkey=b"abc")
    manager.start()
    try:
        workers = [multiprocessing.Process(target=_work, args=(manager.address,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        tasks, results = manager.tasks(), manager.results()  # type: ignore[attr-defined]
        started = time.perf_counter()
        for n in range(count):
            tasks.put(n)
        total = sum(results.get()[1] for _ in range(count))
        seconds = time.perf_counter() - started
        assert total == sum(n * n for n in range(count))
        for _ in workers:
            tasks.put(None)
        for worker in workers:
            worker.join()
    finally:
        manager.shutdown()
    return count / seconds


def main() -> None:
    """Interleaved rounds; medians."""
    count, rounds = (int(each) for each in (*sys.argv[1:], *("1000000", "3")[len(sys.argv) - 1 :]))
    ours, theirs, memory = [], [], []
    with farm("squares", SQUARES, [{}], slots=2) as running:
        for _ in range(rounds):
            measured = running.run("squares:square", "--range", str(count))
            ours.append(count / measured.seconds)
            memory.append((measured.rss_bytes, measured.sink_rss_bytes))
            theirs.append(managers_rate(PEER_TASKS))
    rate, peer = statistics.median(ours), statistics.median(theirs)
    print(
        f"n*n, {count:,} tasks, 2 slots: {rate:,.0f}/s;"
        f" multiprocessing.managers: {peer:,.0f}/s; ratio {rate / peer:.1f}"
    )
    ventilator, sink = (max(each) / 2**20 for each in zip(*memory, strict=True))
    print(f"resident at the end: ventilator {ventilator:.0f} MiB, sink {sink:.0f} MiB")


if __name__ == "__main__":
    main()
