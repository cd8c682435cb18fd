"""Jobs and who ventilates them: opened, asked for, closed, cancelled. No socket, no clock."""

from collections.abc import Iterable
from itertools import islice

from common.crew import Crews, JobRun, Peer
from common.ledger import Job, LedgerRefused, LedgerStuck
from common.messages import (
    SECONDS_MAX,
    Ask,
    Cancel,
    Close,
    Closed,
    Crew,
    Dropped,
    Failed,
    Open,
    Opened,
    Recall,
    Receipts,
    Roster,
)
from common.outputs import Lines, Output, Send, refusal
from common.recording import Recording
from common.roster import WORKER, User
from common.settings import CollectionSettings
from common.store import Store

_CONTESTERS_MAX = 100
"""Of one key."""
_HELD_MAX = 100
"""Jobs of one beat that the ledger is asked about."""


class Jobs:
    """The running jobs, each with its ventilator."""

    def __init__(
        self,
        now: float,
        settings: CollectionSettings,
        ledger: Store,
        crews: Crews,
        lines: Lines,
        roster: dict[str, User],
    ) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._ledger = ledger
        self._crews = crews
        self._lines = lines
        self._gathered_at = now + settings.timing.gather_s
        self._worker_keys = _worker_keys(roster)
        self._cancelled: dict[str, tuple[str, str]] = {}
        """By job: name and key of the ventilator that ran it when it was cancelled."""

    # -- who ventilates -----------------------------------------------------------------------------------------

    def open(self, now: float, peer: bytes, known: Peer, message: Open) -> list[Output]:
        """Let the ventilator `known` run its job, unless another one does."""
        run = self._crews.runs.get(message.job)
        if run is not None and (run.ventilator, run.user.key) != (known.name, known.user.key):
            contested_at = run.contested_at.setdefault(known.user.key, {})
            if len(contested_at) >= _CONTESTERS_MAX:
                contested_at.clear()
            asked_at = contested_at.setdefault(known.name, now)
            if run.heard_at > asked_at:
                reason = f"job {run.job} is run by a ventilator at {run.address}: wait for it, or give another --job"
                return [Send(peer, refusal(reason))]
            if now < asked_at + 1.5 * self._timing.ask_s:
                # It repeats its wish; by then a ventilator that lives has spoken, and one that was killed has not.
                return []
        before = self._ledger.job(message.job)
        if before is not None and before.state == "cancelled" and self._had_it(known, message):
            return [Send(peer, Dropped(message.job))]
        try:
            job = self._ledger.open_job(
                message.job, message.function, message.source, message.retries, message.retry_failed
            )
        except LedgerRefused as error:
            return [Send(peer, refusal(str(error)))]
        except LedgerStuck as error:
            return self._lines.say(now, known.user, "error", f"the ledger takes no job: {error}")
        self._cancelled.pop(job.name, None)
        self._crews.runs[job.name] = run = JobRun(
            job=job.name,
            function=job.function,
            ventilator=known.name,
            user=known.user,
            peer=peer,
            address=known.address,
            port=message.port,
            heard_at=now,
            retry_failed=message.retry_failed,
        )
        text = f"job {job.name} ({job.function}) opened from {known.address}: {job.done} tasks recorded before"
        return [
            *self._lines.say(now, known.user, "info", text),
            *self._tell_opened(now, run, job, before is not None),
            *self._tell_places(run.function),
        ]

    def roster_changed(self, roster: dict[str, User]) -> list[Output]:
        """Tell every ventilator which workers it may serve."""
        self._worker_keys = _worker_keys(roster)
        return [Send(run.peer, self._worker_keys) for run in self._crews.runs.values()]

    def cancel(self, now: float, peer: bytes, user: User, message: Cancel) -> list[Output]:
        """End the job everywhere, as `user` asks."""
        job = self._ledger.job(message.job)
        if job is None:
            return [Send(peer, refusal(f"there is no job {message.job}: `python sink.py jobs` lists them"))]
        if job.state == "done":
            return [Send(peer, refusal(f"job {message.job} is done already"))]
        try:
            self._ledger.end_job(message.job, "cancelled", None)
        except LedgerStuck as error:
            return [Send(peer, refusal(f"the ledger takes no change: {error}"))]
        outputs = self._lines.say(now, user, "info", f"job {message.job} was cancelled by {user.name}")
        run = self._crews.runs.get(message.job)
        if run is not None:
            self._cancelled[run.job] = run.ventilator, run.user.key
            outputs += [Send(run.peer, Dropped(run.job)), *self.end(run)]
        outputs += [Send(worker.peer, Dropped(message.job)) for worker in self._crews.workers.values()]
        return [*outputs, Send(peer, Dropped(message.job))]

    def still_held(self, peer: bytes, jobs: Iterable[str]) -> list[Output]:
        """Tell a worker that holds batches of cancelled jobs: it was away when all were told."""
        asked = [self._ledger.job(name) for name in islice(jobs, _HELD_MAX) if name not in self._crews.runs]
        return [Send(peer, Dropped(job.name)) for job in asked if job is not None and job.state == "cancelled"]

    def end(self, run: JobRun) -> list[Output]:
        """Its ventilator has left."""
        del self._crews.runs[run.job]
        return self._tell_places(run.function)

    def _had_it(self, known: Peer, message: Open) -> bool:
        """True when the cancelled job was this ventilator's: it has not heard so, or had not when it spoke."""
        return message.reopens or self._cancelled.get(message.job) == (known.name, known.user.key)

    def _tell_opened(self, now: float, run: JobRun, job: Job, resumed: bool) -> list[Output]:
        opened = Opened(
            job=job.name,
            ledger=self._ledger.id,
            ticket_key=job.ticket_key,
            mark_count=job.mark_count,
            mark_digest=job.mark_digest,
            total=job.total,
            attempts=job.attempts,
            resumed=resumed,
            gather_s=max(0.0, self._gathered_at - now),
        )
        members = [worker.member(run.job) for worker in self._crews.crew_of(run)]
        crew = Crew(members, [], [], self._crews.others(run))
        return [Send(run.peer, message) for message in (self._worker_keys, opened, crew)]

    def _tell_places(self, function: str) -> list[Output]:
        return [
            Send(worker.peer, self._crews.places(worker))
            for worker in self._crews.workers.values()
            if function in worker.functions
        ]

    # -- receipts -----------------------------------------------------------------------------------------------

    def ask(self, now: float, run: JobRun, message: Ask) -> list[Output]:
        """Take the request for receipts: it is answered when there is something, or after a second."""
        outputs: list[Output] = []
        if message.scarce != run.scarce:
            run.scarce = message.scarce
            outputs += self._tell_places(run.function)
        run.asked_after, run.asked_at = message.after, now
        return outputs + self._answer(run, even_if_none=False)

    def committed(self, recordings: Iterable[Recording]) -> list[Output]:
        """Tell the ventilators what is recorded now, and what is to be tried again."""
        outputs = [output for each in recordings for output in self._tell_failed(each)]
        for job in {each.results.job for each in recordings}:
            run = self._crews.runs.get(job)
            if run is not None and run.asked_after is not None:
                outputs += self._answer(run, even_if_none=False)
        return outputs

    def tick(self, now: float) -> list[Output]:
        """Answer who has asked long enough ago."""
        due = [run for run, at in self._asked() if now >= at]
        return [output for run in due for output in self._answer(run, even_if_none=True)]

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return min((at for _, at in self._asked()), default=None)

    def _asked(self) -> list[tuple[JobRun, float]]:
        """Who waits for an answer, and until when."""
        runs = self._crews.runs.values()
        return [(run, run.asked_at + self._timing.ask_s) for run in runs if run.asked_after is not None]

    def _answer(self, run: JobRun, even_if_none: bool) -> list[Output]:
        assert run.asked_after is not None
        # Only the answers from before this run leave failed tasks out: what it does itself is done.
        without_failed = run.retry_failed and not run.caught_up
        page = self._ledger.receipts(run.job, run.asked_after, self._settings.receipts_page, without_failed)
        if not page.count and not even_if_none and run.answered:
            return []
        run.caught_up = run.caught_up or not page.more
        job = self._ledger.job(run.job)
        assert job is not None
        receipts = Receipts(
            job=run.job,
            after=run.asked_after,
            position=page.position,
            runs=page.runs,
            count=page.count,
            seconds=min(page.seconds, SECONDS_MAX),
            done=job.done,
            failed=job.failed,
            more=page.more,
        )
        run.asked_after = None
        run.answered = True
        return [Send(run.peer, receipts)]

    def _tell_failed(self, recorded: Recording) -> list[Output]:
        run = self._crews.runs.get(recorded.results.job)
        if run is None or not recorded.again:
            return []
        tasks = [recorded.results.first + offset for offset in sorted(recorded.again)]
        return [Send(run.peer, Failed(run.job, recorded.results.attempt, tasks))]

    # -- the end ------------------------------------------------------------------------------------------------

    def halt(self, run: JobRun) -> list[Output]:
        """Have the crew hand back what has not started."""
        return [Send(worker.peer, Recall(run.job)) for worker in self._crews.crew_of(run)]

    def close(self, now: float, run: JobRun, message: Close) -> list[Output]:
        """The job is done."""
        job = self._ledger.job(run.job)
        assert job is not None
        try:
            if job.state != "done":
                self._ledger.end_job(run.job, "done", message.total)
        except LedgerStuck as error:
            return self._lines.say(now, run.user, "error", f"the ledger cannot close job {run.job}: {error}")
        failures = self._ledger.failures(run.job, self._settings.failures_shown)
        text = f"job {run.job} is done: {job.done} tasks recorded, {job.failed} failed"
        return [
            *self._lines.say(now, run.user, "info", text),
            Send(run.peer, Closed(run.job, job.done, job.failed, failures)),
            *(self._drop_rest(run) if message.drop else ()),
        ]

    def _drop_rest(self, run: JobRun) -> list[Output]:
        """Have the crew end what still runs of a job that is done: the slower ones of batches and their copies."""
        crew = self._crews.crew_of(run)
        for worker in crew:
            worker.held.pop(run.job, None)
            worker.started.pop(run.job, None)
        return [Send(worker.peer, Dropped(run.job)) for worker in crew]


def _worker_keys(roster: dict[str, User]) -> Roster:
    return Roster([user.key for user in roster.values() if user.role == WORKER])
