"""Ray: a local node."""

import contextlib
import logging

import contest
import ray
import work


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """A node with this many processors."""
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    square, sleep = ray.remote(work.square), ray.remote(work.sleep)
    try:
        yield (
            lambda count: ray.get([square.remote(n) for n in range(count)]),
            lambda n: ray.get(square.remote(n)),
            lambda times: ray.get([sleep.remote(each) for each in times]),
        )
    finally:
        ray.shutdown()


if __name__ == "__main__":
    contest.main(ray.__version__, crew)
