"""Under which job and task the worker logs what comes from a child's pipe."""

import os
from collections.abc import Iterator

import pytest

from common.worker.child_output import ChildOutput, Owner

JOBS = {4: "a", 5: "b"}


class Pipe:
    """The child's end of its output, and what was logged of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        self._caplog = caplog
        reading, self._writing = os.pipe()
        self.output = ChildOutput(reading, 0)

    def logged(self, written: bytes, running: Owner = None) -> list[str]:
        os.write(self._writing, written)
        self.output.log_lines(JOBS.get, lambda: running)
        return self.said()

    def said(self) -> list[str]:
        found = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return found

    def close(self) -> None:
        self.output.close()
        os.close(self._writing)


@pytest.fixture
def pipe(caplog: pytest.LogCaptureFixture) -> Iterator[Pipe]:
    made = Pipe(caplog)
    yield made
    made.close()


def test_a_marked_line_is_its_tasks_whatever_runs_when_it_is_read(pipe: Pipe) -> None:
    assert pipe.logged(b"\x1d4 7\x1done\n\x1d5 0\x1dtwo\n", (4, 9, 9)) == ["job a task 7: one", "job b task 0: two"]
    assert pipe.logged(b"\x1d4 -1\x1dbetween tasks\n", (4, 9, 9)) == ["slot 0: between tasks"]
    assert pipe.logged(b"\x1d3 1\x1dof an order that is over\n", (4, 9, 9)) == ["slot 0: of an order that is over"]


def test_an_unmarked_line_is_of_the_tasks_that_are_named_behind_it(pipe: Pipe) -> None:
    assert pipe.logged(b"one\ntwo\x1e4 2 2\x1ethree\n\x1e4 3 5\x1efour\n", (5, 0, 0)) == [
        "job a task 2: one",
        "job a task 2: two",
        "job a tasks 3 to 5: three",
        "job b task 0: four",
    ]


def test_an_unmarked_line_that_was_read_before_is_of_the_task_that_ran_then(pipe: Pipe) -> None:
    assert pipe.logged(b"one\n", (4, 1, 1)) == ["job a task 1: one"]
    assert pipe.logged(b"tw", (4, 1, 1)) == []
    assert pipe.logged(b"o\nthree", (4, 1, 1)) == ["job a task 1: two"]
    assert pipe.logged(b"\x1e4 2 2\x1efour\n", (4, 2, 2)) == ["job a task 1: three", "job a task 2: four"]


def test_while_tasks_follow_each_other_quickly_a_line_is_of_those_around_its_reading(pipe: Pipe) -> None:
    moments = iter([(4, 2, 3), (4, 4, 5)])
    os.write(pipe._writing, b"line\n")
    pipe.output.log_lines(JOBS.get, lambda: next(moments))
    assert pipe.said() == ["job a tasks 2 to 5: line"]


def test_the_end_of_an_order_ends_its_last_line(pipe: Pipe) -> None:
    assert pipe.logged(b"\x1d4 1\x1dhalf", (4, 1, 1)) == []
    pipe.output.end_order(JOBS.get, lambda: None)
    assert pipe.said() == ["job a task 1: half"]
    assert pipe.logged(b"other\n", (5, 0, 0)) == ["job b task 0: other"]


def test_pieces_of_one_task_are_one_line_and_those_of_two_are_not(pipe: Pipe) -> None:
    written = b"\x1d4 1\x1dpiece \x1d4 1\x1dpiece\x1d4 2\x1dother\n"
    assert pipe.logged(written, None) == ["job a task 1: piece piece", "job a task 2: other"]
