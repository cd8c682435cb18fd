"""Which keys the tasks link admits, and when all of its connections are made anew. No socket, no clock."""

from dataclasses import dataclass

from ..protocol.messages import FromSink, Opened, Present, Roster
from ..protocol.settings import Timing


@dataclass(frozen=True, slots=True)
class CutLinks:
    """Order to the shell: cut all connections of the tasks link if there are more than `living`.

    One of them is then a stopped worker's, or somebody's that is no worker, and every other batch would be pushed to
    it. Living workers connect again.
    """

    living: int


class Admission:
    """Admits the enrolled keys with which workers are at the sink: whoever only pulls gets nothing.

    Nobody says which connection is whose. So all are cut when a key is revoked; and also some time after the last
    worker with a key has left, when there are more than workers: those of workers have ended by then.
    """

    def __init__(self, timing: Timing) -> None:
        self._ends_s = 2 * timing.beat_s
        """How long after its goodbye a worker's connection may take to end."""
        self._gone_s = timing.gone_s
        self._enrolled: frozenset[str] | None = None
        """None until the sink has said so."""
        self._present: frozenset[str] = frozenset()
        self._cuts_until = float("-inf")
        """Batches are missing: whoever the sink leaves out until then may have them, and is cut off at once."""
        self._due_at: dict[str, float] = {}
        """By key whose workers have left: when their connections must have ended."""
        self._next_at = float("inf")
        """The first of these instants: each message asks whether it has come, and thousands of keys may have gone."""

    def judge(self, key: str) -> bool | None:
        """Whether this key may connect; None when that is not known yet: its worker may have joined a moment ago."""
        if key in self._present:
            return True
        return None if self._enrolled is None or key in self._enrolled else False

    def batches_are_missing(self, now: float) -> None:
        """The sink was told that somebody keeps batches; it may now leave out the key of whoever does."""
        self._cuts_until = now + self._ends_s

    def receive(self, now: float, message: FromSink, living: int) -> list[CutLinks]:
        """Take any message of the sink. `living` workers of the crew are not missing their beats."""
        if isinstance(message, Roster):
            before, self._enrolled = self._enrolled or frozenset(), frozenset(message.keys)
            self._present &= self._enrolled
            if not before <= self._enrolled:
                return [CutLinks(0)]
        elif isinstance(message, Present):
            before, self._present = self._present, frozenset(message.keys)
            if now < self._cuts_until and before - self._present:
                return [CutLinks(0)]
            self._due_at |= dict.fromkeys(before - self._present, now + self._ends_s)
            self._due(self._due_at)
        elif isinstance(message, Opened):
            # A sink that has started again does not know its workers yet.
            self._due(dict.fromkeys(self._due_at, now + self._gone_s))
        if now < self._next_at:
            return []
        self._due({key: due_at for key, due_at in self._due_at.items() if now < due_at})
        return [CutLinks(living)]

    def _due(self, due_at: dict[str, float]) -> None:
        self._due_at = {key: at for key, at in due_at.items() if key not in self._present}
        self._next_at = min(self._due_at.values(), default=float("inf"))
