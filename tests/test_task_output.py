"""Whatever way a task prints: it is in the log, under that task, and the next one finds its output as it was."""

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.conftest import Pipeline, Process, wait_until

PRINTING = r"""
import codecs, contextlib, ctypes, io, os, subprocess, sys

libc = ctypes.CDLL(None)

class Tee(io.StringIO):
    pass

def tell(text):
    sys.stdout.write(text)

def by_print(word): print(word)
def by_print_without_end(word): print(word, end="")
def by_print_of_many(word): print(word, "x" * 20000, sep="\n", end="")
def by_stderr(word): print(word, file=sys.stderr)
def by_buffer(word): sys.stdout.buffer.write(word.encode())
def by_buffer_of_stderr(word): sys.stderr.buffer.write(word.encode())
def by_pythons_own(word): print(word, file=sys.__stdout__)
def by_pythons_own_without_end(word): print(word, end="", file=sys.__stderr__)
def by_c(word): libc.printf(b"%s\n", word.encode())
def by_c_without_end(word): libc.printf(b"%s", word.encode())
def by_descriptor(word): os.write(1, word.encode() + b"\n")
def by_descriptor_without_end(word): os.write(2, word.encode())
def by_subprocess(word): subprocess.run(["echo", word])
def by_subprocess_without_end(word): subprocess.run(["printf", word])
def by_shell(word): os.system(f"echo {word} >&2")

def by_wrapper(word):
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    print(word)

def by_wrapper_of_codecs(word):
    sys.stdout = codecs.getwriter("utf-8")(sys.stdout.buffer)
    print(word, end="")

def by_detached(word):
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8", write_through=True)
    print(word)

def by_detached_and_dropped(word):
    print(word)
    sys.stderr.detach()
    sys.stdout.detach()

def by_reconfigured(word):
    sys.stdout.reconfigure(line_buffering=False)
    print(word)

def by_closed(word):
    print(word)
    sys.stdout.close()

def by_closed_buffer(word):
    print(word)
    sys.stdout.buffer.close()

def by_nothing(word):
    print(word)
    sys.stdout = None

def by_deleted(word):
    print(word)
    del sys.stderr

def by_redirected_descriptors(word):
    print(word)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.close(2)

def by_redirect(word):
    print(word)
    with contextlib.redirect_stdout(io.StringIO()):
        print("never seen")

WAYS = [each for name, each in sorted(globals().items()) if name.startswith("by_")]

def say(n):
    WAYS[n](f"way{n}way")
    return n

def say_more(n):
    WAYS[n](f"way{n}way")
    return n
"""
COUNT = PRINTING.count("\ndef by_")
WRAPPED = PRINTING + "\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
SEEN = re.compile(r"worker: job (\w+) tasks? (\d+)(?: to (\d+))?: way(\d+)way\n")
"""Of tasks that take microseconds the log may name several, when one of them has printed past Python."""


class Printed:
    """What the worker has logged of two jobs, in which each task prints in another way; and each job's rows."""

    def __init__(self, pipeline: Pipeline, worker: Process) -> None:
        self.rows = pipeline.query("SELECT task, status, error FROM results ORDER BY job, task")
        self.err = worker.err
        self.seen = SEEN.findall(worker.err)


@pytest.fixture(scope="module", params=[PRINTING, WRAPPED], ids=["plain", "wrapped"])
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    with closing(Pipeline(tmp_path_factory.mktemp("printing"))) as pipeline:
        pipeline.module("printing", request.param)
        pipeline.sink()
        worker = pipeline.worker("printing", "--slots", "1")
        for job, function in (("one", "say"), ("two", "say_more")):
            ventilator = pipeline.ventilator(
                f"printing:{function}", "--range", str(COUNT), "--batch", "5", "--job", job
            )
            assert ventilator.wait() in (0, 1), worker.err
        wait_until(lambda: len(SEEN.findall(worker.err)) >= 2 * COUNT or worker.popen.poll() is not None, "all is said")
        yield Printed(pipeline, worker)


def test_a_task_that_prints_succeeds_and_so_do_those_after_it(printed: Printed) -> None:
    assert [(task, status, error) for task, status, error in printed.rows if status != "ok"] == []
    assert len(printed.rows) == 2 * COUNT


def test_what_a_task_prints_is_logged_once_under_its_own_job_and_number(printed: Printed) -> None:
    seen = [(job, int(way)) for job, first, last, way in printed.seen if int(first) <= int(way) <= int(last or first)]
    assert sorted(seen) == sorted((job, way) for job in ("one", "two") for way in range(COUNT)), printed.err
    assert "never seen" not in printed.err
