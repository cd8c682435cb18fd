"""Strangers at a sink that may have few descriptors: it goes on, reads its roster, and says what is wrong."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.transport.key_files import load
from tests.conftest import Pipeline, wait_until

FEW = 128
SQUARE = "def square(n):\n    return n * n\n"


@contextmanager
def silent_strangers(port: int, count: int) -> Iterator[None]:
    """This many connections that say nothing."""
    found: list[socket.socket] = []
    try:
        found = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        yield
    finally:
        for each in found:
            each.close()


def test_strangers_neither_end_the_sink_nor_the_job_nor_keep_a_new_key_out(pipeline: Pipeline) -> None:
    pipeline.module("work", SQUARE)
    few = ["sh", "-c", f'ulimit -n {FEW} && exec "$0" "$@"']
    sink = pipeline.sink(inside=few)
    control, results = map(int, sink.wait_for(r"ports (\d+) and (\d+)").groups())
    pipeline.worker("work")
    sink.wait_for("joined")
    job = pipeline.ventilator("work:square", "--range", "1000000000", "--job", "j")
    wait_until(lambda: pipeline.query("SELECT done FROM jobs WHERE done > 0"), "tasks are recorded")
    with silent_strangers(control, 2 * FEW), silent_strangers(results, 2 * FEW):
        sink.wait_for(r"(hung up on a connection|cannot accept connections): .* \(the limit is 128 descriptors\)")
        late = enrolled(pipeline, control)
        (done,) = pipeline.query("SELECT done FROM jobs")[0]
        wait_until(lambda: pipeline.query(f"SELECT done FROM jobs WHERE done > {done}"), "the job goes on")
    pipeline.worker("work", "--key", str(late), "--name", "late")
    sink.wait_for(r"worker late\S* at \S+ joined")
    assert job.popen.poll() is sink.popen.poll() is None
    assert "Traceback" not in sink.err
    assert len(re.findall("hung up", sink.err)) <= 2


def enrolled(pipeline: Pipeline, control: int) -> Path:
    made = pipeline.run("sink", "enrol", "worker", "late", "--address", f"tcp://127.0.0.1:{control}")
    assert made.popen.returncode == 0, made.err
    path = pipeline.folder / "late.key_secret"
    assert load(path).name == "late"
    return path
