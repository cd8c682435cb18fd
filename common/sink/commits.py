"""From results to receipts: what has arrived, the commit that writes it, and which peers are told."""

from dataclasses import dataclass, field

from ..errors import ProtocolError
from ..log_line import LogLine
from ..protocol.codec import BadResults, ticket
from ..protocol.messages import Counters, Mark, Quarantine, Recorded, Results
from ..protocol.users import User
from .job_rules import next_mark
from .outputs import LogLimiter, Output, Send
from .registry import Registry
from .rows import RowSet, failing, quarantined, recording
from .settings import CollectorSettings
from .store import LedgerStuck, Store, Written


@dataclass(slots=True)
class Pending:
    """What the next commit will write."""

    recordings: dict[tuple[str, int], RowSet] = field(default_factory=dict)
    """By worker and serial: while the ledger is stuck, resent results take no more room."""
    quarantined: list[RowSet] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.recordings) + len(self.quarantined) + len(self.marks)

    def all(self) -> list[RowSet]:
        """Everything that gets rows."""
        return [*self.recordings.values(), *self.quarantined]


class Commits:
    """What is not committed yet, and the receipts for what is."""

    def __init__(self, settings: CollectorSettings, ledger: Store, registry: Registry, lines: LogLimiter) -> None:
        self.counters = Counters()
        """Also of what the sink counts elsewhere."""
        self.pending = Pending()
        self.stuck_until: float | None = None
        self._retry_commit_s = settings.retry_commit_s
        self._ledger = ledger
        self._registry = registry
        self._lines = lines

    def results(self, user: User, results: Results | BadResults) -> list[Output]:
        """Take results that came from `user`, a worker."""
        known = self._registry.workers.get(results.worker)
        if known is not None and known.user.key != user.key:
            return self._lines.complain(user, "results in the name of another worker are not recorded", results.worker)
        if isinstance(results, BadResults):
            return self._refuse(user, results, "malformed results", results.reason)
        job = self._ledger.job(results.job)
        if job is None:
            return self._refuse(user, results, "results for a job that this ledger does not have", results.job)
        if results.ticket != ticket(job.ticket_key, *results.batch, results.attempt):
            return self._refuse(user, results, "results for a batch that was never pushed", f"job {results.job}")
        outputs: list[Output] = []
        try:
            recorded = recording(results, job.attempts, job.attempts_max, job.arguments)
        except ProtocolError as error:
            recorded = failing(results, str(error), job.attempts, job.attempts_max, job.arguments)
            outputs = self._lines.complain(user, "outcomes that cannot be read", str(error))
        self.pending.recordings[results.worker, results.serial] = recorded
        return outputs

    def quarantine(self, now: float, user: User, message: Quarantine) -> list[Output]:
        """Take a task that `user`, the ventilator of its job, has given up on."""
        try:
            job = self._ledger.job(message.job)
            assert job is not None
            self.pending.quarantined.append(quarantined(message, job.attempts, job.arguments))
        except ProtocolError as error:
            return self._lines.complain(user, "malformed quarantine", str(error))
        text = (
            f"task {message.task} of job {message.job} is quarantined: {message.lost_count} workers died while it ran"
        )
        return self._lines.say(now, user, "warning", text)

    def mark(self, message: Mark) -> None:
        """Take a mark of a job from its ventilator."""
        job = self._ledger.job(message.job)
        assert job is not None
        mark = next_mark(job, self.pending.marks.get(job.name), message)
        if mark is not None:
            self.pending.marks[job.name] = mark

    def commit(self, now: float) -> tuple[Pending, list[Output]]:
        """Write what has arrived since the last commit; returns what was written, and lines for the log."""
        if not self.pending or (self.stuck_until is not None and now < self.stuck_until):
            return Pending(), []
        written = self.pending
        try:
            done = self._ledger.commit(written.all(), written.marks.values())
        except LedgerStuck as error:
            first = self.stuck_until is None
            self.stuck_until = now + self._retry_commit_s
            text = f"the ledger accepts no results: {error}; no receipts are sent; retrying every second"
            return Pending(), [LogLine("error", text)] if first else []
        self.pending = Pending()
        self._count(written, done)
        outputs: list[Output] = []
        if self.stuck_until is not None:
            self.stuck_until = None
            outputs.append(LogLine("info", "the ledger accepts results again"))
        return written, outputs

    def _count(self, pending: Pending, written: Written) -> None:
        counters = self.counters
        counters.commits += 1
        counters.commit_s += written.seconds
        counters.ok += written.rows - written.failed
        counters.failed += written.failed
        counters.quarantined += len(pending.quarantined)
        for row_set in pending.all():
            counters.retried += len(row_set.again)
            counters.duplicates += row_set.results.count - len(row_set.again)
        counters.duplicates -= written.rows

    def receipts(self, written: Pending) -> list[Output]:
        """The receipts for what a commit has written. A worker that is not here gets them when it resends."""
        told: dict[str, list[int]] = {}
        for worker, serial in written.recordings:
            told.setdefault(worker, []).append(serial)
        return [output for name, serials in told.items() for output in self._tell(name, serials, [])]

    def _refuse(self, user: User, results: Results | BadResults, fault: str, detail: str) -> list[Output]:
        return self._lines.complain(user, fault, detail) + self._tell(results.worker, [], [results.serial])

    def _tell(self, name: str, serials: list[int], refused: list[int]) -> list[Output]:
        worker = self._registry.workers.get(name)
        return [] if worker is None else [Send(worker.peer, Recorded(serials, refused))]
