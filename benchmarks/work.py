"""The functions that are measured, the same for Tradewind and for every peer."""

import os
import time
from pathlib import Path

SLOW = float(os.environ.get("SLOW", "1"))


def square(n):  # type: ignore[no-untyped-def]
    """A task of next to no work. LogLimiter of standard input come as text."""
    return int(n) * int(n)


def sleep(seconds):  # type: ignore[no-untyped-def]
    """A task of a known length; a worker with SLOW=10 takes ten times as long."""
    time.sleep(seconds * SLOW)
    return seconds


def echo(value):  # type: ignore[no-untyped-def]
    """A task that is all payload."""
    return value


def since(instant):  # type: ignore[no-untyped-def]
    """How many seconds ago this instant was, by the clock that all processes of a machine share."""
    return time.monotonic() - float(instant)


def hold(folder):  # type: ignore[no-untyped-def]
    """Say that a slot is busy (a byte in `busy`), and stay busy until `release` is there."""
    with (Path(folder) / "busy").open("ab", buffering=0) as busy:
        busy.write(b".")
    while not (Path(folder) / "release").exists():
        time.sleep(0.25)
    return folder
