"""The ledger as each of two sinks of a site has it: one of them holds it, and the other one writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.sink.store import Completion, LedgerLost, Write
from tests.simulation.truth import Disk

if TYPE_CHECKING:
    from tests.simulation.sink_role import Sink

_LOOK_S = 1.0
"""How long a sink that writes nothing does not hear that it was replaced."""


class HeldDisk:
    """A `Store`: the disk, while this sink is the one that holds it."""

    def __init__(self, disk: Disk, sink: Sink) -> None:
        self._disk = disk
        self._sink = sink
        self._is_lost = False
        self.look_at = 0.0
        """When it looks whether the site is its own, if it writes nothing."""
        self.has_held = False

    def hold(self) -> None:
        """Take the site over."""
        self._disk.holder = self._sink.name
        self.has_held = True

    def submit(self, write: Write) -> None:
        """Begin a write."""
        if self._is_ours():
            self._disk.writer = self._sink.name
            self._disk.submit(write)
        else:
            self._is_lost = True

    def completed(self) -> Completion | None:
        """What has become of it."""
        now = self._sink.world.now
        if self._is_lost or (now >= self.look_at and not self._is_ours()):
            raise LedgerLost("another sink has taken over")
        if now >= self.look_at:
            self.look_at = now + _LOOK_S
        return self._disk.completed() if self._is_ours() else None

    def _is_ours(self) -> bool:
        return self._disk.holder == self._sink.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)
