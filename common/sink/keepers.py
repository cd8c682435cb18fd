"""Workers that keep batches of a job without an end: whose they are, and how long these get no more. No clock.

Batches are pushed blindly, so nobody knows who got which. There are two kinds of keepers. One names in its beats more
than it has room for. Of the other kind are batches that nobody names: their ventilator says that they are missing, and
the sink tries it out. It lets the job leave out one key after the other, until nothing is missing any more.

A thief may keep nothing while another key is tried, so that this one is left out. Batches that are missing later, while
it is out, clear it: keys that are not cleared are tried first. If there is one thief, it is never cleared.
"""

from collections import Counter
from dataclasses import dataclass, field

from ..plain_text import counted
from ..protocol.messages import Crew, Missing
from ..protocol.settings import Timing
from ..protocol.users import User
from .outputs import LogLimiter, Output, Send
from .registry import BeatingWorker, OpenJob, Registry

SENTENCE_S = 30.0
"""How long a key is left out the first time. It is four times as long each time after that."""
SENTENCE_MAX_S = 3_600.0
UNCLEAR_S = 60.0
"""How long nothing is tried after nothing has come of it."""


@dataclass(slots=True)
class _Case:
    """One job whose batches somebody keeps."""

    open_job: OpenJob
    tried: list[str] = field(default_factory=list)
    """Keys that are left out to see whether batches are missing without them, in this order."""
    judged_at: float | None = None
    rests_until: float = float("-inf")
    released_at: dict[str, float] = field(default_factory=dict)
    """By key that is left out: until when."""
    count: Counter[str] = field(default_factory=Counter)
    """How many times each key was left out."""
    cleared: set[str] = field(default_factory=set)
    """Keys that were left out while batches were missing: no single key that keeps them is one of these."""


