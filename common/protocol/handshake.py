"""How a worker, ventilator or observer joins its sink, and what it logs while it cannot."""

import re
import shlex
from dataclasses import dataclass
from enum import Enum, auto

from .. import causes
from ..causes import Cause
from ..log_line import LogLine
from .messages import PROTOCOL_VERSION, Again, FromSink, Hello, Message, Refused, Welcome
from .settings import HANDSHAKES_A_MINUTE_MAX, Timing

_LOOPBACK = re.compile(r"tcp://(127\.|localhost:|\[::1\])")


def is_here(address: str) -> bool:
    """Whether this address is one of the machine itself."""
    return _LOOPBACK.match(address) is not None


class LinkEvent(Enum):
    """What the socket's monitor has seen."""

    CONNECTED = auto()
    NOBODY = auto()
    NO_SUCH_NAME = auto()
    CUT = auto()
    KEY_REFUSED = auto()
    BAD_HANDSHAKE = auto()
    NO_TRADEWIND = auto()


@dataclass(frozen=True, slots=True)
class Fail:
    """Order to the shell: end with this line, because waiting would not help."""

    text: str


@dataclass(frozen=True, slots=True)
class Redial:
    """Order to the shell: connect with a new socket; this one does not do so by itself."""


Output = Message | LogLine | Fail | Redial


class Handshake:
    """The link to one sink: greeting, welcome, silence. `joined` is true between a welcome and a cut."""

    _BAD_HANDSHAKES = 4
    _GREET_S = 0.5
    _REDIAL_S = 5.0
    """How long after a cut a socket has begun to connect again, if it ever does."""

    def __init__(self, timing: Timing, role: str, name: str, address: str, key_file: str) -> None:
        self.joined = False
        self.welcome: Welcome | None = None
        self._timing = timing
        self._hello = Hello(PROTOCOL_VERSION, role, name)
        self._role = role
        self._address = address
        self._key_file = key_file
        self._connected = False
        self._cut_at: float | None = None
        """Set from a cut until the socket's next event."""
        self._nameless = False
        self._greet_at = float("-inf")
        self._heard_at: float | None = None
        self._voice_at: float | None = None
        self._voiced = False
        self._bad_handshakes = 0

    def moved(self, address: str) -> None:
        """From now on the sink has another address."""
        self._address = address

    def leave(self) -> None:
        """The sink was told goodbye. It is greeted anew at the next `tick`."""
        self.joined = False
        self._greet_at = float("-inf")
        self._voice_at = None

    def event(self, now: float, event: LinkEvent) -> list[Output]:
        """Take what the monitor has seen."""
        self._nameless = event is LinkEvent.NO_SUCH_NAME
        self._cut_at = now if event is LinkEvent.CUT else None
        if event is LinkEvent.CONNECTED:
            self._connected = True
            self._bad_handshakes = 0
            self._greet_at = now
            return self._greet(now)
        if event is LinkEvent.KEY_REFUSED:
            return [Fail(str(causes.key_refused(self._address, self._key_file, self._role, is_here(self._address))))]
        if event is LinkEvent.NO_TRADEWIND:
            return [Fail(str(causes.no_tradewind(self._address)))]
        if event is LinkEvent.BAD_HANDSHAKE and self.welcome is None:
            # After a welcome the keys are known to match, so a hang-up comes from a proxy whose sink is down.
            self._bad_handshakes += 1
            if self._bad_handshakes >= self._BAD_HANDSHAKES:
                return [Fail(str(causes.another_key(self._address, self._key_file, HANDSHAKES_A_MINUTE_MAX)))]
        if event is LinkEvent.CUT:
            self._connected = self.joined = False
        return []

    def receive(self, now: float, message: FromSink) -> list[Output]:
        """Take any message from the sink."""
        outputs: list[Output] = []
        if self._voice_at is not None and self.welcome is not None and self._voiced:
            outputs.append(LogLine("info", f"the sink at {self._address} is back"))
        self._heard_at = now
        self._voice_at = None
        if isinstance(message, Refused):
            # The sink does not know how we call our key.
            reason = message.reason.replace("--key FILE", f"--key {shlex.quote(self._key_file)}")
            outputs.append(Fail(f"the sink at {self._address} refuses: {reason}"))
        elif isinstance(message, Again):
            self.joined = False
            outputs += self._greet(now)
        elif isinstance(message, Welcome):
            self.joined = True
            self.welcome = message
        return outputs

    def tick(self, now: float) -> list[Output]:
        """Greet again, or log what the role waits for."""
        outputs: list[Output] = []
        if self._connected and not self.joined and now >= self._greet_at:
            outputs += self._greet(now)
        if self._cut_at is not None and now >= self._cut_at + self._REDIAL_S:
            # After a frame above MAXMSGSIZE a libzmq client stays away for good.
            self._cut_at = now
            outputs.append(Redial())
        if not self.away(now):
            self._voice_at = None
        elif self._voice_at is None:
            self._voice_at = now + self._timing.voice_s
            self._voiced = False
        elif now >= self._voice_at:
            self._voice_at = now + 2 * self._timing.voice_s
            self._voiced = True
            outputs.append(LogLine("warning", f"{self.waiting_for()}; still trying"))
        return outputs

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = []
        if self._connected and not self.joined:
            instants.append(self._greet_at)
        if self._cut_at is not None:
            instants.append(self._cut_at + self._REDIAL_S)
        if self._voice_at is not None:
            instants.append(self._voice_at)
        elif self._heard_at is not None:
            instants.append(self._heard_at + self._timing.silence_s)
        else:
            instants.append(float("-inf"))
        return min(instants)

    def away(self, now: float) -> bool:
        """True while the sink is not there or is silent."""
        return not self.joined or self._heard_at is None or now >= self._heard_at + self._timing.silence_s

    def waiting_for(self) -> str:
        """Why the sink does not answer, and what to do."""
        return str(self._waits_for())

    def _waits_for(self) -> Cause:
        if self._nameless:
            return causes.no_such_name(self._address, self._key_file)
        if self.welcome is not None:
            return causes.sink_away(self._address)
        if self._connected:
            return causes.silent_port(self._address)
        return causes.no_sink(self._address, is_here(self._address))

    def _greet(self, now: float) -> list[Output]:
        self._greet_at = now + self._GREET_S
        return [self._hello]
