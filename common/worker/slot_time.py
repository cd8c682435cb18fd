"""How much slot time each job has used at this worker, and how long its orders take. No clock.

`now` is monotonic seconds.
"""

from collections import defaultdict
from collections.abc import Iterable


class SlotTime:
    """Slot time by job: what was used, and what the running orders use now."""

    _WEIGHT = 1 / 4
    _ABSENT_S = 1.0
    """A job that had nothing here for longer begins again, with neither credit nor debt."""
    _CREDIT_S = 60.0
    """A job that is always here, but seldom has work, may not save more than this."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._order_s: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self._running: dict[int, tuple[str, float]] = {}

    def begin(self, now: float, slot: int, job: str) -> None:
        """The slot begins with an order of the job."""
        self._running[slot] = job, now

    def end(self, now: float, slot: int) -> None:
        """The slot's order is over."""
        job, since = self._running.pop(slot, (None, now))
        if job is None:
            return
        seconds = now - since
        self._used[job] = self._used.get(job, 0.0) + seconds
        known = self._order_s.get(job, seconds)
        self._order_s[job] = known + (seconds - known) * self._WEIGHT
        self._ended_at[job] = now

    def join(self, now: float, job: str, waiting: Iterable[str]) -> None:
        """The job had nothing here, and has something now; these jobs have batches that wait."""
        present = {*waiting, *(running for running, _ in self._running.values())}
        if job in present:
            return
        least = min((self.used(now, other) for other in present), default=0.0)
        if now - self._ended_at.get(job, float("-inf")) > self._ABSENT_S:
            self._used[job] = least
        else:
            self._used[job] = max(self._used[job], least - self._CREDIT_S)

    def forget(self, kept: Iterable[str]) -> None:
        """Keep what is known of these jobs only, and of those that run."""
        kept = {*kept, *(job for job, _ in self._running.values())}
        for known in (self._used, self._order_s, self._ended_at):
            for job in known.keys() - kept:
                del known[job]

    @property
    def shared(self) -> bool:
        """True when more than one job is known."""
        return len(self._used) > 1

    def used(self, now: float, job: str) -> float:
        """Seconds of slot time that the job has used until now."""
        running = sum(now - since for other, since in self._running.values() if other == job)
        return self._used.get(job, 0.0) + running

    def dues(self, now: float, waiting: Iterable[str]) -> dict[str, tuple[float, int]]:
        """Of these jobs and those that are known: what each will have used when one more order of it is over.

        The one for which this is least is next.
        """
        running: defaultdict[str, list[float]] = defaultdict(list)
        for job, since in self._running.values():
            running[job].append(max(now - since, self.order_s(job)))
        return {
            job: (self._used.get(job, 0.0) + sum(running[job]) + self.order_s(job), len(running[job]))
            for job in (*waiting, *self._used)
        }

    def order_s(self, job: str) -> float:
        """About how long an order of the job takes; 0 while nobody knows."""
        return self._order_s.get(job, 0.0)

    def ended_at(self, job: str) -> float:
        """When an order of the job was last over."""
        return self._ended_at.get(job, float("-inf"))