class Keepers:
    """Finds them, and has their job leave out their keys for a while."""

    def __init__(self, timing: Timing, registry: Registry, lines: LogLimiter) -> None:
        self._holds_s = timing.lease_s
        """How long a worker may name more batches than it has room for: results may be waiting for a commit."""
        self._hears_s = 2 * timing.beat_s
        """For how long after a key was left out its ventilator may still speak of what was before."""
        self._tries_s = 8 * timing.beat_s
        """By then the ventilator would have said that batches are missing again."""
        self._registry = registry
        self._lines = lines
        self._cases: dict[str, _Case] = {}

    def beat(self, now: float, worker: BeatingWorker, is_stuck: bool) -> list[Output]:
        """Look at the last beat of this worker; `is_stuck`: results wait for the ledger, and so do their workers."""
        room = worker.slots + worker.prefetch
        outputs: list[Output] = []
        before, worker.surplus = worker.surplus, {}
        for job, names in worker.held.items():
            if len(names) <= room or is_stuck or (open_job := self._registry.open_jobs.get(job)) is None:
                continue
            kept = before.get(job)
            both = set(names) if kept is None else kept[1].intersection(names)
            if kept is None or len(both) <= room:
                worker.surplus[job] = now, set(names)
            elif now < kept[0] + self._holds_s:
                worker.surplus[job] = kept[0], both
            else:
                outputs += self._holds_too_much(now, open_job, worker, len(both))
        return outputs

    def missing(self, now: float, open_job: OpenJob, message: Missing) -> list[Output]:
        """The ventilator of a job misses batches: leave out the key that came last, then the one before."""
        case = self._case(open_job)
        out = {key for key, at in open_job.barred.items() if now >= at + self._hears_s}
        if now < case.rests_until or (case.tried and case.tried[-1] not in out):
            return []
        case.cleared |= out
        suspects = self._suspects(case)
        batches = counted(message.batches, "batch", "batches")
        text = f"job {open_job.job}: {batches} went to a worker, and no worker names them"
        if len(suspects) < 2:
            case.rests_until, case.judged_at = now + UNCLEAR_S, None
            outputs = self._let_in(case, list(open_job.barred))
            case.tried = []
            text = f"{text}: it cannot be told which worker keeps them, and all get tasks of it again"
            return outputs + self._lines.say(now, open_job.user, "warning", text)
        user = suspects[-1].user
        case.tried.append(user.key)
        case.judged_at = now + self._tries_s
        text = f"{text}: workers with key {user.name} get no tasks of it for a moment, to see whether they keep them"
        return [*self._lines.say(now, open_job.user, "warning", text), *self._bar(now, open_job, user.key)]

    def tick(self, now: float) -> list[Output]:
        """Judge what was tried, and let in those whose time is over."""
        outputs: list[Output] = []
        for job, case in list(self._cases.items()):
            if self._registry.open_jobs.get(job) is not case.open_job:
                del self._cases[job]
                if case.open_job.barred:
                    # The relay lets them in again, for other jobs.
                    self._registry.touch_keys()
                continue
            if case.judged_at is not None and now >= case.judged_at:
                *others, key = case.tried
                case.tried, case.judged_at = [], None
                outputs += [*self._let_in(case, others), *self._leave_out(now, case, key, case.open_job.user)]
            over = [key for key, at in case.released_at.items() if now >= at]
            outputs += self._let_in(case, over)
        return outputs

    # -- rules --------------------------------------------------------------------------------------------------------

    def _case(self, open_job: OpenJob) -> _Case:
        case = self._cases.get(open_job.job)
        if case is None or case.open_job is not open_job:
            case = self._cases[open_job.job] = _Case(open_job)
        return case

    def _suspects(self, case: _Case) -> list[BeatingWorker]:
        """One worker of each key that gets tasks of the job; the last one is tried first."""
        crew = self._registry.crew_of(case.open_job)
        found = {each.user.key: each for each in crew if each.user.key not in case.open_job.barred}
        # Those that are cleared come first; and who was left out before, and is back, comes last.
        keys = sorted(found, key=lambda key: (key not in case.cleared, case.count[key] > 0))
        return [found[key] for key in keys]

    def _holds_too_much(self, now: float, open_job: OpenJob, worker: BeatingWorker, count: int) -> list[Output]:
        room = counted(worker.slots + worker.prefetch, "batch", "batches")
        text = f"job {open_job.job}: worker {worker.name} holds {count:,} batches for long, and has room for {room}"
        outputs = self._lines.say(now, worker.user, "warning", text)
        case = self._case(open_job)
        if {each.user.key for each in self._suspects(case)} - {worker.user.key}:
            outputs += self._leave_out(now, case, worker.user.key, worker.user)
        return outputs

    def _leave_out(self, now: float, case: _Case, key: str, cause: User) -> list[Output]:
        """The job goes on as if workers with this key were not here: what they hold is pushed to others.

        `cause` is whose message has led to it.
        """
        open_job, count = case.open_job, case.count[key]
        case.count[key] += 1
        seconds = min(SENTENCE_S * 4**count, SENTENCE_MAX_S)
        case.released_at[key] = now + seconds
        crew = [each for each in self._registry.crew_of(open_job) if each.user.key == key]
        open_job.left_out.add(key)
        outputs = self._bar(now, open_job, key)
        if crew:
            text = (
                f"job {open_job.job}: workers with key {crew[0].user.name} keep its batches: they get no tasks of it"
                f" for {seconds:,.0f} s; see to their network, or revoke the key"
            )
            left = Crew([], [each.name for each in crew], [], self._registry.others(open_job))
            outputs += [*self._lines.say(now, cause, "warning", text), Send(open_job.peer, left)]
        return outputs

    def _bar(self, now: float, open_job: OpenJob, key: str) -> list[Output]:
        open_job.barred.setdefault(key, now)
        return self._tell(key)

    def _let_in(self, case: _Case, keys: list[str]) -> list[Output]:
        outputs: list[Output] = []
        for key in keys:
            case.released_at.pop(key, None)
            case.open_job.barred.pop(key, None)
            case.open_job.left_out.discard(key)
            outputs += self._tell(key)
        return outputs

    def _tell(self, key: str) -> list[Output]:
        """Tell its workers where there are tasks for them now; ventilators and the relay hear of it in this turn."""
        self._registry.touch_keys()
        workers = [worker for worker in self._registry.workers.values() if worker.user.key == key]
        return [Send(worker.peer, self._registry.places(worker)) for worker in workers]
