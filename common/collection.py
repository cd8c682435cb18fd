"""The sink's rules: who is who, what is recorded, who is told. No socket, no clock; `now` is monotonic seconds.

The ledger is handed in: it is the only state that must survive, and the machine can be made anew from it at any
time. Everything else here (crew, places, open links) is rebuilt from hellos and beats.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from common.crew import Crews, JobRun, Worker
from common.errors import ProtocolError
from common.ledger import Job, LedgerRefused, LedgerStuck, Page
from common.messages import (
    PROTOCOL_VERSION,
    SECONDS_MAX,
    Again,
    Ask,
    Beat,
    Cancel,
    Close,
    Closed,
    Crew,
    Dropped,
    Failed,
    Goodbye,
    Halt,
    Heard,
    Hello,
    Mark,
    Message,
    Offer,
    Open,
    Opened,
    Quarantine,
    Query,
    Recall,
    Receipts,
    Recorded,
    Refused,
    Report,
    Results,
    Returned,
    Roster,
    ToSink,
    Welcome,
    ticket,
)
from common.recording import Recording, quarantined, recording
from common.roster import VENTILATOR, WORKER, User
from common.settings import CollectionSettings

_CONTESTERS_MAX = 100
_UNTOLD_MAX = 1_000
"""So many workers that are not here have receipts kept for them, and each so many."""


@dataclass(frozen=True, slots=True)
class Send:
    """Order to the shell: send this to the control link's peer."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Say:
    """Order to the shell: log this line."""

    level: str
    text: str


Output = Send | Say


class Store(Protocol):
    """What the machine needs of the ledger; its errors are LedgerRefused and LedgerStuck."""

    id: str

    def job(self, name: str) -> Job | None: ...
    def open_job(self, name: str, function: str, source: str, retries: int, retry_failed: bool) -> Job: ...
    def end_job(self, name: str, state: str, total: int | None) -> None: ...
    def commit(self, recordings: Iterable[Recording], marks: Iterable[Mark]) -> None: ...
    def receipts(self, name: str, after: int, limit: int, without_failed: bool) -> Page: ...
    def failures(self, name: str, limit: int) -> list[tuple[int, str]]: ...


@dataclass(slots=True)
class Peer:
    """One connection of the control link that has said hello."""

    user: User
    name: str
    address: str
    heard_at: float


@dataclass(slots=True)
class _Pending:
    """What the next commit will write."""

    recordings: dict[tuple[str, int], Recording] = field(default_factory=dict)
    """By worker and serial: while the ledger is stuck, results that are said again take no further room."""
    quarantined: list[Recording] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """The key that each worker's results came with."""

    def __bool__(self) -> bool:
        return bool(self.recordings or self.quarantined or self.marks)

    def all(self) -> list[Recording]:
        """Everything that gets rows."""
        return [*self.recordings.values(), *self.quarantined]


