"""10,000,000 tasks from a pipe and from a file: memory and rate must not depend on how many went before."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from benchmarks.farm import SQUARED, Farm, Running, farm, memory_bytes
from benchmarks.measuring import OURS, Figure, Measure, Plan, say, spelled

TASKS, MARKS = 10_000_000, 10
GENERATOR = "import sys\nfor n in range(0, {0}, 1000): print(*range(n, min(n + 1000, {0})), sep='\\n')"


@dataclass
class Course:
    """What was seen at each tenth of the way."""

    at: list[float] = field(default_factory=list)
    ventilator: list[float] = field(default_factory=list)
    sink: list[float] = field(default_factory=list)

    def note(self, now: float, ventilator_pid: int, sink_pid: int) -> None:
        """Take time and memory."""
        self.at.append(now)
        self.ventilator.append(memory_bytes(ventilator_pid) / 2**20)
        self.sink.append(memory_bytes(sink_pid) / 2**20)

    def rates(self, step: int) -> list[float]:
        """Tasks per second in each tenth after the first, which has the start in it."""
        return [step / (after - before) for before, after in zip(self.at, self.at[1:], strict=False)]


@contextmanager
def _pipe(count: int) -> Iterator[IO[bytes]]:
    """The standard output of a generator."""
    command = [sys.executable, "-c", GENERATOR.format(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


def _follow(running: Farm, job: Running, count: int) -> Course:
    course = Course()
    while not job.ended():
        if running.done_count(job.job) >= count * (len(course.at) + 1) // MARKS:
            course.note(time.monotonic(), job.pid, running.sink.pid)
        time.sleep(0.05)
    job.finish(running.sink_rss_bytes)
    running.check(job.job, count, SQUARED)
    return course


def _figures(who: str, course: Course, step: int) -> list[Figure]:
    def figure(name: str, unit: str, values: list[float], more_is_better: bool = False) -> Figure:
        say(f"long: {who}: {name}: {' '.join(spelled(each) for each in values)} {unit}")
        return Figure("long", Measure(name, unit, more_is_better), who, values)

    rates = course.rates(step)
    return [
        figure("rate, each tenth", "tasks/s", rates, more_is_better=True),
        figure("last rate ÷ first", "×", [rates[-1] / rates[0]], more_is_better=True),
        figure("ventilator, each tenth", "MiB", course.ventilator),
        figure("ventilator, last - second", "MiB", [course.ventilator[-1] - course.ventilator[1]]),
        figure("sink, each tenth", "MiB", course.sink),
        figure("sink, last - second", "MiB", [course.sink[-1] - course.sink[1]]),
    ]


def measure(plan: Plan) -> list[Figure]:
    """Resident memory of ventilator and sink and the rate, at every tenth of the way; one round each."""
    count = plan.scaled(TASKS)
    with farm(slots=2) as running:
        with _pipe(count) as lines:
            piped = _follow(running, running.start("work:square", "-", stdin=lines), count)
        path = running.folder / "numbers.txt"
        with path.open("wb") as file, _pipe(count) as lines:
            while block := lines.read(2**20):
                file.write(block)
        filed = _follow(running, running.start("work:square", path.name), count)
    step = count // MARKS
    return [*_figures(f"{OURS}, from a pipe", piped, step), *_figures(f"{OURS}, from a file", filed, step)]
