"""What a seed means: jobs, crew, weather, and how often something breaks."""

from dataclasses import dataclass, field
from random import Random

from common.protocol.settings import Timing
from common.ventilator.settings import RelayUse
from tests.simulation.truth import JobTruth, tasks
from tests.simulation.world import CALM, Weather, World

FUNCTIONS = ("work:alpha", "work:beta")
WEATHERS = (
    CALM,
    Weather(delay_s=(0.001, 0.05), loss=0.01),
    Weather(delay_s=(0.0005, 0.01), straggler=0.02, straggler_s=3.0, duplication=0.02),
    Weather(delay_s=(0.005, 0.4), loss=0.05, duplication=0.05),
    Weather(delay_s=(0.0002, 0.002), straggler=0.002, straggler_s=12.0, loss=0.02),
    Weather(delay_s=(0.001, 0.05), duplication=0.3),
)
TIMINGS = (Timing(), Timing(beat_s=2.0, ask_s=2.0))
"""The defaults, and a farm that beats as rarely as it may: half the events, and as much can go wrong."""
STORMS = (
    Weather(delay_s=(0.001, 0.05), loss=0.5),
    Weather(delay_s=(0.001, 0.05), loss=0.1, duplication=0.5),
    Weather(delay_s=(0.01, 1.0), straggler=0.2, straggler_s=4.0),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed means."""

    jobs: list[JobTruth]
    worker_count: int
    slots_max: int
    prefetch_max: int
    prefetch_limit: int
    """The prefetch of a worker grows up to this while its batches are done in no time."""
    weather: Weather
    faults_s: float
    faults_per_s: float
    receipts_page: int
    trickle_per_s: float
    timing: Timing = field(default_factory=Timing)
    cancels_at: float | None = None
    """Then what runs is cancelled, and no ventilator hears it."""
    revokes_at: float | None = None
    """Then the key of some workers is struck from the roster."""
    drain_at: float | None = None
    """Then all workers are told to leave, others come in their place, and some jobs are interrupted."""
    drain_grace_s: float = 0.0
    interrupts_per_s: float = 0.0
    """How often somebody presses Ctrl-C beside the other faults."""
    mistakes: float = 0.0
    """In this share of the starts of a ventilator the input is another one, or has got a bad line."""
    crew_at: float = 0.0
    """When the workers are started, if one was there before them that exposes another function."""
    specialists: float = 0.0
    """The share of workers that expose one of two functions; through the relay they get batches of the other one."""
    has_standby: bool = False
    """The site has two sinks, one of which serves."""
    leavers: float = 0.0
    """The share of workers that were told when to leave: when idle, or after some time."""
    disk_s: float = 0.0
    """How long the sink's disk takes for a write, about."""
    disk_refuses: float = 0.0
    """In this share of the writes it is full, beside the other faults."""
    keepers: bool = False
    """Some of those that join take batches, and neither run nor return them."""

    @classmethod
    def of(cls, world: World) -> "Plan":
        """Draw a plan."""
        dice = world.dice("plan")
        # What came later has dice of its own: so the seeds that do not have it remain what they were.
        copies, operator = world.dice("speculation"), world.dice("operator")
        does = operator.choices(["nothing", "cancels", "revokes"], [84, 8, 8])[0]
        does_at = operator.uniform(1.0, 8.0)
        timeouts, drains = world.dice("timeout"), world.dice("upgrade")
        inputs = world.dice("input")
        appends, again, ways = world.dice("append"), world.dice("append again"), world.dice("relay")
        anew = world.dice("anew")
        patience = timeouts.choice([0.5, 2.0, 5.0]) if timeouts.random() < 0.2 else None
        drain_at = drains.uniform(1, 10) if drains.random() < 0.15 else None
        kind = dice.choices(["small", "large", "slow"], [84, 1, 15])[0]
        count = dice.choice([1, 1, 1, 2])
        jobs = [_job(dice, number, kind, copies, patience, inputs) for number in range(count)]
        for number, job in enumerate(jobs):
            _perhaps_append(appends, again, job)
            _relay(ways, job)
            _perhaps_halt(world.dice(f"max fails {number}"), job)
            job.anew = anew.choices([0, 1], [92, 8])[0]
        return cls(
            jobs=jobs,
            worker_count=dice.randint(4, 8) if kind == "large" else dice.randint(1, 3),
            slots_max=dice.choice([1, 2, 4]),
            prefetch_max=dice.choice([0, 1, 2, 4]),
            prefetch_limit=dice.choice([0, 20]),
            weather=dice.choice(WEATHERS),
            faults_s=dice.uniform(15, 45) if kind == "slow" else dice.uniform(3, 12),
            faults_per_s=dice.choice([0.2, 0.5, 0.5, 1.5]),
            receipts_page=dice.choice([3, 10_000, 10_000]),
            trickle_per_s=dice.choice([5.0, 50.0]),
            timing=dice.choice(TIMINGS),
            cancels_at=does_at if does == "cancels" else None,
            revokes_at=does_at if does == "revokes" else None,
            drain_at=drain_at,
            drain_grace_s=drains.choice([0.0, 0.3, 3.0]),
            mistakes=0.05,
            crew_at=inputs.choice([5.0, 20.0]) if inputs.random() < 0.05 else 0.0,
            specialists=ways.choice([0.0, 0.5]),
            has_standby=world.dice("standby").random() < 0.15,
            leavers=world.dice("leavers").choice([0.0, 0.0, 0.0, 0.7]),
            disk_s=world.dice("disk's pace").choice([0.0, 0.0005, 0.005, 0.05]),
            keepers=world.dice("keepers").random() < 0.1,
        )


def _perhaps_append(dice: Random, again: Random, job: JobTruth) -> None:
    if dice.random() < 0.2 and not job.streams:
        job.first_count = dice.randrange(len(job.tasks) + 1)
        job.appended_reruns = again.choice([0, 0, 1])


def _perhaps_halt(dice: Random, job: JobTruth) -> None:
    if dice.random() < 0.2:
        job.max_fails = dice.choice([1, 2, 5])


def _relay(dice: Random, job: JobTruth) -> None:
    """Never, from the start, or from when a worker says that it cannot connect to its ventilator."""
    job.relay = dice.choices(list(RelayUse), [20, 20, 60])[0]
    job.is_behind_wall = job.relay is RelayUse.auto


def _job(dice: Random, number: int, kind: str, copies: Random, patience: float | None, inputs: Random) -> JobTruth:
    troubles = {
        "long": dice.choice([0.0, 0.0, 0.05]),
        "fails": dice.choice([0.0, 0.1, 0.3]),
        "fails for good": dice.choice([0.0, 0.05]),
        "kills child": dice.choice([0.0, 0.0, 0.05]),
        "poison": dice.choice([0.0, 0.0, 0.0, 0.03]),
    }
    count = dice.randint(*{"small": (10, 40), "large": (200, 600), "slow": (5, 20)}[kind])
    bad_at = inputs.choice([0, inputs.randrange(count)]) if inputs.random() < 0.15 else None
    mean_s = 6.0 if kind == "slow" else dice.choice([0.0005, 0.02, 0.1, 0.4])
    return JobTruth(
        name=f"job{number}",
        function=dice.choice(FUNCTIONS),
        tasks=tasks(dice, count, mean_s, troubles),
        retries=dice.choice([0, 1, 2]),
        batch_tasks=dice.choice([None, 1, 1, 3, 7]),
        quarantine_after=dice.choice([1, 2, 3, 3]),
        trickles=dice.random() < 0.2,
        speculates=copies.random() < 0.3,
        reruns=dice.choice([0, 0, 0, 1]),
        bad_at=bad_at,
        timeout_s=None if patience is None else patience * mean_s,
    )
