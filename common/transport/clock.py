"""The clock of all roles. Nothing else reads one."""

import time
from collections.abc import Callable

now: Callable[[], float] = time.monotonic
"""The clock of all machines, in seconds."""
