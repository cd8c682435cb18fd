"""Parsl's HighThroughputExecutor, encrypted: an interchange, a manager, worker processes."""

import contextlib
import tempfile

import contest
import parsl
import work
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """One block of this many workers."""
    executor = HighThroughputExecutor(
        label="bench",
        address="127.0.0.1",
        encrypted=True,
        cores_per_worker=0.01,
        max_workers_per_node=workers,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    with tempfile.TemporaryDirectory() as folder:
        config = Config(executors=[executor], run_dir=folder, strategy="none", usage_tracking=0)
        with parsl.load(config) as kernel:
            square = parsl.python_app(work.square, data_flow_kernel=kernel)
            sleep = parsl.python_app(work.sleep, data_flow_kernel=kernel)
            yield (
                lambda count: [each.result() for each in [square(n) for n in range(count)]],
                lambda n: square(n).result(),
                lambda times: [each.result() for each in [sleep(each) for each in times]],
            )
    parsl.clear()


if __name__ == "__main__":
    contest.main(parsl.__version__, crew)
