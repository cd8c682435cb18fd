"""Finds out what a worker could serve: a child of its kind imports the modules."""

import select
from collections.abc import Sequence

from ..errors import OperatorError
from ..transport import clock
from ..worker.child_process import Limits
from ..worker.slot_events import Broken, Ready
from ..worker.slots import Slots
from ..worker.start import check_names
from .facts import Served

_IMPORT_MAX_S = 60.0


def served(modules: Sequence[str], within_s: float = _IMPORT_MAX_S) -> Served:
    """What a worker's child says of these modules: one is started, imports them, and is let go."""
    began_at = clock.now()
    try:
        check_names([*modules], None)
        slots = Slots(modules, Limits(None, None, None))
        try:
            slots.start(range(1))
            while (left_s := began_at + within_s - clock.now()) > 0:
                select.select([slots], [], [], left_s)
                for event in slots.events():
                    if isinstance(event, Ready):
                        return Served(modules, event.functions, seconds=clock.now() - began_at)
                    if isinstance(event, Broken):
                        return Served(modules, error=event.text.strip(), seconds=clock.now() - began_at)
        finally:
            slots.close()
    except OperatorError as error:
        return Served(modules, error=str(error))
    return Served(modules, seconds=within_s, ended=False)
