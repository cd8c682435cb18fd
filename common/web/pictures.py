"""What the pages and the JSON show, made of a report and of the ledger's jobs. No socket, no clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import overload

from ..protocol.messages import JobReport, Report, WorkerReport
from ..sink.store import JobSummary

RUNNING, STOPPED = "running", "stopped"
"""States of a job that is open: with its ventilator, and without."""


@dataclass(frozen=True, slots=True)
class JobPicture:
    """A job in a list, or at the top of its page."""

    name: str
    function: str
    state: str
    """running, stopped, done or cancelled."""
    done: int
    failed: int
    total: int | None
    workers: int
    rate: float
    """Tasks a second, now or over its life."""
    left_s: float | None
    """How long it will take, if that can be said."""
    opened_at: str | None
    ended_at: str | None
    longest: tuple[tuple[str, int, int, float], ...] = ()
    """Its batches that run longest: worker, first task, count, seconds."""

    @property
    def share(self) -> float | None:
        """How much of it is recorded, from 0 to 1."""
        return None if self.total is None else 1.0 if self.total == 0 else min(1.0, self.done / self.total)

    @property
    def failed_share(self) -> float:
        """How much of it has failed, from 0 to 1."""
        whole = self.done if self.total is None else max(self.total, self.done)
        return self.failed / whole if whole else 0.0

    @property
    def is_live(self) -> bool:
        """Whether it may still change by itself."""
        return self.state == RUNNING

    @property
    def took_s(self) -> float | None:
        """From when it was opened to when it ended."""
        return seconds_between(self.opened_at, self.ended_at)


@dataclass(frozen=True, slots=True)
class WorkerPicture:
    """A worker in a list."""

    name: str
    key: str
    address: str
    slots: int
    running: int
    held: int
    silent_s: float
    runs: tuple[tuple[str, int], ...]
    """Jobs, and how many batches of each it runs."""

    @property
    def share(self) -> float:
        """How much of its slots is busy, from 0 to 1."""
        return min(1.0, self.running / self.slots)


@dataclass(frozen=True, slots=True)
class Figures:
    """All together."""

    workers: int
    slots: int
    busy: int
    rate: float
    running: int
    """How many jobs run."""


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Between two instants as ISO 8601 writes them."""
    if start is None or end is None:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def farm(report: Report | None) -> Figures:
    """The figures on top."""
    if report is None:
        return Figures(0, 0, 0, 0.0, 0)
    slots = sum(worker.slots for worker in report.workers)
    busy = sum(min(worker.running, worker.slots) for worker in report.workers)
    rate = sum(job.rate for job in report.jobs)
    return Figures(len(report.workers), slots, busy, rate, len(report.jobs))


class JobList(Sequence[JobPicture]):
    """All jobs: first those that run, then those of the ledger, the newest first. What is taken becomes a picture."""

    def __init__(self, report: Report | None, known: Sequence[JobSummary], wanted: str = "") -> None:
        self._report = report
        self._known = known
        running = [] if report is None else report.jobs
        names = {job.job for job in running}
        kept = (summary for summary in reversed(known) if summary.name not in names)
        found: list[JobReport | JobSummary] = [*running, *kept]
        wanted = wanted.lower()
        self._found = [each for each in found if wanted in _words(each).lower()] if wanted else found

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, place: int) -> JobPicture: ...
    @overload
    def __getitem__(self, place: slice) -> list[JobPicture]: ...
    def __getitem__(self, place: int | slice) -> JobPicture | list[JobPicture]:
        """One job, or some."""
        chosen = self._found[place]
        return self._pictures(chosen) if isinstance(chosen, list) else self._pictures([chosen])[0]

    def named(self, name: str) -> JobPicture | None:
        """The job of this name."""
        chosen = [each for each in self._found if (each.job if isinstance(each, JobReport) else each.name) == name]
        return self._pictures(chosen)[0] if chosen else None

    def open(self) -> list[JobPicture]:
        """Those that have not ended."""
        return self._pictures([each for each in self._found if isinstance(each, JobReport) or each.state == "open"])

    def _pictures(self, chosen: Iterable[JobReport | JobSummary]) -> list[JobPicture]:
        chosen = list(chosen)
        names = {each.job for each in chosen if isinstance(each, JobReport)}
        opened = {summary.name: summary for summary in self._known if summary.name in names} if names else {}
        return [
            _running(each, opened.get(each.job), self._report) if isinstance(each, JobReport) else _kept(each)
            for each in chosen
        ]


def _words(job: JobReport | JobSummary) -> str:
    """What a search looks in."""
    if isinstance(job, JobReport):
        return f"{job.job}\n{job.function}\n{RUNNING}"
    return f"{job.name}\n{job.function}\n{_state(job)}"


def _state(summary: JobSummary) -> str:
    return STOPPED if summary.state == "open" else summary.state


def _running(job: JobReport, summary: JobSummary | None, report: Report | None) -> JobPicture:
    assert report is not None
    rate = job.rate
    left_s = None if job.total is None or not rate else max(0, job.total - job.done) / rate
    opened_at = None if summary is None else summary.opened_at
    longest = tuple(
        (report.workers[place].worker, first, count, seconds)
        for place, first, count, seconds in job.longest
        if place < len(report.workers)
    )
    counts = job.done, job.failed, job.total, job.workers
    return JobPicture(job.job, job.function, RUNNING, *counts, rate, left_s, opened_at, None, longest)


def _kept(summary: JobSummary) -> JobPicture:
    took_s = seconds_between(summary.opened_at, summary.ended_at)
    rate = summary.done / took_s if took_s else 0.0
    instants = summary.opened_at, summary.ended_at
    return JobPicture(
        summary.name,
        summary.function,
        _state(summary),
        summary.done,
        summary.failed,
        summary.total,
        0,
        rate,
        None,
        *instants,
    )


def workers(report: Report | None) -> list[WorkerPicture]:
    """The crew by name."""
    if report is None:
        return []
    return sorted((_worker(worker, report.jobs) for worker in report.workers), key=lambda worker: worker.name)


def _worker(worker: WorkerReport, open_jobs: Sequence[JobReport]) -> WorkerPicture:
    runs = tuple((open_jobs[place].job, count) for place, count in worker.runs if place < len(open_jobs))
    counts = worker.slots, worker.running, worker.held
    return WorkerPicture(worker.worker, worker.key, worker.address, *counts, worker.silent_s, runs)


def matching_workers(found: Iterable[WorkerPicture], wanted: str) -> list[WorkerPicture]:
    """Those whose name, key, address or job has this text."""
    wanted = wanted.lower()
    return [
        worker
        for worker in found
        if wanted in "\n".join((worker.name, worker.key, worker.address, *(job for job, _ in worker.runs))).lower()
    ]
