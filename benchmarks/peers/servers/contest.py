"""What is measured, the same for every peer: each script gives `main` a function that starts a crew.

Arguments: tasks for the rate, round trips, calls for the rate of submitting one after another. Standard input: a JSON
list of sleeps. Prints one JSON object. What is asked 0 times is not measured, nor is an empty list.
"""

import contextlib
import json
import os
import sys
import time


def main(version, crew):  # type: ignore[no-untyped-def]
    """`crew(workers)` is a context manager; it gives `square_all(count)`, `square(n)`, `sleep_all(times)`.

    Where `square_all` is not the same as submitting call after call, `submit_all(count)` is the fourth.
    """
    count, trips, submits = (int(each) for each in sys.argv[1:])
    times = json.load(sys.stdin)
    # What the peers print while they start and stop must not mix with the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.ExitStack() as stack:
        square_all, square, _, *other = stack.enter_context(crew(2))
        square_all(200)
        seconds = timed(square_all, count)
        submit_s = timed((other or [square_all])[0], submits) if submits else None
        round_trips = []
        for n in range(trips):
            began = time.perf_counter()
            assert square(n) == n * n
            round_trips.append(time.perf_counter() - began)
    makespan = None
    if times:
        with contextlib.ExitStack() as stack:
            _, _, sleep_all, *_ = stack.enter_context(crew(8))
            sleep_all([0.05] * 32)
            began = time.perf_counter()
            assert sorted(sleep_all(times)) == sorted(times)
            makespan = time.perf_counter() - began
    found = {"version": version, "rate": count / seconds, "round_trips": round_trips, "makespan": makespan}
    found["submit_rate"] = submit_s and submits / submit_s
    json.dump(found, answer)
    answer.close()


def timed(square_all, count):  # type: ignore[no-untyped-def]
    """Seconds until all values are there."""
    started = time.perf_counter()
    values = list(square_all(count))
    seconds = time.perf_counter() - started
    assert sum(values) == sum(n * n for n in range(count))
    return seconds
