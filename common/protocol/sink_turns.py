"""Which of a site's sinks is dialled next, and what was met at each. No socket, no clock.

One of them serves the site. A standby's port refuses until it has taken over, and a machine that is cut off gives
nothing at all. So what refuses is left at once, and what says nothing after some patience.
"""

from collections.abc import Sequence
from enum import Enum, auto

from .. import causes
from ..causes import Cause
from .sink_addresses import is_here


class Met(Enum):
    """What was met at an address where no sink has answered."""

    NO_SUCH_NAME = auto()
    SILENT_PORT = auto()
    NOBODY = auto()


class SinkTurns:
    """The addresses in turn. A single one keeps its turn, whatever is met there."""

    _PATIENCE_S = 1.5
    """How long an address has to welcome us, in the first round after a welcome."""
    _LATER_PATIENCE_S = 3.0
    """The same in later rounds: over a satellite a handshake takes that long."""
    _ROUND_S = 0.5
    """The shortest time in which all addresses are tried once, so that sinks that refuse are not dialled in a loop."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = list(addresses)
        self.place = 0
        """Whose turn it is."""
        self._tried_count = 0
        """How many were left in this round."""
        self._round_at = float("-inf")
        """When this round began."""
        self._is_first_round = True
        self._met: dict[str, Met] = {}
        self._final: dict[str, Cause] = {}
        """Where waiting does not help, and why."""

    @property
    def address(self) -> str:
        """The one whose turn it is."""
        return self._addresses[self.place]

    @property
    def is_alone(self) -> bool:
        """There is no other one to go to."""
        return len(self._addresses) == 1

    def patient_until(self, now: float) -> float:
        """When to leave an address that is dialled now and does not welcome us."""
        return now + (self._PATIENCE_S if self._is_first_round else self._LATER_PATIENCE_S)

    def leaves_refusing(self, now: float) -> float:
        """When to leave an address that refuses: at once, unless all others were tried a moment ago."""
        ends_round = self._tried_count + 1 >= len(self._addresses)
        return max(now, self._round_at + self._ROUND_S) if ends_round else now

    def meets(self, met: Met) -> None:
        """This is what there is at the address whose turn it is."""
        self._met[self.address] = met
        self._final.pop(self.address, None)

    def fails(self, cause: Cause) -> bool:
        """Waiting does not help at this address. True when it helps at none."""
        self._final[self.address] = cause
        return len(self._final) == len(self._addresses)

    def go_on(self, now: float) -> None:
        """It is the next one's turn."""
        self.place = (self.place + 1) % len(self._addresses)
        self._tried_count += 1
        if self._tried_count >= len(self._addresses):
            self._tried_count, self._round_at, self._is_first_round = 0, now, False

    def welcomed(self) -> None:
        """The sink at this address serves the site."""
        self._tried_count, self._round_at, self._is_first_round = 0, float("-inf"), True
        self._met.clear()
        self._final.clear()

    def waits_for(self, key_file: str, was_welcomed: bool) -> Cause:
        """Why no sink answers, and what to do. Where there are several, it names what was met at each."""
        by_kind: dict[Met, list[str]] = {met: [] for met in Met}
        for address in self._addresses:
            if address not in self._final:
                by_kind[self._met.get(address, Met.NOBODY)].append(address)
        nameless, silent, nowhere = (_either(by_kind[met]) for met in Met)
        found = [*self._final.values()]
        if nameless:
            found.append(causes.no_such_name(nameless, key_file))
        if was_welcomed and (silent or nowhere):
            found.append(causes.sink_away(_either([*by_kind[Met.SILENT_PORT], *by_kind[Met.NOBODY]])))
        elif silent:
            found.append(causes.silent_port(silent))
        if nowhere and not was_welcomed:
            found.append(causes.no_sink(nowhere, all(is_here(address) for address in by_kind[Met.NOBODY])))
        # All that is wrong, and what to do about the first of it.
        return Cause("; ".join(cause.what for cause in found), found[0].do)


def _either(addresses: Sequence[str]) -> str:
    return " or ".join(addresses)
