"""Which arguments a job has had, by digest: of what is appended only the others are taken. No socket, no clock."""

from collections import defaultdict

from ..protocol.arguments import digest
from ..protocol.messages import Close, Digests, Message, Seen

_DIGEST_BYTES = 16
_KEY_BYTES = 2
"""Digests with this beginning are kept together."""


class SeenArguments:
    """The digests that the sink names, page by page, and those of what was taken since: some 18 bytes each."""

    _REPEAT_S = 2.0

    def __init__(self, job: str) -> None:
        self.base = 0
        """The number of the first task that is appended."""
        self.complete = False
        """True once the sink has named all digests from before `base`."""
        self.skipped_count = 0
        self.problem: str | None = None
        """Why nothing can be appended, in words."""
        self._job = job
        self._next = 0
        self._repeat_at: float | None = None
        self._rests: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        """By the beginning of the digests: the rest of each, one behind the other."""

    def is_new(self, argument: bytes) -> bool:
        """True the first time that an argument comes, which is encoded; false, and counted, after that."""
        assert self.complete
        is_new = self._add(digest(argument))
        self.skipped_count += not is_new
        return is_new

    def opened(self, now: float, base: int) -> list[Message]:
        """The sink has opened the job, for the first time or after it was away."""
        self.base = base
        return [] if self.complete else self._ask(now)

    def receive(self, now: float, message: Digests) -> list[Message]:
        """Take a page of digests."""
        if message.job != self._job or message.first != self._next or self.complete or self.problem:
            return []
        for at in range(0, len(message.digests), _DIGEST_BYTES):
            self._add(message.digests[at : at + _DIGEST_BYTES])
        self._next = message.next
        if message.unknown:
            self._repeat_at = None
            self.problem = (
                f"the ledger has no arguments of some tasks of job {self._job}, so what is new is not known:"
                " give another --job name"
            )
            # Nothing was read. It is done, as it was before.
            return [Close(self._job, self.base, False)]
        if message.more:
            return self._ask(now)
        self.complete, self._repeat_at = True, None
        return []

    def tick(self, now: float) -> list[Message]:
        """Repeat what has no answer."""
        return self._ask(now) if self._repeat_at is not None and now >= self._repeat_at else []

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return self._repeat_at

    def _ask(self, now: float) -> list[Message]:
        self._repeat_at = now + self._REPEAT_S
        return [Seen(self._job, self._next)]

    def _add(self, seal: bytes) -> bool:
        """Keep a digest; false when it was kept before."""
        # A match that begins inside a rest is as unlikely as two arguments with one digest.
        rests, rest = self._rests[seal[:_KEY_BYTES]], seal[_KEY_BYTES:]
        if rest in rests:
            return False
        rests += rest
        return True
