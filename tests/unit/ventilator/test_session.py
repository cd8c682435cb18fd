"""What a run of the ventilator decides: what is read, refused, cancelled and said, and when and how it ends."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import Raw, msgpack

from common.errors import ExitCode, OperatorError, WorkerEnded
from common.log_line import LogLine
from common.plain_text import counted
from common.protocol.arguments import digest
from common.protocol.explaining import Account, Explain
from common.protocol.messages import (
    Ask,
    Cancel,
    Close,
    Closed,
    Crew,
    Digests,
    Dropped,
    FromSink,
    Halt,
    Mark,
    Member,
    Message,
    Open,
    Opened,
    Receipts,
    Returned,
    Seen,
    Unreachable,
)
from common.ventilator import summary
from common.ventilator.appended_input import AppendedInput
from common.ventilator.inputs import read_ahead, state_of
from common.ventilator.request import JobRequest
from common.ventilator.seen import SeenArguments
from common.ventilator.session import DRAIN_S, InputVerified, SessionOutput, UseRelay, VentilatorSession, WantInput
from common.ventilator.settings import DispatchSettings, RelayUse
from common.ventilator.summary import JobEnd, Workers, no_worker_yet

SETTINGS = DispatchSettings(batch_tasks=1)
VOICE_S = SETTINGS.timing.voice_s
CREW = Crew([Member("ada", 2, 0, [], [])], [], [], 0)
LARGE_CREW = Crew([Member("ada", 20, 0, [], [])], [], [], 0)
NOBODY, OTHERS = Crew([], [], ["ada"], 0), Crew([], [], ["ada"], 3)
BAD = OperatorError("line is bad")


def opened(mark: int = 0, digest: bytes = b"", total: int | None = None, resumed: bool = False) -> Opened:
    return Opened("job", "ledger", b"k" * 32, mark, digest, total, 0, resumed, 0.0)


class Tasks:
    """An input that has this many tasks, and possibly a bad one."""

    source = "tasks"
    fresh = False
    arguments = "json"

    def __init__(self, count: int, bad_at: int | None = None, ended: bool = True, digest: bytes = b"d") -> None:
        self.count, self.bad_at, self.is_whole, self.digest = count, bad_at, ended, digest
        self.expected = count if ended else None
        self.is_estimate = False
        self.next = 0

    @property
    def ended(self) -> bool:
        return self.is_whole and self.next == self.count

    def fileno(self) -> None:
        """Nothing to wait for."""

    def fill(self) -> None:
        """Nothing to read."""

    def available(self, count: int = 1) -> bool:
        return self.next + count <= self.count or (self.is_whole and self.next < self.count)

    def skip(self, count: int) -> int:
        skipped = min(count, self.count - self.next)
        self.next += skipped
        return skipped

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        tasks = range(self.next, min(self.next + count, self.count))
        if self.bad_at in tasks:
            raise BAD
        self.next = tasks.stop
        return len(tasks), Raw(msgpack.encode(list(tasks)))

    def mark(self) -> tuple[int, bytes]:
        return self.next, self.digest


class Scene:
    """A session, its input, and a clock."""

    def __init__(self, tasks: Tasks | AppendedInput, results_options: tuple[str, ...] = (), **more: Any) -> None:
        self.now = 100.0
        self.tasks = tasks
        request = JobRequest("job", "m:f", "tasks", results_options=results_options, spool="spool", **more)
        self.session = VentilatorSession(self.now, SETTINGS, request)
        self.away = False
        self.position = 0
        self.pushed: list[int] = []
        self.outputs: list[SessionOutput] = []
        self.said: list[tuple[float, str]] = []
        """When which line was logged."""
        self.session.welcome(self.now, 0 if request.relay is RelayUse.always else 5557, 5556)

    def turn(self, *messages: FromSink) -> list[SessionOutput]:
        """What a shell does in a turn; returns what was to be performed."""
        for message in messages:
            self.session.receive(self.now, message)
        read_ahead(self.tasks, self.session, self.now, 1_000)
        outputs = self.session.tick(self.now, self.away, state_of(self.tasks))
        while (batch := self.session.next_push(self.now)) is not None:
            self.session.pushed(self.now)
            self.pushed.append(batch.first)
        self.outputs += outputs
        self.said += [(self.now, output.text) for output in outputs if isinstance(output, LogLine)]
        return outputs

    def open(self, answer: Opened, recorded: Iterable[int] = (), crew: Crew = CREW) -> list[SessionOutput]:
        return self.turn(answer, self.receipts(recorded), crew)

    def receipts(self, tasks: Iterable[int]) -> Receipts:
        before, runs = self.position, [(task, 1) for task in tasks]
        self.position += len(runs)
        return Receipts("job", before, self.position, runs, len(runs), 0.1, self.position, 0, False)

    def after(self, seconds: float) -> list[SessionOutput]:
        """Let time pass from deadline to deadline. Nothing that was due may be due still."""
        outputs: list[SessionOutput] = []
        end = self.now + seconds
        while self.now < end and self.end is None:
            deadline = self.session.deadline()
            self.now = end if deadline is None else min(end, max(self.now, deadline))
            outputs += self.turn()
            deadline = self.session.deadline()
            assert self.end is not None or deadline is None or deadline > self.now
        return outputs

    @property
    def end(self) -> JobEnd | None:
        last = self.outputs[-1] if self.outputs else None
        return last if isinstance(last, JobEnd) else None

    def error(self) -> str:
        """Of the end, which is a mistake."""
        assert self.end is not None and self.end.error is not None
        assert self.end.code is self.end.error.code
        return str(self.end.error)

    def sent(self, kind: type[Message]) -> list[SessionOutput]:
        return [output for output in self.outputs if isinstance(output, kind)]

    def lines(self) -> list[str]:
        return [f"{output.level}: {output.text}" for output in self.outputs if isinstance(output, LogLine)]


def running(tasks: Tasks | None = None, **how: bool) -> Scene:
    """A new job, of which the crew runs two tasks."""
    scene = Scene(tasks or Tasks(10))
    scene.open(opened(**how))
    assert scene.pushed == [0, 1]
    return scene


def said(end: JobEnd | None) -> list[str]:
    """What is said at the end, but for the line that counts the pushes."""
    assert end is not None
    return [f"{line.level}: {line.text}" for line in end.lines if line.level != "debug"]


# -- signals ------------------------------------------------------------------------------------------------------

STOPPED = [
    "info: job job stopped: 0 of 10 tasks are recorded",
    "info: to go on with it, run the same command with --job job",
]


def failing(scene: Scene, tasks: Iterable[int], failed: int) -> None:
    """These tasks are recorded, and `failed` of the job's tasks have failed by now."""
    receipts = scene.receipts(tasks)
    scene.turn(
        Receipts(*(failed if name == "failed" else getattr(receipts, name) for name in receipts.__struct_fields__))
    )


