"""What the sink knows of its peers: the crew by its beats, the running jobs by their ventilators."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from ipaddress import ip_address
from itertools import islice

from ..pace import Pace
from ..protocol.messages import (
    HELD_FACTOR,
    BatchName,
    Beat,
    JobReport,
    Member,
    Place,
    Places,
    Present,
    Unreachable,
    WorkerReport,
)
from ..protocol.reports import LONGEST_MAX, WORKER_JOBS_MAX
from ..protocol.settings import CUT_CONNECTION_S
from ..protocol.users import User
from .settings import CollectorSettings
from .store import Job

WORKERS_MAX = 20_000
"""At most how many workers a sink takes: a report names them all in one message."""
OPEN_JOBS_MAX = 2_000
"""At most how many jobs are open at a time, for the same reason."""
PAGE_NAMES = 40_000
"""At most how many batches the members of one `crew` name, so that it is well below the limit of a message."""
_MEMBER_NAMES = 10
"""As large as this many names is what else is said of a member."""


@dataclass(slots=True)
class Peer:
    """One connection of the control link that has said hello."""

    user: User
    name: str
    address: str
    heard_at: float


@dataclass(slots=True)
class BeatingWorker:
    """A worker that is beating."""

    name: str
    user: User
    peer: bytes
    address: str
    functions: frozenset[str] = frozenset()
    slots: int = 0
    prefetch: int = 0
    held: dict[str, list[BatchName]] = field(default_factory=dict)
    started: dict[str, list[BatchName]] = field(default_factory=dict)
    heard_at: float = 0.0
    began_at: dict[tuple[str, BatchName], float] = field(default_factory=dict)
    """When a beat first named a batch as started; of as many as it has slots."""
    quiet: bool = False
    """It misses its beats."""
    surplus: dict[str, tuple[float, set[BatchName]]] = field(default_factory=dict)
    """By job: which batches it has named in each beat since when, all of them with more than it has room for."""

    def member(self, job: str) -> Member:
        """The worker as a job's ventilator sees it."""
        held, started = self.held.get(job, []), self.started.get(job, [])
        return Member(self.name, self.slots, self.prefetch, held, started)


@dataclass(slots=True)
class OpenJob:
    """A job whose ventilator is connected. `asked_after` is set while its request for receipts is unanswered."""

    job: str
    function: str
    ventilator: str
    user: User
    peer: bytes
    address: str
    port: int
    heard_at: float
    scarce: bool = False
    asked_after: int | None = None
    asked_at: float = 0.0
    answered: bool = False
    nothing_after: int | None = None
    """The position behind which there were no receipts; None once something was committed since."""
    caught_up: bool = False
    retry_failed: bool = False
    origin: bytes = b""
    """What its batches bear."""
    pace: Pace = field(default_factory=Pace)
    relayed: bool = False
    """Its tasks come through the relay."""
    contested_at: dict[str, dict[str, float]] = field(default_factory=dict)
    """By key: when each other ventilator first asked for this job."""
    unreachable: dict[str, Unreachable] = field(default_factory=dict)
    """By worker: that it could not connect to the ventilator, when it said so last."""
    barred: dict[str, float] = field(default_factory=dict)
    """By key whose workers get none of its tasks at present: since when."""
    left_out: set[str] = field(default_factory=set)
    """Those of them whose workers are not in its crew either."""

    def place(self, settings: CollectorSettings) -> Place:
        """Where workers find this job's tasks; a ventilator beside the sink is found where the sink is."""
        if self.relayed:
            return Place(self.job, "", settings.relayed_tasks_port, settings.key, self.scarce, self.origin)
        host = "" if ip_address(self.address.partition("%")[0]).is_loopback else self.address
        return Place(self.job, host, self.port, self.user.key, self.scarce, self.origin)


