"""How large a crew is kept: what jobs are worth, and when nothing is started."""

from collections.abc import Sequence

import pytest

from common.crew.allocations import Condition
from common.crew.demand import Demand, ServedFunctions, demand
from common.crew.keeping import PAUSE_MAX_S, PAUSE_S, Blame, Keeper, KeepSettings, Output, Start
from common.log_line import LogLine
from common.protocol.reports import JobReport, Report, WorkerReport

QUEUED, RUNS, ENDED, LEFT, BROKEN = Condition
SERVED = ServedFunctions(["work", "other:one"], ["thumb"])


def job(left: int | None, function: str = "work:run", name: str = "j", done: int = 5) -> JobReport:
    """A job with this many tasks left."""
    return JobReport(name, function, done, 0, None if left is None else done + left, 1, 0.0)


def worker(name: str, slots: int = 1, runs: Sequence[int] = (0,)) -> WorkerReport:
    """A worker that runs one batch of each of these jobs."""
    return WorkerReport(f"{name}.1-f", "cluster", "", slots, len(runs), len(runs), 0.0, [(at, 1) for at in runs])


@pytest.mark.parametrize(
    ("function", "serves"),
    [
        ("work:run", True),
        ("work:walk", True),
        ("work.sub:run", False),
        ("other:one", True),
        ("other:two", False),
        ("command:thumb", True),
        ("command:work", False),
    ],
)
def test_which_jobs_count(function: str, serves: bool) -> None:
    assert SERVED.has(function) is serves


@pytest.mark.parametrize(
    ("jobs", "means_s", "slots", "wanted"),
    [
        # Nothing to do.
        ([], {}, 1, 0),
        ([job(0)], {"j": 1.0}, 1, 0),
        # A worker finds out how long tasks take.
        ([job(1000)], {}, 1, 1),
        # 600 tasks of two seconds take one slot twice the time.
        ([job(600)], {"j": 2.0}, 1, 2),
        ([job(601)], {"j": 2.0}, 1, 3),
        ([job(600)], {"j": 2.0}, 4, 1),
        # A task of ten hours needs one slot, not sixty.
        ([job(3)], {"j": 36000.0}, 1, 3),
        ([job(9)], {"j": 36000.0}, 4, 3),
        # Two jobs need as much as both.
        ([job(600), job(600, name="k")], {"j": 1.0, "k": 2.0}, 1, 3),
        ([job(600), job(600, name="k")], {"j": 1.0}, 1, 1),
        # These workers cannot run it.
        ([job(600, "strange:run")], {"j": 1.0}, 1, 0),
    ],
)
def test_how_many_workers_the_jobs_are_worth(
    jobs: list[JobReport], means_s: dict[str, float], slots: int, wanted: int
) -> None:
    assert demand(Report(jobs, []), means_s, SERVED, slots, 600.0, []).workers == wanted


@pytest.mark.parametrize(
    ("workers", "wanted"),
    [
        ([], 1),
        ([worker("a"), worker("b")], 3),
        ([worker("a", slots=2), worker("b")], 1),
        ([worker("a"), worker("theirs", slots=2)], 2),
    ],
)
def test_of_a_job_that_reads_on_one_more_is_wanted_while_all_of_ours_are_busy(
    workers: list[WorkerReport], wanted: int
) -> None:
    found = demand(Report([job(None)], workers), {}, SERVED, 1, 600.0, ["a", "b"])
    assert (found.tasks, found.workers, found.reads_on) == (0, wanted, True)


def test_what_is_left_is_said() -> None:
    found = demand(Report([job(600), job(7, "x:y", "k")], []), {"j": 1.5, "k": 9.0}, SERVED, 1, 600.0, [])
    assert found == Demand(600, 2, False, 1.5, 1)


class Scene:
    """A keeper, and what it is told; a look is a second."""

    def __init__(self, **settings: float) -> None:
        whole = {"least": 0, "most": 20, "backlog": 1, "slots": 1, "within_s": 600.0} | settings
        self.keeper = Keeper(KeepSettings(**whole), SERVED)  # type: ignore[arg-type]
        # Each task takes 100 seconds.
        self.keeper._times.note = lambda now, report: {each.job: 100.0 for each in report.jobs}  # type: ignore[method-assign]
        self.now = 0.0
        self.report: Report | str = Report([job(6000, done=0)], [])
        self.count = 0

    def look(self, seen: dict[str, Condition] | str, at: Sequence[str] = (), **also: float) -> list[Output]:
        """These allocations stand so, and these workers are at the sink."""
        self.now += also.get("after", 1.0)
        report = (
            self.report if isinstance(self.report, str) else Report(self.report.jobs, [worker(each) for each in at])
        )
        return self.keeper.look(self.now, seen, report)

    def started(self, outputs: list[Output]) -> int:
        """How many are to be started; they are, as a1, a2 and so on."""
        count = sum(each.count for each in outputs if isinstance(each, Start))
        self.keeper.started(f"a{self.count + number}" for number in range(1, count + 1))
        self.count += count
        return count

    def three_broken(self) -> list[Output]:
        """Three allocations, one after the other, end without a worker."""
        outputs = self.look({})
        for number in (1, 2, 3):
            assert self.started(outputs) == 1
            outputs = self.look({f"a{number}": BROKEN})
        return outputs


