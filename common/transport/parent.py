"""Who holds the other end of standard input, which the kernel closes however that process ends.

`ventilator.py --local` starts its sink and its worker so, and ssh a worker of a crew.
"""

import os
import shutil

from .polling import Poll

FOLDER = "TRADEWIND_PRIVATE_FOLDER"
"""The environment variable that names the folder which the two share."""
_STDIN = 0


class InputEnd:
    """The end of standard input; what comes before it is not looked at."""

    def __init__(self, poll: Poll) -> None:
        self.is_here = False
        self._poll = poll
        poll.register(_STDIN, self._look)

    def _look(self) -> None:
        try:
            self.is_here = not os.read(_STDIN, 65_536)
        except BlockingIOError:
            return
        except OSError:
            # As of a connection that was reset.
            self.is_here = True
        if self.is_here:
            self._poll.unregister(_STDIN)


class Parent:
    """The process that has started this one for itself."""

    def __init__(self, poll: Poll) -> None:
        # Taken out of the environment, because what a task starts is on its own.
        self._folder = os.environ.pop(FOLDER, None)
        self._input = InputEnd(poll) if self._folder is not None else None

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._input is not None and self._input.is_here

    def clean_up(self) -> None:
        """Remove the folder, if it is left behind: a process that is killed removes nothing.

        The sink does so, whose keys are there; a worker that removed it would take them from a sink that still runs.
        """
        if self.gone and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
