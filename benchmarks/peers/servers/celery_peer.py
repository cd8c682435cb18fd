"""Celery with Redis as broker and for results, prefork, prefetch 1."""

import contextlib
import os
import sys

import celery
import contest
from redis_server import redis, running


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """A Redis and one worker with this many processes."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis())
        os.environ["BENCH_REDIS"] = url
        import celery_tasks as tasks

        tasks.app.conf.update(broker_url=url, result_backend=url)
        options = ["-A", "celery_tasks", "worker", "-c", str(workers), "-O", "fair", "-l", "ERROR"]
        stack.enter_context(running(sys.executable, "-m", "celery", *options))

        def get_all(calls):  # type: ignore[no-untyped-def]
            return [each.get(timeout=120) for each in calls]

        yield (
            lambda count: get_all([tasks.square.delay(n) for n in range(count)]),
            lambda n: tasks.square.delay(n).get(timeout=120),
            lambda times: get_all([tasks.sleep.delay(each) for each in times]),
        )
        tasks.app.close()
    # The next crew has a Redis, and so an application, of its own.
    del sys.modules["celery_tasks"]


if __name__ == "__main__":
    contest.main(celery.__version__, crew)
