"""What is known of an allocation: one worker's place on a machine, for a time."""

from enum import Enum, auto


class Condition(Enum):
    """How an allocation stands."""

    QUEUED = auto()
    RUNS = auto()
    ENDED = auto()
    """By its time limit, or because somebody or something with more right wanted it so."""
    LEFT = auto()
    """Its program has ended well."""
    BROKEN = auto()
    """Its program has ended by an error, or its machine broke."""


_STATES = {
    **dict.fromkeys(("PD", "RD", "RF", "RH", "RQ", "RS", "SE"), Condition.QUEUED),
    **dict.fromkeys(("CA", "DL", "PR", "RV", "TO"), Condition.ENDED),
    "CD": Condition.LEFT,
    **dict.fromkeys(("BF", "F", "NF", "OOM"), Condition.BROKEN),
}
"""By Slurm's short names; all others have nodes."""


def of_squeue(lines: str) -> dict[str, Condition]:
    """What squeue has printed: a line an allocation, with its id and its state."""
    found = {}
    for line in lines.splitlines():
        allocation, _, state = line.strip().partition(" ")
        if state:
            found[allocation] = _STATES.get(state, Condition.RUNS)
    return found


IN_USE = frozenset({Condition.QUEUED, Condition.RUNS})
