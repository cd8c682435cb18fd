"""Results that a worker has sent and that have no receipt yet: they are resent until they have."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from ..protocol.codec import encode
from ..protocol.messages import Results
from ..protocol.settings import Timing


@dataclass(frozen=True, slots=True)
class Submit:
    """Order to the shell: PUSH this results frame to the sink."""

    frame: bytes


Owner = TypeVar("Owner")


@dataclass(slots=True)
class _Sent(Generic[Owner]):
    job: str
    owner: Owner
    frame: bytes
    again_at: float
    wait_s: float


class Unacked(Generic[Owner]):
    """Frames by serial, each with the batch that it belongs to; the wait until it is resent doubles each time."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._sent: dict[int, _Sent[Owner]] = {}
        self._again_at: float | None = None

    def __len__(self) -> int:
        return len(self._sent)

    def submit(self, now: float, results: Results, owner: Owner) -> Submit:
        """Send results for the first time."""
        wait_s = self._timing.resend_s
        sent = _Sent(results.job, owner, encode(results), now + wait_s, wait_s)
        self._sent[results.serial] = sent
        if self._again_at is None or sent.again_at < self._again_at:
            self._again_at = sent.again_at
        return Submit(sent.frame)

    def receipt(self, serial: int) -> Owner | None:
        """These have their receipt; returns the batch that they belong to."""
        sent = self._sent.pop(serial, None)
        return None if sent is None else sent.owner

    def overdue(self, now: float) -> list[Submit]:
        """Those whose receipt is overdue, to be resent."""
        if self._again_at is None or now < self._again_at:
            return []
        again = []
        for sent in self._sent.values():
            if now >= sent.again_at:
                sent.wait_s = min(2 * sent.wait_s, self._timing.resend_max_s)
                sent.again_at = now + sent.wait_s
                again.append(Submit(sent.frame))
        self._again_at = min((sent.again_at for sent in self._sent.values()), default=None)
        return again

    def all(self, now: float) -> list[Submit]:
        """All of them, for a sink that does not know them."""
        for sent in self._sent.values():
            sent.wait_s = self._timing.resend_s
            sent.again_at = now + sent.wait_s
        self._again_at = now + self._timing.resend_s if self._sent else None
        return [Submit(sent.frame) for sent in self._sent.values()]

    def drop(self, job: str) -> None:
        """Forget a job's."""
        self._sent = {serial: sent for serial, sent in self._sent.items() if sent.job != job}

    def clear(self) -> None:
        """Forget all."""
        self._sent.clear()

    def deadline(self) -> float | None:
        """When `overdue` has something to say next."""
        return self._again_at
