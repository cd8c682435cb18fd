"""A progress bar for programs, on a terminal and in notebooks."""

import logging
from importlib import import_module
from typing import Any

from ..ventilator.summary import Standing

log = logging.getLogger(__name__)


class ProgressBar:
    """Shows each standing that it is called with, from `start` to `close`."""

    def __init__(self, job: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._is_notebook = console.is_jupyter
        self._shown: Any = None
        """The output of a notebook's cell that is replaced each time."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(job, total=None, rest="")

    def start(self) -> None:
        """Show it. In a notebook it belongs to the cell whose thread calls this."""
        if self._is_notebook:
            # Rich would need ipywidgets for it, and saved notebooks would not have it.
            self._shown = import_module("IPython.display").display(self._bar, display_id=True)
        else:
            self._bar.start()

    def close(self) -> None:
        """Leave it as it is, and give the terminal back."""
        self._bar.stop()

    def __call__(self, standing: Standing) -> None:
        rest = f"{standing.failed:,} failed, {standing.slots} slots"
        self._bar.update(
            self._task, completed=standing.done, total=standing.total, rest=rest, refresh=not self._is_notebook
        )
        if self._shown is not None:
            self._shown.update(self._bar)