def halting(max_fails: int, tasks: int = 10, recorded: Iterable[int] = (), failed: int = 0) -> Scene:
    """A job with `max_fails`, of which the crew runs two tasks."""
    scene = Scene(Tasks(tasks), max_fails=max_fails)
    scene.turn(opened(resumed=bool(failed)))
    failing(scene, recorded, failed)
    scene.turn(CREW)
    return scene


def test_a_job_is_halted_when_enough_tasks_have_failed() -> None:
    scene = halting(2)
    failing(scene, [0], 1)
    assert scene.pushed == [0, 1, 2]
    failing(scene, [1], 2)
    assert (scene.sent(Halt), scene.pushed, scene.end) == ([Halt("job")], [0, 1, 2], None)
    failing(scene, [2], 3)
    assert scene.end is not None
    assert (scene.end.code, scene.end.error) == (ExitCode.TASKS_FAILED, None)
    assert scene.lines() == [
        "warning: 2 tasks failed, and --max-fails is 2: pushing no more tasks, waiting for running ones; Ctrl-C to"
        " leave at once"
    ]
    assert said(scene.end) == [
        "warning: job job is halted by --max-fails: 3 of 10 tasks are recorded, 3 of them failed",
        "info: failed tasks: python sink.py results job --failed",
        "info: to go on with it, run the same command with --job job; with --retry-failed, failed tasks are run again",
    ]
    assert scene.sent(Cancel) == scene.sent(Close) == []


def test_what_failed_in_earlier_runs_does_not_halt_this_one() -> None:
    scene = halting(2, recorded=[0, 1, 2], failed=3)
    failing(scene, [3], 4)
    assert scene.sent(Halt) == []
    failing(scene, [4], 5)
    assert scene.sent(Halt) == [Halt("job")]


def test_a_job_whose_last_task_is_one_too_many_is_done() -> None:
    scene = halting(1, tasks=1)
    failing(scene, [0], 1)
    assert scene.sent(Halt) == []
    scene.turn(Closed("job", 1, 1, []))
    assert said(scene.end)[0].startswith("info: job job is done: 0 tasks ok, 1 failed")


