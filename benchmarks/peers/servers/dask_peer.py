"""Dask distributed: a local cluster of processes, one thread each."""

import contextlib

import contest
import distributed
import work


@contextlib.contextmanager
def crew(workers):  # type: ignore[no-untyped-def]
    """A scheduler and its workers."""
    cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(workers)
        yield (
            lambda count: client.gather(client.map(work.square, range(count), pure=False)),
            lambda n: client.submit(work.square, n, pure=False).result(),
            lambda times: client.gather(client.map(work.sleep, times, pure=False)),
            lambda count: client.gather([client.submit(work.square, n, pure=False) for n in range(count)]),
        )


if __name__ == "__main__":
    contest.main(distributed.__version__, crew)
