"""What a worker hands back: said together, and once more to a sink that may not have heard it. No socket, no clock."""

from collections import deque
from collections.abc import Callable

from ..protocol.messages import Batch, BatchName, Returned


class Returns:
    """The returns of each job until they are said, and those that no heard beat has followed yet."""

    _SAID_MAX = 1_000
    """At most how many messages are kept: a sink that is there hears one beat a second."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._due: dict[str, Returned] = {}
        self._said: deque[tuple[int, Returned]] = deque(maxlen=self._SAID_MAX)
        """What was said, each with the serial of the beat before it."""
        self._was_dropped = False
        self.repeated_count = 0

    def add(self, batch: Batch, is_copy: bool) -> None:
        """Hand this batch back; of a copy that was not taken the original may be here, and stay."""
        returned = self._returned(batch.job)
        (returned.copies if is_copy else returned.batches).append((batch.first, batch.count, batch.attempt))

    def due(self, beat_serial: int) -> list[Returned]:
        """What is to be said now, after the beat of this serial."""
        said = list(self._due.values())
        self._due.clear()
        self._said.extend((beat_serial, each) for each in said)
        return said

    def heard(self, serial: int) -> None:
        """The sink has heard this beat, and so what was said before it."""
        while self._said and self._said[0][0] < serial:
            self._said.popleft()

    def dropped(self) -> None:
        """The sink did not know this worker, and has dropped what it said."""
        self._was_dropped = True

    def repeat(self, holds: Callable[[str, BatchName], bool]) -> None:
        """The sink knows this worker: say what was dropped once more, but for what `holds` says is here again."""
        if not self._was_dropped:
            return
        names = {(each.job, name): None for _, each in self._said for name in each.batches if not holds(each.job, name)}
        self._said.clear()
        self._was_dropped = False
        for job, name in names:
            self._returned(job).batches.append(name)
        self.repeated_count += len(names)

    def _returned(self, job: str) -> Returned:
        """What is to be said of the job next."""
        return self._due.setdefault(job, Returned(job, self._worker, [], []))