def test_a_halted_job_of_which_all_comes_in_is_done() -> None:
    scene = halting(1, tasks=2)
    failing(scene, [0], 1)
    assert scene.sent(Halt) == [Halt("job")]
    failing(scene, [1], 1)
    assert (len(scene.sent(Close)), scene.end) == (1, None)
    scene.turn(Closed("job", 2, 1, []))
    assert said(scene.end)[0].startswith("info: job job is done: 1 task ok, 1 failed")


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_halted_job_does_not_wait_for_ever(by_signal: bool) -> None:
    scene = halting(1)
    failing(scene, [0], 1)
    if by_signal:
        scene.session.interrupt(scene.now, "SIGINT")
        scene.turn()
        assert scene.lines()[-1] == "info: SIGINT: leaving at once"
    else:
        time_is_up(scene)
    assert scene.end is not None
    assert scene.end.code is ExitCode.TASKS_FAILED


def test_the_first_signal_stops_pushing_and_has_handed_back_what_has_not_started() -> None:
    scene = running()
    scene.session.interrupt(scene.now, "SIGINT")
    scene.turn()
    assert scene.sent(Halt) == [Halt("job")]
    assert scene.end is None
    scene.turn(scene.receipts([0]))
    assert scene.pushed == [0, 1]
    assert scene.lines() == ["info: SIGINT: pushing no more tasks, waiting for running ones; again to leave at once"]
    assert scene.session.next_read(scene.now) is None


def test_an_empty_job_may_be_interrupted_before_the_sink_has_opened_it() -> None:
    scene = Scene(Tasks(0))
    scene.session.interrupt(scene.now, "SIGINT")
    scene.turn()
    assert scene.end is not None
    assert scene.end.code is ExitCode.INTERRUPTED
    assert not scene.session.standing.is_counted


def all_come_in(scene: Scene) -> None:
    scene.turn(scene.receipts([0, 1]))


def all_come_back(scene: Scene) -> None:
    scene.turn(Returned(job="job", worker="ada", batches=[(0, 1, 1), (1, 1, 1)], copies=[]))


def one_comes_in(scene: Scene) -> None:
    scene.turn(scene.receipts([0]))


def time_passes(scene: Scene) -> None:
    scene.after(DRAIN_S - 0.1)


def time_is_up(scene: Scene) -> None:
    began_at = scene.now
    scene.after(2 * DRAIN_S)
    assert scene.now == began_at + DRAIN_S


def a_second_signal(scene: Scene) -> None:
    scene.session.interrupt(scene.now, "SIGTERM")
    scene.turn()
    assert scene.lines()[-1] == "info: SIGTERM again: leaving at once"


@pytest.mark.parametrize(
    ("event", "ends"),
    [
        (all_come_in, True),
        (all_come_back, True),
        (one_comes_in, False),
        (time_passes, False),
        (time_is_up, True),
        (a_second_signal, True),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_an_interrupted_job_waits_for_what_runs_but_not_for_ever(event, ends: bool) -> None:
    scene = running()
    scene.now += 0.3
    scene.session.interrupt(scene.now, "SIGINT")
    scene.turn()
    assert scene.end is None
    event(scene)
    assert (scene.end is not None) == ends
    if scene.end is not None:
        assert (scene.end.code, scene.end.error) == (ExitCode.INTERRUPTED, None)
        assert said(scene.end)[1:] == STOPPED[1:]
        assert scene.sent(Cancel) == []


@pytest.mark.parametrize("messages", [[], [opened()]], ids=["no sink", "no receipts"])
def test_a_job_that_was_not_opened_yet_ends_with_the_first_signal(messages: list[FromSink]) -> None:
    scene = Scene(Tasks(10))
    scene.turn(*messages)
    scene.session.interrupt(scene.now, "SIGINT")
    scene.turn()
    assert said(scene.end) == STOPPED


# -- a worker of its own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resumed", "recorded", "crew", "cancels"),
    [(False, [], NOBODY, 1), (False, [0], NOBODY, 0), (False, [], CREW, 0), (True, [], NOBODY, 0)],
    ids=["new", "with a result", "with running tasks", "resumed"],
)
def test_a_job_whose_only_worker_has_ended_ends_and_leaves_nothing_empty_open(
    resumed: bool, recorded: list[int], crew: Crew, cancels: int
) -> None:
    scene = Scene(Tasks(10))
    scene.open(opened(resumed=resumed), recorded, crew)
    assert scene.end is None
    scene.session.worker_ended(WorkerEnded("it has ended"))
    scene.turn()
    assert scene.error() == "it has ended"
    assert len(scene.sent(Cancel)) == cancels


def test_a_job_is_opened_before_the_end_of_its_worker_ends_it() -> None:
    """Or the sink would open it behind us, and keep it."""
    scene = Scene(Tasks(10))
    scene.session.worker_ended(WorkerEnded("it has ended"))
    scene.after(60.0)
    assert scene.end is None
    scene.open(opened(), crew=NOBODY)
    assert scene.error() == "it has ended"
    assert len(scene.sent(Cancel)) == 1


# -- mistakes of the input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "resumed", "recorded", "cancels"),
    [(opened(), False, [], 1), (opened(resumed=True), True, [], 0), (opened(resumed=True), True, [0], 0)],
    ids=["new", "resumed", "resumed with a result"],
)
def test_a_new_job_whose_first_line_is_bad_is_cancelled(
    before: Opened, resumed: bool, recorded: list[int], cancels: int
) -> None:
    scene = Scene(Tasks(10, bad_at=len(recorded)))
    scene.open(before, recorded)
    assert scene.error() == "line is bad"
    assert len(scene.sent(Cancel)) == cancels
    assert scene.pushed == []
    assert len(said(scene.end)) == 2 * len(recorded), "with nothing recorded there is nothing to go on with"


