"""What is struck, and when: a function of the seed and nothing else."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KILLS = {"worker": 5, "child": 5, "sink": 1, "ventilator": 1}
"""Who gets a SIGKILL, how often relative to the others."""
OTHERS = {"stop": 1, "leave": 1, "network": 3}
"""SIGSTOP, SIGTERM to a worker, and faults of the network."""
_PAUSE_S = (0.2, 2.0)
_FAULT_S = (0.5, 7.0)
_LONG_EACH = 5


@dataclass(frozen=True)
class Strike:
    """One fault. `dice` picks among those that are there when it comes; `seconds` is how long it lasts."""

    after_s: float
    kind: str
    fault: str
    dice: int
    seconds: float

    def __str__(self) -> str:
        what = f"{self.kind} {self.fault}" if self.kind == "network" else self.kind
        lasts = f" for {self.seconds:.1f} s" if self.kind in ("network", "stop") else ""
        return f"after {self.after_s:.2f} s: {what}{lasts} (dice {self.dice})"

    def pick(self, among: Sequence) -> object:
        """Choose by the dice."""
        return among[self.dice % len(among)]


def schedule(seed: int, faults: Sequence[str], long_s: float) -> Iterator[Strike]:
    """Strikes without end; the first is one of the network, and each fifth of these lasts `long_s`."""
    dice = random.Random(seed)
    kinds = KILLS | OTHERS
    network_count = 0
    while True:
        [kind] = dice.choices(list(kinds), weights=list(kinds.values())) if network_count else ["network"]
        network_count += kind == "network"
        is_long = kind == "network" and network_count % _LONG_EACH == 1
        after_s, fault, number = dice.uniform(*_PAUSE_S), dice.choice(faults), dice.randrange(10_000)
        seconds = dice.uniform(*_FAULT_S)
        yield Strike(after_s, kind, fault, number, long_s if is_long else seconds)
