"""The sink's rules: which peer is which, what is recorded, which peers are told. `now` is monotonic seconds.

The ledger is passed in. It is the only state that must survive: a new sink starts from it, and rebuilds everything
else here (crew, places, open links) from hellos and beats.
"""

from copy import copy
from dataclasses import dataclass

from ..errors import ProtocolError
from ..plain_text import counted
from ..protocol.codec import BadResults
from ..protocol.messages import (
    PROTOCOL_VERSION,
    Account,
    Again,
    Ask,
    Beat,
    Cancel,
    Close,
    Crew,
    Explain,
    Forget,
    Goodbye,
    Halt,
    Heard,
    Hello,
    List,
    Mark,
    Missing,
    Offer,
    Open,
    Quarantine,
    Query,
    Read,
    Report,
    Results,
    Returned,
    Seen,
    ToSink,
    Unreachable,
    Welcome,
)
from ..protocol.users import VENTILATOR, WORKER, User
from .asks import Asks
from .commits import Commits
from .explanations import Explanations
from .jobs import Jobs, Request
from .keepers import Keepers
from .outputs import CutOff, LogLimiter, Output, Send, refusal
from .reads import Reads
from .registry import WORKERS_MAX, BeatingWorker, Peer, Registry
from .settings import CollectorSettings
from .store import Store
from .turns import Turns


@dataclass(frozen=True, slots=True)
class CollectorView:
    """A look into the sink's rules."""

    worker_count: int
    """Workers that are beating."""
    pending_count: int
    """What is not committed: results messages, tasks that are given up, and marks."""
    next_look_at: float | None
    """When the sink next looks for silent peers; None while it has none."""
    is_idle: bool
    """Nothing is being written, and nothing waits for that."""