def test_a_bad_line_in_the_middle_waits_for_the_tasks_before_it() -> None:
    scene = Scene(Tasks(10, bad_at=2))
    scene.open(opened(), crew=LARGE_CREW)
    assert scene.lines() == ["error: line is bad; waiting for the tasks before it"]
    scene.after(60.0)
    assert scene.end is None
    scene.turn(scene.receipts([0]))
    assert scene.end is None
    scene.turn(scene.receipts([1]))
    assert scene.error() == "line is bad"
    assert said(scene.end) == ["info: job job stopped: 2 of 10 tasks are recorded", STOPPED[1]]
    assert scene.sent(Cancel) == scene.sent(Close) == []
    assert set(scene.pushed) == {0, 1}
    assert len(scene.lines()) == 1, "it is not read again"


def test_a_signal_while_the_tasks_before_a_bad_line_run() -> None:
    scene = Scene(Tasks(10, bad_at=2))
    scene.open(opened(), crew=LARGE_CREW)
    scene.session.interrupt(scene.now, "SIGINT")
    scene.after(DRAIN_S)
    assert scene.error() == "line is bad"
    assert scene.sent(Cancel) == [], "what runs may be recorded yet"


OTHER = "the input is not the one that job job was started with: give the same input again, or another --job name"


@pytest.mark.parametrize(
    ("before", "tasks", "error"),
    [
        (opened(4, b"d", resumed=True), Tasks(10, digest=b"e"), OTHER),
        (opened(4, b"d", resumed=True), Tasks(3), OTHER),
        (opened(4, b"d", resumed=True), Tasks(0), OTHER),
        (opened(4, b"d", resumed=True), Tasks(10, bad_at=2), "line is bad"),
    ],
    ids=["differs", "shorter", "empty", "bad"],
)
def test_another_input_is_refused_before_anything_is_pushed(before: Opened, tasks: Tasks, error: str) -> None:
    scene = Scene(tasks)
    scene.open(before, [0])
    assert scene.error() == error
    assert scene.pushed == scene.sent(Cancel) == scene.sent(Mark) == said(scene.end) == []
    assert scene.session.next_push(scene.now) is None


def test_while_it_is_not_known_to_be_the_same_input_nothing_is_pushed_and_nothing_marked() -> None:
    scene = Scene(Tasks(3, ended=False))
    scene.open(opened(4, b"d", resumed=True), crew=LARGE_CREW)
    scene.after(5.0)
    assert scene.pushed == scene.sent(Mark) == []
    scene.tasks.count = 5
    scene.turn()
    assert scene.pushed == [0, 1, 2, 3, 4]
    assert scene.sent(Mark) == [Mark("job", 5, b"d", None)]


def test_an_input_that_has_grown_is_refused_once_the_tasks_that_it_had_are_recorded() -> None:
    scene = Scene(Tasks(4))
    scene.open(opened(3, b"d", total=3, resumed=True), [0], LARGE_CREW)
    assert scene.lines() == [f"error: {OTHER}; waiting for the tasks before it"]
    scene.turn(scene.receipts([1, 2]))
    assert scene.error() == OTHER
    assert scene.pushed == [1, 2]


# -- reading ------------------------------------------------------------------------------------------------------


def test_the_input_is_waited_for_while_there_is_room_and_more_may_come() -> None:
    scene = Scene(Tasks(1, ended=False))
    assert scene.turn()[1:] == []
    assert WantInput(True) in scene.open(opened())
    assert WantInput(True) not in scene.turn(), "said once"
    scene.tasks.count = 10
    assert WantInput(False) in scene.turn()
    scene.turn(scene.receipts(range(8)))
    assert WantInput(True) in scene.turn(scene.receipts([8, 9])), "all is read, and there may be more"


def test_a_slow_input_that_leaves_slots_idle_is_said_to_the_crew() -> None:
    scene = Scene(Tasks(1, ended=False))
    scene.open(opened())
    assert not any(ask.scarce for ask in scene.sent(Ask))
    scene.after(SETTINGS.timing.beat_soon_s)
    assert scene.sent(Ask)[-1] == Ask("job", 0, True)


