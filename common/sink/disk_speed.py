"""Whether the disk is so quick that the sink's loop may wait for it itself. No clock."""

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
        """A commit with its sync took so long; for ever, when it failed."""
        self._quick_count = self._quick_count + 1 if seconds < _QUICK_S else 0

    def may_wait(self, row_count: int, byte_count: int) -> bool:
        """Whether the loop may wait for a commit of so many rows, whose results have so many bytes."""
        return row_count <= _ROWS_MAX and byte_count <= _BYTES_MAX and self._quick_count >= _TRUSTED_COUNT
