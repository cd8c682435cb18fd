"""The page for readers of the lesson with queues: its programs, the old and the new ones, do what it says."""

import re
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import TOP, Pipeline, Process, start, wait_until
from tests.namespaces import network_of
from tests.test_readme import blocks, typed

PAGE = TOP / "docs" / "from-the-queues.md"
OLD = "The lesson with queues"
NEW = "The lesson with Tradewind"
SEVERAL = "The same on several machines"


def ten_squares(printed: str) -> bool:
    """Whether this ends with ten results, each true, in the form of the lesson."""
    found = [re.fullmatch(r"Result: (\d+) \* \1 = (\d+)", line) for line in printed.splitlines()[-10:]]
    return len(found) == 10 and all(line is not None and int(line[1]) ** 2 == int(line[2]) for line in found)


@pytest.fixture
def classroom() -> Iterator[list[str]]:
    """The beginning of a command that runs on a machine of its own.

    The old program listens on every address of its machine without encryption, and runs the code of anybody who knows
    its three letters: it does not run beside others.
    """
    with network_of("classroom") as network:
        yield network.inside("classroom")


def test_the_old_lesson(pipeline: Pipeline, classroom: list[str]) -> None:
    """The old program as it stands on the page: who compares with it compares with something that works."""
    programs = blocks(PAGE, OLD, "python")
    for line, program in zip(blocks(PAGE, OLD)[0].splitlines(), programs, strict=True):
        _, script, *arguments = typed(line)
        assert program.startswith(f"# {script}\n")
        pipeline.module(script.removesuffix(".py"), program)
        command = [*classroom, sys.executable, "-u", script, *arguments]
        pipeline.processes.append(Process(command, pipeline.folder, script, pipeline.env, None))
        # A worker that comes before the queues ends at once.
        wait_until(lambda: "Put task" in pipeline.processes[0].out, "the master has begun")
    master, worker = pipeline.processes
    assert (master.wait(), worker.wait()) == (0, 0), master.err + worker.err
    assert ten_squares(master.out)
    assert worker.out.count("run task") == 10


def test_the_new_lesson(programs: Pipeline) -> None:
    text = (TOP / "examples" / "tutorial.py").read_text()
    [shown] = blocks(PAGE, NEW, "python")
    assert text.endswith(f'"""\n\n{shown}')
    assert len(text.splitlines()) <= sum(len(program.splitlines()) for program in blocks(PAGE, OLD, "python")) / 2
    program = start(programs, "tutorial", text)
    assert program.wait() == 0, program.err
    assert ten_squares(program.out)


def test_the_new_lesson_on_several_machines(programs: Pipeline) -> None:
    mine, lesson = blocks(PAGE, SEVERAL, "python")
    sink, worker, last = map(typed, blocks(PAGE, SEVERAL)[0].splitlines())
    assert (sink, last) == (["sink"], ["python", "lesson.py"])
    programs.module("mine", mine)
    programs.sink()
    running = programs.start(*worker)
    program = start(programs, "lesson", lesson)
    assert program.wait() == 0, program.err
    assert ten_squares(program.out)
    wait_until(lambda: len(re.findall(r"run task (\d+) \* \1\.\.\.", running.err)) == 10, "what the tasks printed")
