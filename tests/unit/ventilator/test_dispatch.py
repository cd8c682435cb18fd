"""The ventilator's rules under a clock that is a number."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, msgpack

from common.protocol.codec import ticket
from common.protocol.messages import (
    BATCH_TASKS_MAX,
    Ask,
    Batch,
    BatchName,
    Crew,
    Dropped,
    Failed,
    Member,
    Opened,
    Present,
    Quarantine,
    Receipts,
    Returned,
)
from common.protocol.settings import CUT_CONNECTION_S
from common.ventilator.admission import CutLinks
from common.ventilator.dispatch import Dispatch, Skip, Take
from common.ventilator.earlier_run import EarlierRun
from common.ventilator.flights import Flight, Flights
from common.ventilator.settings import DispatchSettings

ONE = DispatchSettings(batch_tasks=1)
T = ONE.timing


def named(batches: Iterable[tuple[int, ...]]) -> list[BatchName]:
    """Batches as beats and returns name them: at the first attempt, unless they say another."""
    return [(*each, 1)[:3] for each in batches]  # type: ignore[misc]


def returned(*batches: tuple[int, ...], job: str = "job", worker: str = "w") -> Returned:
    return Returned(job, worker, named(batches), [])


class Scene:
    """A dispatch with a crew, an endless input of its own indexes, and a sink that has everything to say."""

    def __init__(
        self, settings: DispatchSettings = ONE, *, resumed: tuple[tuple[int, int], ...] = (), mark: int = 0
    ) -> None:
        self.now = 100.0
        self.rules = Dispatch(settings, "job", "m:f")
        self.position = 0
        self.pushed: list[Batch] = []
        self.rules.receive(self.now, Opened("job", "ledger", b"k" * 32, mark, b"", None, 0, True, 0.0))
        self._resumed = resumed

    def catch_up(self) -> None:
        self.receipts(*self._resumed)

    def crew(self, worker: str = "w", slots: int = 2, prefetch: int = 2, held: tuple = (), started: tuple = ()) -> list:
        member = Member(worker, slots, prefetch, named(held), named(started))
        return self.rules.receive(self.now, Crew([member], [], [], 0))

    def receipts(self, *runs: tuple[int, int], more: bool = False) -> list:
        count = sum(run[1] for run in runs)
        after, self.position = self.position, self.position + len(runs)
        return self.rules.receive(
            self.now, Receipts("job", after, self.position, list(runs), count, 0.0, count, 0, more)
        )

    def read(self) -> None:
        """What the shell does with an input that never blocks."""
        while (plan := self.rules.plan(self.now)) is not None:
            if isinstance(plan, Skip):
                self.rules.skipped(plan.count)
            else:
                tasks = range(self.rules.next_task, self.rules.next_task + plan.count)
                self.rules.offer(self.now, plan.count, Raw(msgpack.encode(list(tasks))))

    def push(self) -> list[tuple[int, int]]:
        new = []
        while (batch := self.rules.next_push(self.now)) is not None:
            self.rules.pushed(self.now)
            self.pushed.append(batch)
            new.append((batch.first, batch.count))
        return new

    def go(self) -> list[tuple[int, int]]:
        self.read()
        return self.push()

    def after(self, seconds: float, *beating: Member) -> list:
        """Let time pass as it does: tick at each deadline, and hear of the sink and these every half second."""
        outputs = []
        end = self.now + seconds
        while self.now < end:
            deadline = self.rules.deadline()
            self.now = min(end, self.now + 0.5, max(self.now + 1e-6, end if deadline is None else deadline))
            outputs += self.rules.receive(self.now, Receipts("other", 0, 0, [], 0, 0, 0, 0, False))
            outputs += self.rules.receive(self.now, Crew(list(beating), [], [], 0))
            outputs += self.rules.tick(self.now)
            deadline = self.rules.deadline()
            assert deadline is None or deadline > self.now, "what was due is due still: the ventilator would spin"
        return outputs


def working(settings: DispatchSettings = ONE) -> Scene:
    scene = Scene(settings)
    scene.catch_up()
    scene.crew()
    return scene


def test_nothing_is_read_before_the_receipts_are_known_or_without_a_crew() -> None:
    scene = Scene()
    assert scene.rules.plan(scene.now) is None
    scene.catch_up()
    assert scene.go() == []
    scene.crew()
    assert scene.go() == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_a_receipt_makes_room_for_one_more() -> None:
    scene = working()
    scene.go()
    assert scene.receipts((1, 1)) == [Ask("job", 1, False)]
    assert scene.go() == [(4, 1)]


def test_receipts_that_do_not_follow_the_cursor_are_ignored() -> None:
    scene = working()
    scene.go()
    assert scene.rules.receive(scene.now, Receipts("job", 7, 9, [(0, 4)], 4, 0.0, 4, 0, False)) == []
    assert scene.rules.receive(scene.now, Receipts("other", 0, 9, [(0, 4)], 4, 0.0, 4, 0, False)) == []
    assert scene.rules.outstanding == 4


def test_an_unanswered_question_is_asked_again() -> None:
    scene = working()
    scene.now += T.silence_s
    assert scene.rules.tick(scene.now) == [Ask("job", 0, False)]


def test_a_returned_batch_is_pushed_again_a_little_later_each_time_but_never_much() -> None:
    scene = working()
    scene.go()
    waits = []
    for _ in range(ONE.returns_free + 12):
        scene.rules.receive(scene.now, returned((0, 1)))
        before = scene.now
        while not (pushed := scene.push()):
            deadline = scene.rules.deadline()
            assert deadline is not None
            scene.now = max(scene.now, deadline)
            scene.rules.tick(scene.now)
        assert pushed == [(0, 1)]
        waits.append(scene.now - before)
    assert waits[: ONE.returns_free] == [0] * ONE.returns_free
    later = waits[ONE.returns_free :]
    assert 0 < later[0] < later[1] < later[2]
    assert later == sorted(later)
    assert later[-1] == pytest.approx(ONE.return_wait_max_s)


@pytest.mark.parametrize("batches", [[(0, 2)], [(9, 1)], [(0, 9)]])
def test_a_return_of_what_is_not_outstanding_changes_nothing(batches: list[tuple[int, int]]) -> None:
    scene = working()
    scene.go()
    scene.rules.receive(scene.now, returned(*batches))
    scene.rules.receive(scene.now, returned((0, 1), job="other"))
    assert scene.push() == []


@pytest.mark.parametrize("lost", [True, False])
def test_what_a_worker_has_returned_is_not_pushed_again_a_second_time_when_it_leaves(lost: bool) -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1), (1, 1)))
    scene.crew("v", 2, 2)
    scene.rules.receive(scene.now, returned((0, 1)))
    scene.after(T.beat_s / 4)
    assert scene.push() == [(0, 1)]
    scene.rules.receive(scene.now, Crew([], [] if lost else ["w"], ["w"] if lost else [], 0))
    assert scene.push() == [(1, 1)]


def test_a_lost_workers_batches_are_pushed_again_at_once() -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1), (1, 1)))
    scene.crew("v", 2, 2)
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    assert scene.push() == [(0, 1), (1, 1)]


def test_what_another_living_worker_names_is_not_pushed_again() -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1), (1, 1)))
    scene.crew("v", 2, 2, held=((0, 1),))
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    assert scene.push() == [(1, 1)]


def test_a_lease_ends_when_nobody_names_the_batch_and_lives_while_somebody_does() -> None:
    scene = working()
    scene.go()
    for _ in range(40):
        scene.after(T.beat_s)
        scene.crew(held=((0, 1), (2, 1), (3, 1)))
        if again := scene.push():
            break
    assert again == [(1, 1)]
    assert 100 + T.lease_s <= scene.now <= 100 + T.lease_s + 2 * T.beat_s


def test_leases_stand_still_while_the_sink_is_away() -> None:
    scene = working()
    scene.go()
    for _ in range(100):
        scene.now += 1
        scene.rules.tick(scene.now)
    assert scene.push() == []
    scene.crew()
    scene.after(T.lease_s - 1, Member("w", 2, 2, [], []))
    assert scene.push() == []
    scene.after(2, Member("w", 2, 2, [], []))
    assert scene.push() == [(0, 1), (1, 1), (2, 1), (3, 1)]


CREW = [Member(worker, 2, 2, [], []) for worker in ("w", "v")]


def test_what_a_worker_may_have_that_misses_its_beats_is_pushed_again() -> None:
    """Half of the batches go to a stopped worker: it cannot name them, nor return them."""
    scene = working()
    scene.crew("v", 2, 2)
    scene.go()
    scene.crew("w", held=((0, 1),))
    scene.crew("v", held=((1, 1),))
    v = Member("v", 2, 2, named([(1, 1)]), [])
    assert CutLinks(1) not in scene.after(T.silence_s - 0.1, v)
    assert scene.push() == []
    assert scene.after(0.2, v).count(CutLinks(1)) == 1
    # What its last beat named may still run there.
    assert scene.push() == [(first, 1) for first in range(2, 8)]
    assert all(batch.suspect for batch in scene.pushed[-6:])


def test_while_a_worker_misses_its_beats_no_batch_waits_long_to_be_named() -> None:
    scene = working()
    v = Member("v", 20, 0, [], [])
    scene.after(T.silence_s + 0.1, v)
    scene.go()
    scene.after(T.unnamed_s - 0.1, v)
    assert scene.push() == []
    scene.after(0.2, v)
    assert scene.push()


def test_a_worker_that_beats_again_is_trusted_again() -> None:
    scene = working()
    v = Member("v", 20, 0, [], [])
    scene.after(T.silence_s + 0.1, v)
    scene.after(0.1, *CREW[:1], v)
    scene.go()
    scene.after(T.unnamed_s + 0.1, *CREW[:1], v)
    assert scene.push() == []


def test_what_somebody_may_have_who_is_no_worker_is_pushed_again_soon() -> None:
    scene = working()
    scene.crew("v", 2, 2)
    scene.rules.receive(scene.now, Present(["A" * 40, "E" * 40]))
    scene.rules.receive(scene.now, Present(["A" * 40]))
    scene.go()
    scene.after(1.9, *CREW)
    assert scene.push() == []
    assert scene.after(0.1, *CREW).count(CutLinks(2)) == 1
    scene.after(T.unnamed_s - 2.1, *CREW)
    assert scene.push() == []
    scene.after(0.2, *CREW)
    assert scene.push()


def test_a_worker_that_is_lost_at_once_is_cut_off_too() -> None:
    scene = working()
    scene.crew("v")
    assert scene.rules.receive(scene.now, Crew([], [], ["w"], 0)) == [CutLinks(1)]


def test_a_large_crew_does_not_connect_anew_all_the_time() -> None:
    """Where the machine is too busy some workers miss their beats at any time; that all connect anew makes it worse."""
    scene = working()
    crew = [Member(f"w{number}", 1, 1, [], []) for number in range(100)]
    # Each second another one has beaten for the last time.
    turns = (scene.after(1.0, *crew[at:]) for at in range(40))
    cut_at = [scene.now for outputs in turns if any(isinstance(each, CutLinks) for each in outputs)]
    assert len(cut_at) >= 5, "none is forgotten"
    for before, after in itertools.pairwise(cut_at):
        assert after - before >= 60 * CUT_CONNECTION_S


def test_no_worker_is_quiet_because_the_sink_was() -> None:
    scene = working()
    scene.go()
    scene.now += T.silence_s + 10
    assert not any(isinstance(output, CutLinks) for output in scene.after(0.1))
    scene.after(1, *CREW)
    # A sink whose disk was slow for a moment has not passed on what came meanwhile.
    scene.now += T.silence_s - 0.1
    assert not any(isinstance(output, CutLinks) for output in scene.after(0.1))
    assert scene.push() == []


def test_batches_that_nobody_ever_named_come_back_soon_after_a_worker_was_lost() -> None:
    scene = working()
    scene.crew("v", 2, 2)
    scene.go()
    scene.crew("v", held=((1, 1), (2, 1)))
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    scene.after(T.unnamed_s - 0.1)
    assert scene.push() == []
    scene.after(0.2)
    assert scene.push() == [(0, 1), (3, 1)]
    assert scene.pushed[-1].suspect


@pytest.mark.parametrize("lost", [False, True])
def test_a_crew_that_goes_worker_by_worker_costs_no_look_at_all_batches_each(
    monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """With 10,000 workers there are 20,000 batches, and a rack may go within a second."""
    looks: list[int] = []

    def counted(flights: Flights) -> Iterator[Flight]:
        looks.append(len(flights))
        return iter(list(flights._by_first.values()))

    scene = working()
    names = [f"w{number}" for number in range(100)]
    for name in names:
        scene.crew(name)
    first = scene.go()
    monkeypatch.setattr(Flights, "__iter__", counted)
    began_at = scene.now
    for name in names:
        scene.now += 0.01
        left, gone = ([], [name]) if lost else ([name], [])
        scene.rules.receive(scene.now, Crew([], left, gone, 0))
        scene.rules.tick(scene.now)
    assert 1 <= len(looks) <= 2 * (2 + (scene.now - began_at) / T.beat_soon_s), "to shorten leases, and to end them"
    scene.after(T.unnamed_s + T.beat_soon_s + 0.01)
    scene.crew("v", 1_000, 0)
    assert set(first) <= set(scene.push()), "all come back, also what may have gone to the last one"


def test_a_second_loss_does_not_put_off_what_the_first_has_brought_near() -> None:
    scene = working()
    scene.crew("v", 2, 2)
    scene.crew("u", 8, 8)
    scene.go()
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    scene.after(T.unnamed_s - 0.5)
    scene.rules.receive(scene.now, Crew([], [], ["v"], 0))
    scene.after(0.6)
    assert (0, 1) in scene.push()


def test_a_batch_that_was_pushed_again_is_named_by_nobody_until_a_beat_does() -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1),))
    for each in ("u", "v"):
        scene.crew(each, 20, 0)
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    assert scene.push() == [(0, 1)]
    scene.rules.receive(scene.now, Crew([], [], ["u"], 0))
    scene.after(T.unnamed_s + 0.1)
    assert (0, 1) in scene.push()


@pytest.mark.parametrize("other", [(0, 3, 2), (0, 10, 2)])
def test_a_beat_that_names_another_batch_with_the_same_first_task_holds_no_lease(other: tuple[int, int, int]) -> None:
    scene = working(DispatchSettings(batch_tasks=10))
    scene.go()
    for _ in range(int(T.lease_s) + 1):
        scene.after(1)
        scene.crew(held=(other, (10, 10), (20, 10), (30, 10)))
    assert scene.push()[0][0] == 0


def test_a_batch_of_which_a_part_has_receipts_is_pushed_again_without_that_part() -> None:
    scene = working(DispatchSettings(batch_tasks=10))
    scene.go()
    scene.receipts((2, 3), (8, 1))
    scene.rules.receive(scene.now, returned((0, 10)))
    assert scene.push() == [(0, 2)]
    scene.crew(slots=8)
    assert scene.push() == [(5, 3), (9, 1)]
    assert [msgpack.decode(batch.arguments) for batch in scene.pushed[-3:]] == [[0, 1], [5, 6, 7], [9]]


def test_receipts_settle_in_any_order_and_over_batches() -> None:
    scene = working(DispatchSettings(batch_tasks=5))
    scene.go()
    scene.receipts((7, 6))
    assert scene.rules.outstanding == 4
    scene.receipts((0, 7), (13, 2))
    assert scene.rules.outstanding == 1
    scene.receipts((15, 5))
    assert scene.rules.outstanding == 0


def test_a_resumed_job_skips_what_is_recorded() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10), resumed=((0, 20), (25, 5)))
    scene.crew()
    scene.catch_up()
    assert scene.rules.plan(scene.now) == Skip(20)
    assert scene.go() == [(20, 5), (30, 10), (40, 10), (50, 10)]
    assert not scene.rules._earlier._recorded, "what was skipped is forgotten"


def test_a_resumed_job_leaves_to_living_workers_what_they_hold() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10), resumed=((0, 20),))
    scene.crew(held=((20, 7), (40, 5)))
    scene.catch_up()
    assert scene.go() == [(27, 10), (37, 3)]
    assert scene.rules.outstanding == 4
    scene.rules.receive(scene.now, returned((20, 7)))
    assert scene.push() == [(20, 7)]


def test_a_resumed_job_pushes_nothing_before_its_input_was_read_as_far_as_before() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10), resumed=((0, 5),), mark=25)
    scene.catch_up()
    scene.crew(slots=1, prefetch=0)
    assert scene.rules.plan(scene.now) == Skip(5)
    scene.rules.skipped(5)
    assert scene.rules.plan(scene.now) == Take(10)
    scene.rules.offer(scene.now, 10, Raw(msgpack.encode(list(range(10)))))
    assert scene.push() == []
    scene.rules.offer(scene.now, 10, Raw(msgpack.encode(list(range(10)))))
    assert scene.rules.plan(scene.now) is None
    assert scene.push() == [(5, 10)]


def test_an_earlier_run_is_read_to_its_end_whatever_the_window_and_no_further_at_once() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10), resumed=((20, 100),), mark=50)
    scene.crew(slots=1, prefetch=0)
    scene.catch_up()
    for plan in (Take(10), Take(10)):
        assert scene.rules.plan(scene.now) == plan
        scene.rules.offer(scene.now, 10, Raw(msgpack.encode(list(range(10)))))
        assert scene.push() == []
    assert scene.rules.plan(scene.now) == Skip(30)
    scene.rules.skipped(30)
    assert scene.rules.plan(scene.now) == Skip(70)
    assert scene.push() == [(0, 10)]


def test_a_job_that_is_opened_again_while_it_runs_goes_on_at_once() -> None:
    scene = working()
    scene.go()
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 10**6, b"", None, 0, True, 0.0))
    scene.crew()
    assert scene.rules.plan(scene.now) is None
    scene.receipts((0, 1))
    assert scene.go() == [(4, 1)]


def test_nothing_is_read_while_more_receipts_are_to_come() -> None:
    scene = Scene()
    scene.crew()
    assert scene.rules.plan(scene.now) is None
    scene.receipts((0, 2), more=True)
    assert scene.rules.plan(scene.now) is None
    scene.receipts((2, 1))
    assert scene.rules.plan(scene.now) == Skip(3)


def test_batches_that_living_workers_hold_are_read_and_counted_even_beyond_the_window() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10))
    scene.crew(slots=1, prefetch=0, held=((0, 5), (5, 5)))
    scene.catch_up()
    assert scene.go() == []
    assert (scene.rules.outstanding, scene.rules.in_flight_count) == (2, 2)


@pytest.mark.parametrize("message", [Crew([], [], ["w"], 0), Crew([], ["w"], [], 0), returned((0, 5))])
def test_what_a_worker_held_and_gave_up_before_it_was_read_is_pushed(message: Crew | Returned) -> None:
    scene = Scene(DispatchSettings(batch_tasks=10))
    scene.crew(held=((0, 5),))
    scene.crew("v")
    scene.catch_up()
    scene.rules.receive(scene.now, message)
    assert scene.go()[0] == (0, 10)


def test_a_worker_can_name_only_so_many_batches_of_an_earlier_run() -> None:
    scene = Scene()
    scene.crew(held=tuple((10**6 + n, 1) for n in range(EarlierRun._ADOPTABLE_MAX + 5)))
    assert len(scene.rules._earlier._adoptable) == EarlierRun._ADOPTABLE_MAX


def test_a_batch_says_all_that_a_worker_must_know() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10, timeout_s=7.0, retries=1))
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 4, True, 0.0))
    scene.catch_up()
    scene.crew()
    scene.go()
    batch = scene.pushed[0]
    assert (batch.job, batch.function, batch.attempt, batch.timeout_s, batch.suspect) == ("job", "m:f", 5, 7.0, False)
    assert batch.ticket == ticket(b"k" * 32, 0, 10, 5)
    scene.receipts((3, 7))
    scene.rules.receive(scene.now, returned((0, 10, 5)))
    scene.push()
    part = scene.pushed[-1]
    assert (part.first, part.count, part.attempt, part.ticket) == (0, 3, 5, ticket(b"k" * 32, 0, 3, 5))
    scene.rules.receive(scene.now, Failed("job", 5, [1]))
    scene.receipts((0, 1), (2, 1))
    scene.after(1.3)
    scene.push()
    assert (scene.pushed[-1].first, scene.pushed[-1].attempt) == (1, 6)


def test_one_worker_in_five_has_a_place_left_free_unless_there_are_none_beyond_the_slots() -> None:
    scene = working()
    for number in range(9):
        scene.crew(f"v{number}", slots=1, prefetch=1)
    assert scene.rules.window == 2 + 2 + 9 * 2 - 10 // 5
    scene.go()
    scene.rules.input_ended()
    scene.rules.input_scarce(scene.now, True)
    assert scene.rules.window == 2 + 9
    bare = Scene()
    for number in range(10):
        bare.crew(f"v{number}", slots=1, prefetch=0)
    assert bare.rules.window == 10


def test_a_dry_input_shrinks_the_window_to_the_slots() -> None:
    scene = working()
    scene.go()
    scene.rules.input_ended()
    assert scene.rules.input_scarce(scene.now, True) == [Ask("job", 0, True)]
    assert scene.rules.window == 2
    scene.rules.receive(scene.now, returned((0, 1)))
    assert scene.push() == []
    scene.receipts((1, 1), (2, 1))
    assert scene.push() == [(0, 1)]


def test_the_window_opens_again_once_the_input_has_filled_it() -> None:
    scene = working()
    scene.rules.input_scarce(scene.now, True)
    assert Ask("job", 0, True) in scene.after(T.beat_soon_s)
    assert scene.rules.input_scarce(scene.now, False) == []
    assert scene.go() == [(0, 1), (1, 1)]
    assert scene.rules.input_scarce(scene.now, False) == [Ask("job", 0, False)]
    assert scene.go() == [(2, 1), (3, 1)]


def test_an_input_that_pauses_is_scarce_only_after_a_while_and_does_not_flap() -> None:
    scene = working()
    scene.rules.input_scarce(scene.now, True)
    scene.after(T.beat_soon_s / 2)
    scene.rules.input_scarce(scene.now, False)
    scene.rules.input_scarce(scene.now, True)
    scene.after(T.beat_soon_s / 2)
    assert not scene.rules.scarce
    scene.after(T.beat_soon_s / 2)
    assert scene.rules.scarce
    # More batches than slots, fewer than the crew may hold: the shell asks the input, which has nothing, turn by turn.
    for task in range(3):
        scene.rules.offer(scene.now, 1, Raw(msgpack.encode([task])))
    for _ in range(10):
        waits = scene.rules.plan(scene.now) is not None
        assert scene.rules.input_scarce(scene.now, waits) == []
    assert scene.push() == [(0, 1), (1, 1)]


def test_a_job_is_finished_when_the_input_is_read_and_every_task_has_its_receipt() -> None:
    scene = working()
    scene.go()
    scene.rules.input_ended()
    assert not scene.rules.finished
    scene.receipts((0, 4))
    assert scene.rules.finished


def test_a_job_is_not_finished_before_its_whole_input_is_read_or_while_a_task_waits_for_its_retry() -> None:
    scene = working(replace(ONE, retries=1))
    scene.go()
    scene.receipts((0, 4))
    assert not scene.rules.finished
    scene.rules.input_ended()
    assert scene.rules.finished
    scene = working(replace(ONE, retries=1))
    scene.go()
    scene.rules.input_ended()
    scene.rules.receive(scene.now, Failed("job", 1, [2]))
    scene.receipts((0, 2), (3, 1))
    assert not scene.rules.finished
    scene.after(2)
    assert scene.push() == [(2, 1)]
    scene.receipts((2, 1))
    assert scene.rules.finished


def test_a_cancelled_job_is_dropped() -> None:
    scene = working()
    scene.rules.receive(scene.now, Dropped("other"))
    assert not scene.rules.dropped
    scene.rules.receive(scene.now, Dropped("job"))
    assert scene.rules.dropped


def test_an_interrupted_job_pushes_no_more() -> None:
    scene = working()
    scene.go()
    scene.rules.halt()
    scene.receipts((0, 1))
    scene.rules.receive(scene.now, returned((1, 1)))
    assert scene.rules.plan(scene.now) is None
    assert scene.go() == []
    assert scene.rules.in_flight_count == 2


def test_a_failed_task_is_tried_again_after_a_wait_that_doubles() -> None:
    scene = working(DispatchSettings(batch_tasks=5, retries=3))
    scene.go()
    scene.receipts((0, 2), (3, 2))
    waits = []
    for attempt in (1, 2, 3):
        scene.rules.receive(scene.now, Failed("job", attempt, [2]))
        before = scene.now
        while not (again := [each for each in scene.push() if each == (2, 1)]):
            scene.after(0.1)
            scene.crew(held=((5, 5), (10, 5), (15, 5)))
        assert again == [(2, 1)]
        assert scene.pushed[-1].attempt == attempt + 1
        waits.append(scene.now - before)
    assert all(0.7 * 2**n <= wait <= 1.4 * 2**n for n, wait in enumerate(waits))
    scene.receipts((2, 1))
    assert scene.rules.outstanding == 3


@pytest.mark.parametrize("task", [0, 3])
def test_a_retry_waits_for_the_batch_that_it_failed_in(task: int) -> None:
    scene = working(DispatchSettings(batch_tasks=5, retries=1))
    scene.go()
    scene.rules.receive(scene.now, Failed("job", 1, [task]))
    for _ in range(20):
        scene.after(1)
        scene.crew(held=((0, 5), (5, 5), (10, 5), (15, 5)))
    assert scene.push() == []
    scene.receipts(*[(each, 1) for each in range(5) if each != task])
    scene.after(1)
    scene.crew(held=((5, 5), (10, 5), (15, 5)))
    assert scene.push() == [(task, 1)]


@pytest.mark.parametrize(
    "failed", [Failed("job", 2, [0]), Failed("job", 1, [999]), Failed("other", 1, [0]), Failed("job", 1, [4])]
)
def test_a_stale_failure_is_ignored(failed: Failed) -> None:
    scene = working(DispatchSettings(batch_tasks=5, retries=1))
    scene.go()
    scene.receipts((4, 1))
    scene.rules.receive(scene.now, failed)
    assert scene.rules.outstanding == 4
    scene.receipts((0, 4))
    assert scene.rules.outstanding == 3


def test_a_task_that_is_recorded_after_all_is_not_tried_again() -> None:
    scene = working(replace(ONE, retries=1))
    scene.go()
    scene.rules.receive(scene.now, Failed("job", 1, [2]))
    scene.receipts((0, 4))
    assert scene.rules.outstanding == 0
    scene.after(5)
    assert scene.push() == []


def test_the_wait_for_a_retry_has_a_bound() -> None:
    scene = working(replace(ONE, retries=50, retry_wait_max_s=3.0))
    scene.go()
    for attempt in range(1, 20):
        scene.rules.receive(scene.now, Failed("job", attempt, [0]))
        scene.after(3.8)
        scene.crew(held=((1, 1), (2, 1), (3, 1)))
        assert scene.push() == [(0, 1)]


def test_attempts_of_an_earlier_run_do_not_lengthen_the_wait() -> None:
    scene = working(replace(ONE, retries=1))
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 10, True, 0.0))
    scene.crew()
    scene.go()
    scene.rules.receive(scene.now, Failed("job", 11, [0]))
    scene.after(1.3)
    assert scene.push() == [(0, 1)]


def test_no_further_input_is_read_while_many_tasks_wait_for_their_retry() -> None:
    scene = working(replace(ONE, retries=1, retries_waiting_max=2))
    scene.go()
    scene.rules.receive(scene.now, Failed("job", 1, [0]))
    assert scene.rules.plan(scene.now) == Take(1)
    scene.rules.receive(scene.now, Failed("job", 1, [1]))
    assert scene.rules.plan(scene.now) is None


def test_a_task_that_started_on_workers_that_died_is_given_up() -> None:
    scene = working(replace(ONE, quarantine_after=2))
    scene.go()
    for round_ in (1, 2):
        worker = f"w{round_}"
        scene.crew(worker, held=((0, 1), (1, 1)), started=((0, 1),))
        outputs = scene.rules.receive(scene.now, Crew([], [], [worker], 0))
        scene.push()
    said = [each for each in outputs if not isinstance(each, CutLinks)]
    assert said == [Quarantine("job", 0, 1, "w2", 2, Raw(msgpack.encode([0])))]
    assert not any(batch.first == 0 for batch in scene.pushed[-1:])


def test_a_worker_that_leaves_in_order_makes_nobody_suspect() -> None:
    scene = working(replace(ONE, quarantine_after=1))
    scene.go()
    scene.crew("v", held=((0, 1),), started=((0, 1),))
    assert scene.rules.receive(scene.now, Crew([], ["v"], [], 0)) == []
    assert scene.push() == [(0, 1)]
    assert not scene.pushed[-1].suspect


def test_a_suspect_batch_is_split() -> None:
    scene = working(DispatchSettings(batch_tasks=64, split_parts=4, quarantine_after=1))
    scene.go()
    scene.crew("v", slots=50, held=((0, 64),), started=((0, 64),))
    scene.crew("u", slots=50)
    scene.rules.receive(scene.now, Crew([], [], ["v"], 0))
    assert scene.push() == [(0, 16), (16, 16), (32, 16), (48, 16)]
    assert all(batch.suspect for batch in scene.pushed[-4:])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["beat", "lost", "left", "return", "receipt", "part", "fail", "time", "dry", "wet"]),
        st.integers(0, 3),
        st.integers(0, 10),
    ),
    max_size=60,
)


def test_a_lost_worker_that_named_a_batch_and_a_part_of_it_gives_back_each_task_once() -> None:
    scene = working(DispatchSettings(batch_tasks=3))
    scene.go()
    scene.receipts((0, 1))
    scene.rules.receive(scene.now, returned((0, 3)))
    assert (1, 2) in scene.go()
    scene.crew(held=((0, 3), (1, 2)), started=((1, 2),))
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    scene.crew("v", 20, 0)
    assert sorted(each for each in scene.push() if each[0] < 3) == [(1, 1), (2, 1)]
    scene.receipts((1, 2))
    assert not any(flight.first < 3 for flight in scene.rules._flights)


@settings(max_examples=200, deadline=None)
@example([("part", 0, 1), ("return", 0, 1), ("beat", 0, 3), ("lost", 0, 0), ("receipt", 0, 1)], 3, False)
@given(STEPS, st.sampled_from([1, 3, None]), st.booleans())
def test_whatever_happens_the_window_holds_and_the_job_ends(
    steps: list[tuple[str, int, int]], size: int | None, speculate: bool
) -> None:
    scene = Scene(DispatchSettings(batch_tasks=size, retries=50, quarantine_after=10**6, speculate=speculate))
    scene.catch_up()
    scene.crew("w0", 2, 1)
    alive: dict[str, set[tuple[int, int, int]]] = {"w0": set()}
    capacity = {"w0": 3}
    recorded: set[int] = set()
    in_flight_count: set[tuple[int, int, int]] = set()

    def push() -> None:
        scene.read()
        while (batch := scene.rules.next_push(scene.now)) is not None:
            key = (batch.first, batch.count, batch.attempt)
            assert batch.copy or not any(key in held for held in alive.values()), "a living worker names it"
            assert scene.rules.in_flight_count < scene.rules.window <= sum(capacity.values())
            news = batch.copy or not recorded & set(range(batch.first, batch.first + batch.count))
            assert news, "it is recorded"
            scene.rules.pushed(scene.now)
            in_flight_count.add(key)

    def receipt(first: int, count: int) -> None:
        recorded.update(range(first, first + count))
        for held in alive.values():
            held.difference_update([each for each in held if each[:2] == (first, count)])
        scene.receipts((first, count))

    for kind, which, number in steps:
        push()
        worker = f"w{which}"
        batches = sorted(in_flight_count)
        batch = batches[number % len(batches)] if batches else None
        if kind == "beat":
            taken = {held for other in alive for held in alive[other] if other != worker}
            held = {
                each
                for each in batches[:number]
                if each not in taken and not set(range(each[0], sum(each[:2]))) <= recorded
            }
            alive[worker] = held
            capacity[worker] = 3
            scene.crew(worker, 2, 1, held=tuple(held), started=tuple(held)[:1])
        elif kind in ("lost", "left") and worker in alive:
            del alive[worker], capacity[worker]
            gone = [worker]
            scene.rules.receive(scene.now, Crew([], gone if kind == "left" else [], gone if kind == "lost" else [], 0))
        elif kind == "return" and batch:
            for held in alive.values():
                held.discard(batch)
            scene.rules.receive(scene.now, returned(batch, worker=""))
        elif kind == "receipt" and batch:
            in_flight_count.discard(batch)
            receipt(*batch[:2])
        elif kind == "part" and batch:
            receipt(batch[0], max(1, batch[1] // 2))
        elif kind == "fail" and batch:
            scene.rules.receive(scene.now, Failed("job", batch[2], [batch[0]]))
        elif kind == "time":
            for _ in range(number):
                scene.after(0.5)
                for living, held in alive.items():
                    scene.crew(living, 2, 1, held=tuple(held))
        elif kind in ("dry", "wet"):
            scene.rules.input_scarce(scene.now, kind == "dry")
            if speculate:
                scene.rules.input_ended()
        copies = sum(flight.is_copied for flight in scene.rules._flights)
        assert copies <= scene.rules.in_flight_count <= scene.rules.outstanding + copies
        flights = sorted((flight.first, flight.count) for flight in scene.rules._flights)
        assert all(first + count <= after for (first, count), (after, _) in itertools.pairwise(flights))

    scene.rules.input_ended()
    scene.crew("last", 4, 4)
    capacity["last"] = 8
    for worker in [worker for worker in alive if worker != "last"]:
        scene.rules.receive(scene.now, Crew([], [worker], [], 0))
    alive.clear()
    for _ in range(200):
        scene.after(1)
        scene.crew("last", 4, 4)
        for first, count in scene.push():
            receipt(first, count)
    assert scene.rules.finished
    assert scene.rules.in_flight_count == 0


def test_who_died_while_the_sink_was_away_is_no_longer_counted_on() -> None:
    scene = working()
    scene.crew("v", 2, 2)
    assert scene.rules.window == 8
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, True, 0.0))
    scene.crew("v", 2, 2)
    assert (scene.rules.crew_count, scene.rules.window) == (1, 4)


def test_a_lost_worker_takes_only_the_batches_that_it_named() -> None:
    scene = working(DispatchSettings(batch_tasks=2, retries=1))
    scene.crew("b", slots=50)
    scene.go()
    scene.crew("w", held=((0, 2),))
    scene.rules.receive(scene.now, Failed("job", 1, [0]))
    scene.receipts((1, 1), (4, 40))
    scene.after(2)
    assert scene.push() == [(0, 1)]  # the retry, in other hands
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    assert scene.push() == []


def test_a_batch_is_ready_once() -> None:
    scene = working()
    scene.go()
    scene.crew(slots=1, prefetch=0, held=((3, 1),))
    scene.rules.receive(scene.now, returned((0, 1), (1, 1), (2, 1)))
    for _ in range(20):
        scene.after(1)
        scene.crew(slots=1, prefetch=0, held=((3, 1),))
    assert [flight.first for flight in scene.rules._flights._ready] == [0, 1, 2]


def test_a_beat_holds_the_lease_of_its_own_attempt_only() -> None:
    scene = working(DispatchSettings(batch_tasks=1, retries=1))
    scene.go()
    scene.crew(held=((0, 1),))
    scene.rules.receive(scene.now, Failed("job", 1, [0]))
    scene.after(2)
    assert scene.go() == [(0, 1)]
    for _ in range(2 * int(T.lease_s)):
        scene.after(1)
        scene.crew(held=((0, 1, 1), (1, 1), (2, 1), (3, 1)))
    assert (0, 1) in scene.push()


def test_a_resumed_job_adopts_a_batch_at_the_attempt_that_a_worker_names() -> None:
    scene = Scene(DispatchSettings(batch_tasks=1, retries=5))
    scene.crew(held=((0, 1, 3),))
    scene.catch_up()
    assert (0, 1) not in scene.go()
    scene.rules.receive(scene.now, Failed("job", 3, [0]))
    scene.after(10)
    scene.push()
    assert [batch.attempt for batch in scene.pushed if batch.first == 0] == [4]


def test_a_resumed_job_leaves_a_batch_to_its_worker_though_a_part_is_recorded() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10), resumed=((40, 2), (43, 1)), mark=45)
    scene.crew(held=((40, 5),))
    scene.catch_up()
    assert scene.rules.plan(scene.now) == Take(10)
    scene.read()
    assert (40, 5) not in scene.push()
    assert not any(first in range(40, 45) for first, _ in scene.push())
    scene.rules.receive(scene.now, returned((40, 5)))
    scene.crew(slots=20)
    assert [batch for batch in scene.push() if batch[0] >= 40][:2] == [(42, 1), (44, 1)]


@pytest.mark.parametrize("read_at", [0, 1, 2])
def test_what_beats_name_no_more_is_pushed_again_once_all_is_known_that_was_recorded(read_at: int) -> None:
    """As when failed tasks run again at once: the last beat was said before the worker had its receipts."""
    scene = Scene(DispatchSettings(batch_tasks=3))
    scene.crew(held=((0, 3), (3, 3), (6, 3)))
    scene.crew("v", held=((6, 3),))
    scene.catch_up()
    pushed = scene.go() if read_at == 0 else []
    scene.crew(held=())
    pushed += scene.go() if read_at == 1 else []
    scene.receipts((3, 3), more=True)
    assert not any(first < 9 for first, _ in pushed + scene.push())
    scene.receipts((20, 1))
    assert (0, 3) in scene.go()
    assert not any(batch.suspect for batch in scene.pushed)
    scene.crew("v", held=())
    scene.crew("v", held=((6, 3),))
    scene.receipts()
    assert not any(first in (3, 6) for first, _ in scene.go()), "one is recorded, one is named again"


def test_what_this_run_has_pushed_stays_in_flight_when_beats_name_it_no_more() -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1),))
    scene.crew(held=())
    scene.receipts()
    assert scene.push() == []


def test_an_adopted_batch_that_has_a_copy_is_left_to_it_when_beats_name_it_no_more() -> None:
    scene = Scene(DispatchSettings(batch_tasks=1, speculate=True))
    scene.crew(slots=2, prefetch=0, held=((0, 1),))
    scene.catch_up()
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([0])))
    scene.rules.input_ended()
    scene.rules.receive(scene.now, Receipts("job", 0, 1, [(7, 1)], 1, 0.1, 1, 0, False))
    scene.position = 1
    scene.now += T.beat_s
    assert scene.push() == [(0, 1)]
    assert scene.pushed[-1].copy
    scene.crew(slots=2, prefetch=0)
    scene.receipts()
    assert (scene.push(), scene.rules.in_flight_count) == ([], 1)


def test_a_batch_that_a_worker_holds_is_waited_for_as_a_whole() -> None:
    scene = Scene(DispatchSettings(batch_tasks=10))
    scene.crew(held=((0, 7),))
    scene.catch_up()
    assert scene.rules.plan(scene.now) == Take(7, at_least=7)


def test_a_worker_that_comes_late_keeps_what_it_names_by_the_bounds_of_this_run_only() -> None:
    scene = Scene(DispatchSettings(batch_tasks=7), resumed=((0, 3),), mark=24)
    scene.catch_up()
    scene.read()
    # Read as 3 to 9, 10 to 16 and 17 to 23.
    scene.crew(slots=20, held=((2, 7), (10, 7), (15, 4), (17, 7, 2)))
    assert scene.push() == [(3, 7), (17, 7)]
    scene.rules.receive(scene.now, returned((2, 7), (10, 7), (15, 4)))
    assert scene.push() == [(10, 7)]
    scene.receipts((2, 7), (15, 4))
    scene.receipts((9, 6), (19, 5))
    assert scene.rules.outstanding == 0


def test_of_two_batches_that_begin_alike_the_longer_one_is_waited_for_whoever_speaks_last() -> None:
    scene = Scene(DispatchSettings(batch_tasks=3))
    scene.crew("u", held=((0, 3),))
    scene.crew("v", held=((0, 1),))
    scene.crew("w", held=((4, 3), (5, 1)))
    scene.catch_up()
    assert scene.go()[:3] == [(3, 1), (7, 3), (10, 3)]


@pytest.mark.parametrize("order", [("u", "v"), ("v", "u")])
def test_a_retry_that_a_worker_holds_is_waited_for_though_another_names_the_batch_that_it_failed_in(
    order: tuple[str, str],
) -> None:
    scene = Scene(DispatchSettings(batch_tasks=3), resumed=((1, 2),), mark=3)
    held = {"u": (0, 3, 1), "v": (0, 1, 2)}
    for worker in order:
        scene.crew(worker, held=(held[worker],))
    scene.catch_up()
    scene.read()
    scene.crew("u", held=())
    for _ in range(4):
        scene.after(T.lease_s / 2)
        scene.crew("v", held=(held["v"],))
        assert not any(first == 0 for first, _ in scene.go())


@pytest.mark.parametrize("read", [True, False])
def test_a_returned_batch_is_pushed_but_for_what_another_worker_has_of_it_by_other_bounds(read: bool) -> None:
    scene = Scene(DispatchSettings(batch_tasks=3))
    scene.crew("u", held=((0, 3), (3, 3)))
    scene.crew("v", held=((0, 1), (3, 3)))
    scene.catch_up()
    if read:
        scene.read()
    scene.rules.receive(scene.now, returned((0, 3), (3, 3), worker="u"))
    assert scene.go()[:2] == ([(6, 3), (9, 3)] if read else [(1, 2), (6, 3)])
    assert not any(first in (0, 3) for first, _ in scene.push())


def test_a_return_of_a_larger_batch_says_nothing_of_what_is_on_its_way() -> None:
    scene = Scene(DispatchSettings(batch_tasks=3))
    scene.catch_up()
    scene.crew(slots=1, prefetch=0)
    assert scene.go() == [(0, 3)]
    scene.crew("dark", slots=1, prefetch=0, held=((0, 9),))
    scene.rules.receive(scene.now, returned((0, 9), worker="dark"))
    assert (0, 3) not in scene.push()


def test_a_batch_as_large_as_a_user_may_ask_for_is_adopted() -> None:
    scene = Scene()
    scene.crew(held=((0, BATCH_TASKS_MAX),))
    scene.catch_up()
    assert scene.rules.plan(scene.now) == Take(BATCH_TASKS_MAX, at_least=BATCH_TASKS_MAX)


def test_a_late_copy_that_comes_back_is_not_pushed_while_another_worker_holds_the_batch() -> None:
    scene = working()
    scene.go()
    scene.crew("v", held=((0, 1),))
    scene.rules.receive(scene.now, returned((0, 1), worker="w"))
    assert scene.push() == []
    scene.rules.receive(scene.now, returned((0, 1), worker="v"))
    assert scene.push() == [(0, 1)]


def test_a_resumed_job_waits_until_a_new_sink_knows_its_crew() -> None:
    scene = Scene(mark=5)
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 5, b"", None, 0, True, 2.0))
    scene.crew()
    scene.catch_up()
    assert scene.rules.plan(scene.now) is None
    assert scene.rules.deadline() == scene.now + 2.0
    scene.after(2.1)
    assert scene.rules.plan(scene.now) == Take(1)


def test_a_new_job_does_not_wait_for_the_crew_to_gather() -> None:
    scene = Scene()
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 2.0))
    scene.crew()
    scene.catch_up()
    assert scene.rules.plan(scene.now) == Take(1)


def test_what_is_prefetched_beyond_the_slots_does_not_make_the_last_batches_smaller() -> None:
    scene = Scene(DispatchSettings())
    scene.catch_up()
    scene.rules.expect(80)
    scene.rules._size._tasks = 1_000
    for prefetch in (4, 50):
        scene.crew("w", slots=4, prefetch=prefetch)
        assert scene.rules.window >= 8
        assert scene.rules.batch_tasks == 80 // (2 * 8)


def test_what_a_lost_worker_held_is_run_elsewhere_though_it_comes_back_and_the_first_results_count() -> None:
    scene = Scene(DispatchSettings(batch_tasks=8, split_parts=4))
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0))
    scene.crew("w", 1, 0)
    scene.catch_up()
    scene.go()
    scene.crew("w", 1, 0, held=((0, 8),))
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    scene.crew("w", 4, 0, held=((0, 8),))
    assert scene.push() == [(0, 2), (2, 2), (4, 2), (6, 2)]
    scene.receipts((0, 8))
    assert (scene.rules.outstanding, scene.rules.in_flight_count) == (0, 0)


def test_one_task_that_a_lost_worker_held_stays_with_it_when_it_is_back_in_time() -> None:
    scene = working()
    scene.go()
    scene.crew(held=((0, 1),))
    scene.rules.receive(scene.now, Crew([], [], ["w"], 0))
    scene.crew(held=((0, 1),))
    assert (0, 1) not in scene.push()


def test_a_batch_of_an_earlier_run_is_pushed_at_an_attempt_of_this_one() -> None:
    scene = Scene(DispatchSettings(batch_tasks=1))
    # Task 0 has failed at attempt 1, and is run again; its worker still waits for the receipt of that failure.
    scene.rules.receive(scene.now, Opened("job", "ledger", b"k" * 32, 0, b"", None, 1, True, 0.0))
    scene.crew(held=((0, 1, 1),))
    scene.catch_up()
    assert (0, 1) not in scene.go()
    scene.after(T.lease_s + 1)
    scene.push()
    assert [batch.attempt for batch in scene.pushed if batch.first == 0] == [2]


# -- copies of stragglers ---------------------------------------------------------------------------------------

SPECULATING = replace(ONE, speculate=True)
LONG_S = SPECULATING.straggler_s


def straggling(
    settings: DispatchSettings = SPECULATING, *, slots: int = 4, named: bool = True, ended: bool = True
) -> Scene:
    """The input is at its end, if it has `ended`: task 0 has its receipt, task 1 is in the hands of worker `slow`."""
    scene = Scene(settings)
    scene.catch_up()
    scene.crew("slow", slots=1, prefetch=0)
    scene.crew("quick", slots=slots - 1, prefetch=0)
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([0])))
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([1])))
    if ended:
        scene.rules.input_ended()
        scene.rules.input_scarce(scene.now, True)
    assert scene.push() == [(0, 1), (1, 1)]
    if named:
        scene.crew("slow", slots=1, prefetch=0, held=((1, 1),), started=((1, 1),))
    scene.receipts((0, 1))
    assert scene.push() == []
    return scene


def copies(scene: Scene) -> list[tuple[int, int]]:
    return [(batch.first, batch.count) for batch in scene.pushed if batch.copy]


def test_a_straggler_is_copied_when_its_time_has_come_and_not_before() -> None:
    scene = straggling()
    assert scene.rules.deadline() == pytest.approx(scene.now + LONG_S)
    scene.now += LONG_S - 0.001
    assert scene.push() == []
    scene.now += 0.002
    assert scene.push() == [(1, 1)]
    original, copy = [batch for batch in scene.pushed if batch.first == 1]
    assert (original.copy, copy.copy) == (False, True)
    assert (original.ticket, original.attempt) == (copy.ticket, copy.attempt)
    assert (scene.rules.in_flight_count, scene.rules.copied_count) == (2, 1)


def test_there_is_one_copy_at_a_time() -> None:
    scene = straggling()
    for _ in range(20):
        scene.now += LONG_S
        scene.push()
    scene.now += T.lease_s
    scene.receipts()
    scene.push()
    assert copies(scene) == [(1, 1)]


def test_the_first_result_ends_the_batch_and_its_copy() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    scene.receipts((1, 1))
    assert (scene.rules.in_flight_count, scene.rules.outstanding, scene.rules.finished) == (0, 0, True)
    assert scene.rules._flights.copied == {}


def test_without_the_option_nothing_is_copied() -> None:
    scene = straggling(ONE)
    scene.after(5)
    assert scene.push() == []


def test_nothing_is_copied_before_the_input_is_at_its_end() -> None:
    scene = straggling(ended=False)
    scene.after(5)
    assert scene.push() == []


def test_nothing_is_copied_before_some_task_was_done() -> None:
    scene = Scene(SPECULATING)
    scene.catch_up()
    scene.crew(slots=4)
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([0])))
    scene.rules.input_ended()
    scene.push()
    scene.after(5, Member("w", 4, 2, [], []))
    assert scene.push() == []


def test_nothing_is_copied_while_no_slot_is_idle() -> None:
    scene = straggling(slots=2)
    busy, idle = (Member("quick", slots, 50, [], []) for slots in (0, 1))
    scene.rules.receive(scene.now, Crew([busy], [], [], 0))
    scene.after(1)
    assert scene.push() == []
    scene.rules.receive(scene.now, Crew([idle], [], [], 0))
    assert scene.push() == [(1, 1)]


def test_nothing_is_copied_while_the_sink_is_away() -> None:
    scene = straggling()
    scene.now += T.silence_s + 1
    assert scene.push() == []


def test_what_takes_long_as_all_tasks_do_is_no_straggler() -> None:
    scene = straggling()
    scene.rules.receive(scene.now, Receipts("job", scene.position, scene.position, [], 9, 20.0, 1, 0, False))
    scene.after(3.9)
    assert scene.push() == []
    scene.after(0.2)
    assert scene.push() == [(1, 1)]


def test_the_oldest_straggler_is_copied_first() -> None:
    scene = straggling(ended=False)
    retry = Failed("job", 1, [1])
    scene.now += 0.01
    scene.rules.offer(scene.now, 1, Raw(msgpack.encode([2])))
    scene.rules.input_ended()
    scene.rules.input_scarce(scene.now, True)
    assert scene.push() == [(2, 1)]
    scene.now += 1
    assert scene.push() == [(1, 1), (2, 1)]
    assert copies(scene) == [(1, 1), (2, 1)]
    scene.rules.receive(scene.now, retry)
    assert scene.rules.in_flight_count == 2


def refused_copy(*batches: tuple[int, ...], worker: str = "slow") -> Returned:
    return Returned("job", worker, [], named(batches))


def test_a_refused_copy_does_not_bring_the_original_back() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    scene.rules.receive(scene.now, refused_copy((1, 1)))
    assert scene.rules.in_flight_count == 1
    assert scene.push() == [(1, 1)]
    assert copies(scene) == [(1, 1), (1, 1)]


def test_a_copy_that_all_refuse_does_not_circulate_hot() -> None:
    scene = straggling()
    scene.now += LONG_S
    began_at = scene.now
    while scene.now < began_at + 60:
        scene.now += 0.001
        scene.crew("slow", slots=1, prefetch=0, held=((1, 1),))
        scene.rules.receive(scene.now, Receipts("other", 0, 0, [], 0, 0, 0, 0, False))
        scene.rules.tick(scene.now)
        if scene.push():
            scene.rules.receive(scene.now, refused_copy((1, 1)))
    assert 60 <= len(copies(scene)) <= 80
    deadline = scene.rules.deadline()
    assert deadline is not None
    assert deadline > scene.now


def test_a_held_copy_that_is_given_back_leaves_the_original_where_it_is() -> None:
    scene = straggling(named=False)
    scene.now += LONG_S
    scene.push()
    scene.rules.receive(scene.now, returned((1, 1), worker="quick"))
    assert scene.rules.in_flight_count == 1
    assert scene.push() == []
    scene.now += LONG_S
    assert scene.push() == [(1, 1)]
    assert copies(scene) == [(1, 1), (1, 1)]


@pytest.mark.parametrize(("gone", "stays"), [("slow", "quick"), ("quick", "slow")])
def test_of_a_batch_and_its_copy_one_is_lost_and_the_other_goes_on(gone: str, stays: str) -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    scene.crew("quick", slots=3, prefetch=0, held=((1, 1),), started=((1, 1),))
    scene.rules.receive(scene.now, Crew([], [], [gone], 0))
    assert scene.rules.in_flight_count == 1
    scene.crew("third", slots=3)
    for _ in range(20):
        scene.crew(stays, slots=3, prefetch=0, held=((1, 1),), started=((1, 1),))
        scene.after(1)
        assert scene.push() == []
    [flight] = scene.rules._flights
    assert (flight.suspect, flight.lost_count) == (True, 0)
    scene.rules.receive(scene.now, Crew([], [], [stays], 0))
    assert scene.push() == [(1, 1)]
    assert scene.pushed[-1].suspect
    assert not scene.pushed[-1].copy
    assert flight.lost_count == 1


def test_of_a_batch_and_its_copy_one_leaves_in_order_and_there_is_another_copy() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    scene.crew("quick", slots=3, prefetch=0, held=((1, 1),))
    scene.rules.receive(scene.now, Crew([], ["slow"], [], 0))
    assert scene.push() == []
    scene.now += LONG_S
    assert scene.push() == [(1, 1)]
    assert copies(scene) == [(1, 1), (1, 1)]


def test_a_copy_that_was_lost_on_its_way_is_pushed_again_after_a_lease() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    for _ in range(19):
        scene.after(0.5)
        scene.crew("slow", slots=1, prefetch=0, held=((1, 1),))
        assert scene.push() == []
    scene.after(1)
    assert scene.push() == [(1, 1)]
    assert len(copies(scene)) == 2


def test_a_copy_that_a_beat_names_is_not_lost() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    for _ in range(60):
        scene.after(0.5)
        scene.crew("slow", slots=1, prefetch=0, held=((1, 1),))
        scene.crew("quick", slots=3, prefetch=0, held=((1, 1),))
        assert scene.push() == []
    assert scene.rules.in_flight_count == 2


def test_the_last_one_of_a_batch_and_its_copy_is_pushed_again_when_it_comes_back() -> None:
    scene = straggling()
    scene.now += LONG_S
    scene.push()
    scene.crew("quick", slots=3, prefetch=0, held=((1, 1),))
    scene.rules.receive(scene.now, returned((1, 1), worker="slow"))
    assert scene.push() == []
    scene.rules.receive(scene.now, returned((1, 1), worker="quick"))
    assert scene.push() == [(1, 1)]
    assert copies(scene) == [(1, 1)]


def test_an_interrupted_job_copies_nothing() -> None:
    scene = straggling()
    scene.rules.halt()
    scene.after(5)
    assert scene.push() == []


@pytest.mark.parametrize(("seconds", "scarce"), [(0.0001, False), (0.1, True)])
def test_batches_that_are_done_in_no_time_are_not_kept_back_near_the_end(seconds: float, scarce: bool) -> None:
    scene = working()
    scene.position += 1
    receipts = Receipts("job", scene.position - 1, scene.position, [(0, 1)], 1, seconds, 1, 0, False)
    scene.rules.receive(scene.now, receipts)
    scene.go()
    scene.rules.input_ended()
    scene.rules.input_scarce(scene.now, True)
    assert scene.rules.scarce is scarce
    # Unless one of them hangs: what waits behind it is wanted back.
    beat_soon_s = DispatchSettings().timing.beat_soon_s
    scene.now += beat_soon_s / 2
    scene.position += 1
    receipts = Receipts("job", scene.position - 1, scene.position, [(1, 1)], 1, seconds, 2, 0, False)
    scene.rules.receive(scene.now, receipts)
    for _ in range(2):
        assert scene.rules.scarce is scarce
        scene.rules.input_scarce(scene.now, True)
        scene.now += beat_soon_s * 0.9
        scene.rules.tick(scene.now)
    assert scene.rules.scarce
