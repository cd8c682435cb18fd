"""What the ledger writes next, and what follows when it is written. No socket, no clock.

Results are recorded in groups: one group is in flight while the next one gathers. Between the groups come the changes
of jobs, each when all that came before it is written, and a part of the tidying when it is time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..protocol.messages import Cancel, Forget
from .asks import Asks
from .commits import Commits, Progress
from .housekeeping import Housekeeping
from .jobs import Change, Jobs, Request
from .outputs import Output, Send, refusal
from .reads import Reads
from .registry import Peer
from .settings import CollectorSettings
from .store import Completion, Forgetting, Job, LedgerStuck, Opening, Recording, Store, Tidying, Written
from .writes import Writes

_WAITING_MAX = 1_000
"""At most how many requests wait for their turn. Others are passed over: whoever gets no answer asks again.

The key that has most of them gives way to the others.
"""
_ANSWERS_MAX = 100
"""After how many outputs for requests that need no write others get their turn: one may be told to a whole crew."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """A request that waits for its turn."""

    request: Request
    after: Progress
    """It is next when this is committed."""

    @property
    def user_key(self) -> str:
        """Whose it is."""
        return self.request.known.user.key


class Turns:
    """The order of the writes."""

    def __init__(
        self,
        now: float,
        settings: CollectorSettings,
        ledger: Store,
        rules: tuple[Commits, Asks, Jobs, Reads],
        is_here: Callable[[bytes, Peer], bool],
    ) -> None:
        self.writes = Writes(ledger, settings.retry_commit_s)
        self._commits, self._asks, self._jobs, self._reads = rules
        self._housekeeping = Housekeeping(now)
        self._is_here = is_here
        self._waiting: dict[tuple[bytes, type, str], _Queued] = {}
        self._counts: Counter[str] = Counter()
        """By key, how many of them are its own."""
        self._change: tuple[Request, Change] | None = None
        """The change that is in flight."""
        self._answer_count = 0
        """How many outputs there were in this turn of the sink's loop for requests that need no write."""
        self._recorded_last = True
        """Results and changes take turns, so that neither can keep the other from the ledger."""

    @property
    def is_idle(self) -> bool:
        """True when there is nothing to write."""
        return self.writes.is_free and not self._waiting and not self._commits.count

    def ask(self, now: float, request: Request) -> list[Output]:
        """Take a request. It is answered when its turn has come."""
        key = request.key
        known = self._waiting.get(key)
        if known is not None:
            # It is resent.
            self._waiting[key] = replace(known, request=request)
        elif not self._is_in_flight(request) and self._has_room(request):
            # Whoever cancels a job does not care for what it has recorded.
            after = Progress() if isinstance(request.message, Cancel) else self._commits.needed()
            self._waiting[key] = _Queued(request, after)
            self._counts[request.known.user.key] += 1
        return self._go_on(now)

    def _is_in_flight(self, request: Request) -> bool:
        """Whether just this is being written. With other fields it is no repetition: a job may go another way."""
        begun = None if self._change is None else self._change[0]
        return begun is not None and (begun.key, begun.message) == (request.key, request.message)

    def _has_room(self, request: Request) -> bool:
        """Whether a request may wait; for that the last one of the key that has most may go."""
        if len(self._waiting) < _WAITING_MAX:
            return True
        [(most, count)] = self._counts.most_common(1)
        if self._counts[request.known.user.key] + 1 >= count:
            return False
        self._taken(next(key for key, each in reversed(self._waiting.items()) if each.user_key == most))
        return True

    def _taken(self, key: tuple[bytes, type, str]) -> Request:
        """This request, which waits no longer."""
        queued = self._waiting.pop(key)
        self._counts[queued.user_key] -= 1
        if not self._counts[queued.user_key]:
            del self._counts[queued.user_key]
        return queued.request

    def go_on(self, now: float) -> list[Output]:
        """Take the end of the write in flight, and begin the next ones, as far as the ledger ends them at once.

        It is called once in each turn of the sink's loop.
        """
        self._answer_count = 0
        return self._go_on(now)

    def _go_on(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        while True:
            if not self.writes.is_free:
                completion, said = self.writes.take(now)
                outputs += said
                if completion is None:
                    break
                outputs += self._completed(now, completion)
            elif not self._begin(now, outputs):
                self.writes.rest()
                break
        return outputs + self._refuse_waiting() if self.writes.is_stuck else outputs

    def deadline(self) -> float | None:
        """When `go_on` has something to do next."""
        instants = [self.writes.deadline()]
        if self.writes.is_free:
            instants.append(self._housekeeping.next_at)
            if self._waiting and self._answer_count >= _ANSWERS_MAX:
                return float("-inf")
        return min((instant for instant in instants if instant is not None), default=None)

    def _begin(self, now: float, outputs: list[Output]) -> bool:
        """Begin the next write, or answer a request that needs none; False when there is nothing to do."""
        if self._recorded_last and self._take_turn(now, outputs):
            return True
        if self._housekeeping.is_due(now):
            self.writes.begin(now, Tidying())
            return True
        if self.writes.retry_at is None or now >= self.writes.retry_at:
            recording = self._commits.begin()
            if recording is not None:
                self._recorded_last = True
                self.writes.begin(now, recording)
                return True
        return self._take_turn(now, outputs)

    def _take_turn(self, now: float, outputs: list[Output]) -> bool:
        """Do what the first request asks for that may be next."""
        key = next((key for key, waiting in self._waiting.items() if self._is_ready(waiting)), None)
        if key is None or self._answer_count >= _ANSWERS_MAX:
            return False
        request = self._taken(key)
        if not self._is_here(request.peer, request.known):
            return True
        try:
            change = self._jobs.turn(now, request)
        except LedgerStuck:
            # Whoever gets no answer asks again.
            return True
        if isinstance(change, Change):
            self._change = request, change
            self._recorded_last = False
            self.writes.begin(now, change.write)
        else:
            self._answer_count += len(change)
            outputs += change
        return True

    def _is_ready(self, waiting: _Queued) -> bool:
        if self.writes.is_stuck and isinstance(waiting.request.message, Forget):
            # What the ledger has refused may have results of this job, and is submitted once more.
            return False
        return self._commits.committed.reaches(waiting.after)

    def _completed(self, now: float, completion: Completion) -> list[Output]:
        if isinstance(completion.write, Tidying):
            self._housekeeping.done(now, completion)
            return []
        if isinstance(completion.write, Recording):
            return [] if completion.stuck is not None else self._recorded(completion.result)
        assert self._change is not None
        (request, change), self._change = self._change, None
        if completion.stuck is not None:
            return change.refused(now, completion.stuck)
        outputs: list[Output] = []
        if isinstance(completion.write, Opening):
            assert isinstance(completion.result, Job)
            self._commits.reopened(completion.result)
            if not self._is_here(request.peer, request.known):
                return []
        elif isinstance(completion.write, Forgetting):
            name = completion.write.name
            outputs += self._commits.forgotten(name) + self._reads.forgotten(name)
            self._housekeeping.begin(now)
        return change.done(now) + outputs

    def _recorded(self, result: object) -> list[Output]:
        assert isinstance(result, Written)
        written = self._commits.written(result)
        # Ventilators first: idle slots may wait for what they push next.
        return self._asks.committed(written.all()) + self._commits.receipts(written)

    def _refuse_waiting(self) -> list[Output]:
        """Whoever cancels or forgets a job is told when that may take long; the others ask again and again."""
        refused = [key for key, each in self._waiting.items() if isinstance(each.request.message, Cancel | Forget)]
        for key in refused:
            self._taken(key)
        reason = "the ledger accepts no change at the moment: try again"
        return [Send(peer, refusal(reason)) for peer, _, _ in refused]
