"""How a worker, ventilator or observer joins its sink, and what it logs while it cannot."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from .. import causes
from ..causes import Cause
from ..log_line import LogLine
from .messages import PROTOCOL_VERSION, Again, FromSink, Hello, Message, Refused, Welcome
from .settings import HANDSHAKES_A_MINUTE_MAX, Timing
from .sink_addresses import is_here
from .sink_turns import Met, SinkTurns


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
    """Order to the shell: connect with a new socket, to the sink whose place among the addresses this is."""

    place: int


Output = Message | LogLine | Fail | Redial


class Handshake:
    """The link to the sink of a site: greeting, welcome, silence. `joined` is true between a welcome and a cut.

    Where the site has several addresses, one is dialled at a time.
    """

    _BAD_HANDSHAKES = 4
    _GREET_S = 0.5
    _REDIAL_S = 5.0
    """How long after a cut a socket has begun to connect again, if it ever does."""

    def __init__(self, timing: Timing, role: str, name: str, addresses: Sequence[str], key_file: str) -> None:
        self.joined = False
        self.welcome: Welcome | None = None
        self._timing = timing
        self._hello = Hello(PROTOCOL_VERSION, role, name)
        self._role = role
        self._turns = SinkTurns(addresses)
        self._key_file = key_file
        self._connected = False
        self._cut_at: float | None = None
        """Set from a cut until the socket's next event."""
        self._leave_at: float | None = None
        """When it is the next address's turn; None while joined, where there is one only, and before the next tick."""
        self._unanswered_at: float | None = None
        """Since when something that was said to the sink has had no answer."""
        self._welcomer = ""
        """The address of the sink that has welcomed us last."""
        self._greet_at = float("-inf")
        self._heard_at: float | None = None
        self._voice_at: float | None = None
        self._voiced = False
        self._bad_handshakes = 0

    def moved(self, addresses: Sequence[str]) -> list[Output]:
        """From now on the sink has other addresses."""
        self._turns = SinkTurns(addresses)
        return self._redial()

    def leave(self) -> None:
        """The sink was told goodbye. It is greeted anew at the next `tick`."""
        self.joined = False
        self._unanswered_at = None
        self._greet_at = float("-inf")
        self._voice_at = None

    def said(self, now: float) -> None:
        """Something was sent to the sink."""
        if self.joined and self._unanswered_at is None:
            self._unanswered_at = now

    def event(self, now: float, event: LinkEvent) -> list[Output]:
        """Take what the monitor has seen."""
        self._cut_at = now if event is LinkEvent.CUT else None
        if event is LinkEvent.CONNECTED:
            self._connected = True
            self._bad_handshakes = 0
            self._turns.meets(Met.SILENT_PORT)
            # It may have refused a moment ago.
            self._leave_at = None
            self._greet_at = now
            return self._greet(now)
        if event is LinkEvent.KEY_REFUSED:
            address = self._turns.address
            return self._fail(now, causes.key_refused(address, self._key_file, self._role, is_here(address)))
        if event is LinkEvent.NO_TRADEWIND:
            return self._fail(now, causes.no_tradewind(self._turns.address), is_from_sink=False)
        if event is LinkEvent.BAD_HANDSHAKE and self.welcome is None:
            # After a welcome the keys are known to match, so a hang-up comes from a proxy whose sink is down.
            self._bad_handshakes += 1
            if self._bad_handshakes >= self._BAD_HANDSHAKES:
                cause = causes.another_key(self._turns.address, self._key_file, HANDSHAKES_A_MINUTE_MAX)
                return self._fail(now, cause, is_from_sink=False)
            return []
        self._turns.meets(Met.NO_SUCH_NAME if event is LinkEvent.NO_SUCH_NAME else Met.NOBODY)
        if event is LinkEvent.CUT:
            self._connected = self.joined = False
            self._unanswered_at = None
        elif not self._turns.is_alone:
            self._leave_at = self._turns.leaves_refusing(now)
        return []

    def receive(self, now: float, message: FromSink) -> list[Output]:
        """Take any message from the sink."""
        outputs: list[Output] = []
        address = self._turns.address
        is_back = self._voice_at is not None and self.welcome is not None and self._voiced
        self._heard_at = now
        self._unanswered_at = None
        self._voice_at = None
        if isinstance(message, Refused):
            # The sink does not know how we call our key.
            reason = message.reason.replace("--key FILE", f"--key {shlex.quote(self._key_file)}")
            outputs += self._fail(now, Cause(f"the sink at {address} refuses", reason))
        elif isinstance(message, Again):
            self.joined = False
            outputs += self._greet(now)
        elif isinstance(message, Welcome):
            if self.welcome is not None and address != self._welcomer:
                outputs.append(LogLine("info", f"went over to the sink at {address}"))
                is_back = False
            self._welcomer = address
            self._turns.welcomed()
            self._leave_at = None
            self.joined = True
            self.welcome = message
        if is_back:
            outputs.insert(0, LogLine("info", f"the sink at {address} is back"))
        return outputs

    def tick(self, now: float) -> list[Output]:
        """Greet again, go to the next address, or log what the role waits for."""
        outputs: list[Output] = []
        if self._connected and not self.joined and now >= self._greet_at:
            outputs += self._greet(now)
        if not self._turns.is_alone:
            outputs += self._go_on_if_due(now)
        if self._cut_at is not None and now >= self._cut_at + self._REDIAL_S:
            # After a frame above MAXMSGSIZE a libzmq client stays away for good.
            self._cut_at = now
            outputs.append(Redial(self._turns.place))
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
        if not self._turns.is_alone and (leave_at := self._leaves_at()) is not None:
            instants.append(leave_at)
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
        return str(self._turns.waits_for(self._key_file, self.welcome is not None))

    def _greet(self, now: float) -> list[Output]:
        self._greet_at = now + self._GREET_S
        return [self._hello]

    # -- several addresses --------------------------------------------------------------------------------------

    def _leaves_at(self) -> float | None:
        """When it is the next address's turn; in the past when that has to be reckoned first."""
        if not self.joined:
            return float("-inf") if self._leave_at is None else self._leave_at
        if self._unanswered_at is None or self._heard_at is None:
            return None
        # Whoever asks now and then only has heard nothing for long, and must wait for an answer all the same.
        return max(self._heard_at + self._timing.gone_s, self._unanswered_at + self._timing.silence_s)

    def _go_on_if_due(self, now: float) -> list[Output]:
        if not self.joined and self._leave_at is None:
            self._leave_at = self._turns.patient_until(now)
        leave_at = self._leaves_at()
        if leave_at is None or now < leave_at:
            return []
        self._turns.go_on(now)
        self._leave_at = self._turns.patient_until(now)
        return self._redial()

    def _redial(self) -> list[Output]:
        self.joined = self._connected = False
        self._cut_at = self._unanswered_at = None
        self._bad_handshakes = 0
        return [Redial(self._turns.place)]

    def _fail(self, now: float, cause: Cause, is_from_sink: bool = True) -> list[Output]:
        """Waiting does not help at this address. It is the end unless another one may do better.

        What the site's sink says counts, if it is the one that we know. One that has taken over may not have the
        latest keys yet.
        """
        is_authority = is_from_sink and (self.welcome is None or self._turns.address == self._welcomer)
        if self._turns.fails(cause) or is_authority:
            return [Fail(str(cause))]
        self.joined = False
        self._leave_at = self._turns.leaves_refusing(now)
        return []
