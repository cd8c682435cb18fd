"""The one write that the ledger is making, and what is said while it accepts none. No socket, no clock."""

from ..log_line import LogLine
from .outputs import Output
from .store import Completion, Recording, Store, Write

LATE_S = 1.0
"""After this long without its end a write is called stuck."""


class Writes:
    """Begins writes, one at a time, and takes their ends."""

    def __init__(self, ledger: Store, retry_s: float) -> None:
        self.retry_at: float | None = None
        """When to submit once more the results that the ledger has refused; None when it has not."""
        self._ledger = ledger
        self._retry_s = retry_s
        self._begun_at: float | None = None
        self._is_late = False
        self._is_said = self._is_reason_said = False
        """Whether the log says that the ledger is stuck, and what a write waits for."""

    @property
    def is_free(self) -> bool:
        """True when no write is in flight."""
        return self._begun_at is None

    @property
    def is_stuck(self) -> bool:
        """True while the ledger accepts no results."""
        return self.retry_at is not None or self._is_late

    def begin(self, now: float, write: Write) -> None:
        """Have the ledger make this write."""
        self._ledger.submit(write)
        self._begun_at = now

    def rest(self) -> None:
        """There is nothing to write: the ledger may look whether it is still the sink's own."""
        self._ledger.completed()

    def take(self, now: float) -> tuple[Completion | None, list[Output]]:
        """The end of the write in flight if it has come, and lines for the log."""
        completion = self._ledger.completed()
        if completion is None:
            return None, self._look_if_late(now)
        self._begun_at, self._is_late = None, False
        if isinstance(completion.write, Recording):
            self.retry_at = None if completion.stuck is None else now + self._retry_s
        if completion.stuck is not None and isinstance(completion.write, Recording):
            return completion, self._say(f"{completion.stuck}; no receipts are sent; retrying every second")
        if self._is_said and not self.is_stuck and completion.stuck is None:
            self._is_said = self._is_reason_said = False
            return completion, [LogLine("info", "the ledger accepts results again")]
        return completion, []

    def deadline(self) -> float | None:
        """When `take` has something to say, or results are to be submitted once more."""
        if self._begun_at is None:
            return self.retry_at
        return None if self._is_late else self._begun_at + LATE_S

    def _look_if_late(self, now: float) -> list[Output]:
        if self._begun_at is None or now < self._begun_at + LATE_S:
            return []
        is_first, self._is_late = not self._is_late, True
        why = self._ledger.waits_for
        if why and not self._is_reason_said:
            # It may turn out later than that the write is late.
            self._is_said, self._is_reason_said = False, True
        elif not is_first:
            return []
        return self._say(f"{why or 'a write takes longer than a second'}; no receipts are sent until it has ended")

    def _say(self, why: str) -> list[Output]:
        if self._is_said:
            return []
        self._is_said = True
        return [LogLine("error", f"the ledger accepts no results: {why}")]
