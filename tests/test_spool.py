"""Streams: whatever ends a ventilator, each line is recorded once, and what was read is never dropped."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pipeline, Process, wait_until

JOB = ["text:echo", "in", "--job", "mail"]


@pytest.fixture
def fifo(pipeline: Pipeline) -> Iterator[int]:
    """A FIFO with a writer that stays, a sink, and a worker."""
    pipeline.module("text", "def echo(line):\n    return line\n")
    os.mkfifo(pipeline.folder / "in")
    writer = os.open(pipeline.folder / "in", os.O_RDWR | os.O_CLOEXEC)
    pipeline.sink()
    pipeline.worker("text", "--slots", "2")
    yield writer
    os.close(writer)


def recorded(pipeline: Pipeline) -> list[str]:
    return [value for (value,) in pipeline.query("SELECT value FROM results ORDER BY task")]


def feed(writer: int, lines: range) -> None:
    os.write(writer, "".join(f"line {line}\n" for line in lines).encode())


def test_each_line_of_a_fifo_is_recorded_once_whatever_ends_its_ventilator(pipeline: Pipeline, fifo: int) -> None:
    """SIGKILL at any moment, lines that come while nobody reads, a line that is cut, SIGTERM and what it printed."""
    killed = pipeline.ventilator(*JOB)
    killed.wait_for(
        r"what is read from in is kept in spool/mail-\w+\.spool until the job is done without a failed task\n"
    )
    feed(fifo, range(900))
    wait_until(lambda: recorded(pipeline), "some are recorded")
    killed.kill()
    feed(fifo, range(900, 1_000))
    os.write(fifo, b"line")
    stopped = pipeline.ventilator(*JOB)
    wait_until(lambda: len(recorded(pipeline)) == 1_000, "all are recorded")
    os.write(fifo, b" 1000\n")
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 130
    stopped.wait_for("to go on with it, run the same command with --job mail")
    last = pipeline.ventilator(*JOB)
    wait_until(lambda: len(recorded(pipeline)) == 1_001, "all are recorded")
    last.signal(signal.SIGTERM)
    assert last.wait() == 130
    assert recorded(pipeline) == [f"line {line}" for line in range(1_001)]


def test_a_stream_that_ends_is_done_and_its_spool_goes(pipeline: Pipeline) -> None:
    pipeline.module("text", "def size(line):\n    return 1 // len(line.strip('-'))\n")
    pipeline.sink()
    pipeline.worker("text")

    def run(content: bytes, *options: str) -> Process:
        ventilator = pipeline.piped(content, "text:size", "-", "--stream", *options)
        ventilator.wait()
        return ventilator

    assert run(b"a\nb", "--job", "j").wait() == 0
    assert not (pipeline.folder / "spool").exists()
    late = run(b"c\n", "--job", "j")
    assert late.wait() == 2
    assert "the stream of job j has ended: give another --job name for what comes now; nothing was taken" in late.err
    # Of a job with failed tasks it stays, because they may be run again.
    assert run(b"a\n-\n", "--job", "k").wait() == 1
    assert [path.suffix for path in (pipeline.folder / "spool").iterdir()] == [".ended"]
    again = run(b"", "--job", "k", "--retry-failed")
    assert again.wait() == 1
    again.wait_for("job k is done: 1 task ok, 1 failed")


def test_what_is_refused_after_it_was_read_from_a_pipe_is_saved_and_named(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("builtins:len")
    job = ["builtins:len", "-", "--job", "j"]
    assert pipeline.piped(b"a\nbb\n", *job).wait() == 0
    other = pipeline.piped(b"ccc\ndddd\n", *job)
    assert other.wait() == 2
    path = other.wait_for(r"what was read from standard input is kept in (spool/j-\w+\.refused)\n")[1]
    assert (pipeline.folder / path).read_bytes() == b"ccc\ndddd\n"
    same = pipeline.piped(b"a\nbb\n", *job)
    assert same.wait() == 0
    assert not re.search("is kept in", same.err)
    assert [each.name for each in (pipeline.folder / "spool").iterdir()] == [Path(path).name]
