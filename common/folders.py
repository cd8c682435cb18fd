"""What was made in a folder, or renamed there, is kept through a power cut."""

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Have the disk keep the folder's names. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
