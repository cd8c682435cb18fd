"""What the relay holds between ventilators and workers. No socket, no clock; `now` is monotonic seconds."""

from collections import deque

from ..plain_text import counted


class RelayQueue:
    """Batches that no worker's connection has room for, of each ventilator's key in turn.

    A batch that nobody has named for a lease is pushed again by its ventilator, so one that waits longer is dropped.
    So is what a key sends beyond `bytes_max`: no flood takes the sink's memory, or what others send.
    """

    def __init__(self, age_max_s: float, bytes_max: int) -> None:
        self.dropped_count = 0
        self._said_count = 0
        self._says_at = float("-inf")
        self._age_max_s = age_max_s
        self._bytes_max = bytes_max
        self._held: dict[str, deque[tuple[float, bytes]]] = {}
        """By key: when each batch came, and its content. The first key is next."""
        self._bytes: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def put(self, now: float, key: str, content: bytes) -> None:
        """Hold a batch that came from a ventilator with this key."""
        size = self._bytes.get(key, 0) + len(content)
        if size > self._bytes_max:
            self.dropped_count += 1
            return
        self._bytes[key] = size
        self._held.setdefault(key, deque()).append((now, content))

    def next(self, now: float) -> bytes | None:
        """The batch to send now; `sent` must follow once it is sent."""
        while self._held:
            came_at, content = next(iter(self._held.values()))[0]
            if now < came_at + self._age_max_s:
                return content
            self.dropped_count += 1
            self.sent()
        return None

    def sent(self) -> None:
        """The batch that `next` gave is gone; the next one is another key's, if another one has any."""
        key = next(iter(self._held))
        waiting = self._held.pop(key)
        self._bytes[key] -= len(waiting.popleft()[1])
        if waiting:
            self._held[key] = waiting
        else:
            del self._bytes[key]

    def words(self, now: float) -> str | None:
        """What to log of batches that were dropped: one line a minute."""
        count = self.dropped_count - self._said_count
        if not count or now < self._says_at:
            return None
        self._said_count, self._says_at = self.dropped_count, now + 60
        batches = counted(count, "batch", "batches")
        return f"the relay dropped {batches} that no worker had room for; their ventilators push them again"

    def deadline(self) -> float | None:
        """When `next` is to be asked again, so that what is too old takes no memory, or `words`."""
        instants = [waiting[0][0] + self._age_max_s for waiting in self._held.values()]
        if self.dropped_count > self._said_count:
            instants.append(self._says_at)
        return min(instants, default=None)
