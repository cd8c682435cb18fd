"""A ventilator's talk with its sink: open the job, ask for receipts, close it. No socket, no clock."""

from ..protocol.messages import Close, Closed, Digests, FromSink, Halt, Mark, Message, Open, Opened
from .admission import CutLinks
from .dispatch import Dispatch
from .request import JobRequest
from .settings import DispatchSettings


class Dialog:
    """Says `Open` until it is `Opened`, and at the end `Close` until it is `Closed`; in between dispatch talks."""

    _REPEAT_S = 2.0

    def __init__(self, settings: DispatchSettings, dispatch: Dispatch, request: JobRequest) -> None:
        self.opened: Opened | None = None
        self.closed: Closed | None = None
        self.problem: str | None = None
        """Why the job cannot go on, in words."""
        self._dispatch = dispatch
        self._request = request
        self._job = request.job
        self._retries = settings.retries
        self._speculates = settings.speculate
        self._seen = request.seen
        self._mark_s = settings.timing.beat_s / 4
        self._open: Open | None = None
        self._repeat_at: float | None = None
        self._mark: Mark | None = None
        self._said: Mark | None = None
        self._marked_at = float("-inf")

    def welcome(self, now: float, port: int, relayed: bool = False) -> list[Message]:
        """Open the job: the sink welcomes us, for the first time or after it was away, or the tasks go another way.

        Workers pull them from us at `port`, or through the relay.
        """
        # Opened again when all receipts were read, it is still the same run of the failed tasks.
        retry_failed = self._request.retry_failed and not self._dispatch.caught_up
        reopens = self.opened is not None
        self._open = Open(
            job=self._job,
            function=self._request.function,
            source=self._request.source,
            port=port,
            retries=self._retries,
            retry_failed=retry_failed,
            reopens=reopens,
            arguments=self._request.arguments,
            append=self._seen is not None,
            relay=relayed,
        )
        self._repeat_at = now + self._REPEAT_S
        return [self._open]

    def receive(self, now: float, message: FromSink) -> list[Message | CutLinks]:
        """Take a message of the sink."""
        if isinstance(message, Opened):
            if self.opened is not None and self.opened.ledger != message.ledger:
                self.problem = "the sink now has another ledger, without the recorded results of this job"
            elif self.opened is not None and self.opened.ticket_key != message.ticket_key:
                self.problem = (
                    f"job {self._job} was forgotten meanwhile, and another job has its name now: run this one again"
                    " with another --job name"
                )
            self.opened = message
            self._open = None
            self._repeat_at = None
            self._said = None
            self._marked_at = float("-inf")
            seen = [] if self._seen is None else self._seen.opened(now, message.base)
            return [*self._dispatch.receive(now, message), *seen]
        if isinstance(message, Digests):
            return [*self._receive_digests(now, message)]
        if isinstance(message, Closed):
            if self._open is not None:
                # The job was opened again behind this `Close`; it is closed again when that is answered.
                return []
            self.closed = message
            self._repeat_at = None
            return []
        return self._dispatch.receive(now, message)

    def _receive_digests(self, now: float, message: Digests) -> list[Message]:
        outputs = [] if self._seen is None else self._seen.receive(now, message)
        if self._seen is not None and self._seen.problem:
            self.problem = self._seen.problem
        return outputs

    def is_another_input(self, count: int, digest: bytes, ended: bool) -> bool:
        """True when an input with this mark cannot be the one that an earlier run of the job has read."""
        assert self.opened is not None
        before = self.opened
        return (
            (ended and count < before.mark_count)
            or (0 < count == before.mark_count and digest != before.mark_digest)
            or (before.total is not None and (count > before.total or (ended and count < before.total)))
        )

    def mark(self, count: int, digest: bytes, total: int | None) -> None:
        """Take note how far the input was read; the sink hears of it now and then."""
        mark = Mark(self._job, count, digest, total)
        # Before the first task it tells no inputs apart, and would keep back the next one, which does.
        is_empty = total is None and count == (0 if self.opened is None else self.opened.base)
        if is_empty or mark in (self._mark, self._said):
            return
        self._mark = mark
        if count == total:
            self._marked_at = float("-inf")

    def halt(self) -> list[Message]:
        """Stop: push no more, and have handed back what has not started."""
        self._dispatch.halt()
        return [Halt(self._job)]

    def tick(self, now: float) -> list[Message]:
        """Repeat what has no answer, close when all is done."""
        outputs = self._dispatch.tick(now)
        outputs += [] if self._seen is None else self._seen.tick(now)
        if self._mark is not None and self.opened is not None and now >= self._marked_at + self._mark_s:
            outputs.append(self._mark)
            self._said, self._mark = self._mark, None
            self._marked_at = now
        if self.closed is None and self._dispatch.finished and self._open is None and self._repeat_at is None:
            self._repeat_at = now
        if self._repeat_at is not None and now >= self._repeat_at:
            self._repeat_at = now + self._REPEAT_S
            outputs.append(self._open or Close(self._job, self._dispatch.total or 0, self._speculates))
        return outputs

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        seen_at = None if self._seen is None else self._seen.deadline()
        instants = [at for at in (self._dispatch.deadline(), self._repeat_at, seen_at) if at is not None]
        if self._mark is not None and self.opened is not None:
            instants.append(self._marked_at + self._mark_s)
        return min(instants, default=None)
