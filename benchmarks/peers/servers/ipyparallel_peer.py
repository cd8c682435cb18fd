"""ipyparallel: a controller and engines, load-balanced, one task a message."""

import contextlib
import logging

import contest
import ipyparallel
import work


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """A cluster of this many engines."""
    with ipyparallel.Cluster(n=workers, log_level=logging.ERROR) as client:
        view = client.load_balanced_view()
        yield (
            lambda count: view.map_sync(work.square, range(count), chunksize=1),
            lambda n: view.apply_sync(work.square, n),
            lambda times: view.map_sync(work.sleep, times, chunksize=1),
            lambda count: [each.get() for each in [view.apply_async(work.square, n) for n in range(count)]],
        )


if __name__ == "__main__":
    contest.main(ipyparallel.__version__, crew)
