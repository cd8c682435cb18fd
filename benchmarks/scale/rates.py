"""How many messages of each kind a sink gets and sends a second: counted in virtual time, by the simulator."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from common.protocol.codec import encode
from common.protocol.messages import Beat
from tests.simulation.balance import CREW_S, CalmFarm, Crew
from tests.simulation.truth import JobTruth, Task

WARM_S = 3.0
SECONDS = 4.0


@dataclass
class Rates:
    """A second of one worker, whatever the size of its crew."""

    slots: int
    task_s: float
    jobs: int
    workers: int
    """Of the crew that was simulated."""
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0
    sent_bytes: int = 0
    names: int = 0
    """Batches that its beats name."""
    tasks: int = 0

    def per_worker(self, count: float) -> float:
        """What was counted, of one worker in a second."""
        return count / self.workers / SECONDS

    @property
    def names_a_beat(self) -> float:
        """Of one job."""
        return self.names / max(1, self.received["Beat"]) / self.jobs


def measure(workers: int, slots: int, task_s: float, jobs: int) -> Rates:
    """Some seconds of a crew that is busy with these jobs, each with tasks of about this length, one a batch."""
    dice = random.Random(1)
    places = workers * slots
    count = int(places * (4 + 3 * (WARM_S + SECONDS) / task_s / jobs))
    truths = []
    for number in range(jobs):
        # The first ones end at any moment, so that no wave of them is counted.
        lengths = [task_s * dice.random() for _ in range(places)] + [task_s * dice.uniform(0.5, 1.5)] * (count - places)
        truths.append(JobTruth(f"job{number}", "work:alpha", [Task(each) for each in lengths], 0, 1, 3, False, False))
    farm = CalmFarm(f"scale {workers} {slots} {task_s}", Crew(workers, slots), truths)
    farm.world.run(CREW_S + WARM_S)
    found = Rates(slots, task_s, jobs, workers)
    sink = farm.sink
    assert sink is not None
    receive, results, check = sink.rules.receive, sink.rules.results, sink._check

    def counted_receive(now: float, peer: bytes, user: Any, address: str, message: Any) -> Any:
        found.received[type(message).__name__] += 1
        found.received_bytes += len(encode(message))
        if isinstance(message, Beat):
            found.names += sum(map(len, message.held.values()))
        return receive(now, peer, user, address, message)

    def counted_results(user: Any, message: Any) -> Any:
        found.received["Results"] += 1
        found.received_bytes += len(encode(message))
        found.tasks += message.count
        return results(user, message)

    def counted_check(peer: bytes, message: Any) -> None:
        found.sent[type(message).__name__] += 1
        found.sent_bytes += len(encode(message))
        check(peer, message)

    sink.rules.receive, sink.rules.results, sink._check = counted_receive, counted_results, counted_check  # type: ignore[assignment,method-assign]
    farm.world.run(farm.world.now + SECONDS)
    farm.disk.close()
    return found
