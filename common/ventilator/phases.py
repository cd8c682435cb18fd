"""The phases of a job at its ventilator, and which may follow which."""

from enum import Enum, auto


class Phase(Enum):
    """Where a job is in its life."""

    OPENING = auto()
    """The sink has not opened it, or not all receipts of earlier runs are read. Nothing is read or pushed."""
    GATHERING = auto()
    """The sink has just started and may not know all workers. Nothing is read or pushed."""
    VERIFYING = auto()
    """The input is read as far as an earlier run had read it, to see that it is the same. Nothing is pushed."""
    RUNNING = auto()
    """Input is read and batches are pushed, as the window has room."""
    SCARCE = auto()
    """The same, but the input has nothing to read now: no worker should hold more than its slots can run."""
    HALTED = auto()
    """The operator has interrupted it. Nothing is read or pushed; results still come in."""
    CLOSED = auto()
    """Every task has its receipt. The sink is told to close the job."""
    DROPPED = auto()
    """Somebody has cancelled it."""


PHASES: dict[Phase, set[Phase]] = {
    Phase.OPENING: {Phase.GATHERING, Phase.HALTED, Phase.DROPPED},
    Phase.GATHERING: {Phase.VERIFYING, Phase.RUNNING, Phase.HALTED, Phase.CLOSED, Phase.DROPPED},
    Phase.VERIFYING: {Phase.RUNNING, Phase.HALTED, Phase.CLOSED, Phase.DROPPED},
    Phase.RUNNING: {Phase.SCARCE, Phase.HALTED, Phase.CLOSED, Phase.DROPPED},
    Phase.SCARCE: {Phase.RUNNING, Phase.HALTED, Phase.CLOSED, Phase.DROPPED},
    Phase.HALTED: {Phase.CLOSED, Phase.DROPPED},
    Phase.CLOSED: {Phase.DROPPED},
    Phase.DROPPED: set(),
}
"""Which phases may follow each one."""
OVER = (Phase.HALTED, Phase.CLOSED, Phase.DROPPED)
"""Nothing is read or pushed any more."""
