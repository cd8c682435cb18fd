"""Tradewind: a ventilator pushes tasks, workers on any machines run them, and a sink collects the results.

From a program:

    import tradewind

    with tradewind.local() as farm:
        for value in farm.map(squares.square, range(1000)):
            print(value)

The package is `common` in a checkout and `tradewind` where it is installed. `docs/ARCHITECTURE.md` is its map.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .farm.entry import connect as connect
    from .farm.entry import local as local
    from .farm.errors import Cancelled as Cancelled
    from .farm.errors import Halted as Halted
    from .farm.errors import JobRefused as JobRefused
    from .farm.errors import NoWorker as NoWorker
    from .farm.errors import OtherInput as OtherInput
    from .farm.errors import SinkAway as SinkAway
    from .farm.errors import TaskFailed as TaskFailed
    from .farm.errors import TradewindError as TradewindError
    from .farm.executor import Executor as Executor
    from .farm.farm import CrewMember as CrewMember
    from .farm.farm import Farm as Farm
    from .farm.job import Job as Job
    from .farm.job import Summary as Summary
    from .farm.outcomes import Outcome as Outcome
    from .sink.store import JobSummary as JobSummary
    from .ventilator.summary import Standing as Standing

__version__ = "0.2.0"
_PLACES = {
    "farm.errors": (
        *("Cancelled", "Halted", "JobRefused", "NoWorker", "OtherInput", "SinkAway"),
        *("TaskFailed", "TradewindError"),
    ),
    "farm.entry": ("connect", "local"),
    "farm.executor": ("Executor",),
    "farm.farm": ("CrewMember", "Farm"),
    "farm.job": ("Job", "Summary"),
    "farm.outcomes": ("Outcome",),
    "sink.store": ("JobSummary",),
    "ventilator.summary": ("Standing",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}
__all__ = sorted(_PLACE_OF)


def __getattr__(name: str) -> Any:
    """Import what is used: the commands need nothing of the farm, and `import tradewind` is quick."""
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_PLACE_OF[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