def lines(outputs: list[Output]) -> list[str]:
    return [each.text for each in outputs if isinstance(each, LogLine | Blame) and each.level != "info"]


def plans(outputs: list[Output]) -> list[str]:
    return [each.text for each in outputs if isinstance(each, LogLine) and each.level == "info"]


@pytest.mark.parametrize(
    ("settings", "seen", "count"),
    [
        ({}, {}, 1),
        ({"backlog": 4}, {}, 4),
        ({"backlog": 4}, {"b1": QUEUED, "b2": QUEUED, "b3": RUNS}, 2),
        ({}, {"b1": QUEUED}, 0),
        ({}, {"b1": RUNS}, 1),
        ({"most": 1}, {"b1": RUNS}, 0),
        ({"most": 3, "backlog": 9}, {"b1": RUNS, "b2": ENDED}, 2),
    ],
)
def test_how_many_are_started(settings: dict[str, float], seen: dict[str, Condition], count: int) -> None:
    scene = Scene(**settings)
    assert scene.started(scene.look(seen)) == count


def test_as_many_as_there_have_to_be_are_there_without_a_job() -> None:
    scene = Scene(least=2, backlog=5)
    scene.report = Report([], [])
    assert scene.started(scene.look({})) == 2
    assert scene.started(scene.look({"a1": RUNS, "a2": QUEUED})) == 0


def test_what_is_started_counts_before_it_is_seen() -> None:
    """It is seen at the next look at the latest, or is gone."""
    scene = Scene()
    assert scene.started(scene.look({})) == 1
    assert lines(scene.look({})) == ["a1 has ended before its worker was ready for tasks"]


def test_the_plan_is_said_when_it_changes_and_why_no_more_are_started() -> None:
    scene = Scene(most=2)
    assert plans(scene.look({})) == [
        "6,000 tasks left, about 1 min 40 s each: 2 workers wanted (--max), 0 started, 0 in the queue; starting 1"
    ]
    assert plans(scene.look({"a1": QUEUED})) == [
        "6,000 tasks left, about 1 min 40 s each: 2 workers wanted (--max), 0 started, 1 in the queue"
    ]
    assert scene.look({"a1": QUEUED}) == []
    scene.report = Report([job(7, function="strange:run")], [])
    assert plans(scene.look({"a1": QUEUED})) == [
        "no task is left for these workers (1 open job has a function that they do not serve): "
        "0 workers wanted, 0 started, 1 in the queue"
    ]


# -- allocations that bring no worker -----------------------------------------------------------------------------


def test_three_in_a_row_without_a_worker_are_a_pause_that_grows() -> None:
    scene = Scene()
    outputs = scene.three_broken()
    assert [each for each in outputs if isinstance(each, Blame)] == [
        Blame(
            "error",
            "a3 has ended before its worker was ready for tasks, the third in a row: nothing is started for 1 min 00 s,"
            " then one to see whether that was put right",
            "a3",
        )
    ]
    assert scene.started(outputs) == 0
    assert scene.started(scene.look({}, after=PAUSE_S - 1)) == 0
    assert scene.started(scene.look({}, after=1.0)) == 1
    assert "the 4th in a row: nothing is started for 2 min 00 s" in lines(scene.look({"a4": BROKEN}))[0]
    assert scene.started(scene.look({}, after=2 * PAUSE_S - 1)) == 0
    pauses = []
    for _ in range(9):
        assert scene.started(scene.look({}, after=PAUSE_MAX_S)) == 1
        began = scene.now
        scene.look({f"a{scene.count}": BROKEN})
        pauses.append(scene.keeper._broken.until - began)
    assert pauses[-1] == PAUSE_MAX_S + 1


