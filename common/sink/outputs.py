"""The outputs of the sink's rules: messages to send, and lines to log. Each fault of a peer is logged once."""

from collections import defaultdict
from dataclasses import dataclass

from ..log_line import LogLine, PerMinute
from ..protocol.messages import PROTOCOL_VERSION, Message, Refused
from ..protocol.users import User


@dataclass(frozen=True, slots=True)
class Send:
    """Order to the shell: send this to the control link's peer."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class CutOff:
    """Order to the shell: end the relay's connections to workers at this address if there are more than `living`.

    One of them is then a stopped worker's, or somebody's that is no worker, and every other batch would be sent there.
    Living workers connect again. Without an address all connections are meant.
    """

    address: str | None
    living: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Order to the shell: workers with these keys are here, and no others; only they may pull from the relay."""

    keys: frozenset[str]


Output = Send | LogLine | CutOff | Admit


def refusal(reason: str) -> Refused:
    """Tell a peer why, in words."""
    return Refused(PROTOCOL_VERSION, reason)


class LogLimiter:
    """Limits the log lines that peers cause, so that no peer fills the log."""

    A_MINUTE_MAX = 200
    """At most how many lines one key may cause in a minute."""

    def __init__(self) -> None:
        self._complained: set[tuple[str, str]] = set()
        self._said: defaultdict[str, PerMinute] = defaultdict(PerMinute)
        """By key: the lines that it has caused."""

    def say(self, now: float, user: User, level: str, text: str) -> list[Output]:
        """Log what `user` has caused, unless that is too much."""
        count = self._said[user.key].one_more(now)
        if count <= self.A_MINUTE_MAX:
            return [LogLine(level, text)]
        much = f"more than {self.A_MINUTE_MAX} lines a minute: the rest of this minute is not logged"
        return [LogLine("warning", f"{user.role} {user.name}: {much}")] if count == self.A_MINUTE_MAX + 1 else []

    def complain(self, user: User, fault: str, detail: str = "") -> list[Output]:
        """Log a peer's fault, once for each key and kind of fault."""
        text = f"{fault}: {detail}" if detail else fault
        return self.once(user, fault, f"{user.role} {user.name}: {text}")

    def once(self, user: User, fault: str, text: str) -> list[Output]:
        """Log this line, unless one was for this key and kind of fault."""
        if (user.key, fault) in self._complained:
            return []
        self._complained.add((user.key, fault))
        return [LogLine("warning", f"{text} (logged once)")]
