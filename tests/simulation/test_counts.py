"""What one task costs when it comes alone: messages and turns of each role, in virtual time, counted."""

from collections import Counter

from common.protocol.messages import Message
from tests.simulation.balance import CREW_S, CalmFarm, Crew
from tests.simulation.truth import JobTruth, Task

TASKS = 20


class Alone(CalmFarm):
    """A job whose tasks come one by one, five a second, each when the one before is long done."""

    def __init__(self) -> None:
        tasks = [Task(0.001)] * (2 * TASKS)
        super().__init__("alone", Crew(1, 1), [JobTruth("job0", "work:alpha", tasks, 0, None, 3, True)])
        self.sent: Counter[str] = Counter()
        """Messages of the sink's two links, by type, whoever sends them."""

    def count(self, message: Message) -> None:
        """One more."""
        self.sent[type(message).__name__] += 1

    def watch(self) -> None:
        """Count from now on."""
        assert self.sink is not None
        self.sink.overhear(self.count, self.count)

    def done(self, count: int) -> None:
        """Let time pass until this many tasks are recorded and their ventilator knows it."""
        assert self.world.run(1_000.0, lambda: self.ventilators["job0"].rules.done_count >= count)


def test_a_task_that_comes_alone_costs_no_more_than_it_must() -> None:
    """One question, one result, one receipt for each of two; beats at most four times a second, and one turn each."""
    farm = Alone()
    farm.world.run(CREW_S + 0.5)
    farm.done(TASKS // 2)
    farm.watch()
    roles = next(iter(farm.workers.values())), farm.ventilators["job0"], farm.sink
    commits, wakes = farm.disk.commit_count, [role.wake_count for role in roles if role is not None]
    farm.done(TASKS // 2 + TASKS)
    assert {kind: farm.sent.pop(kind) for kind in ("Ask", "Results", "Receipts", "Recorded")} == {
        "Ask": TASKS,
        "Results": TASKS,
        "Receipts": TASKS,
        "Recorded": TASKS,
    }
    beats = 4 * TASKS // 5
    assert all(count <= beats for count in farm.sent.values()), farm.sent
    assert farm.sent.keys() <= {"Beat", "Heard", "Crew", "Mark"}
    # A mark is committed by itself.
    assert farm.disk.commit_count - commits <= TASKS + farm.sent["Mark"]
    woken = [role.wake_count - before for role, before in zip(roles, wakes, strict=True) if role is not None]
    assert woken[0] <= beats, "a worker wakes by itself only to beat"
    assert woken[1] <= 2.5 * TASKS, "a ventilator looks at its input, and ends leases"
    assert woken[2] <= 4, "a sink looks once a second who is silent"
    farm.disk.close()
