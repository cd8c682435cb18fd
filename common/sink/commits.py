"""From results to receipts: what has arrived, the commit that writes it, and which peers are told."""

from collections import Counter
from dataclasses import dataclass, field

from ..errors import ProtocolError
from ..protocol.codec import BadResults, ticket
from ..protocol.messages import Counters, Mark, Quarantine, Recorded, Results
from ..protocol.users import User
from .job_rules import next_mark
from .outputs import LogLimiter, Output, Send
from .registry import Registry
from .rows import RowSet, failing, quarantined, recording
from .store import Job, LedgerStuck, Recording, Store, Written

GROUP_ROWS_MAX = 10_000
"""How many rows a group has, unless one message has more. Executing them holds up the loop, some 300 for a millisecond;
many small groups cost more than few large ones."""
_GROUP_BYTES_MAX = 16 * 1024 * 1024
WAITING_BYTES_MAX = 128 * 1024 * 1024
"""How much that is not committed may have come with one key. What is beyond gets no receipt, so it is sent again."""
_MESSAGE_BYTES = 1_000
"""What a message takes beside its content."""


@dataclass(slots=True)
class Pending:
    """A group of what is committed together."""

    recordings: dict[tuple[str, int], RowSet] = field(default_factory=dict)
    """By worker and serial: while the ledger is stuck, resent results take no more room."""
    quarantined: list[RowSet] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.recordings) + len(self.quarantined) + len(self.marks)

    def all(self) -> list[RowSet]:
        """Everything that gets rows."""
        return [*self.recordings.values(), *self.quarantined]

    def group(self) -> "Pending":
        """Take out what is written next: the first recordings, up to a bound, and all the rest."""
        group = Pending({}, self.quarantined, self.marks)
        self.quarantined, self.marks = [], {}
        rows = size = 0
        for key, row_set in self.recordings.items():
            rows += row_set.results.count
            size += len(row_set.results.outcomes)
            if group.recordings and (rows > GROUP_ROWS_MAX or size > _GROUP_BYTES_MAX):
                break
            group.recordings[key] = row_set
        for key in group.recordings:
            del self.recordings[key]
        return group


@dataclass(frozen=True, slots=True)
class Progress:
    """How much is committed."""

    groups: int = 0
    messages: int = 0
    """Of results."""

    def reaches(self, other: "Progress") -> bool:
        """True when it is as far as the other one."""
        return self.groups >= other.groups and self.messages >= other.messages


