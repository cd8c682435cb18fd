"""How long the tasks of the open jobs take, as far as reports of the sink tell."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from ..protocol.reports import Report

LOOKS, TASKS = 10, 10
"""The newest looks that count; more of them while fewer tasks than this were done in their time."""
_LOOKS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class _Look:
    """How a job stood: how many tasks were done, how many slots ran some, and the time of all slots until then."""

    at: float
    done: int
    busy: int
    slot_s: float


class TaskTimes:
    """The time that slots have spent on a job, divided by the tasks that came of it.

    Not the rate of a job: that counts the time before its first worker came too.
    """

    def __init__(self) -> None:
        self._looks: dict[str, deque[_Look]] = {}

    def note(self, now: float, report: Report) -> Mapping[str, float]:
        """Take a report; how long a task of each job takes, of those of which something is known."""
        busy = {job.job: 0 for job in report.jobs}
        for worker in report.workers:
            for place, count in worker.runs:
                busy[report.jobs[place].job] += count
        self._looks = {job: self._looks.get(job) or deque(maxlen=_LOOKS_MAX) for job in busy}
        found = {}
        for job in report.jobs:
            looks = self._looks[job.job]
            before = looks[-1] if looks else None
            slot_s = before.slot_s + before.busy * (now - before.at) if before else 0.0
            looks.append(_Look(now, job.done, busy[job.job], slot_s))
            while len(looks) > LOOKS and job.done - looks[1].done >= TASKS:
                looks.popleft()
            mean_s = _mean_s(looks[0], looks[-1])
            if mean_s is not None:
                found[job.job] = mean_s
        return found


def _mean_s(first: _Look, last: _Look) -> float | None:
    """A task that runs counts as half done: without that, the first one that is done seems to have cost all."""
    done = last.done - first.done
    worth = max(done / 2, done + (last.busy - first.busy) / 2)
    spent_s = last.slot_s - first.slot_s
    return spent_s / worth if worth > 0 and spent_s > 0 else None
