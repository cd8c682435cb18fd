"""OpenGRIS Scaler: a scheduler, its object storage and worker processes, by default without encryption."""

import contextlib
import importlib.metadata
import logging

import contest
import work
from scaler import Client, SchedulerClusterCombo


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """All of it on this machine."""
    cluster = SchedulerClusterCombo(n_workers=workers, logging_level=logging.getLevelName(logging.WARNING))
    try:
        with Client(address=cluster.get_address()) as client:
            yield (
                lambda count: client.map(work.square, range(count)),
                lambda n: client.submit(work.square, n).result(),
                lambda times: client.map(work.sleep, times),
                lambda count: [each.result() for each in [client.submit(work.square, n) for n in range(count)]],
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    contest.main(importlib.metadata.version("opengris-scaler"), crew)
