"""The installed commands. The wheel keeps the three scripts in a folder of its own; they are imported from there as
they are from a checkout, so that no module of ours has a name that a user's module could want."""

import importlib
import signal
import sys
from pathlib import Path


def _main(name: str) -> None:
    # Ctrl-C while it is imported is no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    importlib.import_module(name).main()


def sink() -> None:
    """`tradewind-sink`."""
    _main("sink")


def worker() -> None:
    """`tradewind-worker`."""
    _main("worker")


def ventilator() -> None:
    """`tradewind-ventilator`."""
    _main("ventilator")