@pytest.mark.parametrize(
    ("workers", "others", "text"),
    [
        (Workers.HERE, 0, "no worker exposes m.n:f: start one with `python worker.py m.n`"),
        (Workers.HERE, 2, "no worker exposes m.n:f; workers here (2) expose other functions: check the name, or start"
                          " one with `python worker.py m.n`"),
        (Workers.ELSEWHERE, 0, "no worker exposes m.n:f: start one on a machine that the sink has enrolled as a worker:"
                               " `tradewind worker m.n --key FILE`"),
        (Workers.OURS, 0, "the worker of --local does not expose m.n:f yet, as it is still importing m.n"),
    ],
)  # fmt: skip
def test_what_to_do_about_workers_depends_on_where_they_can_be_started(
    workers: Workers, others: int, text: str
) -> None:
    assert no_worker_yet("m.n:f", others, workers) == text


def test_who_serves_a_command_names_it() -> None:
    text = "no worker exposes command:gz: start one with `python worker.py --command gz='PROGRAM {}'`"
    assert no_worker_yet("command:gz", 0, Workers.HERE) == text


def test_an_estimate_is_no_total_for_the_sink() -> None:
    tasks = Tasks(4)
    tasks.is_estimate = True
    scene = Scene(tasks)
    scene.open(opened())
    assert scene.sent(Mark) == [Mark("job", 2, b"d", None)]
    assert (scene.session.standing.total, scene.session.standing.is_estimate) == (4, True)
    scene.turn(scene.receipts([0, 1]))
    assert scene.sent(Mark)[-1] == Mark("job", 4, b"d", 4)
    assert not scene.session.standing.is_estimate


def test_marks_follow_the_input_once_it_is_the_right_one() -> None:
    scene = Scene(Tasks(4))
    scene.open(opened())
    assert scene.sent(Mark) == [Mark("job", 2, b"d", 4)]
    scene.turn(scene.receipts([0, 1]))
    assert scene.sent(Mark)[-1] == Mark("job", 4, b"d", 4), "at once, as it is the last"
    assert scene.sent(Ask)[-1] == Ask("job", 2, True), "and the crew has slots to spare"


# -- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "options", "code", "lines"),
    [
        (Closed("job", 3, 0, []), (), ExitCode.OK, ["info: results: python sink.py results job"]),
        (
            Closed("job", 3, 0, []),
            ("--ledger", "a b.db"),
            ExitCode.OK,
            ["info: results: python sink.py results job --ledger 'a b.db'"],
        ),
        (
            Closed("job", 3, 2, [(1, "boom", "in.txt")]),
            (),
            ExitCode.TASKS_FAILED,
            [
                "warning: task 1 (in.txt) failed: boom",
                "warning: and 1 more",
                "info: results: python sink.py results job --failed",
            ],
        ),
    ],
    ids=["fine", "ledger", "failed"],
)
def test_a_job_that_is_done(closed: Closed, options: tuple[str, ...], code: ExitCode, lines: list[str]) -> None:
    scene = Scene(Tasks(3), options)
    scene.open(opened())
    scene.now += 1.0
    scene.turn(scene.receipts([0]))
    scene.now += 3.0
    scene.turn(scene.receipts([1, 2]))
    assert scene.sent(Close) == [Close("job", 3, False)]
    assert scene.end is None
    scene.turn(closed)
    assert scene.end is not None and (scene.end.code, scene.end.error) == (code, None)
    assert said(scene.end) == [
        f"info: job job is done: {counted(3 - closed.failed, 'task')} ok, {closed.failed} failed, in 4 s, 45.0/min",
        *lines,
    ]
    assert scene.end.lines[0] == LogLine("debug", "4.0000 s, 3 pushes, 0 returns, 0 copies")


@pytest.mark.parametrize(
    ("message", "error", "code"),
    [
        (Dropped("job"), "job job was cancelled; its recorded results stay in the ledger", ExitCode.CANCELLED),
        (
            Opened("job", "other", b"k" * 32, 0, b"", None, 0, True, 0.0),
            "the sink now has another ledger, without the recorded results of this job",
            ExitCode.WRONG_USE,
        ),
    ],
    ids=["cancelled", "another ledger"],
)
def test_a_job_that_cannot_go_on_ends_with_one_line(message: FromSink, error: str, code: ExitCode) -> None:
    scene = running()
    scene.turn(message, LARGE_CREW)
    assert scene.error() == error
    assert scene.end is not None and scene.end.code is code
    assert scene.pushed == [0, 1]
    assert said(scene.end) == scene.sent(Cancel) == []
    assert scene.session.next_push(scene.now) is None


# -- streams ------------------------------------------------------------------------------------------------------


