"""Requests to explain a job, and their answers: the sink's own state, and what the job's ventilator says.

No socket, no clock.
"""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches

from ..plain_text import host_port
from ..protocol.explaining import NAMED_MAX, Account, Barred, Explain, Explanation, Holder, RecordedTask, Running
from ..protocol.fields import SECONDS_MAX, BatchName
from .job_rules import no_job
from .outputs import Output, Send, refusal
from .registry import BeatingWorker, OpenJob, Registry
from .settings import CollectorSettings
from .store import Job, LedgerStuck, RowPage, RowQuery, Store

_ACCOUNT_S = 1.0
"""How long a ventilator has for its answer."""
_WAITING_MAX = 1_000
"""At most how many requests wait for a ventilator."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    question: Explain
    until: float


class Explanations:
    """The requests, one a peer. One is answered once the ventilator has, or when it does not within a second."""

    def __init__(self, settings: CollectorSettings, ledger: Store, registry: Registry) -> None:
        self._settings = settings
        self._ledger = ledger
        self._registry = registry
        self._waiting: dict[bytes, _Waiting] = {}

    def ask(self, now: float, peer: bytes, question: Explain, is_stuck: bool) -> list[Output]:
        """Take a request, which replaces an earlier one of this peer."""
        self._waiting.pop(peer, None)
        open_job = self._registry.open_jobs.get(question.job)
        if open_job is None or len(self._waiting) >= _WAITING_MAX:
            return self._answer(now, peer, question, None, is_stuck)
        self._waiting[peer] = _Waiting(question, now + _ACCOUNT_S)
        return [Send(open_job.peer, question)]

    def account(self, now: float, account: Account, is_stuck: bool) -> list[Output]:
        """The ventilator's answer: whoever waits for it has theirs."""
        question = Explain(account.job, account.task)
        peers = [peer for peer, waiting in self._waiting.items() if waiting.question == question]
        return [output for peer in peers for output in self._answer_waiting(now, peer, account, is_stuck)]

    def tick(self, now: float, is_stuck: bool) -> list[Output]:
        """Answer those whose ventilator does not."""
        peers = [peer for peer, waiting in self._waiting.items() if now >= waiting.until]
        return [output for peer in peers for output in self._answer_waiting(now, peer, None, is_stuck)]

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return min((waiting.until for waiting in self._waiting.values()), default=None)

    def _answer_waiting(self, now: float, peer: bytes, account: Account | None, is_stuck: bool) -> list[Output]:
        return self._answer(now, peer, self._waiting.pop(peer).question, account, is_stuck)

    def _answer(
        self, now: float, peer: bytes, question: Explain, account: Account | None, is_stuck: bool
    ) -> list[Output]:
        try:
            job = self._ledger.job(question.job)
        except LedgerStuck:
            # It is asked again.
            return []
        if job is None:
            return [Send(peer, refusal(no_job(question.job)))]
        return [Send(peer, self._explanation(now, question, job, account, is_stuck))]

    def _explanation(
        self, now: float, question: Explain, job: Job, account: Account | None, is_stuck: bool
    ) -> Explanation:
        open_job = self._registry.open_jobs.get(job.name)
        workers = self._registry.workers.values()
        crew = [worker for worker in workers if worker.slots and job.function in worker.functions]
        jobs = Counter(name for worker in crew for name, batches in worker.started.items() for _ in batches)
        running = jobs.pop(job.name, 0)
        cut_off = [] if open_job is None else _cut_off(open_job, self._registry)
        try:
            recorded = self._recorded(job.name, question.task)
        except LedgerStuck:
            recorded, is_stuck = None, True
        return Explanation(
            job=job.name,
            task=question.task,
            state=job.state,
            function=job.function,
            done=job.done,
            failed=job.failed,
            total=job.total,
            is_stuck=is_stuck,
            ventilator="" if open_job is None else host_port(open_job.address, open_job.port),
            relayed=open_job is not None and open_job.relayed,
            silent_s=0.0 if open_job is None else min(max(0.0, now - open_job.heard_at), SECONDS_MAX),
            workers=len(workers),
            crew=len(crew),
            slots=sum(worker.slots for worker in crew),
            busy=sum(min(worker.slots, sum(map(len, worker.started.values()))) for worker in crew),
            held=sum(len(worker.held.get(job.name, ())) for worker in crew),
            running=running,
            others=jobs.most_common(NAMED_MAX),
            near=[] if crew else self._near(job.function),
            cut_off=cut_off[:NAMED_MAX],
            cut_off_count=len(cut_off),
            longest=self._longest(now, job.name),
            recorded=recorded,
            holders=_holders(now, crew, job.name, question.task),
            account=account,
        )

    def _near(self, function: str) -> list[str]:
        found = {each for worker in self._registry.workers.values() for each in worker.functions}
        return get_close_matches(function, sorted(found)[:10_000], NAMED_MAX)

    def _longest(self, now: float, job: str) -> list[Running]:
        found = [
            Running(worker.name, name[0], name[1], max(0.0, now - at))
            for worker in self._registry.workers.values()
            for (of, name), at in worker.began_at.items()
            if of == job
        ]
        return sorted(found, key=lambda running: -running.seconds)[:NAMED_MAX]

    def _recorded(self, job: str, task: int | None) -> RecordedTask | None:
        """The task's row: one page of one row, whose value is not sent. Raises LedgerStuck."""
        if task is None:
            return None
        bytes_max, scanned_max = self._settings.rows_page_bytes, self._settings.rows_scanned
        page: RowPage = self._ledger.read(job, RowQuery("task", (task, 0), False, 1, bytes_max, scanned_max))
        row = next((row for row in page.rows if row.task == task), None)
        if row is None:
            return None
        return RecordedTask("ok" if row.status == "ok" else "failed", row.attempt, row.worker, row.seconds)


def _cut_off(open_job: OpenJob, registry: Registry) -> list[Barred]:
    """The workers that could not connect to this job's ventilator, and have had nothing of it since."""
    return [
        Barred(name, said.host, said.port, said.obstacle)
        for name, said in open_job.unreachable.items()
        if (worker := registry.workers.get(name)) is not None and not worker.held.get(open_job.job)
    ]


def _holders(now: float, crew: list[BeatingWorker], job: str, task: int | None) -> list[Holder]:
    if task is None:
        return []
    found = []
    for worker in crew:
        started = {*worker.started.get(job, ())}
        ahead = 0
        for name in worker.held.get(job, ()):
            if _has(name, task):
                began_at = worker.began_at.get((job, name), now)
                runs_s = max(0.0, now - began_at) if name in started else None
                found.append(Holder(worker.name, name, runs_s, ahead))
            ahead += name not in started
    return found[:NAMED_MAX]


def _has(name: BatchName, task: int) -> bool:
    return name[0] <= task < name[0] + name[1]