class Collector:
    """The sink."""

    def __init__(
        self, now: float, settings: CollectorSettings, ledger: Store, run: str, roster: dict[str, User]
    ) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._ledger = ledger
        self._run = run
        self._roster = roster
        self._peers: dict[bytes, Peer] = {}
        self._peers_looked_at = float("-inf")
        self._lines = LogLimiter()
        self._registry = Registry(settings)
        self._commits = Commits(ledger, self._registry, self._lines)
        self._asks = Asks(settings, ledger, self._registry)
        self._reads = Reads(settings, ledger)
        self._explanations = Explanations(settings, ledger, self._registry)
        self._keepers = Keepers(settings.timing, self._registry, self._lines)
        self._jobs = Jobs(now, settings, ledger, self._registry, self._lines, roster)
        rules = self._commits, self._asks, self._jobs, self._reads
        self._turns = Turns(now, settings, ledger, rules, self._is_here)
        self.time_offset_s: float | None = None
        """What to add to `now` for the time of day, which peers may compare with theirs. Nothing is decided by it."""

    def inspect(self) -> CollectorView:
        """What it holds at this moment, for tests."""
        return CollectorView(
            worker_count=len(self._registry.workers),
            pending_count=self._commits.count,
            next_look_at=self._registry.deadline(),
            is_idle=self._turns.is_idle,
        )

    # -- events -------------------------------------------------------------------------------------------------

    def receive(self, now: float, peer: bytes, user: User, address: str, message: ToSink) -> list[Output]:
        """Take a control message that came from `user` at `address` (host) over the connection `peer`."""
        if self._roster.get(user.key) != user:
            return [Send(peer, refusal(f"key {user.name} was revoked"))]
        if isinstance(message, Hello):
            return self._receive_hello(now, peer, user, address, message)
        known = self._peers.get(peer)
        if known is None or known.user != user:
            return [Send(peer, Again())]
        known.heard_at = now
        if isinstance(message, Query):
            return [Send(peer, self._report(now))]
        if isinstance(message, Goodbye):
            return self._receive_goodbye(now, peer, known)
        if user.role == WORKER and isinstance(message, Offer | Beat | Returned | Unreachable):
            return self._receive_of_worker(now, peer, known, message)
        if user.role == VENTILATOR and isinstance(
            message, Open | Ask | Seen | Mark | Quarantine | Missing | Close | Halt | Cancel | Forget | Account
        ):
            return self._receive_of_ventilator(now, peer, known, message)
        if user.role != WORKER and isinstance(message, Explain):
            return self._explanations.ask(now, peer, message, self._is_stuck)
        if user.role != WORKER and isinstance(message, Read):
            return self._reads.read(now, peer, message)
        if user.role != WORKER and isinstance(message, List):
            return self._reads.listing(peer, message)
        return self._lines.complain(user, f"{user.role}s may not send {type(message).__name__.lower()}")

    def results(self, user: User, results: Results | BadResults) -> list[Output]:
        """Take results that came from `user`; the next `flush` has them written."""
        if self._roster.get(user.key) != user or user.role != WORKER:
            return self._lines.complain(user, "results are not recorded: the key is revoked, or is not a worker's")
        return self._commits.results(user, results)

    def malformed(self, user: User, link: str, error: ProtocolError) -> list[Output]:
        """Take note that `user` sent something that is no message of the protocol."""
        outputs = self._lines.complain(user, f"malformed message on the {link} link", str(error))
        if link == "results":
            # Whose results they are cannot be read: unless it is told, its worker sends them for ever.
            reason = f"a worker with key {user.name} sent results that cannot be read: {error}"
            workers = [worker for worker in self._registry.workers.values() if worker.user == user]
            outputs += [Send(worker.peer, refusal(reason)) for worker in workers]
        return outputs

    def flush(self, now: float) -> list[Output]:
        """Take what the ledger has written, give the receipts, and have it write what has come meanwhile."""
        return self._turns.go_on(now)

    @property
    def is_writing(self) -> bool:
        """True while a write is in flight: `flush` does more when it has ended."""
        return not self._turns.writes.is_free

    def tick(self, now: float) -> list[Output]:
        """Drop silent peers, answer requests that have waited long enough, write what is to be written."""
        outputs = self.flush(now)
        workers, open_jobs = self._registry.silent(now)
        self._forget_silent_peers(now)
        quiet = self._registry.to_cut_off(now)
        for worker in workers:
            text = f"worker {worker.name} is silent: its batches are pushed again"
            outputs += self._lines.say(now, worker.user, "warning", text)
            outputs += self._part_with_worker(worker, in_order=False)
            self._commits.counters.workers_lost += 1
        for open_job in open_jobs:
            text = f"the ventilator of job {open_job.job} is silent; run it again to continue"
            outputs += self._lines.say(now, open_job.user, "warning", text)
            self._peers.pop(open_job.peer, None)
            outputs += self._jobs.end(open_job)
        outputs += [CutOff(address, living) for address, living in quiet]
        outputs += [*self._explanations.tick(now, self._is_stuck), *self._keepers.tick(now)]
        return outputs + self._jobs.tick(now) + self._asks.tick(now) + self._reads.tick(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = (
            self._asks.deadline(),
            self._jobs.deadline(),
            self._reads.deadline(),
            self._explanations.deadline(),
            self._registry.deadline(),
            self._turns.deadline(),
        )
        return min((instant for instant in instants if instant is not None), default=None)

    def roster_changed(self, now: float, roster: dict[str, User]) -> list[Output]:
        """Take a new roster (users by public key) and drop the peers that are no longer in it."""
        self._roster = roster
        outputs: list[Output] = []
        for peer, known in list(self._peers.items()):
            if roster.get(known.user.key) != known.user:
                text = f"key {known.user.name} was revoked: {known.name} is cut off"
                outputs += self._lines.say(now, known.user, "info", text)
                outputs += self._receive_goodbye(now, peer, known)
                outputs.append(Send(peer, refusal(f"key {known.user.name} was revoked")))
        return outputs + self._jobs.roster_changed(roster)

    # -- hello and goodbye --------------------------------------------------------------------------------------

    def _receive_hello(self, now: float, peer: bytes, user: User, address: str, hello: Hello) -> list[Output]:
        if hello.version != PROTOCOL_VERSION:
            reason = (
                f"the sink speaks protocol {PROTOCOL_VERSION}, this {hello.role} {hello.version}:"
                " install the same version on both"
            )
            text = f"{user.name} at {address} speaks protocol {hello.version}, not {PROTOCOL_VERSION}: refused"
            return [Send(peer, refusal(reason)), *self._lines.once(user, "version", text)]
        if hello.role != user.role:
            reason = f"key {user.name} is enrolled as {user.role}, not as {hello.role}: use a {hello.role}'s key"
            return [Send(peer, refusal(reason)), *self._lines.once(user, "role", f"refused {address}: {reason}")]
        other = self._registry.workers.get(hello.name)
        if other is not None and other.user.key != user.key:
            reason = f"the name {hello.name} is taken by a worker with another key: give another --name"
            text = f"refused {address}, key {user.name}: {reason}"
            return [Send(peer, refusal(reason)), *self._lines.once(user, "name", text)]
        outputs: list[Output] = []
        known = self._peers.get(peer)
        if known is not None and known.name != hello.name:
            # A connection is one peer: with another name it is another peer.
            outputs += self._receive_goodbye(now, peer, known)
        self._peers[peer] = Peer(user, hello.name, address, now)
        if other is not None:
            self._peers.pop(other.peer, None) if other.peer != peer else None
            other.peer = peer
        settings = self._settings
        ports = settings.results_port, settings.loopback, settings.relay_port
        time = 0.0 if self.time_offset_s is None else max(0.0, now + self.time_offset_s)
        tasks_port = settings.relayed_tasks_port
        return [*outputs, Send(peer, Welcome(PROTOCOL_VERSION, self._run, *ports, time, tasks_port))]

    def _forget_silent_peers(self, now: float) -> None:
        """Forget peers that left without a goodbye; a peer that beats or asks is never silent for that long."""
        if now < self._peers_looked_at + self._timing.gone_s:
            return
        self._peers_looked_at = now
        silent_at = now - 10 * self._timing.gone_s
        self._peers = {peer: known for peer, known in self._peers.items() if known.heard_at > silent_at}

    def _receive_goodbye(self, now: float, peer: bytes, known: Peer) -> list[Output]:
        del self._peers[peer]
        worker = self._registry.workers.get(known.name)
        outputs: list[Output] = []
        if worker is not None and worker.peer == peer:
            outputs += self._lines.say(now, known.user, "info", f"worker {worker.name} has left")
            outputs += self._part_with_worker(worker, in_order=True)
        for open_job in [open_job for open_job in self._registry.open_jobs.values() if open_job.peer == peer]:
            outputs += self._jobs.end(open_job)
        return outputs

    # -- workers ------------------------------------------------------------------------------------------------

    def _receive_of_worker(
        self, now: float, peer: bytes, known: Peer, message: Offer | Beat | Returned | Unreachable
    ) -> list[Output]:
        worker = self._registry.workers.get(known.name)
        if worker is not None and worker.user.key != known.user.key:
            # It said hello before the other one joined. When it says hello again, it is told that the name is taken.
            return [Send(peer, Again())]
        if isinstance(message, Offer):
            outputs: list[Output] = []
            if worker is None and len(self._registry.workers) >= WORKERS_MAX:
                return [Send(peer, refusal(f"{WORKERS_MAX} workers are at this sink: it takes no more"))]
            if worker is None:
                worker = BeatingWorker(known.name, known.user, peer, known.address)
                self._registry.join(now, worker)
                text = (
                    f"worker {worker.name} at {known.address} joined with {counted(len(message.functions), 'function')}"
                )
                outputs += self._lines.say(now, known.user, "info", text)
            before = self._registry.open_jobs_for(worker)
            self._registry.expose(worker, frozenset(message.functions))
            # Jobs it stopped serving must drop it; other jobs only learn the new worker count.
            outputs += [
                Send(
                    open_job.peer,
                    Crew([], [worker.name] if open_job in before else [], [], self._registry.others(open_job)),
                )
                for open_job in self._registry.open_jobs.values()
                if open_job.function not in worker.functions
            ]
            outputs.append(Send(peer, self._registry.places(worker)))
            return outputs
        if worker is None:
            return [Send(peer, Again())]
        if isinstance(message, Returned | Unreachable):
            if message.worker != worker.name:
                fault = f"{type(message).__name__.lower()} in the name of another worker"
                return self._lines.complain(known.user, fault, message.worker)
            if isinstance(message, Returned):
                self._commits.counters.returned += len(message.batches) + len(message.copies)
            open_job = self._registry.open_jobs.get(message.job)
            if open_job is not None and isinstance(message, Unreachable):
                open_job.unreachable[worker.name] = message
            return [] if open_job is None else [Send(open_job.peer, message)]
        # Late messages of its earlier connection may have arrived after the hello on this one.
        worker.peer = peer
        self._registry.beat(now, worker, message)
        judged = self._keepers.beat(now, worker, self._is_stuck)
        crews = [
            Send(open_job.peer, Crew([worker.member(open_job.job)], [], [], self._registry.others(open_job)))
            for open_job in self._registry.open_jobs_for(worker)
        ]
        return [Send(peer, Heard(message.serial)), *self._jobs.still_held(peer, message.held), *judged, *crews]

    def _part_with_worker(self, worker: BeatingWorker, in_order: bool) -> list[Output]:
        open_jobs = self._registry.open_jobs_for(worker)
        self._registry.leave(worker)
        self._peers.pop(worker.peer, None)
        for open_job in open_jobs:
            open_job.unreachable.pop(worker.name, None)
        left, lost = ([worker.name], []) if in_order else ([], [worker.name])
        return [Send(open_job.peer, Crew([], left, lost, self._registry.others(open_job))) for open_job in open_jobs]

    # -- ventilators --------------------------------------------------------------------------------------------

    def _receive_of_ventilator(
        self,
        now: float,
        peer: bytes,
        known: Peer,
        message: Open | Ask | Seen | Mark | Quarantine | Missing | Close | Halt | Cancel | Forget | Account,
    ) -> list[Output]:
        if isinstance(message, Open | Cancel | Forget):
            return self._turns.ask(now, Request(peer, known, message))
        open_job = self._registry.open_jobs.get(message.job)
        if open_job is None or open_job.peer != peer:
            return [Send(peer, Again())]
        open_job.heard_at = now
        if isinstance(message, Account):
            return self._explanations.account(now, message, self._is_stuck)
        if isinstance(message, Mark):
            self._commits.mark(message)
            return []
        if isinstance(message, Quarantine):
            return self._commits.quarantine(now, known.user, message)
        if isinstance(message, Missing):
            return self._keepers.missing(now, open_job, message)
        if isinstance(message, Close):
            return self._turns.ask(now, Request(peer, known, message))
        if isinstance(message, Halt):
            return self._jobs.halt(open_job)
        if isinstance(message, Seen):
            return self._jobs.seen(open_job, message)
        return self._jobs.scarce(open_job, message.scarce) + self._asks.ask(now, open_job, message)

    def _is_here(self, peer: bytes, known: Peer) -> bool:
        """True while the connection has this peer."""
        found = self._peers.get(peer)
        return found is not None and (found.user, found.name) == (known.user, known.name)

    @property
    def _is_stuck(self) -> bool:
        """True while the ledger accepts no results."""
        return self._turns.writes.is_stuck

    def _report(self, now: float) -> Report:
        jobs = {name: self._ledger.job(name) for name in self._registry.open_jobs}
        known = {name: job for name, job in jobs.items() if job is not None}
        return Report(
            *self._registry.report(now, known),
            copy(self._commits.counters),
            self._is_stuck,
            self._ledger.size_bytes(),
            self._ledger.id,
        )
