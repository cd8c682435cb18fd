"""The process that has started this one for itself, as `ventilator.py --local` starts its sink and its worker."""

import os
import shutil

from .polling import Poll

FOLDER = "TRADEWIND_PRIVATE_FOLDER"
"""The environment variable that names the folder which the two share."""
_STDIN = 0


class Parent:
    """It holds the other end of our standard input, which the kernel closes however that process ends."""

    def __init__(self, poll: Poll) -> None:
        self.gone = False
        # Taken out of the environment, because what a task starts is on its own.
        self._folder = os.environ.pop(FOLDER, None)
        self._poll = poll
        if self._folder is not None:
            poll.register(_STDIN, self._look)

    def _look(self) -> None:
        # Nothing is ever written there.
        self.gone = not os.read(_STDIN, 1)
        if self.gone:
            self._poll.unregister(_STDIN)

    def clean_up(self) -> None:
        """Remove the folder, if it is left behind: a process that is killed removes nothing.

        The sink does so, whose keys are there; a worker that removed it would take them from a sink that still runs.
        """
        if self.gone and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
