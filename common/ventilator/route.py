"""Which way a job's tasks go: straight to workers, or through the sink's relay. No socket, no clock."""

from ..log_line import LogLine
from ..protocol.messages import Unreachable
from .out_of_reach import OutOfReach
from .settings import RelayUse
from .wait_voice import WaitVoice


class Route:
    """It changes once at most: from the first to the second, when workers say that they cannot connect."""

    def __init__(self, use: RelayUse, voice_s: float) -> None:
        self.relayed = use is RelayUse.always
        """Tasks go through the relay."""
        self.relay_is_up = False
        """The connection to the relay stands."""
        self._may_change = use is RelayUse.auto
        self._ports = 0, 0
        self._out_of_reach = OutOfReach(voice_s)
        self._voice = WaitVoice(voice_s)

    def welcome(self, port: int, relay_port: int) -> None:
        """Workers connect to us at `port`; it is 0 where that is of no use. The relay listens at the other one."""
        self._ports = port, relay_port

    @property
    def port(self) -> int:
        """Where the tasks are now."""
        return self._ports[self.relayed]

    def unreachable(self, now: float, message: Unreachable) -> None:
        """A worker cannot connect to a port; if tasks were there before, that comes late."""
        if message.port == self.port:
            self._out_of_reach.take(now, message)

    def changed(self, now: float) -> list[LogLine]:
        """Go the other way, if it is time for that: the answer is what to say then."""
        if self.relayed or not self._may_change:
            return []
        lines = self._out_of_reach.fallen_back(now)
        self.relayed = bool(lines)
        return lines

    def tick(self, now: float, pushes: bool) -> list[LogLine]:
        """Say what cannot be reached, when that is due. `pushes`: there are workers to push to."""
        lines = self._out_of_reach.tick(now, self.relayed)
        if self._voice.is_due(now, self.relayed and not self.relay_is_up and pushes):
            why = "nothing answers there, or a firewall is in between; still trying"
            lines.append(LogLine("warning", f"cannot push tasks to the sink's relay at its port {self.port}: {why}"))
        return lines

    @property
    def due_at(self) -> float | None:
        """When there may be something to say next."""
        return min((at for at in (self._out_of_reach.due_at, self._voice.due_at) if at is not None), default=None)
