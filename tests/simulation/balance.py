"""How well the machines balance a crew: makespan over that of one perfect central queue, and returns a task.

    python -m tests.simulation.balance [NAME...]

The same machines as in production, in virtual time, in a calm network.
"""

import heapq
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.ventilator.settings import DispatchSettings
from tests.simulation.farm import Farm
from tests.simulation.plan import Plan
from tests.simulation.role import Role
from tests.simulation.truth import JobTruth, Task
from tests.simulation.worker_role import Worker
from tests.simulation.world import Weather

LOOPBACK = Weather(delay_s=(0.0001, 0.0005))
CREW_S = 3.0
"""By then the crew is complete."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers, all with the same number of slots; `slowness` goes by worker, 1.0 where it ends."""

    worker_count: int
    slots: int
    slowness: tuple[float, ...] = ()

    def all_slowness(self) -> list[float]:
        """Of each worker."""
        return [*self.slowness, *[1.0] * (self.worker_count - len(self.slowness))]


@dataclass(frozen=True, slots=True)
class Balance:
    """What one job showed."""

    ratio: float
    """Makespan, from the first push to the last receipt, over that of the central queue."""
    returns_a_task: float
    batches: int
    messages_a_task: float
    """Of workers, ventilator and sink together, over all links."""
    commits_a_task: float
    wakes_a_task: float
    """Turns of all loops that no message caused."""


class CalmFarm(Farm):
    """A crew of equals (but for their slowness) that is complete before the first job starts, in a calm network."""

    edits = 0.0
    spins_max = 10_000
    """A large crew has something to do at any moment."""
    return_wait_max_s = DispatchSettings().return_wait_max_s

    def __init__(self, seed: str, crew: Crew, jobs: list[JobTruth], starts_at: dict[str, float] | None = None) -> None:
        self._crew = crew
        self._slow = iter(crew.slowness)
        self._starts_at = starts_at or {}
        super().__init__(seed, _plan(jobs, crew.worker_count))
        self.world.weather = LOOPBACK
        self.world.events_max = 100_000_000

    def start_worker(self, liar: bool = False) -> None:
        """One more worker."""
        self._started += 1
        worker = Worker(self, f"w{self._started}", self._crew.slots, self._crew.slots, liar)
        worker.slowness = next(self._slow, 1.0)
        self.workers[worker.name] = self._everyone[worker.name] = worker
        worker.call()

    def start_ventilator(self, job: JobTruth) -> None:
        """The job starts when the crew is there."""
        at = self._starts_at.get(job.name, CREW_S)
        if self.world.now < at:
            self.world.at(at, super().start_ventilator, job)
        else:
            super().start_ventilator(job)

    def connect_tasks(self, worker: Worker, port: int) -> None:
        """A handshake on a quiet machine."""
        self.world.after(worker.dice.uniform(0.002, 0.006), self._connect_tasks, worker, port)


class Level(CalmFarm):
    """One job."""

    def __init__(
        self, seed: str, crew: Crew, tasks: list[Task], batch_tasks: int | None = None, speculates: bool = False
    ) -> None:
        super().__init__(seed, crew, [JobTruth("job0", "work:alpha", tasks, 0, batch_tasks, 3, False, speculates)])

    def measure(self) -> Balance:
        """Run the job to its end."""
        self.world.run(CREW_S)
        [truth] = self.jobs
        self.world.run(10_000.0, lambda: bool(self.ventilators))
        ventilator = self.ventilators[truth.name]
        self.world.run(10_000.0, lambda: ventilator.rules.pushed_count > 0)
        began_at = self.world.now
        sent, commits, wakes = self._sent(), self.disk.commit_count, self._wakes()
        over = self.world.run(20_000.0, lambda: ventilator.rules.finished)
        assert over, self._who_is_left()
        slowness = [each for each in self._crew.all_slowness() for _ in range(self._crew.slots)]
        ideal = greedy([task.seconds for task in truth.tasks], slowness)
        rules, count = ventilator.rules, len(truth.tasks)
        self.disk.close()
        return Balance(
            (self.world.now - began_at) / ideal,
            rules.returned_count / count,
            rules.pushed_count - rules.returned_count,
            (self._sent() - sent) / count,
            (self.disk.commit_count - commits) / count,
            (self._wakes() - wakes) / count,
        )

    def _roles(self) -> list[Role]:
        roles = [*self.workers.values(), *self.ventilators.values(), self.sink]
        return [role for role in roles if role is not None]

    def _sent(self) -> int:
        return sum(role.sent_count for role in self._roles())

    def _wakes(self) -> int:
        return sum(role.wake_count for role in self._roles())


def _plan(jobs: list[JobTruth], worker_count: int) -> Plan:
    return Plan(
        jobs=jobs,
        worker_count=worker_count,
        slots_max=1,
        prefetch_max=1,
        prefetch_limit=1_000,
        weather=LOOPBACK,
        faults_s=0.0,
        faults_per_s=0.001,
        receipts_page=10_000,
        trickle_per_s=5.0,
    )


def heavy_tailed(seed: int, count: int, mean_s: float = 0.025, max_s: float = 1.0) -> list[Task]:
    """Pareto 1.5: many short tasks, and a few that take a second."""
    dice = random.Random(seed)
    raw = [dice.paretovariate(1.5) for _ in range(count)]
    scale = mean_s * count / sum(raw)
    return [Task(min(max_s, each * scale)) for each in raw]


def greedy(times: Sequence[float], slowness: Sequence[float]) -> float:
    """Makespan when each task goes to the slot that is free first."""
    free = [(0.0, slot) for slot in range(len(slowness))]
    last = 0.0
    for seconds in times:
        at, slot = heapq.heappop(free)
        end = at + seconds * slowness[slot]
        last = max(last, end)
        heapq.heappush(free, (end, slot))
    return last


SCENES = {
    "8 equal": (Crew(8, 1), 800, 0.025),
    "one 10x slower": (Crew(8, 1, (10.0,)), 800, 0.025),
    "one 10x slower, speculating": (Crew(8, 1, (10.0,)), 800, 0.025),
    "half 2x slower": (Crew(8, 1, (2.0,) * 4), 800, 0.025),
    "100 x 8": (Crew(100, 8), 24_000, 0.1),
    "1000 x 1": (Crew(1_000, 1), 20_000, 0.25),
}


def main() -> None:
    """One line a scene: medians of five seeds (one for the large crews)."""
    for name in sys.argv[1:] or SCENES:
        crew, count, mean_s = SCENES[name]
        seeds = range(1, 6) if crew.worker_count < 50 else range(1, 2)
        speculates = name.endswith("speculating")
        found = [
            Level(f"{name} {seed}", crew, heavy_tailed(seed, count, mean_s), speculates=speculates).measure()
            for seed in seeds
        ]
        ratios = [each.ratio for each in found]
        print(
            f"{name:<28} {statistics.median(ratios):.3f} x greedy (worst {max(ratios):.3f}),"
            f" {statistics.median(each.returns_a_task for each in found):.2f} returns a task,"
            f" {statistics.median(each.messages_a_task for each in found):.1f} messages,"
            f" {statistics.median(each.commits_a_task for each in found):.2f} commits,"
            f" {statistics.median(each.wakes_a_task for each in found):.2f} wakes a task,"
            f" {count / statistics.median(each.batches for each in found):.2f} tasks a batch"
        )


if __name__ == "__main__":
    main()
