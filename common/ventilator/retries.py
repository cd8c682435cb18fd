"""Tasks that failed and wait for their next attempt."""

from dataclasses import dataclass
from heapq import heappop, heappush

from msgspec import Raw

from .settings import DispatchSettings


@dataclass(frozen=True, slots=True)
class Retry:
    """A task to be tried again. `argument` is encoded as an array of one."""

    task: int
    attempt: int
    argument: Raw


class Retries:
    """Each waits longer than the one before: exponential backoff with jitter."""

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._waiting: dict[int, Retry] = {}
        self._timers: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def find(self, task: int) -> tuple[int, float] | None:
        """The attempt that the task waits for, and until when; None when it does not wait."""
        retry = self._waiting.get(task)
        until = max((at for at, each in self._timers if each == task), default=0.0) if retry else 0.0
        return None if retry is None else (retry.attempt, until)

    def add(self, now: float, retry: Retry, tries: int) -> None:
        """Let a task wait that was tried `tries` times in this run."""
        self.put_off(now + self._wait_s(retry, tries), retry)

    def put_off(self, until: float, retry: Retry) -> None:
        """Let it wait until that instant."""
        self._waiting[retry.task] = retry
        heappush(self._timers, (until, retry.task))

    def due(self, now: float) -> list[Retry]:
        """Take those out whose wait is over."""
        found = []
        while self._timers and self._timers[0][0] <= now:
            retry = self._waiting.pop(heappop(self._timers)[1], None)
            if retry is not None:
                found.append(retry)
        return found

    def settle(self, first: int, end: int) -> None:
        """The tasks from `first` to `end - 1` have receipts after all."""
        if not self._waiting:
            return
        few = end - first < len(self._waiting)
        for task in range(first, end) if few else [task for task in self._waiting if first <= task < end]:
            self._waiting.pop(task, None)

    def deadline(self) -> float | None:
        """When the next wait is over."""
        return self._timers[0][0] if self._timers else None

    def _wait_s(self, retry: Retry, tries: int) -> float:
        """Spread by a fixed hash: rules throw no dice."""
        settings = self._settings
        wait_s = min(settings.retry_wait_s * 2 ** min(tries - 1, 30), settings.retry_wait_max_s)
        spread = (retry.task * 2654435761 + (retry.attempt - 1) * 40503) % 1024 / 1024
        return float(wait_s * (0.75 + 0.5 * spread))
