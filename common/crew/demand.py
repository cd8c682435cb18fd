"""How many workers the open jobs are worth, from a report of the sink."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..protocol.reports import Report
from ..protocol.settings import COMMAND


@dataclass(frozen=True, slots=True)
class Demand:
    """What is left to do, and how many workers would do it in time."""

    tasks: int
    """Of the jobs whose input was read to its end."""
    workers: int
    reads_on: bool = False
    """Of some job more tasks may follow: nobody knows how many."""
    mean_s: float | None = None
    """How long a task takes, as far as that is known."""
    strange: int = 0
    """How many jobs have a function that the workers do not serve."""


class ServedFunctions:
    """Which functions a crew's workers serve."""

    def __init__(self, modules: Collection[str], commands: Collection[str] = ()) -> None:
        self._names = frozenset(modules) | {f"{COMMAND}:{each}" for each in commands}

    def has(self, function: str) -> bool:
        """Whether they serve this one. A job of another function never asks for workers that cannot run it."""
        return function in self._names or function.partition(":")[0] in self._names


def demand(
    report: Report,
    means_s: Mapping[str, float],
    served: ServedFunctions,
    slots: int,
    within_s: float,
    ours: Collection[str],
) -> Demand:
    """How many workers of `slots` slots finish what is left within this time; `ours` are those that there are.

    `means_s` says how long a task of each job takes. A worker more than there are tasks for would have nothing to do.
    Where nothing is known of how long tasks take, one worker finds out; where nobody knows how many there are, one more
    is wanted as long as all of ours are busy.
    """
    tasks, work_s, known, reads_on, strange = 0, 0.0, 0, False, 0
    for job in report.jobs:
        if not served.has(job.function):
            strange += 1
            continue
        reads_on = reads_on or job.total is None
        left = 0 if job.total is None else max(0, job.total - job.done)
        tasks += left
        if (mean_s := means_s.get(job.job)) is not None:
            known += left
            work_s += left * mean_s
    # Any remainder of work is worth a worker; a rounding error is none.
    by_time = math.ceil(round(work_s / within_s / slots, 6))
    workers = min(max(by_time, 1), math.ceil(tasks / slots))
    if reads_on:
        workers = max(workers, _one_more(report, ours))
    return Demand(tasks, workers, reads_on, work_s / known if known else None, strange)


def _one_more(report: Report, ours: Collection[str]) -> int:
    mine = [worker for worker in report.workers if name_of(worker.worker) in ours]
    if all(worker.running >= worker.slots for worker in mine):
        return len(mine) + 1
    return 1


def name_of(worker: str) -> str:
    """The name that a worker was given: the sink knows it with a tag of its process."""
    return worker.rpartition(".")[0]
