"""Jobs and their ventilators: opened, closed, cancelled, forgotten. No socket, no clock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from ..plain_text import counted
from ..protocol.codec import origin
from ..protocol.messages import (
    Again,
    Cancel,
    Close,
    Closed,
    Crew,
    Digests,
    Dropped,
    Forget,
    Forgotten,
    Open,
    Opened,
    Places,
    Recall,
    Refused,
    Roster,
    Seen,
)
from ..protocol.users import WORKER, User
from .arguments import of_range, shown
from .headline import headline
from .job_rules import begins_to_append, no_job, stays_done, why_not_open
from .outputs import Admit, CutOff, LogLimiter, Output, Send, refusal
from .registry import OPEN_JOBS_MAX, BeatingWorker, OpenJob, Peer, Registry, pages
from .settings import CollectorSettings
from .store import Ending, Forgetting, Job, LedgerStuck, Opening, Store, Write

_CONTESTERS_MAX = 100
"""At most how many other ventilators with one key are remembered as waiting for a job."""
_PRESENT_KEY_S = 50e-6
"""How long the keys that are here are not told again, for each of them. While thousands join, each with a key of its
own, all of them told at each turn would cost far more than all that they say: 400 KB to each ventilator."""
_HELD_MAX = 100
"""At most how many jobs of one beat are looked up in the ledger."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for that changes a job in the ledger."""

    peer: bytes
    known: Peer
    message: Open | Close | Cancel | Forget

    @property
    def key(self) -> tuple[bytes, type, str]:
        """The same when it is resent."""
        return self.peer, type(self.message), self.message.job


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a job in the ledger, and what follows."""

    write: Write
    done: Callable[[float], list[Output]]
    """What to do when it is written, at this instant."""
    refused: Callable[[float, str], list[Output]]
    """What to do when the ledger does not accept it, for this reason."""


class Jobs:
    """The running jobs, each with its ventilator."""

    def __init__(
        self,
        now: float,
        settings: CollectorSettings,
        ledger: Store,
        registry: Registry,
        lines: LogLimiter,
        roster: dict[str, User],
    ) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._ledger = ledger
        self._registry = registry
        self._lines = lines
        self._gathered_at = now + settings.timing.gather_s
        self._worker_keys = _worker_keys(roster)
        self._present: frozenset[str] = frozenset()
        self._present_at: float | None = None
        """When keys that have come or gone are told."""
        self._present_again_at = float("-inf")
        """Not before then."""
        self._leftovers_at: dict[str, float] = {}
        """By key whose workers have left: when whoever still pulls from the relay with it is cut off."""
        self._cancelled: dict[str, tuple[str, str]] = {}
        """By job: name and key of the ventilator that ran it when it was cancelled."""

    # -- opening and cancelling ---------------------------------------------------------------------------------

    def turn(self, now: float, request: Request) -> "Change | list[Output]":
        """What a request changes in the ledger, all that came before it being written; or the answer, if nothing."""
        peer, known, message = request.peer, request.known, request.message
        if isinstance(message, Open):
            return self.open(now, peer, known, message)
        if isinstance(message, Cancel):
            return self.cancel(peer, known.user, message)
        if isinstance(message, Forget):
            return self.forget(now, peer, known.user, message)
        open_job = self._registry.open_jobs.get(message.job)
        if open_job is None or open_job.peer != peer:
            return [Send(peer, Again())]
        return self.close(now, open_job, message)

    def open(self, now: float, peer: bytes, known: Peer, message: Open) -> "Change | list[Output]":
        """Let the ventilator `known` run its job, unless another one does."""
        open_job = self._registry.open_jobs.get(message.job)
        if open_job is not None and (open_job.ventilator, open_job.user.key) != (known.name, known.user.key):
            contested_at = open_job.contested_at.setdefault(known.user.key, {})
            if len(contested_at) >= _CONTESTERS_MAX:
                contested_at.clear()
            asked_at = contested_at.setdefault(known.name, now)
            if open_job.heard_at > asked_at:
                place = open_job.address
                reason = f"job {open_job.job} is run by a ventilator at {place}: wait for it, or give another --job"
                return [Send(peer, refusal(reason))]
            if now < asked_at + 1.5 * self._timing.ask_s:
                # It resends `Open`. By then a living ventilator has sent something, and a killed one has not.
                return []
        if open_job is None and len(self._registry.open_jobs) >= OPEN_JOBS_MAX:
            return [Send(peer, refusal(f"{OPEN_JOBS_MAX} jobs are open at this sink: run this one when some are done"))]
        before = self._ledger.job(message.job)
        if before is not None and before.state == "cancelled" and self._had_it(known, message):
            return [Send(peer, Dropped(message.job))]
        if before is None and message.reopens:
            reason = (
                f"job {message.job} is no longer in the ledger of the sink: it was forgotten, or the sink has another"
                " ledger now; run it again to begin anew"
            )
            return [Send(peer, refusal(reason))]
        fault = why_not_open(before, message)
        if fault is not None:
            return [Send(peer, refusal(fault))]
        if before is not None and stays_done(before, message) and not begins_to_append(before, message):
            return self._opened(now, peer, known, message, before)
        try:
            opening = self._opening(before, message)
        except LedgerStuck as error:
            return self._accepts_no_job(now, known, str(error))
        return Change(
            opening,
            lambda now: self._opened(now, peer, known, message, before),
            lambda now, reason: self._accepts_no_job(now, known, reason),
        )

    def _accepts_no_job(self, now: float, known: Peer, reason: str) -> list[Output]:
        return self._lines.say(now, known.user, "error", f"the ledger accepts no job: {reason}")

    def _opened(self, now: float, peer: bytes, known: Peer, message: Open, before: Job | None) -> list[Output]:
        """The job is open in the ledger, or stays done; it was there `before` or not."""
        job = self._ledger.job(message.job)
        assert job is not None
        self._cancelled.pop(job.name, None)
        self._registry.open_jobs[job.name] = open_job = OpenJob(
            job=job.name,
            function=job.function,
            ventilator=known.name,
            user=known.user,
            peer=peer,
            address=known.address,
            port=message.port,
            heard_at=now,
            retry_failed=message.retry_failed,
            origin=origin(job.ticket_key),
            relayed=message.relay,
        )
        way = "; its tasks come through the relay" if message.relay else ""
        done = counted(job.done, "task")
        text = f"job {job.name} ({job.function}) opened from {known.address}, {done} recorded{way}"
        return [
            *self._lines.say(now, known.user, "info", text),
            *self._tell_opened(now, open_job, job, before is not None),
            *self._tell_places(self._registry.concerned_by(open_job)),
            # A new run of the job pushes by its own options what has not started.
            *(self.halt(open_job) if before is not None and not message.reopens else ()),
        ]

    def scarce(self, open_job: OpenJob, scarce: bool) -> list[Output]:
        """Tell the crew when the job's input has ended, or has more after all."""
        if scarce == open_job.scarce:
            return []
        open_job.scarce = scarce
        exposing = [each for each in self._registry.workers.values() if open_job.function in each.functions]
        return self._tell_places(exposing)

    def roster_changed(self, roster: dict[str, User]) -> list[Output]:
        """Tell every ventilator which workers it may serve."""
        self._worker_keys = _worker_keys(roster)
        return [Send(open_job.peer, self._worker_keys) for open_job in self._registry.open_jobs.values()]

    def tick(self, now: float) -> list[Output]:
        """Tell every ventilator which keys workers are here with, if others came or went: once for many of them."""
        outputs: list[Output] = []
        if self._registry.keys_changed() and self._present_at is None:
            self._present_at = self._present_again_at
        if self._present_at is not None and now >= self._present_at:
            before, self._present = self._present, self._registry.pulling()
            self._present_at, self._present_again_at = None, now + len(self._present) * _PRESENT_KEY_S
            open_jobs = self._registry.open_jobs.values()
            outputs += [Send(open_job.peer, self._registry.present(open_job)) for open_job in open_jobs]
            outputs.append(Admit(self._present))
            # By then the connections of those that left have ended.
            self._leftovers_at |= dict.fromkeys(before - self._present, now + 2 * self._timing.beat_s)
            self._leftovers_at = {key: at for key, at in self._leftovers_at.items() if key not in self._present}
        if any(now >= at for at in self._leftovers_at.values()):
            self._leftovers_at = {key: at for key, at in self._leftovers_at.items() if now < at}
            outputs.append(CutOff(None, self._registry.living().total()))
        return outputs

    def deadline(self) -> float | None:
        """When `tick` has keys to tell next."""
        return self._present_at

    def cancel(self, peer: bytes, user: User, message: Cancel) -> "Change | list[Output]":
        """End the job everywhere, as `user` asks."""
        job = self._ledger.job(message.job)
        if job is None:
            return [Send(peer, refusal(no_job(message.job)))]
        if job.state == "done":
            return [Send(peer, refusal(f"job {message.job} is done already"))]
        return Change(
            Ending(message.job, "cancelled", None),
            lambda now: self._was_cancelled(now, peer, user, message.job),
            lambda _, reason: [Send(peer, _no_change(reason))],
        )

    def _was_cancelled(self, now: float, peer: bytes, user: User, name: str) -> list[Output]:
        outputs = self._lines.say(now, user, "info", f"job {name} was cancelled by {user.name}")
        open_job = self._registry.open_jobs.get(name)
        if open_job is not None:
            self._cancelled[open_job.job] = open_job.ventilator, open_job.user.key
            outputs += [Send(open_job.peer, Dropped(open_job.job)), *self.end(open_job)]
        dropped = Dropped(name)
        outputs += [Send(worker.peer, dropped) for worker in self._registry.workers.values()]
        return [*outputs, Send(peer, dropped)]

    def forget(self, now: float, peer: bytes, user: User, message: Forget) -> "Change | list[Output]":
        """Remove a job that nobody runs from the ledger, as `user` asks."""
        job = self._ledger.job(message.job)
        if job is None:
            return [Send(peer, refusal(no_job(message.job)))]
        if message.job in self._registry.open_jobs:
            reason = f"job {message.job} is run by a ventilator: cancel it, or wait for its end"
            return [Send(peer, refusal(reason))]
        if job.state == "open" and now < self._gathered_at:
            reason = f"job {message.job} is open, and its ventilator may not be back yet after the start of this sink"
            return [Send(peer, refusal(f"{reason}: try again in some seconds"))]
        return Change(
            Forgetting(message.job),
            lambda now: self._was_forgotten(now, peer, user, job),
            lambda _, reason: [Send(peer, _no_change(reason))],
        )

    def _was_forgotten(self, now: float, peer: bytes, user: User, job: Job) -> list[Output]:
        self._cancelled.pop(job.name, None)
        results, dropped = counted(job.done, "result"), Dropped(job.name)
        return [
            *self._lines.say(now, user, "info", f"job {job.name} with {results} was forgotten by {user.name}"),
            *(Send(worker.peer, dropped) for worker in self._registry.workers.values()),
            Send(peer, Forgotten(job.name)),
        ]

    def still_held(self, peer: bytes, jobs: Iterable[str]) -> list[Output]:
        """Tell a worker that holds batches of cancelled or forgotten jobs: it was away when the others were told."""
        names = islice(jobs, _HELD_MAX)
        try:
            asked = {name: self._ledger.job(name) for name in names if name not in self._registry.open_jobs}
        except LedgerStuck:
            # Its next beat names them again.
            return []
        return [Send(peer, Dropped(name)) for name, job in asked.items() if job is None or job.state == "cancelled"]

    def end(self, open_job: OpenJob) -> list[Output]:
        """Its ventilator has left."""
        del self._registry.open_jobs[open_job.job]
        return self._tell_places(self._registry.concerned_by(open_job))

    def _had_it(self, known: Peer, message: Open) -> bool:
        """True when the cancelled job was this ventilator's, and it had not heard so when it sent `Open`."""
        return message.reopens or self._cancelled.get(message.job) == (known.name, known.user.key)

    def _opening(self, job: Job | None, message: Open) -> Opening:
        """How the job is opened, with the retries and attempts of this run. Raises LedgerStuck."""
        attempts = 0 if job is None else job.attempts
        if message.retry_failed and job is not None and job.failed:
            # Attempts count on from the failed rows, so that new rows replace these.
            attempts = self._ledger.failed_attempts(message.job) or attempts
        appends = job is not None and begins_to_append(job, message)
        kind = message.function, message.source
        return Opening(message.job, *kind, message.retries, attempts, message.arguments, appends)

    def _tell_opened(self, now: float, open_job: OpenJob, job: Job, resumed: bool) -> list[Output]:
        opened = Opened(
            job=job.name,
            ledger=self._ledger.id,
            ticket_key=job.ticket_key,
            mark_count=job.mark_count,
            mark_digest=job.mark_digest,
            total=job.read_total,
            attempts=job.attempts,
            resumed=resumed,
            gather_s=max(0.0, self._gathered_at - now),
            base=job.base or 0,
        )
        others = self._registry.others(open_job)
        members = [worker.member(open_job.job) for worker in self._registry.crew_of(open_job)]
        crews = [Crew(page, [], [], others) for page in pages(members)]
        present = self._registry.present(open_job)
        return [Send(open_job.peer, message) for message in (self._worker_keys, present, opened, *crews)]

    def _tell_places(self, workers: Iterable[BeatingWorker]) -> list[Output]:
        # Workers that expose the same are told the same, unless their key is left out of a job, as few are: in a large
        # crew, that is most of the cost.
        barred = {key for open_job in self._registry.open_jobs.values() for key in open_job.barred}
        told: dict[tuple[frozenset[str], str], Places] = {}
        outputs: list[Output] = []
        for worker in workers:
            alike = worker.functions, worker.user.key if worker.user.key in barred else ""
            places = told.get(alike)
            if places is None:
                places = told[alike] = self._registry.places(worker)
            outputs.append(Send(worker.peer, places))
        return outputs

    def seen(self, open_job: OpenJob, message: Seen) -> list[Output]:
        """Tell the ventilator which arguments the job had before."""
        try:
            page = self._ledger.digests(open_job.job, message.first, self._settings.digests_page)
        except LedgerStuck:
            # It asks again.
            return []
        digests = b"".join(page.digests)
        answer = Digests(open_job.job, message.first, page.next, digests, page.unknown, page.more)
        return [Send(open_job.peer, answer)]

    # -- the end ------------------------------------------------------------------------------------------------

    def halt(self, open_job: OpenJob) -> list[Output]:
        """Have the crew hand back what has not started."""
        recall = Recall(open_job.job)
        return [Send(worker.peer, recall) for worker in self._registry.crew_of(open_job)]

    def close(self, now: float, open_job: OpenJob, message: Close) -> "Change | list[Output]":
        """The job is done."""
        job = self._ledger.job(open_job.job)
        assert job is not None
        if job.state == "done":
            return self._closed(now, open_job, message)
        return Change(
            Ending(open_job.job, "done", message.total),
            lambda now: self._closed(now, open_job, message),
            lambda now, reason: self._cannot_close(now, open_job, reason),
        )

    def _cannot_close(self, now: float, open_job: OpenJob, reason: str) -> list[Output]:
        return self._lines.say(now, open_job.user, "error", f"the ledger cannot close job {open_job.job}: {reason}")

    def _closed(self, now: float, open_job: OpenJob, message: Close) -> list[Output]:
        job = self._ledger.job(open_job.job)
        assert job is not None
        try:
            failures = self._ledger.failures(open_job.job, self._settings.failures_shown)
        except LedgerStuck:
            # Its ventilator asks again.
            return []
        shown_failures = [
            (task, headline(error), shown(argument or of_range(job.source, task))) for task, error, argument in failures
        ]
        text = f"job {open_job.job} is done: {counted(job.done - job.failed, 'task')} ok, {job.failed:,} failed"
        return [
            *self._lines.say(now, open_job.user, "info", text),
            Send(open_job.peer, Closed(open_job.job, job.done, job.failed, shown_failures)),
            *(self._drop_rest(open_job) if message.drop else ()),
        ]

    def _drop_rest(self, open_job: OpenJob) -> list[Output]:
        """Have the crew end what still runs of a job that is done: the slower one of a batch and its copy."""
        crew, dropped = self._registry.crew_of(open_job), Dropped(open_job.job)
        for worker in crew:
            worker.held.pop(open_job.job, None)
            worker.started.pop(open_job.job, None)
        return [Send(worker.peer, dropped) for worker in crew]


def _no_change(reason: str) -> Refused:
    return refusal(f"the ledger accepts no change: {reason}")


def _worker_keys(roster: dict[str, User]) -> Roster:
    return Roster([user.key for user in roster.values() if user.role == WORKER])
