"""How many messages of each kind a sink gets and sends a second: counted in virtual time, by the simulator."""

import random
from collections import Counter
from dataclasses import dataclass, field

from common.protocol.codec import encode
from common.protocol.messages import Beat, Message
from tests.simulation.balance import CREW_S, CalmFarm, Crew
from tests.simulation.truth import JobTruth, Task

WARM_S = 3.0
SECONDS = 4.0


@dataclass
class Rates:
    """A second of one worker, whatever the size of its crew."""

    jobs: int
    workers: int
    """Of the crew that was simulated."""
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0
    sent_bytes: int = 0
    names: int = 0
    """Batches that its beats name."""

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
    found = Rates(jobs, workers)

    def came(message: Message) -> None:
        found.received[type(message).__name__] += 1
        found.received_bytes += len(encode(message))
        if isinstance(message, Beat):
            found.names += sum(map(len, message.held.values()))

    def went(message: Message) -> None:
        found.sent[type(message).__name__] += 1
        found.sent_bytes += len(encode(message))

    assert farm.sink is not None
    farm.sink.overhear(came, went)
    farm.world.run(farm.world.now + SECONDS)
    farm.disk.close()
    return found