def stream(count: int, fresh: bool = True) -> Tasks:
    """The tasks of a spool, behind which the stream itself goes on."""
    tasks = Tasks(count, ended=False)
    tasks.fresh = fresh
    return tasks


def waits(scene: Scene) -> bool:
    """Whether it reads its input."""
    orders = [output for output in scene.outputs if isinstance(output, WantInput)]
    return bool(orders) and orders[-1].wanted


@pytest.mark.parametrize(
    ("before", "recorded", "reads"),
    [
        (opened(mark=2, digest=b"d", resumed=True), [0, 1], True),
        (opened(mark=2, digest=b"d", resumed=True), [], True),
        (opened(resumed=True), [1], True),
        (opened(mark=3, digest=b"d", resumed=True), [0, 1], False),
        (opened(resumed=True), [2], False),
        (opened(resumed=True), [0, 1, 9], False),
    ],
)
def test_nothing_is_taken_from_a_stream_whose_spool_is_not_here(
    before: Opened, recorded: list[int], reads: bool
) -> None:
    scene = Scene(stream(2))
    scene.open(before, recorded, LARGE_CREW)
    scene.turn()
    if reads:
        assert scene.end is None
        assert waits(scene)
        return
    scene.after(DRAIN_S)
    scene.turn(scene.receipts(set(range(2)) - set(recorded)))
    assert not waits(scene)
    assert scene.error() == (
        "what job job has read of its stream is not in spool: run the command where that is, or give another --job"
        " name; nothing was taken from the stream"
    )


def test_nothing_is_taken_from_the_stream_of_a_job_that_has_read_its_end() -> None:
    scene = Scene(stream(0))
    scene.open(opened(total=0, resumed=True))
    assert not waits(scene)
    assert "the stream of job job has ended: give another --job name" in scene.error()


def test_a_spool_that_is_not_read_yet_is_read_on() -> None:
    scene = Scene(stream(2, fresh=False))
    scene.open(opened(mark=5, digest=b"d", resumed=True), crew=LARGE_CREW)
    assert waits(scene)
    scene.tasks.count, scene.tasks.fresh = 5, True
    scene.turn()
    assert scene.end is None
    assert waits(scene)


@pytest.mark.parametrize(
    ("before", "verified"),
    [
        (opened(), [True, True]),
        (opened(mark=1, digest=b"d", resumed=True), [False, True]),
        (opened(mark=1, digest=b"d", resumed=True, total=2), [False, False, True]),
    ],
)
def test_what_is_read_need_not_be_kept_once_it_is_the_input_of_the_earlier_run(
    before: Opened, verified: list[bool]
) -> None:
    scene = Scene(Tasks(0, ended=False))
    scene.open(before)
    for count, wanted in enumerate(verified):
        scene.tasks.count, scene.tasks.is_whole = count, count == 2
        scene.turn()
        assert [type(output) for output in scene.outputs].count(InputVerified) == wanted


def test_an_input_that_is_not_brought_again_is_said_to_be_that() -> None:
    scene = Scene(Tasks(1, ended=False))
    scene.open(opened(mark=3, digest=b"d", resumed=True))
    assert voices(scene, 1.5 * VOICE_S) == [
        (
            VOICE_S,
            "the input has not brought again what job job has read before (1 task so far): waiting for the rest; what"
            " goes on instead needs --stream",
        )
    ]


# -- words --------------------------------------------------------------------------------------------------------


def voices(scene: Scene, seconds: float) -> list[tuple[float, str]]:
    """When what was said, from now on."""
    began_at, before = scene.now, len(scene.said)
    scene.after(seconds)
    return [(now - began_at, line) for now, line in scene.said[before:]]


NO_WORKER = "no worker exposes m:f: start one with `python worker.py m`; waiting"
UNOPENED = "waiting for the sink to open job job: its log says why it has not"
DRY = "the input has no new line: waiting for the next one, or for its end"


@pytest.mark.parametrize(
    ("messages", "tasks", "line"),
    [
        ([], Tasks(10), UNOPENED),
        ([opened()], Tasks(10), UNOPENED),
        ([opened(), Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False), NOBODY], Tasks(10), NO_WORKER),
        ([opened(), Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False), CREW], Tasks(0, ended=False), DRY),
        ([opened(), Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False), CREW], Tasks(1, ended=False), None),
        ([opened(), Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False), CREW], Tasks(10), None),
    ],
    ids=["unopened", "no receipts", "no worker", "dry", "dry while a task runs", "running"],
)
def test_every_wait_has_its_words(messages: list[FromSink], tasks: Tasks, line: str | None) -> None:
    scene = Scene(tasks)
    scene.turn(*messages)
    found = voices(scene, 4 * VOICE_S)
    assert found == ([] if line is None else [(VOICE_S, line), (3 * VOICE_S, line)])
    scene.away = True
    assert voices(scene, 4 * VOICE_S) == [], "the link says that the sink is away"
    scene.away = False
    scene.turn()
    assert voices(scene, VOICE_S) == ([] if line is None else [(VOICE_S, line)]), "it waits anew"


