"""The requests for receipts and their answers, read from the ledger by cursor. No socket, no clock."""

from ..protocol.messages import SECONDS_MAX, Ask, Failed, Receipts
from .outputs import Output, Send
from .registry import OpenJob, Registry
from .rows import RowSet
from .settings import CollectorSettings
from .store import LedgerStuck, Store


class Asks:
    """Each running job's request for receipts. It is answered when there is something, or after a second."""

    def __init__(self, settings: CollectorSettings, ledger: Store, registry: Registry) -> None:
        self._receipts_page = settings.receipts_page
        self._ask_s = settings.timing.ask_s
        self._ledger = ledger
        self._registry = registry

    def ask(self, now: float, open_job: OpenJob, message: Ask) -> list[Output]:
        """Take a job's request."""
        open_job.asked_after, open_job.asked_at = message.after, now
        job = self._ledger.job(open_job.job)
        assert job is not None
        open_job.pace.note(now, job.done)
        return self._answer(open_job, even_if_none=False)

    def committed(self, row_sets: list[RowSet]) -> list[Output]:
        """Tell the ventilators what is recorded now, and what is to be tried again."""
        outputs = [output for each in row_sets for output in self._tell_failed(each)]
        for job in {each.results.job for each in row_sets}:
            open_job = self._registry.open_jobs.get(job)
            if open_job is None:
                continue
            open_job.nothing_after = None
            if open_job.asked_after is not None:
                outputs += self._answer(open_job, even_if_none=False)
        return outputs

    def tick(self, now: float) -> list[Output]:
        """Answer the requests that have waited long enough."""
        due = [open_job for open_job, at in self._asked() if now >= at]
        return [output for open_job in due for output in self._answer(open_job, even_if_none=True)]

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return min((at for _, at in self._asked()), default=None)

    def _asked(self) -> list[tuple[OpenJob, float]]:
        """The jobs that wait for an answer, and until when."""
        open_jobs = self._registry.open_jobs.values()
        return [
            (open_job, open_job.asked_at + self._ask_s) for open_job in open_jobs if open_job.asked_after is not None
        ]

    def _answer(self, open_job: OpenJob, even_if_none: bool) -> list[Output]:
        assert open_job.asked_after is not None
        if open_job.asked_after == open_job.nothing_after and not even_if_none:
            # A ventilator asks at once after each answer: the ledger need not be read to find nothing.
            return []
        job = self._ledger.job(open_job.job)
        assert job is not None
        # Only the answers from before this run leave failed tasks out: what it does itself is done.
        skipped = job.attempts if open_job.retry_failed and not open_job.caught_up else 0
        try:
            page = self._ledger.receipts(open_job.job, open_job.asked_after, self._receipts_page, skipped)
        except LedgerStuck:
            # It asks again.
            open_job.asked_after = None
            return []
        open_job.nothing_after = None if page.more else page.position
        if not page.count and not even_if_none and open_job.answered:
            return []
        open_job.caught_up = open_job.caught_up or not page.more
        receipts = Receipts(
            job=open_job.job,
            after=open_job.asked_after,
            position=page.position,
            runs=page.runs,
            count=page.count,
            seconds=min(page.seconds, SECONDS_MAX),
            done=job.done,
            failed=job.failed,
            more=page.more,
        )
        open_job.asked_after = None
        open_job.answered = True
        return [Send(open_job.peer, receipts)]

    def _tell_failed(self, row_set: RowSet) -> list[Output]:
        open_job = self._registry.open_jobs.get(row_set.results.job)
        if open_job is None or not row_set.again:
            return []
        tasks = [row_set.results.first + offset for offset in sorted(row_set.again)]
        return [Send(open_job.peer, Failed(open_job.job, row_set.results.attempt, tasks))]
