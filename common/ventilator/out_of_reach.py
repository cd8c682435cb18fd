"""Which workers cannot connect to where their tasks come from, and when that is said. No socket, no clock."""

from .. import causes
from ..log_line import LogLine
from ..plain_text import host_port
from ..protocol.messages import Obstacle, Unreachable

_GATHER_S = 1.0
"""How long to wait for others before the first is named: a firewall keeps all of them out."""
_NAMED_MAX = 3


class OutOfReach:
    """Workers say so again, more and more seldom, while it lasts. What they say together is one line."""

    def __init__(self, voice_s: float) -> None:
        self.due_at: float | None = None
        """When to say it next."""
        self._voice_s = voice_s
        self._said_at = float("-inf")
        self._workers: dict[tuple[str, int, Obstacle], dict[str, None]] = {}

    def take(self, now: float, message: Unreachable) -> None:
        """A worker cannot connect."""
        self._workers.setdefault((message.host, message.port, message.obstacle), {})[message.worker] = None
        if self.due_at is None:
            self.due_at = max(now + _GATHER_S, self._said_at + 2 * self._voice_s)

    def tick(self, now: float, relayed: bool) -> list[LogLine]:
        """Say it, when that is due. `relayed`: the sink's relay is what they cannot reach."""
        return [
            LogLine("warning", str(causes.out_of_reach(workers[:_NAMED_MAX], len(workers), where, obstacle, relayed)))
            for where, obstacle, workers in self._due(now)
        ]

    def fallen_back(self, now: float) -> list[LogLine]:
        """The same where it makes their tasks go another way: one line, and none when it is not due."""
        found = self._due(now)
        if not found:
            return []
        where, workers = found[0][0], [name for _, _, names in found for name in names]
        way = "tasks go through the sink's relay from now on"
        what = causes.out_of_reach(workers[:_NAMED_MAX], len(workers), where, found[0][1]).what
        return [LogLine("warning", f"{what}: {way}")]

    def _due(self, now: float) -> list[tuple[str, Obstacle, list[str]]]:
        if self.due_at is None or now < self.due_at:
            return []
        self._said_at, self.due_at = now, None
        found, self._workers = self._workers, {}
        return [(host_port(host, port), why, list(workers)) for (host, port, why), workers in found.items()]
