"""The clock of all roles. Only a child reads it elsewhere: it imports nothing of ours."""

import time
from collections.abc import Callable

now: Callable[[], float] = time.monotonic
"""The clock of all machines, in seconds."""
