"""The crew as a ventilator knows it from the beats: how much room there is, and who names which batch."""

from itertools import islice, takewhile

from msgspec import structs

from ..protocol.messages import BatchName, Member

NAMES_MAX = 100_000
"""Batches of one beat that count; it bounds what a lying worker can cost."""


class Holders:
    """The workers that are beating and expose the job's function."""

    def __init__(self) -> None:
        self.slots = 0
        """Of all workers together."""
        self.prefetch = 0
        self.quiet: set[str] = set()
        """Workers that miss their beats, until they beat again or are said to be gone."""
        self._members: dict[str, Member] = {}
        self._heard_at: dict[str, float] = {}
        """When each of the other workers was heard last; the one that was heard longest ago stands first."""
        self._holders: dict[BatchName, set[str]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, worker: str) -> bool:
        return worker in self._members

    def clear(self) -> None:
        """Forget all workers."""
        self.slots = self.prefetch = 0
        self._members.clear()
        self._holders.clear()
        self.quiet.clear()
        self._heard_at.clear()

    def heard(self, now: float, member: Member) -> list[BatchName]:
        """A worker's beat; it replaces the one before. Returns what that one named, and no beat names now."""
        before = self._members.get(member.worker)
        self._forget(member.worker)
        self._heard_at[member.worker] = now
        self._members[member.worker] = member
        self.slots += member.slots
        self.prefetch += member.prefetch
        for name in islice(member.held, NAMES_MAX):
            self._holders.setdefault(name, set()).add(member.worker)
        return [] if before is None else [name for name in before.held if name not in self._holders]

    def gone(self, worker: str) -> Member | None:
        """A worker has left; returns its last beat, without what it has returned since."""
        member = self._members.get(worker)
        if member is None:
            return None
        held = [name for name in islice(member.held, NAMES_MAX) if worker in self._holders.get(name, ())]
        self._forget(worker)
        return structs.replace(member, held=held)

    def let_go(self, worker: str, name: BatchName) -> None:
        """The worker holds this batch no more, whatever its last beat says."""
        holders = self._holders.get(name)
        if holders is not None:
            holders.discard(worker)
            if not holders:
                del self._holders[name]

    def holders(self, name: BatchName) -> int:
        """How many workers' last beats name this batch."""
        return len(self._holders.get(name, ()))

    def is_held(self, name: BatchName) -> bool:
        """True when the last beat of some worker names this batch."""
        return name in self._holders

    @property
    def all_heard_at(self) -> float | None:
        """Each worker that does not miss its beats was heard then or later; None when there is no such worker."""
        return next(iter(self._heard_at.values()), None)

    # -- who misses its beats -----------------------------------------------------------------------------------

    def excuse(self, now: float) -> None:
        """Nobody could be heard until now: the silence of all workers counts from here."""
        self._heard_at = dict.fromkeys(self._heard_at, now)

    def fall_quiet(self, heard_until: float) -> bool:
        """Those that were last heard at this instant or before miss their beats; returns whether there are any more."""
        found = list(takewhile(lambda worker: self._heard_at[worker] <= heard_until, self._heard_at))
        self.quiet.update(found)
        for worker in found:
            del self._heard_at[worker]
        return bool(found)

    def _forget(self, worker: str) -> None:
        self.quiet.discard(worker)
        self._heard_at.pop(worker, None)
        member = self._members.pop(worker, None)
        if member is not None:
            self.slots -= member.slots
            self.prefetch -= member.prefetch
            for name in islice(member.held, NAMES_MAX):
                self.let_go(worker, name)
