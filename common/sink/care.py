"""What copies and checks a ledger, beside what writes and reads it: see `store`."""

from pathlib import Path
from typing import Protocol


class Care(Protocol):
    """What copies a ledger and checks it, while a sink writes it or not."""

    def back_up(self, target: Path) -> int:
        """Copy it as it is at this moment into a new file; returns the size of that in bytes.

        The copy is there whole, under its name, or not at all. Raises OperatorError.
        """

    def faults(self) -> list[str]:
        """Read all of it; what is wrong with it, in words. Raises OperatorError when it cannot be read."""