def test_after_a_pause_one_is_tried_and_its_worker_ends_the_suspicion() -> None:
    scene = Scene(backlog=5)
    outputs = scene.look({})
    assert scene.started(outputs) == 5
    outputs = scene.look({f"a{number}": BROKEN for number in range(1, 6)})
    assert len(lines(outputs)) == 3, "of those that ended together not each one is a pause"
    assert scene.started(scene.look({}, after=PAUSE_S)) == 1
    assert scene.started(scene.look({"a6": RUNS})) == 0
    assert scene.started(scene.look({"a6": RUNS}, at=["a6"])) == 5
    outputs = scene.look({f"a{number}": BROKEN for number in range(7, 12)})
    assert "nothing is started for 1 min" in lines(outputs)[-1]


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        ({"x": BROKEN}, True),
        # It has ended well, and nobody has seen it: it cannot have been of use.
        ({"x": LEFT}, True),
        # Slurm has forgotten it.
        ({}, True),
        # Its time was over, it was cancelled, or had to make room.
        ({"x": ENDED}, False),
        # It went back into the queue.
        ({"x": QUEUED}, False),
        ({"x": RUNS}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [QUEUED, RUNS])
def test_which_ends_count(before: Condition, end: dict[str, Condition], counts: bool) -> None:
    scene = Scene()
    scene.look({"x": before})
    assert bool(lines(scene.look(end))) is counts


@pytest.mark.parametrize("end", [{"x": BROKEN}, {"x": LEFT}, {}], ids=str)
def test_a_worker_that_was_at_the_sink_is_no_failure_however_it_ends(end: dict[str, Condition]) -> None:
    scene = Scene()
    scene.look({"x": RUNS}, at=["x"])
    assert lines(scene.look(end)) == []


def test_a_worker_that_comes_ends_the_row() -> None:
    scene = Scene(backlog=3)
    scene.look({"a": RUNS, "b": RUNS, "c": RUNS, "d": RUNS})
    scene.look({"a": BROKEN, "b": BROKEN, "c": RUNS, "d": RUNS})
    scene.look({"c": RUNS, "d": RUNS}, at=["c"])
    [line] = lines(scene.look({"c": RUNS, "d": BROKEN}))
    assert line == "d has ended before its worker was ready for tasks"


# -- nobody to ask ------------------------------------------------------------------------------------------------


def test_while_the_sink_is_away_nothing_is_started_and_nobody_is_blamed() -> None:
    scene = Scene(least=3, backlog=3)
    scene.look({"x": RUNS})
    there, scene.report = scene.report, "the sink at tcp://10.0.0.1:5559 does not answer"
    outputs = scene.look({"x": RUNS})
    assert outputs == [
        LogLine("warning", "the sink at tcp://10.0.0.1:5559 does not answer; nothing is started until it answers")
    ]
    assert scene.look({"x": RUNS}) == [], "it is said once"
    assert scene.look({}) == [], "its worker could not say hello"
    scene.look({"y": RUNS})
    scene.report = there
    outputs = scene.look({"y": BROKEN})
    assert lines(outputs) == [], "neither could this one's"
    assert plans(outputs)[0] == "the sink answers again"
    assert scene.started(outputs) == 3


def test_of_what_ends_while_the_sink_is_away_nobody_knows_whether_it_was_ready() -> None:
    scene = Scene()
    scene.look({"x": RUNS})
    scene.report = "the sink does not answer"
    assert len(lines(scene.look({"x": BROKEN}))) == 1, "only that the sink is away"


def test_while_slurm_does_not_answer_nothing_is_started_and_nobody_is_forgotten() -> None:
    scene = Scene()
    scene.look({"x": RUNS}, at=["x"])
    text = "squeue has not answered for 60 seconds"
    assert lines(scene.look(text)) == [f"{text}; nothing is started until it answers"]
    assert scene.look(text) == []
    outputs = scene.look({"x": BROKEN})
    assert lines(outputs) == []
    assert plans(outputs)[0] == "the queue answers again"
    assert scene.started(outputs) == 1


def test_what_slurm_refuses_is_tried_again_later_each_time() -> None:
    scene = Scene()
    assert [each for each in scene.look({}) if isinstance(each, Start)] == [Start(1)]
    said = scene.keeper.refused(scene.now, "Slurm refuses the job: too many")
    assert said == [LogLine("warning", "Slurm refuses the job: too many; trying again in 1 min 00 s")]
    assert not any(isinstance(each, Start) for each in scene.look({}, after=PAUSE_S - 1))
    assert [each for each in scene.look({}, after=1.0) if isinstance(each, Start)] == [Start(1)]
    assert "again in 2 min" in scene.keeper.refused(scene.now, "no")[0].text  # type: ignore[union-attr]
    assert scene.started(scene.look({}, after=2 * PAUSE_S)) == 1
    scene.look({"a1": RUNS})
    assert "again in 1 min" in scene.keeper.refused(scene.now, "no")[0].text  # type: ignore[union-attr]
