"""Which connections may stay that have not said who they are: how many, and for how long.

libzmq accepts whoever connects, keeps a buffer for it, and waits `HANDSHAKE_IVL` for its key. It has no bound on how
many it keeps. These are the bounds; they cost nobody who is in already.
"""

from collections import Counter

WAITING_MAX = 512
"""At most how many connections may be about to show their key, in one process."""
HANDSHAKE_S = 3.0
"""How long that may take: `HANDSHAKE_IVL` of the sockets that we bind."""
GREETING_S = 10.0
"""How long a connection of the control link may stay without a `hello`."""
RESERVE = 32
"""How many descriptors are kept free for files, and for listening anew."""


class Doorstep:
    """The connections that were accepted and are not known yet, by descriptor."""

    def __init__(self, descriptors_max: int) -> None:
        self.waiting_max = min(WAITING_MAX, max(1, descriptors_max // 4))
        self.address_max = max(1, self.waiting_max // 2)
        """At most how many of them may come from one address."""
        self.limit = f" (the limit is {descriptors_max} descriptors)"
        """The end of a line of the log, where that is the reason."""
        self._if_few = self.limit if self.waiting_max < WAITING_MAX else ""
        self._highest = descriptors_max - min(RESERVE, descriptors_max // 8)
        self._waiting: dict[int, tuple[str, float]] = {}
        """Without a key: their address, and when they came. The oldest are the first."""
        self._by_address: Counter[str] = Counter()
        self._silent: dict[int, float] = {}
        """Without a `hello`: when they came."""

    def waits(self, descriptor: int) -> bool:
        """Whether this connection has not shown a key."""
        return descriptor in self._waiting

    def accepted(self, now: float, descriptor: int, address: str, greets: bool) -> str | None:
        """A connection has come, which must say `hello` if it `greets`. None if it may stay, else why it may not."""
        self.gone(descriptor)
        self._forget_slow(now)
        if descriptor >= self._highest:
            return (
                f"this process has no file descriptor left for it: raise the limit (ulimit -n, LimitNOFILE){self.limit}"
            )
        if len(self._waiting) >= self.waiting_max:
            return f"{self.waiting_max} others have not shown a key yet{self._if_few}"
        if self._by_address[address] >= self.address_max:
            return f"{self.address_max} others from there have not shown a key yet{self._if_few}"
        self._waiting[descriptor] = address, now
        self._by_address[address] += 1
        if greets:
            self._silent[descriptor] = now
        return None

    def showed_key(self, address: str) -> None:
        """One from this address has shown its key. Nobody says which: the one that waits longest counts."""
        for descriptor, (theirs, _) in self._waiting.items():
            if theirs == address:
                self._forget(descriptor)
                return

    def greeted(self, descriptor: int) -> None:
        """This connection has said `hello`."""
        self._silent.pop(descriptor, None)

    def gone(self, descriptor: int) -> None:
        """This connection has ended."""
        self._forget(descriptor)
        self._silent.pop(descriptor, None)

    def overdue(self, now: float) -> list[int]:
        """The connections that have not said `hello` in time; each is named once."""
        found = []
        for descriptor, came_at in self._silent.items():
            if came_at + GREETING_S > now:
                break
            found.append(descriptor)
        for descriptor in found:
            self.gone(descriptor)
        return found

    def _forget_slow(self, now: float) -> None:
        # libzmq has ended these by now, or they are in, and another one counted for them.
        while self._waiting:
            descriptor, (_, came_at) = next(iter(self._waiting.items()))
            if came_at + HANDSHAKE_S > now:
                return
            self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        known = self._waiting.pop(descriptor, None)
        if known is not None:
            self._by_address[known[0]] -= 1
            if not self._by_address[known[0]]:
                del self._by_address[known[0]]


class GivenIds:
    """The routing ids that libzmq has given to the peers of a ROUTER: consecutive numbers, from an unknown start.

    A peer may claim an id instead. Once the numbers reach a claimed one, libzmq aborts the process.
    """

    def __init__(self, first: bytes) -> None:
        self._first = int.from_bytes(first[1:])
        self._count = 1

    def one_more(self) -> None:
        """Another peer was let in, so one more may have been given."""
        self._count += 1

    def include(self, peer: bytes) -> bool:
        """Whether this id was given, and not claimed."""
        return len(peer) == 5 and peer[0] == 0 and (int.from_bytes(peer[1:]) - self._first) % 2**32 < self._count
