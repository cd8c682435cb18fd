"""Which keys the sink lets in: the roster, read again when the key folder has changed."""

from ..protocol.users import ROLES, WORKER, User
from .key_folder import KeyFolder

_ROLES_OF = {"control": ROLES, "results": (WORKER,)}


class RosterWatch:
    """The roster of a key folder as a running sink knows it."""

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        # Before the roster: a change in between is seen at the next look.
        self._stamp = folder.stamp()
        self.roster = folder.roster()
        self._known = dict(self.roster)
        """By public key: everyone in the roster since the sink started, the revoked ones included."""
        self._refused: set[str] = set()

    def look(self) -> bool:
        """Read the roster again if its folder has changed; True when it has."""
        stamp = self._folder.stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.roster = self._folder.roster()
        self._known.update(self.roster)
        self._refused.clear()
        return True

    def user(self, key: str) -> User | None:
        """The user with this public key, which may have been revoked since it connected."""
        return self._known.get(key)

    def admits(self, link: str, key: str) -> bool:
        """True when the key may connect to this link."""
        user = self.roster.get(key)
        return user is not None and user.role in _ROLES_OF[link]

    def refused(self, link: str, key: str, address: str) -> str | None:
        """The log line for a key that was refused; None when it was logged before."""
        if key in self._refused:
            return None
        self._refused.add(key)
        user = self._known.get(key)
        known_as = f"{user.role} {user.name}" if user else self._folder.revoked().get(key)
        who = f"the key of {known_as}" if known_as else f"an unknown key ({key[:8]}...)"
        return f"refused {who} from {address} on the {link} link (logged once)"
