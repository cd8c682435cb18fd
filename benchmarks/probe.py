"""The real ventilator's loop with an input that offers one task when the last has its receipt.

    python -m benchmarks.probe KEY JOB COUNT [RELAY]

Prints as JSON the seconds of each round trip but the last, and the processor time of its process for a trip.
A program of its own, so that nothing else runs in its process.
"""

import json
import sys
import time
from pathlib import Path

from msgspec import Raw

from common import console
from common.protocol.users import VENTILATOR
from common.transport import polling
from common.transport.key_files import load_pair
from common.ventilator.inputs import encoded
from common.ventilator.loop import Ventilator, VentilatorOptions
from common.ventilator.progress import ProgressDisplay
from common.ventilator.settings import DispatchSettings, RelayUse


class OneByOne:
    """The integers from 0, each once the one before it has come back."""

    source = "one by one"
    fresh = is_estimate = False

    def __init__(self, count: int) -> None:
        self.expected = count
        self.ventilator: Ventilator | None = None
        self.seconds: list[float] = []
        self._began_s = 0.0
        self._taken = 0
        self._taken_at = 0.0

    @property
    def ended(self) -> bool:
        """True once the last task was taken."""
        return self._taken == self.expected

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        """There is nothing to prepare."""
        return []

    def verified(self) -> None:
        """Nothing was kept."""

    def leave(self, is_done: bool) -> list[str]:
        """There is nothing to keep."""
        return []

    def fileno(self) -> None:
        """There is nothing to wait for but receipts."""

    def fill(self) -> None:
        """There is nothing to read."""

    def note(self) -> None:
        """Take the time when the task that is out has its receipt."""
        assert self.ventilator is not None
        if len(self.seconds) < self._taken == self.ventilator.session.standing.done:
            self.seconds.append(time.perf_counter() - self._taken_at)

    def available(self, count: int = 1) -> bool:
        """True when the last task has its receipt and there is another."""
        self.note()
        return len(self.seconds) == self._taken and not self.ended

    def skip(self, count: int) -> int:
        """A new job skips nothing."""
        return 0

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """One task."""
        task = self._taken
        if not task:
            self._began_s = time.process_time()
        self._taken += 1
        self._taken_at = time.perf_counter()
        return 1, Raw(encoded([task]))

    def processor_s(self) -> float:
        """Processor time of a trip, all threads."""
        return (time.process_time() - self._began_s) / max(1, self._taken)

    def mark(self) -> tuple[int, bytes]:
        """How many tasks were read."""
        return self._taken, b""


def main() -> None:
    """Run the job and print."""
    key, job, count, *relay = sys.argv[1:]
    console.start_log("probe")
    one_by_one = OneByOne(int(count))
    poll, signals = polling.Poll(), polling.Signals()
    poll.register(signals, lambda: None)
    way = RelayUse(relay[0]) if relay else RelayUse.auto
    options = VentilatorOptions("work:square", Path(key), None, job, 0, False, DispatchSettings(), relay=way)
    pair, display = load_pair(Path(key), VENTILATOR), ProgressDisplay(job)
    one_by_one.ventilator = Ventilator(options, one_by_one, pair, poll, signals, None, display)
    code = one_by_one.ventilator.run().code
    print(json.dumps([one_by_one.seconds, one_by_one.processor_s()]))
    sys.exit(code)


if __name__ == "__main__":
    main()
