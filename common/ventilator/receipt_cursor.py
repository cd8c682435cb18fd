"""How far the receipts of a job are read, and whether the sink still speaks. No socket, no clock."""

from ..protocol.messages import Ask, Receipts
from ..protocol.settings import Timing


class ReceiptCursor:
    """One question at a time: receipts after a position; its answers are also how the sink shows that it is there."""

    def __init__(self, timing: Timing, job: str) -> None:
        self.done_count = 0
        self.failed_count = 0
        self.failed_in_run = 0
        """Tasks that were recorded as failed in this run, also where they had failed in an earlier one."""
        self.told_scarce = False
        """What the last question has told of the job."""
        self._timing = timing
        self._job = job
        self._position = 0
        self._taken_count = 0
        self._fine_before: int | None = None
        """How many tasks are recorded and have not failed when this run begins; None before."""
        self._asked_at: float | None = None
        self._heard_at: float | None = None

    def ask(self, now: float, scarce: bool) -> Ask:
        """The next question."""
        self._asked_at, self.told_scarce = now, scarce
        return Ask(self._job, self._position, scarce)

    def begin_run(self) -> None:
        """All receipts of earlier runs are read."""
        self._fine_before = self.done_count - self.failed_count

    def take(self, receipts: Receipts) -> bool:
        """Move on behind these receipts; False when they do not answer the question."""
        if receipts.job != self._job or receipts.after != self._position:
            return False
        self._position = receipts.position
        self.done_count = receipts.done
        self.failed_count = receipts.failed
        if self._fine_before is not None:
            self._taken_count += receipts.count
            self.failed_in_run = self._taken_count - (receipts.done - receipts.failed - self._fine_before)
        return True

    def hear(self, now: float) -> None:
        """The sink has said something."""
        self._heard_at = now

    def is_away(self, now: float) -> bool:
        """True while the sink has been silent for too long."""
        return self._heard_at is None or now - self._heard_at > self._timing.silence_s

    def was_slow(self, now: float) -> bool:
        """True when the sink, which speaks now, has said less than it does each `ask_s` seconds."""
        slow_s = (self._timing.ask_s + self._timing.silence_s) / 2
        return self._heard_at is None or now - self._heard_at > slow_s

    def is_overdue(self, now: float) -> bool:
        """True when the question was never answered."""
        asks_at = self.deadline()
        return asks_at is not None and now >= asks_at

    def deadline(self) -> float | None:
        """When to ask again."""
        return None if self._asked_at is None else self._asked_at + self._timing.silence_s