class Registry:
    """Workers by name, running jobs by name."""

    def __init__(self, settings: CollectorSettings) -> None:
        self.workers: dict[str, BeatingWorker] = {}
        self.open_jobs: dict[str, OpenJob] = {}
        self._settings = settings
        self._timing = settings.timing
        self._looked_at: float | None = None
        self._exposing: Counter[str] = Counter()
        """How many workers expose each function."""
        self._keys: Counter[str] = Counter()
        """How many workers have each key."""
        self._keys_changed = False
        """A key was added or is gone since this was asked last."""
        self._with_quiet: dict[str, None] = {}
        """Addresses of workers of relayed jobs that miss their beats, and whose connections are not cut yet."""
        self._cut_again_at = float("-inf")

    def join(self, now: float, worker: BeatingWorker) -> None:
        """Add a worker that was not known."""
        worker.heard_at = now
        self.workers[worker.name] = worker
        self._keys[worker.user.key] += 1
        self._keys_changed |= self._keys[worker.user.key] == 1

    def beat(self, now: float, worker: BeatingWorker, beat: Beat) -> None:
        """Update the worker from its beat."""
        worker.heard_at, worker.quiet = now, False
        worker.slots, worker.prefetch = beat.slots, beat.prefetch
        # More than it can hold, no beat may keep from others.
        most = HELD_FACTOR * (beat.slots + beat.prefetch)
        worker.held, started = _at_most(beat.held, most), _at_most(beat.started, most)
        if started != worker.started:
            worker.started = started
            named = islice(((job, name) for job, names in started.items() for name in names), worker.slots)
            worker.began_at = {each: worker.began_at.get(each, now) for each in named}

    def expose(self, worker: BeatingWorker, functions: frozenset[str]) -> None:
        """Note that the worker exposes these functions, and no others."""
        self._exposing.subtract(worker.functions)
        self._exposing.update(functions)
        self._exposing = +self._exposing
        worker.functions = functions

    def leave(self, worker: BeatingWorker) -> None:
        """Forget the worker."""
        self.expose(worker, frozenset())
        del self.workers[worker.name]
        self._keys[worker.user.key] -= 1
        if not self._keys[worker.user.key]:
            del self._keys[worker.user.key]
            self._keys_changed = True

    def present(self, open_job: OpenJob) -> Present:
        """Which keys workers are here with, that may have tasks of this job."""
        return Present([key for key in self._keys if key not in open_job.barred])

    def pulling(self) -> frozenset[str]:
        """Which keys workers are here with, that may pull from the relay."""
        return frozenset(self._keys) - self._barred_from_relay()

    def touch_keys(self) -> None:
        """Jobs let other keys in than before."""
        self._keys_changed = True

    def keys_changed(self) -> bool:
        """Whether they are others than when this was asked last."""
        changed, self._keys_changed = self._keys_changed, False
        return changed

    def open_jobs_for(self, worker: BeatingWorker) -> list[OpenJob]:
        """The running jobs in whose crews the worker is: it exposes their functions."""
        key, functions = worker.user.key, worker.functions
        found = [open_job for open_job in self.open_jobs.values() if open_job.function in functions]
        return [open_job for open_job in found if key not in open_job.left_out]

    def crew_of(self, open_job: OpenJob) -> list[BeatingWorker]:
        """The workers that expose the job's function and have told their capacity."""
        found = [each for each in self.workers.values() if each.slots and open_job.function in each.functions]
        left_out = open_job.left_out
        return [each for each in found if each.user.key not in left_out] if left_out else found

    def others(self, open_job: OpenJob) -> int:
        """How many workers do not expose the job's function."""
        return len(self.workers) - self._exposing[open_job.function]

    def places(self, worker: BeatingWorker) -> Places:
        """Where the worker finds tasks, and what else comes to it through the relay."""
        mine = [open_job for open_job in self.open_jobs_for(worker) if worker.user.key not in open_job.barred]
        if any(open_job.relayed for open_job in mine):
            mine += [each for each in self.open_jobs.values() if each.relayed and each.function not in worker.functions]
        return Places([open_job.place(self._settings) for open_job in mine])

    def concerned_by(self, open_job: OpenJob) -> list[BeatingWorker]:
        """The workers whose places change when this job comes or goes."""
        also = self._relayed_functions() if open_job.relayed else set()
        return self._exposing_any({open_job.function} | also)

    def _relayed_to(self) -> list[BeatingWorker]:
        """The workers that pull from the relay."""
        relayed = self._relayed_functions()
        return self._exposing_any(relayed) if relayed else []

    def _relayed_functions(self) -> set[str]:
        return {open_job.function for open_job in self.open_jobs.values() if open_job.relayed}

    def _barred_from_relay(self) -> set[str]:
        return {key for open_job in self.open_jobs.values() if open_job.relayed for key in open_job.barred}

    def _exposing_any(self, functions: set[str]) -> list[BeatingWorker]:
        return [worker for worker in self.workers.values() if not worker.functions.isdisjoint(functions)]

    def _fallen_quiet(self, now: float) -> list[BeatingWorker]:
        """Workers of relayed jobs that begin to miss their beats; looked for together with the silent ones."""
        if self._looked_at != now:
            return []
        quiet_at = now - self._timing.silence_s
        found = [each for each in self._relayed_to() if each.heard_at < quiet_at and not each.quiet]
        for worker in found:
            worker.quiet = True
        return found

    def to_cut_off(self, now: float) -> list[tuple[str, int]]:
        """Where connections to the relay are to be cut now, because a worker there misses its beats; how many live."""
        self._with_quiet.update(dict.fromkeys(worker.address for worker in self._fallen_quiet(now)))
        if not self._with_quiet or now < self._cut_again_at:
            return []
        living = self.living()
        found = [(address, living[address]) for address in self._with_quiet]
        self._with_quiet.clear()
        self._cut_again_at = now + CUT_CONNECTION_S * sum(count for _, count in found)
        return found

    def living(self) -> Counter[str]:
        """How many workers of relayed jobs do not miss their beats, by address."""
        barred = self._barred_from_relay()
        return Counter(
            worker.address for worker in self._relayed_to() if not worker.quiet and worker.user.key not in barred
        )

    def silent(self, now: float) -> tuple[list[BeatingWorker], list[OpenJob]]:
        """Workers and jobs whose peers have been silent too long; looked for once a beat.

        Time during which the sink itself did not run does not count.
        """
        if not (self.workers or self.open_jobs):
            self._looked_at = None
            return [], []
        slept_s = 0.0 if self._looked_at is None else now - self._looked_at - 2 * self._timing.beat_s
        if self._looked_at is not None and now < self._looked_at + self._timing.beat_s:
            return [], []
        self._looked_at = now
        if slept_s > 0:
            for worker in self.workers.values():
                worker.heard_at = min(now, worker.heard_at + slept_s)
            for open_job in self.open_jobs.values():
                open_job.heard_at = min(now, open_job.heard_at + slept_s)
        gone_at = now - self._timing.gone_s
        return (
            [worker for worker in self.workers.values() if worker.heard_at < gone_at],
            [open_job for open_job in self.open_jobs.values() if open_job.heard_at < gone_at],
        )

    def deadline(self) -> float | None:
        """When to look for silent peers next; None while there are no peers."""
        if not (self.workers or self.open_jobs):
            return None
        return float("-inf") if self._looked_at is None else self._looked_at + self._timing.beat_s

    def report(self, now: float, jobs: dict[str, Job]) -> tuple[list[JobReport], list[WorkerReport]]:
        """The open jobs and the crew for an observer."""
        places = {job: place for place, job in enumerate(self.open_jobs)}
        longest = self._longest()
        functions = {open_job.function for open_job in self.open_jobs.values()}
        crews = Counter(
            each for worker in self.workers.values() if worker.slots for each in worker.functions & functions
        )
        return [
            JobReport(
                open_job.job,
                open_job.function,
                jobs[open_job.job].done,
                jobs[open_job.job].failed,
                jobs[open_job.job].total,
                crews[open_job.function],
                open_job.pace.rate(now),
                [(place, *name[:2], max(0.0, now - at)) for at, place, name in longest.get(open_job.job, ())],
            )
            for open_job in self.open_jobs.values()
        ], [
            WorkerReport(
                worker.name,
                worker.user.name,
                worker.address,
                max(1, worker.slots),
                sum(map(len, worker.started.values())),
                sum(map(len, worker.held.values())),
                max(0.0, now - worker.heard_at),
                [(places[job], len(names)) for job, names in worker.started.items() if job in places and names][
                    :WORKER_JOBS_MAX
                ],
            )
            for worker in self.workers.values()
        ]

    def _longest(self) -> dict[str, list[tuple[float, int, BatchName]]]:
        """Of each job the batches that run longest: since when, the worker's place, the batch."""
        found: dict[str, list[tuple[float, int, BatchName]]] = {}
        for place, worker in enumerate(self.workers.values()):
            for (job, name), at in worker.began_at.items():
                found.setdefault(job, []).append((at, place, name))
        return {job: nsmallest(LONGEST_MAX, running) for job, running in found.items()}


def pages(members: Iterable[Member]) -> list[list[Member]]:
    """Members of a crew, in as many parts as fit a message each."""
    made: list[list[Member]] = [[]]
    size = 0
    for member in members:
        size += names_in(member)
        if size > PAGE_NAMES and made[-1]:
            made.append([])
            size = names_in(member)
        made[-1].append(member)
    return made


def names_in(member: Member) -> int:
    """How large a member is, in names of batches."""
    return _MEMBER_NAMES + len(member.held) + len(member.started)


def _at_most(named: dict[str, list[BatchName]], most: int) -> dict[str, list[BatchName]]:
    if all(len(names) <= most for names in named.values()):
        return named
    return {job: names[:most] for job, names in named.items()}
