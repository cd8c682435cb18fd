"""Which keys the sink lets in: the roster, read again when the key folder has changed."""

import logging
from collections import defaultdict

from ..log_line import LineBudget, PerMinute
from ..protocol.settings import HANDSHAKES_A_MINUTE_MAX
from ..protocol.users import ROLES, VENTILATOR, WORKER, User
from ..transport.key_folder import KeyFolder
from ..transport.zap import ADMITTED, REFUSED_FOR_GOOD, REFUSED_FOR_NOW

log = logging.getLogger(__name__)

_ROLES_OF = {"control": ROLES, "results": (WORKER,), "relay": (VENTILATOR,), "tasks": (WORKER,)}
_UNKNOWN_LINES_A_MINUTE = 10
_KNOWN_LINES_A_MINUTE = 50


class RosterWatch:
    """The roster of a key folder as a running sink knows it. Files are read when it begins, and by `look`."""

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        # Before the roster: a change in between is seen at the next look.
        self._stamp = folder.stamp()
        self.roster = folder.roster()
        self._known = dict(self.roster)
        """By public key: everyone in the roster since the sink started, the revoked ones included."""
        self._revoked = folder.revoked()
        """Names by public key: who had been revoked before."""
        self._handshakes: defaultdict[tuple[str, str], PerMinute] = defaultdict(PerMinute)
        """By key and link: how often it has connected."""
        self._unknown_lines = LineBudget(_UNKNOWN_LINES_A_MINUTE)
        self._known_lines = LineBudget(_KNOWN_LINES_A_MINUTE)
        self._trouble_lines = LineBudget(1)

    def look(self, now: float) -> bool:
        """Read the roster again if its folder has changed; True when it has. What cannot be read stays as it was."""
        try:
            stamp = self._folder.stamp()
            if stamp == self._stamp:
                return False
            roster = self._folder.roster()
        except OSError as error:
            text = f"cannot read the roster in {self._folder.path}: {error.strerror}; the last one stays in force"
            self._trouble_lines.warn(log, now, text)
            return False
        self._stamp, self.roster = stamp, roster
        self._known.update(roster)
        return True

    def user(self, key: str) -> User | None:
        """The user with this public key, which may have been revoked since it connected."""
        return self._known.get(key)

    def judge(self, now: float, link: str, key: str, has_looked: bool) -> str | None:
        """The verdict on a key that connects to this link; None when it may have been enrolled since the last look."""
        user = self.roster.get(key)
        if user is None or user.role not in _ROLES_OF[link]:
            return REFUSED_FOR_GOOD if has_looked else None
        count = self._handshakes[key, link].one_more(now)
        return ADMITTED if count <= HANDSHAKES_A_MINUTE_MAX else REFUSED_FOR_NOW

    def refused(self, now: float, link: str, key: str, address: str) -> None:
        """Log that a key was refused, unless this minute has had enough of that."""
        user = self.roster.get(key)
        if user is not None and user.role in _ROLES_OF[link]:
            often = f"it has connected {HANDSHAKES_A_MINUTE_MAX} times in this minute, and has to wait"
            if self._handshakes[key, link].count == HANDSHAKES_A_MINUTE_MAX + 1:
                self._known_lines.warn(log, now, f"{user.role} {user.name} at {address}, {link} link: {often}")
            return
        user = self._known.get(key)
        known_as = f"{user.role} {user.name}" if user else self._revoked.get(key)
        budget = self._known_lines if known_as else self._unknown_lines
        who = f"the key of {known_as}" if known_as else f"an unknown key ({key[:8]}...)"
        budget.warn(log, now, f"refused {who} from {address} on the {link} link")