class Commits:
    """What is not committed yet, and the receipts for what is."""

    def __init__(self, ledger: Store, registry: Registry, lines: LogLimiter) -> None:
        self.counters = Counters()
        """Also of what the sink counts elsewhere."""
        self.committed = Progress()
        self._taken_count = 0
        """How many results messages have come."""
        self._pending = Pending()
        self._sizes: dict[object, tuple[str, int]] = {}
        """Of each message that is not committed: with whose key it came, and its bytes."""
        self._bytes: Counter[str] = Counter()
        """By key, their sum."""
        self._begun: Pending | None = None
        """What the ledger was given to write, until it is written."""
        self._ledger = ledger
        self._registry = registry
        self._lines = lines

    @property
    def count(self) -> int:
        """How much is not committed: results messages, tasks that are given up, and marks."""
        return len(self._pending) + (0 if self._begun is None else len(self._begun))

    def needed(self) -> Progress:
        """How much is committed when all that has come is."""
        rest = bool(self._pending.quarantined or self._pending.marks)
        return Progress(self.committed.groups + (self._begun is not None) + rest, self._taken_count)

    def results(self, user: User, results: Results | BadResults) -> list[Output]:
        """Take results that came from `user`, a worker."""
        known = self._registry.workers.get(results.worker)
        if known is not None and known.user.key != user.key:
            return self._lines.complain(user, "results in the name of another worker are not recorded", results.worker)
        if isinstance(results, BadResults):
            return self._refuse(user, results, "malformed results", results.reason)
        try:
            job = self._ledger.job(results.job)
        except LedgerStuck:
            # Without a receipt they are sent again.
            return []
        if job is None:
            return self._refuse(user, results, "results for a job that this ledger does not have", results.job)
        if results.ticket != ticket(job.ticket_key, *results.batch):
            return self._refuse(user, results, "results for a batch that was never pushed", f"job {results.job}")
        key = results.worker, results.serial
        if self._begun is not None and key in self._begun.recordings:
            # It is resent: the receipt follows.
            return []
        if not self._has_room(user, key, results.content_bytes):
            return self._too_much(user)
        self._taken_count += key not in self._pending.recordings
        self._pending.recordings[key], fault = _judged(results, job)
        return self._lines.complain(user, "outcomes that cannot be read", fault) if fault else []

    def quarantine(self, now: float, user: User, message: Quarantine) -> list[Output]:
        """Take a task that `user`, the ventilator of its job, has given up on."""
        try:
            job = self._ledger.job(message.job)
            assert job is not None
            row_set = quarantined(message, job.attempts, job.arguments)
        except ProtocolError as error:
            return self._lines.complain(user, "malformed quarantine", str(error))
        if not self._has_room(user, id(row_set), len(bytes(message.argument))):
            return self._too_much(user)
        self._pending.quarantined.append(row_set)
        text = (
            f"task {message.task} of job {message.job} is quarantined: {message.lost_count} workers died while it ran"
        )
        return self._lines.say(now, user, "warning", text)

    def _has_room(self, user: User, what: object, size: int) -> bool:
        """Whether this message may wait for its commit; `size` is that of its content."""
        size += _MESSAGE_BYTES
        _, before = self._sizes.get(what, ("", 0))
        if self._bytes[user.key] - before + size > WAITING_BYTES_MAX:
            return False
        self._gone(what)
        self._sizes[what] = user.key, size
        self._bytes[user.key] += size
        return True

    def _gone(self, what: object) -> None:
        """It waits no longer."""
        key, size = self._sizes.pop(what, ("", 0))
        self._bytes[key] -= size
        if not self._bytes[key]:
            del self._bytes[key]

    def _too_much(self, user: User) -> list[Output]:
        return self._lines.complain(user, "more than the ledger can record is sent: the rest must be sent again later")

    def mark(self, message: Mark) -> None:
        """Take a mark of a job from its ventilator."""
        job = self._ledger.job(message.job)
        assert job is not None
        begun = None if self._begun is None else self._begun.marks.get(job.name)
        mark = next_mark(job, self._pending.marks.get(job.name, begun), message)
        if mark is not None and mark is not begun:
            self._pending.marks[job.name] = mark

    # -- writing ------------------------------------------------------------------------------------------------

    def begin(self) -> Recording | None:
        """What to write now: what has come since the last time, or once more what the ledger has refused."""
        if self._begun is None and self._pending:
            self._begun = self._pending.group()
        return None if self._begun is None else Recording(self._begun.all(), [*self._begun.marks.values()])

    def written(self, result: Written) -> Pending:
        """What was begun is committed."""
        assert self._begun is not None
        written, self._begun = self._begun, None
        for what in (*written.recordings, *map(id, written.quarantined)):
            self._gone(what)
        self._commit_of(1, len(written.recordings))
        self._count(written, result)
        return written

    def reopened(self, job: Job) -> None:
        """Results that came before the job was opened again are judged by what its new run wants."""
        # What was begun, and is not written, the ledger has refused.
        for waiting in (self._pending, self._begun or Pending()):
            # A mark of the run before means nothing to this one.
            waiting.marks.pop(job.name, None)
            for key, row_set in waiting.recordings.items():
                if row_set.results.job == job.name:
                    waiting.recordings[key], _ = _judged(row_set.results, job)

    def forgotten(self, name: str) -> list[Output]:
        """Results that came while their job was forgotten are refused."""
        late = [key for key, row_set in self._pending.recordings.items() if row_set.results.job == name]
        for key in late:
            del self._pending.recordings[key]
            self._gone(key)
        self._commit_of(0, len(late))
        return [output for worker, serial in late for output in self._tell(worker, [], [serial])]

    def _commit_of(self, groups: int, messages: int) -> None:
        """This much more is committed, or needs no commit."""
        self.committed = Progress(self.committed.groups + groups, self.committed.messages + messages)

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


def _judged(results: Results, job: Job) -> tuple[RowSet, str]:
    """The rows of the results, and why the outcomes cannot be read, or nothing."""
    judged_by = job.attempts, job.attempts_max, job.arguments
    try:
        return recording(results, *judged_by), ""
    except ProtocolError as error:
        return failing(results, str(error), *judged_by), str(error)
