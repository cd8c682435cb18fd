"""Virtual time and a hostile network. A world is a function of its seed: no clock, no sleep, no thread.

Each link throws its own dice, so that what happens on one does not depend on the order in which others are used.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any

TRACE_EVENTS = 80
DUPLICATES_S = (0.0, 0.1, 3.0)
"""Tasks and results that come twice come so much later the second time, at most; control messages at once."""
EVENTS_MAX = 150_000
"""A seed needs a thousand, the largest some tens of thousands."""


class Broken(AssertionError):
    """A promise was not kept; the text has the seed and the last events."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to messages; probabilities are per message."""

    delay_s: tuple[float, float] = (0.0002, 0.002)
    straggler: float = 0.0
    """The share of messages that take `straggler_s` longer."""
    straggler_s: float = 0.0
    loss: float = 0.0
    """Only where the protocol has no ordered connection to rely on: tasks and results."""
    duplication: float = 0.0


CALM = Weather()


class World:
    """The event heap and the clock."""

    def __init__(self, seed: Hashable) -> None:
        self.seed = seed
        self.now = 0.0
        self.weather = CALM
        self.event_count = 0
        self.events_max = EVENTS_MAX
        self.late_at = 0.0
        """Then the last duplicate arrives."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._pushed = 0
        self._trace: deque[tuple[float, str, str, Any]] = deque(maxlen=TRACE_EVENTS)

    def dice(self, name: str) -> Random:
        """A generator of its own for whatever has this name."""
        return Random(f"{self.seed}/{name}")

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` at that instant, or now if it is past."""
        self._pushed += 1
        heappush(self._heap, (when if when > self.now else self.now, self._pushed, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` in this many seconds."""
        self.at(self.now + seconds, action, *arguments)

    def run(self, until: float, over: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until that instant, or until `over()`; returns whether it was over."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = heappop(heap)
            self.event_count += 1
            if self.event_count > self.events_max:
                self.require(False, "it runs hot: too many events")
            action(*arguments)
            if over():
                return True
        self.now = until
        return over()

    def note(self, who: str, what: str, detail: Any = "") -> None:
        """Keep an event for the trace; `detail` is formatted only if the trace is printed."""
        self._trace.append((self.now, who, what, detail))

    def require(self, kept: bool, promise: str, detail: Any = "") -> None:
        """A promise that must hold now."""
        if not kept:
            raise Broken(f"seed {self.seed} at {self.now:.4f} s: {promise} {detail}\n{self.trace()}")

    def trace(self) -> str:
        """The last events, one a line."""
        return "\n".join(f"{at:10.4f}  {who:<18} {what:<12} {_short(detail)}" for at, who, what, detail in self._trace)


def _short(detail: Any) -> str:
    text = str(detail)
    return text if len(text) <= 300 else text[:297] + "..."


class Channel:
    """One direction of one connection: what arrives, arrives in order."""

    def __init__(self, world: World, name: str, receiver: Callable[[bytes, Any], None], lossy: bool) -> None:
        self._world = world
        self._receiver = receiver
        self._lossy = lossy
        self._dice = world.dice(name)
        self._last_at = 0.0
        self._blocked_until = 0.0
        self._open = True
        self._drops = False

    def send(self, frame: bytes, label: Any = None) -> None:
        """Put a frame on the wire; `label` travels with it and is seen by the checks only."""
        world, weather, dice = self._world, self._world.weather, self._dice
        if not self._open:
            return
        if self._lossy and weather.loss and dice.random() < weather.loss:
            return
        low, high = weather.delay_s
        # What `uniform` does, and `max`: this line runs for each message.
        at = world.now + (low + (high - low) * dice.random())
        at = at if at > self._last_at else self._last_at
        at = at if at > self._blocked_until else self._blocked_until
        if weather.straggler and dice.random() < weather.straggler:
            at += dice.uniform(0, weather.straggler_s)
        self._last_at = at
        world.at(at, self._arrive, frame, label)
        if weather.duplication and dice.random() < weather.duplication:
            # A result is resent over another connection; the control link is one, which keeps its order.
            late_s = dice.choice(DUPLICATES_S) * dice.random() if self._lossy else 0.0
            world.late_at = max(world.late_at, at + late_s)
            world.at(at + late_s, self._arrive, frame, label)

    def block(self, until: float) -> None:
        """Hold everything that is sent from now on back until then, as a link that went dark does."""
        self._blocked_until = until

    def close(self, lose: bool) -> None:
        """Take no more; what is on the wire is lost, or still arrives."""
        self._open = False
        self._drops = self._drops or lose

    def _arrive(self, frame: bytes, label: Any) -> None:
        if not self._drops:
            self._receiver(frame, label)
