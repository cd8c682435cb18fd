"""The crew as a ventilator knows it from the beats: how much room there is, and who names which batch."""

from itertools import islice

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
        self._members: dict[str, Member] = {}
        self._holders: dict[BatchName, set[str]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def clear(self) -> None:
        """Nobody is known any more."""
        self.slots = self.prefetch = 0
        self._members.clear()
        self._holders.clear()

    def heard(self, member: Member) -> None:
        """A worker's beat; it replaces the one before."""
        self._forget(member.worker)
        self._members[member.worker] = member
        self.slots += member.slots
        self.prefetch += member.prefetch
        for name in islice(member.held, NAMES_MAX):
            self._holders.setdefault(name, set()).add(member.worker)

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

    def _forget(self, worker: str) -> None:
        member = self._members.pop(worker, None)
        if member is not None:
            self.slots -= member.slots
            self.prefetch -= member.prefetch
            for name in islice(member.held, NAMES_MAX):
                self.let_go(worker, name)
