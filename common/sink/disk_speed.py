"""Whether the disk is so quick that the sink's loop may wait for it itself. No clock."""

from collections.abc import Iterable

_QUICK_S = 0.001
_TRUSTED_COUNT = 10
_ROWS_MAX = 10
"""With more rows, other messages may come meanwhile, which the loop could read beside the commit."""
_BYTES_MAX = 64 * 1024
"""With more, the commit is no small one, and the log may be copied into the file with it."""


class DiskSpeed:
    """Looks at how long commits took.

    To hand a small commit over to a thread, and to be woken by it, can take as long as the commit.
    """

    def __init__(self) -> None:
        self._quick_count = 0
        """How many of the last commits were quick."""

    def note(self, seconds: float) -> None:
        """Take note of how long a commit took with its sync; infinity when it failed."""
        self._quick_count = self._quick_count + 1 if seconds < _QUICK_S else 0

    def may_wait(self, row_count: int, sizes: Iterable[int]) -> bool:
        """Whether the loop may wait for a commit of this many rows, from results of these sizes in bytes.

        The sizes are looked at only when the rest allows it: there may be thousands.
        """
        return self._quick_count >= _TRUSTED_COUNT and row_count <= _ROWS_MAX and sum(sizes) <= _BYTES_MAX
