"""Keeps a crew as large as its jobs ask for: when to start workers, and when not to. No process, no clock.

`now` is monotonic seconds. An allocation is one worker's place on a machine for a time, and has the worker's name.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..log_line import LogLine
from ..pace import duration
from ..plain_text import counted
from ..protocol.reports import Report
from .allocations import IN_USE, Condition
from .demand import Demand, ServedFunctions, demand, name_of
from .task_times import TaskTimes

BROKEN_MAX = 3
"""After this many allocations in a row whose worker was never ready for tasks, no more are started for a while."""
PAUSE_S, PAUSE_MAX_S = 60.0, 3600.0
"""How long the first pause is, and the longest; each is twice as long as the one before."""


@dataclass(frozen=True, slots=True)
class KeepSettings:
    """How large the crew may be."""

    least: int
    most: int
    backlog: int
    """At most how many allocations wait in a queue."""
    slots: int
    """Of each worker."""
    within_s: float
    """In which time what is left should be done."""


@dataclass(frozen=True, slots=True)
class Start:
    """Order to the shell: start this many workers, and call `started` or `refused`."""

    count: int


@dataclass(frozen=True, slots=True)
class Blame:
    """Order to the shell: log this text with the last lines that the allocation's worker has logged."""

    level: str
    text: str
    allocation: str


Output = Start | Blame | LogLine


class BackOff:
    """A pause that grows each time, until something goes well."""

    def __init__(self) -> None:
        self.until = float("-inf")
        self.pause_s = 0.0

    def pause(self, now: float) -> None:
        """Begin the next one."""
        self.pause_s = min(max(PAUSE_S, 2 * self.pause_s), PAUSE_MAX_S)
        self.until = now + self.pause_s

    def reset(self) -> None:
        """Something went well."""
        self.until, self.pause_s = float("-inf"), 0.0


class Keeper:
    """Compares, at each look, what is there with what is wanted."""

    def __init__(self, settings: KeepSettings, served: ServedFunctions) -> None:
        self._settings = settings
        self._served = served
        self._times = TaskTimes()
        self._used: set[str] = set()
        """The allocations that were in use at the last look, or were started since."""
        self._greeted: set[str] = set()
        """Those of them whose worker was seen at the sink."""
        self._excused: set[str] = set()
        """Those of them that were in use while the sink was away: their workers could not say hello."""
        self._broken_count = 0
        """How many in a row have ended before their worker was ready for tasks."""
        self._broken = BackOff()
        self._refused = BackOff()
        self._said: dict[str, str] = {}
        """The last line of each kind. One that has not changed is not logged once more."""

    def look(self, now: float, seen: Mapping[str, Condition] | str, report: Report | str) -> list[Output]:
        """Take how the allocations stand, and what the sink reports; a text says why that is not known."""
        if isinstance(seen, str):
            return self._say("queue", "warning", f"{seen}; nothing is started until it answers")
        in_use = {name for name, condition in seen.items() if condition in IN_USE}
        if not isinstance(report, str):
            self._hear(self._used | in_use, {name_of(worker.worker) for worker in report.workers})
        outputs = self._settle(now, seen, isinstance(report, str))
        self._used = in_use
        self._greeted &= self._used
        self._excused &= self._used
        if isinstance(report, str):
            self._excused |= self._used
            return [*outputs, *self._say("sink", "warning", f"{report}; nothing is started until it answers")]
        answers = [kind for kind in ("queue", "sink") if self._said.pop(kind, None)]
        outputs += [LogLine("info", f"the {kind} answers again") for kind in answers]
        queued = sum(condition is Condition.QUEUED for condition in seen.values())
        settings = self._settings
        means_s = self._times.note(now, report)
        asked = demand(report, means_s, self._served, settings.slots, settings.within_s, self._greeted)
        return outputs + self._fill(now, asked, queued)

    def started(self, names: Iterable[str]) -> None:
        """These were started."""
        self._refused.reset()
        self._said.pop("refused", None)
        self._used.update(names)

    def refused(self, now: float, why: str) -> list[Output]:
        """None could be started."""
        self._refused.pause(now)
        return [LogLine("warning", f"{why}; trying again in {duration(self._refused.pause_s)}")]

    # -- what has become of them --------------------------------------------------------------------------------

    def _hear(self, allocations: set[str], workers: Collection[str]) -> None:
        came = allocations.intersection(workers) - self._greeted
        self._greeted |= came
        if came:
            self._broken_count = 0
            self._broken.reset()

    def _settle(self, now: float, seen: Mapping[str, Condition], sink_is_away: bool) -> list[Output]:
        """Look after those that have ended; one that is not known any longer has ended too."""
        outputs: list[Output] = []
        for name in sorted(self._used):
            condition = seen.get(name)
            if condition in IN_USE or condition is Condition.ENDED:
                continue
            if name in self._greeted or name in self._excused or sink_is_away:
                continue
            outputs += self._blame(now, name)
        return outputs

    def _blame(self, now: float, name: str) -> list[Output]:
        self._broken_count += 1
        text = f"{name} has ended before its worker was ready for tasks"
        if self._broken_count < BROKEN_MAX:
            return [Blame("warning", text, name)]
        if now < self._broken.until:
            return []
        self._broken.pause(now)
        in_a_row = f"{text}, the {_ordinal(self._broken_count)} in a row"
        then = f"nothing is started for {duration(self._broken.pause_s)}, then one to see whether that was put right"
        return [Blame("error", f"{in_a_row}: {then}", name)]

    # -- how many are wanted ------------------------------------------------------------------------------------

    def _fill(self, now: float, asked: Demand, queued: int) -> list[Output]:
        settings = self._settings
        wanted = max(settings.least, min(settings.most, asked.workers))
        in_use = len(self._used)
        count = max(0, min(wanted - in_use, settings.backlog - queued))
        if self._broken_count >= BROKEN_MAX:
            # One is enough to see whether it was put right.
            count = min(count, 1 - in_use)
        if now < max(self._broken.until, self._refused.until):
            count = 0
        return [*self._say_plan(asked, wanted, queued, count), *([Start(count)] if count > 0 else [])]

    def _say_plan(self, asked: Demand, wanted: int, queued: int, count: int) -> list[Output]:
        runs = len(self._used) - queued
        bound = " (--max)" if asked.workers > wanted else ""
        plan = f"{counted(wanted, 'worker')} wanted{bound}, {runs} started, {queued} in the queue"
        if count > 0:
            plan += f"; starting {count}"
        if self._said.get("plan") == plan:
            return []
        self._said["plan"] = plan
        return [LogLine("info", f"{_left(asked)}: {plan}")]

    def _say(self, kind: str, level: str, text: str) -> list[Output]:
        if self._said.get(kind) == text:
            return []
        self._said[kind] = text
        return [LogLine(level, text)]


def _left(asked: Demand) -> str:
    """What is left to do, in words."""
    if not asked.tasks:
        if asked.strange and not asked.reads_on:
            jobs = counted(asked.strange, "open job has a function", "open jobs have functions")
            return f"no task is left for these workers ({jobs} that they do not serve)"
        return "a job reads on" if asked.reads_on else "no task is left"
    text = f"{counted(asked.tasks, 'task')} left"
    if asked.mean_s is not None:
        text += f", about {duration(asked.mean_s)} each"
    return f"{text}, and a job reads on" if asked.reads_on else text


def _ordinal(count: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(count, f"{count}th")