class Collection:
    """The sink."""

    def __init__(
        self, now: float, settings: CollectionSettings, ledger: Store, run: str, roster: dict[str, User]
    ) -> None:
        self.recorded_count = 0
        self._settings = settings
        self._timing = settings.timing
        self._ledger = ledger
        self._run = run
        self._gathered_at = now + settings.timing.gather_s
        self._roster = roster
        self._peers: dict[bytes, Peer] = {}
        self._peers_looked_at = float("-inf")
        self._crews = Crews(settings.timing)
        self._pending = _Pending()
        self._stuck_until: float | None = None
        self._complained: set[tuple[str, str]] = set()
        self._untold: dict[tuple[str, str], list[int]] = {}
        """Receipts for workers, by name and key, whose results came before they had joined (again)."""

    @property
    def worker_count(self) -> int:
        """Workers that are beating."""
        return len(self._crews.workers)

    @property
    def pending_count(self) -> int:
        """Results messages that wait for the next commit."""
        return len(self._pending.recordings)

    # -- events -------------------------------------------------------------------------------------------------

    def receive(self, now: float, peer: bytes, user: User, address: str, message: ToSink) -> list[Output]:
        """Take a control message that came from `user` at `address` (host) over the connection `peer`."""
        if self._roster.get(user.key) != user:
            return [Send(peer, self._refusal(f"key {user.name} was revoked"))]
        if isinstance(message, Hello):
            return self._receive_hello(now, peer, user, address, message)
        known = self._peers.get(peer)
        if known is None or known.user != user:
            return [Send(peer, Again())]
        known.heard_at = now
        if isinstance(message, Query):
            return [Send(peer, self._report(now))]
        if isinstance(message, Goodbye):
            return self._receive_goodbye(peer, known)
        if user.role == WORKER and isinstance(message, Offer | Beat | Returned):
            return self._receive_of_worker(now, peer, known, message)
        if user.role == VENTILATOR and isinstance(message, Open | Ask | Mark | Quarantine | Close | Halt | Cancel):
            return self._receive_of_ventilator(now, peer, known, message)
        return self._complain(user, f"a {user.role} may not send {type(message).__name__.lower()}")

    def results(self, user: User, results: Results) -> list[Output]:
        """Take results that came from `user`; they are written by the next `flush`."""
        if self._roster.get(user.key) != user or user.role != WORKER:
            return self._complain(user, "results of a key that is revoked or no worker's are not recorded")
        known = self._crews.workers.get(results.worker)
        if known is not None and known.key != user.key:
            return self._complain(user, "results in the name of another worker are not recorded", results.worker)
        job = self._ledger.job(results.job)
        if job is None:
            outputs = self._complain(user, "results for a job that this ledger does not have", results.job)
            return outputs + self._tell_recorded({results.worker: ([], [results.serial])})
        if results.ticket != ticket(job.ticket_key, *results.batch, results.attempt):
            outputs = self._complain(user, "results for a batch that was never pushed", f"job {results.job}")
            return outputs + self._tell_recorded({results.worker: ([], [results.serial])})
        try:
            recorded = recording(results, job.attempts, job.attempts_max)
            self._pending.recordings[results.worker, results.serial] = recorded
            self._pending.keys[results.worker] = user.key
        except ProtocolError as error:
            outputs = self._complain(user, "malformed results", str(error))
            return outputs + self._tell_recorded({results.worker: ([], [results.serial])})
        return []

    def malformed(self, user: User, link: str, error: ProtocolError) -> list[Output]:
        """Take note that `user` sent something that is no message of the protocol."""
        return self._complain(user, f"malformed message on the {link} link", str(error))

    def flush(self, now: float) -> list[Output]:
        """Commit what has come since the last time, then give the receipts."""
        if not self._pending or (self._stuck_until is not None and now < self._stuck_until):
            return []
        recordings, said = self._pending.all(), list(self._pending.recordings)
        keys = self._pending.keys
        try:
            self._ledger.commit(recordings, self._pending.marks.values())
        except LedgerStuck as error:
            first = self._stuck_until is None
            self._stuck_until = now + self._settings.retry_commit_s
            if not first:
                return []
            return [
                Say(
                    "error",
                    f"the ledger takes no more: {error}. No receipts are given; trying again each second",
                )
            ]
        self._pending = _Pending()
        outputs: list[Output] = []
        if self._stuck_until is not None:
            self._stuck_until = None
            outputs.append(Say("info", "the ledger takes results again"))
        for each in recordings:
            self.recorded_count += each.results.count - len(each.again)
            outputs += self._tell_failed(each)
        # The ventilators first: slots may wait for what they push next.
        for job in {each.results.job for each in recordings}:
            run = self._crews.runs.get(job)
            if run is not None and run.asked_after is not None:
                outputs += self._answer(run, even_if_none=False)
        told: dict[str, tuple[list[int], list[int]]] = {}
        for worker, serial in said:
            told.setdefault(worker, ([], []))[0].append(serial)
        self._keep_untold(told, keys)
        outputs += self._tell_recorded(told)
        return outputs

    def tick(self, now: float) -> list[Output]:
        """Part with who is silent, answer who has asked long enough ago, try a refused commit again."""
        outputs = self.flush(now)
        workers, runs = self._crews.silent(now)
        self._forget_silent_peers(now)
        for worker in workers:
            outputs.append(Say("warning", f"worker {worker.name} is silent: its batches are pushed again"))
            outputs += self._part_with_worker(worker, in_order=False)
        for run in runs:
            outputs.append(Say("warning", f"the ventilator of job {run.job} is silent; run it again to continue"))
            self._peers.pop(run.peer, None)
            outputs += self._end_run(run)
        for run in self._crews.runs.values():
            if run.asked_after is not None and now >= run.asked_at + self._timing.ask_s:
                outputs += self._answer(run, even_if_none=True)
        return outputs

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = [
            run.asked_at + self._timing.ask_s for run in self._crews.runs.values() if run.asked_after is not None
        ]
        instants += [instant for instant in (self._stuck_until, self._crews.deadline()) if instant is not None]
        return min(instants, default=None)

    def roster_changed(self, roster: dict[str, User]) -> list[Output]:
        """Go by another roster (users by public key); who is no longer in it is parted with."""
        self._roster = roster
        outputs: list[Output] = []
        for peer, known in list(self._peers.items()):
            if roster.get(known.user.key) != known.user:
                outputs.append(Say("info", f"key {known.user.name} was revoked: {known.name} is cut off"))
                outputs += self._receive_goodbye(peer, known)
                outputs.append(Send(peer, self._refusal(f"key {known.user.name} was revoked")))
        return outputs + [Send(run.peer, self._worker_keys()) for run in self._crews.runs.values()]

    # -- hello and goodbye --------------------------------------------------------------------------------------

    def _receive_hello(self, now: float, peer: bytes, user: User, address: str, hello: Hello) -> list[Output]:
        if hello.version != PROTOCOL_VERSION:
            refusal = self._refusal(
                f"the sink speaks protocol {PROTOCOL_VERSION}, this {hello.role} {hello.version}:"
                " install the same Tradewind on both"
            )
            text = f"{user.name} at {address} speaks protocol {hello.version}, not {PROTOCOL_VERSION}: refused"
            return [Send(peer, refusal), *self._say_once(user, "version", text)]
        if hello.role != user.role:
            reason = f"key {user.name} is enrolled as {user.role}, not as {hello.role}: use a {hello.role}'s key"
            return [Send(peer, self._refusal(reason)), *self._say_once(user, "role", f"refused {address}: {reason}")]
        other = self._crews.workers.get(hello.name)
        if other is not None and other.key != user.key:
            reason = f"the name {hello.name} is taken by a worker with another key: give another --name"
            text = f"refused {address}, key {user.name}: {reason}"
            return [Send(peer, self._refusal(reason)), *self._say_once(user, "name", text)]
        outputs: list[Output] = []
        known = self._peers.get(peer)
        if known is not None and known.name != hello.name:
            # A connection is one peer: under another name it is no longer the one that it was.
            outputs += self._receive_goodbye(peer, known)
        self._peers[peer] = Peer(user, hello.name, address, now)
        if other is not None:
            self._peers.pop(other.peer, None) if other.peer != peer else None
            other.peer = peer
        return [
            *outputs,
            Send(
                peer,
                Welcome(PROTOCOL_VERSION, self._run, self._settings.results_port, self._settings.loopback),
            ),
        ]

    def _forget_silent_peers(self, now: float) -> None:
        """A peer that went without a goodbye must greet again; those who beat or ask are never silent for so long."""
        if now < self._peers_looked_at + self._timing.gone_s:
            return
        self._peers_looked_at = now
        silent_at = now - 10 * self._timing.gone_s
        self._peers = {peer: known for peer, known in self._peers.items() if known.heard_at > silent_at}

    def _receive_goodbye(self, peer: bytes, known: Peer) -> list[Output]:
        del self._peers[peer]
        worker = self._crews.workers.get(known.name)
        outputs: list[Output] = []
        if worker is not None and worker.peer == peer:
            outputs.append(Say("info", f"worker {worker.name} has left"))
            outputs += self._part_with_worker(worker, in_order=True)
        for run in [run for run in self._crews.runs.values() if run.peer == peer]:
            outputs += self._end_run(run)
        return outputs

    def _refusal(self, reason: str) -> Refused:
        return Refused(PROTOCOL_VERSION, reason)

    def _complain(self, user: User, fault: str, detail: str = "") -> list[Output]:
        """Log a peer's fault, once for each key and kind of fault."""
        text = f"{fault}: {detail}" if detail else fault
        return self._say_once(user, fault, f"{user.role} {user.name}: {text}")

    def _say_once(self, user: User, fault: str, text: str) -> list[Output]:
        if (user.key, fault) in self._complained:
            return []
        self._complained.add((user.key, fault))
        return [Say("warning", f"{text} (said once)")]

    # -- workers ------------------------------------------------------------------------------------------------

    def _receive_of_worker(
        self, now: float, peer: bytes, known: Peer, message: Offer | Beat | Returned
    ) -> list[Output]:
        worker = self._crews.workers.get(known.name)
        if isinstance(message, Offer):
            outputs: list[Output] = []
            if worker is None:
                worker = Worker(known.name, known.user.key, known.user.name, peer, known.address)
                self._crews.join(now, worker)
                text = f"worker {worker.name} at {known.address} joined with {len(message.functions)} functions"
                outputs.append(Say("info", text))
            before = self._crews.runs_for(worker)
            self._crews.expose(worker, frozenset(message.functions))
            # Whom it no longer serves must not count on it; whom it does not serve knows that it is here.
            outputs += [
                Send(run.peer, Crew([], [worker.name] if run in before else [], [], self._crews.others(run)))
                for run in self._crews.runs.values()
                if run.function not in worker.functions
            ]
            outputs.append(Send(peer, self._crews.places(worker)))
            untold = self._untold.pop((worker.name, worker.key), None)
            return outputs if untold is None else [*outputs, Send(peer, Recorded(untold, []))]
        if worker is None:
            return [Send(peer, Again())]
        if isinstance(message, Returned):
            if message.worker != worker.name:
                return self._complain(known.user, "batches returned in the name of another worker", message.worker)
            run = self._crews.runs.get(message.job)
            return [] if run is None else [Send(run.peer, message)]
        self._crews.beat(now, worker, message)
        crews = [
            Send(run.peer, Crew([worker.member(run.job)], [], [], self._crews.others(run)))
            for run in self._crews.runs_for(worker)
        ]
        return [Send(peer, Heard(message.serial)), *crews]

    def _part_with_worker(self, worker: Worker, in_order: bool) -> list[Output]:
        runs = self._crews.runs_for(worker)
        self._crews.leave(worker)
        self._peers.pop(worker.peer, None)
        left, lost = ([worker.name], []) if in_order else ([], [worker.name])
        return [Send(run.peer, Crew([], left, lost, self._crews.others(run))) for run in runs]

    def _keep_untold(self, told: dict[str, tuple[list[int], list[int]]], keys: dict[str, str]) -> None:
        """A worker's results may be quicker than its greeting: their receipts wait for it."""
        for name in told.keys() - self._crews.workers.keys():
            if len(self._untold) >= _UNTOLD_MAX:
                self._untold.clear()
            self._untold.setdefault((name, keys[name]), []).extend(told[name][0][:_UNTOLD_MAX])

    def _tell_recorded(self, told: dict[str, tuple[list[int], list[int]]]) -> list[Output]:
        outputs: list[Output] = []
        for name, (serials, refused) in told.items():
            worker = self._crews.workers.get(name)
            if worker is not None:
                outputs.append(Send(worker.peer, Recorded(serials, refused)))
        return outputs

    def _tell_failed(self, recorded: Recording) -> list[Output]:
        run = self._crews.runs.get(recorded.results.job)
        if run is None or not recorded.again:
            return []
        tasks = [recorded.results.first + offset for offset in sorted(recorded.again)]
        return [Send(run.peer, Failed(run.job, recorded.results.attempt, tasks))]

    def _tell_places(self, function: str) -> list[Output]:
        return [
            Send(worker.peer, self._crews.places(worker))
            for worker in self._crews.workers.values()
            if function in worker.functions
        ]

    # -- ventilators --------------------------------------------------------------------------------------------

    def _receive_of_ventilator(
        self, now: float, peer: bytes, known: Peer, message: Open | Ask | Mark | Quarantine | Close | Halt | Cancel
    ) -> list[Output]:
        if isinstance(message, Open):
            return self._receive_open(now, peer, known, message)
        if isinstance(message, Cancel):
            return self._receive_cancel(peer, known.user, message)
        run = self._crews.runs.get(message.job)
        if run is None or run.peer != peer:
            return [Send(peer, Again())]
        run.heard_at = now
        if isinstance(message, Mark):
            self._pending.marks[message.job] = message
            return []
        if isinstance(message, Quarantine):
            return self._receive_quarantine(known.user, message)
        if isinstance(message, Close):
            return self._receive_close(now, run, message)
        if isinstance(message, Halt):
            return [Send(worker.peer, Recall(run.job)) for worker in self._crews.crew_of(run)]
        outputs: list[Output] = []
        if message.scarce != run.scarce:
            run.scarce = message.scarce
            outputs += self._tell_places(run.function)
        run.asked_after, run.asked_at = message.after, now
        return outputs + self._answer(run, even_if_none=False)

    def _receive_open(self, now: float, peer: bytes, known: Peer, message: Open) -> list[Output]:
        run = self._crews.runs.get(message.job)
        if run is not None and (run.ventilator, run.key) != (known.name, known.user.key):
            if len(run.contested_at) >= _CONTESTERS_MAX:
                run.contested_at.clear()
            asked_at = run.contested_at.setdefault(known.name, now)
            if run.heard_at > asked_at:
                where = run.address
                reason = f"job {message.job} is run by a ventilator at {where}: wait for it, or give another --job"
                return [Send(peer, self._refusal(reason))]
            if now < asked_at + 1.5 * self._timing.ask_s:
                # It repeats its wish; by then a ventilator that lives has spoken, and one that was killed has not.
                return []
        resumed = self._ledger.job(message.job) is not None
        try:
            job = self._ledger.open_job(
                message.job, message.function, message.source, message.retries, message.retry_failed
            )
        except LedgerRefused as error:
            return [Send(peer, self._refusal(str(error)))]
        except LedgerStuck as error:
            return [Say("error", f"the ledger takes no job: {error}")]
        self._crews.runs[message.job] = JobRun(
            job=message.job,
            function=message.function,
            ventilator=known.name,
            key=known.user.key,
            peer=peer,
            address=known.address,
            port=message.port,
            heard_at=now,
            retry_failed=message.retry_failed,
        )
        run = self._crews.runs[message.job]
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
        outputs: list[Output] = [
            Say(
                "info",
                f"job {job.name} ({job.function}) opened from {known.address}: {job.done} tasks recorded before",
            ),
            Send(peer, self._worker_keys()),
            Send(peer, opened),
            Send(peer, self._crew_of(run)),
        ]
        return outputs + self._tell_places(run.function)

    def _crew_of(self, run: JobRun) -> Crew:
        members = [worker.member(run.job) for worker in self._crews.crew_of(run)]
        return Crew(members, [], [], self._crews.others(run))

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

    def _receive_close(self, now: float, run: JobRun, message: Close) -> list[Output]:
        job = self._ledger.job(run.job)
        assert job is not None
        outputs = self.flush(now)
        try:
            if job.state != "done":
                self._ledger.end_job(run.job, "done", message.total)
        except LedgerStuck as error:
            return [*outputs, Say("error", f"the ledger cannot close job {run.job}: {error}")]
        failures = self._ledger.failures(run.job, self._settings.failures_shown)
        return [
            *outputs,
            Say("info", f"job {run.job} is done: {job.done} tasks recorded, {job.failed} failed"),
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

    def _receive_quarantine(self, user: User, message: Quarantine) -> list[Output]:
        try:
            self._pending.quarantined.append(quarantined(message))
        except ProtocolError as error:
            return self._complain(user, "malformed quarantine", str(error))
        text = (
            f"task {message.task} of job {message.job} is quarantined: {message.lost_count} workers died while it ran"
        )
        return [Say("warning", text)]

    def _receive_cancel(self, peer: bytes, user: User, message: Cancel) -> list[Output]:
        job = self._ledger.job(message.job)
        if job is None:
            return [Send(peer, self._refusal(f"there is no job {message.job}: `python sink.py jobs` lists them"))]
        if job.state == "done":
            return [Send(peer, self._refusal(f"job {message.job} is done already"))]
        try:
            self._ledger.end_job(message.job, "cancelled", None)
        except LedgerStuck as error:
            return [Send(peer, self._refusal(f"the ledger takes no change: {error}"))]
        outputs: list[Output] = [Say("info", f"job {message.job} was cancelled by {user.name}")]
        run = self._crews.runs.get(message.job)
        if run is not None:
            outputs += [Send(run.peer, Dropped(run.job)), *self._end_run(run)]
        outputs += [Send(worker.peer, Dropped(message.job)) for worker in self._crews.workers.values()]
        return [*outputs, Send(peer, Dropped(message.job))]

    def _end_run(self, run: JobRun) -> list[Output]:
        del self._crews.runs[run.job]
        return self._tell_places(run.function)

    def _worker_keys(self) -> Roster:
        return Roster([user.key for user in self._roster.values() if user.role == WORKER])

    def _report(self, now: float) -> Report:
        jobs = {name: self._ledger.job(name) for name in self._crews.runs}
        return self._crews.report(now, {name: job for name, job in jobs.items() if job is not None})
