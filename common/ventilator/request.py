"""What is asked of a ventilator: one job, and how it is to run."""

from dataclasses import dataclass

from ..protocol.fields import ArgumentForm
from .seen import SeenArguments
from .settings import RelayUse
from .summary import Workers


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the user asks for."""

    job: str
    function: str
    source: str
    """The kind of input, which a resumed job must share."""
    retry_failed: bool = False
    results_options: tuple[str, ...] = ()
    """With which options `sink.py results` prints the results here."""
    spool: str = ""
    """The folder of what is read from streams."""
    workers: Workers = Workers.HERE
    """Where workers can be started."""
    arguments: ArgumentForm = ""
    """How the ledger keeps the tasks' arguments."""
    seen: SeenArguments | None = None
    """To append to a job: what it has had. The input must read the same."""
    waits_for_worker: bool = False
    """Wait for a worker that exposes the function, also where others are."""
    input_rests: bool = False
    """The input may have nothing new for long, which is not worth a word."""
    max_fails: int | None = None
    """Stop when this many tasks have failed in this run."""
    sink_away_max_s: float | None = None
    """How long to wait for a sink that is away; None: for ever."""
    relay: RelayUse = RelayUse.auto
    """When its tasks go through the sink's relay."""
