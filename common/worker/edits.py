"""Whether the files of the user's modules are still what the children have imported."""

from pathlib import Path

Files = dict[str, tuple[int, int]]
"""By path: when the file was changed last, in nanoseconds, and its size."""


class Edits:
    """The files as they were imported, and as they were when they could not be imported."""

    def __init__(self) -> None:
        self._imported: Files = {}
        self._now: Files = {}
        self._refused: Files = {}

    def imported(self, files: Files) -> None:
        """Children have imported them."""
        self._imported = files

    def refused(self) -> None:
        """The files cannot be imported as they were found."""
        self._refused = self._now

    @property
    def are_refused(self) -> bool:
        """True when the files are still those that cannot be imported."""
        return self._now == self._refused

    def found(self) -> list[str]:
        """The files that were edited since. One that is not there has not been: an editor may be writing it."""
        self._now = {path: seen for path in self._imported if (seen := _seen(path)) is not None}
        here = f"{Path.cwd()}/"
        return [path.removeprefix(here) for path, seen in self._now.items() if seen != self._imported[path]]


def _seen(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