@pytest.mark.parametrize(
    ("resumed", "recorded", "cancels"), [(False, [], 1), (True, [], 0), (True, [0], 0)], ids=["new", "old", "begun"]
)
def test_a_function_that_only_other_workers_expose_is_a_mistake(
    resumed: bool, recorded: list[int], cancels: int
) -> None:
    scene = Scene(Tasks(10))
    scene.open(opened(resumed=resumed), recorded, OTHERS)
    others = "no worker exposes m:f; workers here (3) expose other functions: check the name, or"
    assert voices(scene, 2 * VOICE_S) == [(VOICE_S, f"{others} start one with `python worker.py m`; waiting")]
    scene.after(VOICE_S)
    assert scene.error() == (
        "no worker exposes m:f; workers here (3) expose other functions: fix the name and run the command again, or"
        " start a worker that exposes it and add --job job"
    )
    assert len(scene.sent(Cancel)) == cancels


def test_a_crew_that_was_there_for_a_moment_is_waited_for_anew() -> None:
    scene = Scene(Tasks(10))
    scene.open(opened(), crew=OTHERS)
    for crew in itertools.islice(itertools.cycle([CREW, OTHERS]), 6):
        assert len(voices(scene, 1.5 * VOICE_S)) == (crew is CREW)
        scene.turn(crew)
    assert scene.end is None


def test_how_the_job_stands() -> None:
    scene = Scene(Tasks(3))
    assert scene.session.standing.total is None
    scene.open(opened())
    standing = scene.session.standing
    assert (standing.done, standing.total, standing.outstanding, standing.crew, standing.slots) == (0, 3, 2, 1, 2)


# -- appending ----------------------------------------------------------------------------------------------------


class Appending(Scene):
    """A job of which the tasks 0 to 3 are recorded, with the arguments 0 to 3, is appended to."""

    def __init__(self, tasks: Tasks, **request: Any) -> None:
        self.seen = SeenArguments("job")
        super().__init__(AppendedInput(tasks, self.seen), arguments="json", seen=self.seen, **request)

    def begin(
        self, mark: int = 4, digest: bytes = b"", recorded: Iterable[int] = range(4), total: int | None = None
    ) -> None:
        answer = Opened("job", "ledger", b"k" * 32, mark, digest, total, 0, True, 0.0, 4)
        self.open(answer, recorded, LARGE_CREW)

    def page(self, unknown: int = 0) -> Digests:
        sealed = b"".join(digest(msgpack.encode(task)) for task in range(4))
        return Digests("job", 0, 4, sealed, unknown, False)


def test_only_new_arguments_are_pushed_and_numbered_behind_the_job_s_total() -> None:
    scene = Appending(Tasks(7))
    assert isinstance(scene.session._talk._open, Open)
    assert (scene.session._talk._open.append, scene.session._talk._open.arguments) == (True, "json")
    scene.begin()
    scene.turn()
    assert (scene.pushed, scene.sent(Seen)) == ([], [Seen("job", 0)])
    scene.turn(scene.page())
    assert scene.pushed == [4, 5, 6]
    scene.turn(scene.receipts([4, 5, 6]))
    assert next(mark for mark in scene.sent(Mark) if isinstance(mark, Mark) and mark.total == mark.count).count == 7
    assert scene.sent(Close) == [Close("job", 7, False)]
    scene.turn(Closed("job", 7, 0, []))
    assert said(scene.end)[0] == "info: 4 tasks of the input were skipped: job job has had their arguments"


def test_one_skipped_task_is_said_in_the_singular() -> None:
    assert summary.skipped("job", 1).text == "1 task of the input was skipped: job job has had its argument"
    assert summary.skipped("job", 0).text == "0 tasks of the input were skipped: job job has had their arguments"


def test_an_appended_input_that_was_begun_goes_on_where_it_was() -> None:
    first = Appending(Tasks(9))
    first.begin()
    first.turn(first.page())
    first.after(1.0)
    marks = [mark for mark in first.sent(Mark) if isinstance(mark, Mark)]
    again = Appending(Tasks(9))
    again.begin(marks[-1].count, marks[-1].digest, [0, 1, 2, 3, 5, 6])
    again.turn(again.page())
    again.turn()
    assert again.pushed == [4, 7, 8]


def test_another_input_than_the_one_that_is_being_appended_is_refused_in_words() -> None:
    scene = Appending(Tasks(9))
    scene.begin(6, b"of another input")
    scene.turn(scene.page())
    assert scene.pushed == []
    assert "has not finished the input that was appended to it before: append that input again first" in scene.error()


