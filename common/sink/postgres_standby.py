"""What a sink and its standby see of each other at the server."""

import logging
from collections import Counter
from contextlib import suppress

from psycopg import errors

from .postgres_session import Session

log = logging.getLogger(__name__)


_NAME_MAX = 63
"""At most how many characters of a name the server keeps."""


def name_of_sink(site: str) -> str:
    """What the session of this site's sink is called at the server."""
    return f"tradewind sink {site}"[:_NAME_MAX]


def name_of_standby(site: str) -> str:
    """What that of its standby is called."""
    return f"tradewind standby {site}"[:_NAME_MAX]


class SilentHolder:
    """Ends the session of a sink that says nothing to the server, so that its lock is free.

    A paused process keeps its connection, and a machine that is cut off does for a while. The sink that holds the site
    says something each second. No time limit of the server would do: none ends a COPY whose client is silent.
    """

    _SILENT_S = 5.0
    _LOOK_S = 0.25
    _LOOKS = 3
    """In how many looks, one after the other, it must be silent: a long COPY waits for its client now and then."""

    def __init__(self, session: Session, holders: str, site: str) -> None:
        """`holders` asks for the processes that have the lock of a site."""
        self._session = session
        self._holders = holders
        self._site = site
        self._look_at = float("-inf")
        self._counts: Counter[int] = Counter()
        """By process, in how many looks it was silent."""

    def look(self, now: float) -> None:
        """Look now and then."""
        if now < self._look_at:
            return
        self._look_at = now + self._LOOK_S
        found = self._session.ask(
            "SELECT pid FROM pg_stat_activity WHERE wait_event='ClientRead'"
            f" AND state_change < clock_timestamp() - make_interval(secs => %s) AND pid IN ({self._holders})",
            *(self._SILENT_S, self._site),
        )
        self._counts = Counter({pid: self._counts[pid] + 1 for (pid,) in found})
        for pid, count in self._counts.items():
            if count < self._LOOKS:
                continue
            text = "the sink of site %s has said nothing to the server for %g s: ending its session there"
            log.warning(text, self._site, self._SILENT_S)
            # That of another role it may be that this one must not end.
            with suppress(errors.InsufficientPrivilege):
                self._session.ask("SELECT pg_terminate_backend(%s)", pid)
