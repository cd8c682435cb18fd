"""Dramatiq with Redis as broker and for results, processes of one thread."""

import contextlib
import os
import sys

import contest
import dramatiq
from redis_server import redis, running


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """A Redis and this many worker processes."""
    with contextlib.ExitStack() as stack:
        os.environ["BENCH_REDIS"] = stack.enter_context(redis())
        os.environ["dramatiq_queue_prefetch"] = "1"  # noqa: SIM112 (its own spelling)
        import dramatiq_tasks as tasks

        options = ["--processes", str(workers), "--threads", "1", "dramatiq_tasks"]
        stack.enter_context(running(sys.executable, "-m", "dramatiq", *options))

        def get_all(messages):  # type: ignore[no-untyped-def]
            return [each.get_result(block=True, timeout=120_000) for each in messages]

        yield (
            lambda count: get_all([tasks.square.send(n) for n in range(count)]),
            lambda n: tasks.square.send(n).get_result(block=True, timeout=120_000),
            lambda times: get_all([tasks.sleep.send(each) for each in times]),
        )
    del sys.modules["dramatiq_tasks"]


if __name__ == "__main__":
    contest.main(dramatiq.__version__, crew)