def test_failed_tasks_of_the_input_that_was_appended_last_run_again_and_those_of_no_other() -> None:
    scene = Appending(Tasks(7), retry_failed=True)
    assert isinstance(scene.session._talk._open, Open)
    assert (scene.session._talk._open.append, scene.session._talk._open.retry_failed) == (True, True)
    scene.begin(6, b"of another input", total=7)
    scene.turn(scene.page())
    assert scene.pushed == []
    assert "the input is not the one that was appended to job job last: give that one" in scene.error()


def test_without_a_new_task_the_job_is_done_at_once() -> None:
    scene = Appending(Tasks(4))
    scene.begin()
    scene.turn(scene.page())
    scene.turn()
    assert (scene.pushed, scene.sent(Close)) == ([], [Close("job", 4, False)])


def test_when_arguments_are_missing_nothing_is_appended_and_the_job_is_closed_again() -> None:
    scene = Appending(Tasks(9))
    scene.begin()
    scene.turn(scene.page(unknown=2))
    assert scene.pushed == []
    assert scene.sent(Close) == [Close("job", 4, False)]
    assert "the ledger has no arguments of some tasks of job job" in scene.error()


def test_a_job_that_waits_for_its_worker_does_so_without_end() -> None:
    scene = Scene(Tasks(10), waits_for_worker=True)
    scene.open(opened(), crew=OTHERS)
    scene.after(100 * VOICE_S)
    assert scene.end is None
    assert "no worker exposes m:f; workers here (3)" in scene.lines()[-1]


def test_a_job_gives_a_sink_up_that_is_away_for_too_long() -> None:
    scene = Scene(Tasks(10), sink_away_max_s=60.0)
    scene.open(opened())
    scene.away = True
    scene.after(59)
    scene.away = False
    scene.turn()
    scene.away = True
    scene.turn()
    began = scene.now
    scene.after(1_000)
    assert scene.error().startswith("the sink was away for 1 min 00 s; what is recorded of job job is in its ledger")
    assert scene.now - began == pytest.approx(60)


# -- the way that tasks go ----------------------------------------------------------------------------------------


def test_a_worker_that_cannot_connect_makes_tasks_go_through_the_relay() -> None:
    scene = Scene(Tasks(5))
    scene.open(opened())
    before = list(scene.pushed)
    scene.turn(Unreachable("job", "ada", "192.0.2.7", 5557, "silence"))
    scene.now += 1.0
    outputs = scene.turn()
    [reopened] = [output for output in outputs if isinstance(output, Open)]
    assert (reopened.relay, reopened.reopens, reopened.port) == (True, True, 5556)
    assert [type(output) for output in outputs].count(UseRelay) == 1
    assert scene.session.route.relayed
    assert before == scene.pushed, "what was pushed before is left to its lease"
    scene.turn(opened(resumed=True), scene.receipts([0, 1]), CREW)
    assert scene.pushed == [0, 1, 2, 3]
    scene.session.welcome(scene.now, 5557, 6000)
    assert [(each.relay, each.port) for each in scene.turn() if isinstance(each, Open)] == [(True, 6000)]


def test_a_ventilator_that_listens_nowhere_says_so_when_it_opens_its_job() -> None:
    scene = Scene(Tasks(5), relay=RelayUse.always)
    [first] = [output for output in scene.turn() if isinstance(output, Open)]
    assert (first.relay, first.reopens, first.port) == (True, False, 5556)


# -- whoever asks ---------------------------------------------------------------------------------------------------


def asked(scene: Scene, task: int | None = None) -> Account:
    [account] = [output for output in scene.turn(Explain("job", task)) if isinstance(output, Account)]
    return account


def test_it_says_how_its_job_stands() -> None:
    scene = running()
    account = asked(scene, 1)
    assert (account.phase, account.input) == ("running", "open")
    assert (account.outstanding, account.in_flight) == (account.read, 2)
    assert account.place is not None
    assert account.place.state == "given"
    place = asked(scene, 9).place
    assert place is not None and place.state == "unread"
    assert scene.turn(Explain("another", None)) == []


def test_it_says_what_it_waits_for() -> None:
    scene = Scene(Tasks(10))
    assert asked(scene).phase == "opening"
    dry = Scene(Tasks(0, ended=False))
    dry.open(opened())
    assert asked(dry).input == "dry"
    repeated = Scene(Tasks(2, ended=False))
    repeated.open(opened(mark=5, resumed=True))
    repeated.after(5.0)
    assert (asked(repeated).phase, asked(repeated).input) == ("verifying", "dry")
    stopping = running()
    stopping.session.interrupt(stopping.now, "SIGINT")
    assert asked(stopping).phase == "ending"
