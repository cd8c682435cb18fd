"""The worker's rules under a clock that is a number."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, msgpack, structs

from common.holding import Holding, Kill, Output, Run, Submit
from common.messages import Batch, Beat, Dropped, Recall, Recorded, Returned, decode_results
from common.settings import HoldingSettings

SETTINGS = HoldingSettings(slots=2, prefetch=1)
T = SETTINGS.timing
DONE = Raw(b"\xc0")


def batch(first: int, count: int = 1, job: str = "job", function: str = "m:f", suspect: bool = False) -> Batch:
    return Batch(job, function, first, count, 1, b"t" * 16, None, suspect, Raw(msgpack.encode(list(range(count)))))


def worker(settings: HoldingSettings = SETTINGS, ready: bool = True) -> Holding:
    made = Holding(settings, "w")
    made.expose(frozenset({"m:f"}))
    for slot in range(settings.slots if ready else 0):
        made.slot_idle(slot)
    made.tick(0.0)
    return made


def runs(outputs: list[Output]) -> list[tuple[int, int, int]]:
    return [(output.slot, output.first, output.count) for output in outputs if isinstance(output, Run)]


def returned(outputs: list[Output]) -> list[tuple[int, int]]:
    return [each for output in outputs if isinstance(output, Returned) for each in output.batches]


def serials(outputs: list[Output]) -> list[int]:
    return [decode_results(output.frame).serial for output in outputs if isinstance(output, Submit)]


def beat(made: Holding, now: float) -> Beat:
    [found] = [output for output in made.tick(now) if isinstance(output, Beat)]
    return found


def test_it_runs_holds_and_returns_by_its_capacity() -> None:
    made = worker()
    outputs = [output for first in range(5) for output in made.receive(1.0, batch(first))]
    assert runs(outputs) == [(0, 0, 1), (1, 1, 1)]
    assert returned(made.tick(1.0)) == [(3, 1), (4, 1)]


def test_who_has_finished_takes_as_much_as_before() -> None:
    made = worker()
    for start in range(0, 30, 3):
        for first in range(start, start + 3):
            made.receive(1.0, batch(first))
        assert returned(made.tick(1.0)) == []
        assert [finish(made) for _ in range(3)] == [start, start + 1, start + 2]
    assert made.empty


def test_batches_run_in_the_order_in_which_they_came() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=3))
    for first in (2, 0, 3, 1):
        made.receive(1.0, batch(first))
    assert [finish(made) for _ in range(4)] == [2, 0, 3, 1]


def test_capacity_is_for_each_job() -> None:
    made = worker()
    for job in ("a", "b"):
        for first in range(4):
            made.receive(1.0, batch(first, job=job))
    assert sorted((output.job, output.batches) for output in made.tick(1.0) if isinstance(output, Returned)) == [
        ("a", [(3, 1)]),
        ("b", [(3, 1)]),
    ]


def test_jobs_are_served_in_turn() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=3))
    outputs = [output for job in "aaabb" for output in made.receive(1.0, batch(len(made._held.get(job, ())), job=job))]
    for _ in range(4):
        made.outcomes(1.0, 0, *current(made), DONE)
        outputs += made.slot_done(0)
    assert [output.job for output in outputs if isinstance(output, Run)] == ["a", "a", "b", "a", "b"]


def finish(made: Holding) -> int:
    """Finish the batch that has run longest; its receipt comes at once."""
    slot, held = next(iter(made._running.items()))
    sent = serials(made.outcomes(1.0, slot, held.batch.first, held.batch.count, DONE))
    made.slot_done(slot)
    made.receive(1.0, Recorded(sent, []))
    return held.batch.first


def current(made: Holding, slot: int = 0) -> tuple[int, int]:
    held = made._running[slot]
    return held.batch.first, held.batch.count


def test_a_function_that_is_not_exposed_is_returned_and_a_batch_that_is_here_ignored() -> None:
    made = worker()
    made.receive(1.0, batch(0, function="m:other"))
    made.receive(1.0, batch(1))
    assert made.receive(1.0, batch(1)) == []
    assert returned(made.tick(1.0)) == [(0, 1)]
    assert made.duplicate_count == 1
    assert made.returned_count == 1


def test_nothing_is_left_of_a_batch_that_was_returned() -> None:
    made = worker()
    made.receive(1.0, batch(0, function="m:other"))
    assert made.empty


def test_another_batch_with_the_same_first_task_is_returned() -> None:
    made = worker()
    made.receive(1.0, batch(0, 5))
    made.receive(1.0, batch(0, 1))
    assert returned(made.tick(1.0)) == [(0, 1)]


def test_a_beat_names_what_waits_runs_and_has_no_receipt_and_nothing_else() -> None:
    made = worker()
    for first in range(4):
        made.receive(1.0, batch(first))
    assert beat(made, 2.0).held == {"job": [(0, 1), (1, 1), (2, 1)]}
    [serial] = serials(made.outcomes(2.0, 0, 0, 1, DONE))
    made.slot_done(0)
    told = beat(made, 3.0)
    assert told.held == {"job": [(0, 1), (1, 1), (2, 1)]}
    assert sorted(told.started["job"]) == [(1, 1), (2, 1)]
    made.receive(3.0, Recorded([serial], []))
    assert beat(made, 4.0).held == {"job": [(1, 1), (2, 1)]}


def test_beats_come_each_second_and_soon_after_a_change() -> None:
    made = worker()
    assert made.deadline() == T.beat_s
    made.receive(0.5, batch(0))
    assert made.deadline() == T.beat_soon_s
    beat(made, 0.5)
    assert made.deadline() == 0.5 + T.beat_s
    finish(made)
    assert made.deadline() == 0.5 + T.beat_soon_s


def test_a_restarted_sink_hears_a_beat_at_once_and_once() -> None:
    made = worker()
    made.sink_restarted(0.1)
    assert made.deadline() == 0.1
    beat(made, 0.1)
    assert made.deadline() == 0.1 + T.beat_s


def test_the_shell_is_woken_for_results_without_a_receipt() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    made.tick(T.resend_s - 0.5)
    assert made.deadline() == T.resend_s


def test_results_say_of_which_batch_they_are_and_no_two_have_the_same_serial() -> None:
    made = worker()
    made.receive(0.0, structs.replace(batch(4, 6), attempt=3))
    sent = made.outcomes(0.0, 0, 4, 2, DONE) + made.outcomes(0.0, 0, 6, 4, DONE)
    parts = [decode_results(each.frame) for each in sent if isinstance(each, Submit)]
    assert [(each.first, each.count, each.batch, each.attempt) for each in parts] == [
        (4, 2, (4, 6), 3),
        (6, 4, (4, 6), 3),
    ]
    assert parts[0].serial != parts[1].serial


def test_only_results_that_are_overdue_are_said_again() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.receive(0.0, batch(1))
    [one] = serials(made.outcomes(0.0, 0, 0, 1, DONE))
    made.outcomes(T.resend_s / 2, 1, 1, 1, DONE)
    assert serials(made.tick(T.resend_s)) == [one]


def test_a_restarted_sink_is_given_time_as_if_all_was_said_first_then() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    said = [now for now in range(1, 69) if serials(made.tick(float(now)))]
    made.sink_restarted(69.0)
    said += [now for now in range(70, 100) if serials(made.tick(float(now)))]
    assert said == [10, 30, 79, 99]


def test_results_are_kept_until_their_receipt_and_said_again_ever_later() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    first = made.outcomes(0.0, 0, 0, 1, DONE)
    made.slot_done(0)
    again = [now for now in range(1, 100) if serials(made.tick(float(now)))]
    assert again == [10, 30, 70]
    assert made.sink_restarted(100.0) == first
    made.receive(100.0, Recorded(serials(first), []))
    assert made.sink_restarted(101.0) == []
    assert made.empty


def test_refused_results_are_forgotten_too() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    sent = serials(made.outcomes(0.0, 0, 0, 1, DONE))
    made.slot_done(0)
    made.receive(0.0, Recorded([], sent))
    assert made.empty


def test_a_batch_is_held_until_all_its_parts_have_receipts() -> None:
    made = worker()
    made.receive(0.0, batch(0, 5))
    [one] = serials(made.outcomes(0.0, 0, 0, 2, DONE))
    made.receive(0.0, Recorded([one], []))
    [two] = serials(made.outcomes(0.0, 0, 2, 3, DONE))
    made.slot_done(0)
    assert beat(made, 1.0).held == {"job": [(0, 5)]}
    made.receive(0.0, Recorded([two], []))
    assert made.empty


def test_a_batch_runs_until_its_slot_says_so_even_if_all_receipts_are_here() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.receive(0.0, Recorded(serials(made.outcomes(0.0, 0, 0, 1, DONE)), []))
    assert not made.empty
    made.slot_done(0)
    assert made.empty


def test_a_new_child_runs_only_the_tasks_that_have_no_outcome() -> None:
    made = worker()
    made.receive(0.0, batch(0, 6))
    made.outcomes(0.0, 0, 0, 2, DONE)
    made.outcomes(0.0, 0, 4, 1, DONE)
    assert runs(made.slot_idle(0)) == [(0, 2, 2)]
    made.outcomes(0.0, 0, 2, 2, DONE)
    [order] = made.slot_done(0)
    assert isinstance(order, Run)
    assert (order.first, order.count, msgpack.decode(order.arguments)) == (5, 1, [5])
    made.outcomes(0.0, 0, 5, 1, DONE)
    assert runs(made.slot_idle(0)) == []
    assert made.running_count == 0


def test_an_idle_child_that_is_replaced_counts_once() -> None:
    made = worker()
    made.slot_idle(0)
    outputs = [output for first in range(3) for output in made.receive(0.0, batch(first))]
    assert runs(outputs) == [(0, 0, 1), (1, 1, 1)] or runs(outputs) == [(1, 0, 1), (0, 1, 1)]


def test_the_start_of_a_suspect_batch_is_said_before_it_starts() -> None:
    made = worker()
    told, order = made.receive(0.0, batch(0, suspect=True))
    assert isinstance(told, Beat)
    assert told.started == {"job": [(0, 1)]}
    assert isinstance(order, Run)


def test_of_a_scarce_job_only_free_slots_take_batches() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    made.places(frozenset({"job"}))
    assert returned(made.tick(0.0)) == [(2, 1)]
    made.receive(0.0, batch(7))
    assert returned(made.tick(0.0)) == [(7, 1)]


def test_a_scarce_job_waits_for_its_turn_among_others() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=1))
    made.receive(0.0, batch(0, job="busy"))
    made.places(frozenset({"job"}))
    made.receive(0.0, batch(0))
    assert returned(made.tick(0.0)) == []
    assert [output.job for output in (made.outcomes(0.0, 0, 0, 1, DONE), made.slot_done(0))[1]] == ["job"]  # type: ignore[union-attr]


def test_a_scarce_job_has_its_share_of_the_slots_and_what_is_free() -> None:
    made = worker(HoldingSettings(slots=4, prefetch=4))
    made.places(frozenset({"job"}))
    made.receive(0.0, batch(0, job="busy"))
    for first in range(4):
        made.receive(0.0, batch(first))
    assert returned(made.tick(0.0)) == [(3, 1)]
    assert made.running_count == 4


def test_of_a_job_that_becomes_scarce_the_last_batches_above_its_share_are_returned() -> None:
    made = worker(HoldingSettings(slots=4, prefetch=4))
    for first in range(4):
        made.receive(0.0, batch(first, job="busy"))
    for first in range(3):
        made.receive(0.0, batch(first))
    made.places(frozenset({"job"}))
    assert returned(made.tick(0.0)) == [(2, 1)]
    made.receive(0.0, batch(3))
    assert returned(made.tick(0.0)) == [(3, 1)]
    assert beat(made, 1.0).held["job"] == [(0, 1), (1, 1)]


def test_the_shell_is_woken_when_the_grace_is_over() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.tick(1.0)
    made.leave(1.0, 0.3)
    assert made.deadline() == 1.3


def test_leaving_returns_what_waits_and_after_the_grace_what_runs() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    assert returned(made.leave(1.0, 30.0)) == [(2, 1)]
    made.receive(2.0, batch(9))
    assert returned(made.tick(2.0)) == [(9, 1)]
    sent = serials(made.outcomes(3.0, 0, 0, 1, DONE))
    made.slot_done(0)
    made.receive(3.0, Recorded(sent, []))
    assert not made.empty
    outputs = made.tick(31.0)
    assert [output for output in outputs if isinstance(output, Kill)] == [Kill(1)]
    assert returned(outputs) == [(1, 1)]
    assert made.empty


def test_a_recall_returns_what_waits() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    made.receive(0.0, Recall("job"))
    made.receive(0.0, Recall("unknown"))
    assert returned(made.tick(0.0)) == [(2, 1)]
    made.receive(0.0, batch(3))
    assert returned(made.tick(0.0)) == []


def test_a_dropped_job_is_forgotten_with_what_runs() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    made.outcomes(0.0, 1, 1, 1, DONE)
    assert made.receive(0.0, Dropped("job")) == [Kill(0), Kill(1)]
    assert made.empty
    assert serials(made.tick(T.resend_s)) == []
    assert runs(made.slot_idle(0)) == []
    assert runs(made.receive(0.0, batch(0, job="next"))) == [(0, 0, 1)]
    for first in range(3):
        made.receive(0.0, batch(first))
    assert returned(made.tick(0.0)) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["batch", "done", "part", "died", "receipt", "scarce", "plenty", "time"]), st.integers(0, 30)
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(0, 3))
def test_hold_or_return(steps: list[tuple[str, int]], slots: int, prefetch: int) -> None:
    """Every batch that came is returned, or in care until its receipts; never both, never beyond the capacity."""
    made = worker(replace(SETTINGS, slots=slots, prefetch=prefetch))
    accepted: set[tuple[str, int]] = set()
    back: set[tuple[str, int]] = set()
    recorded: set[tuple[str, int]] = set()
    sent: dict[int, tuple[str, int]] = {}
    now = 0.0

    def take(outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Returned):
                for first, _ in output.batches:
                    assert (output.job, first) not in recorded
                    back.add((output.job, first))
                    accepted.discard((output.job, first))
            elif isinstance(output, Submit):
                results = decode_results(output.frame)
                assert (results.job, results.batch[0]) not in back or results.serial in sent
                sent[results.serial] = (results.job, results.batch[0])

    for kind, number in steps:
        job, first = ("a", "b")[number % 2], number // 2 * 3
        running = sorted(made._running)
        slot = running[number % len(running)] if running else None
        if kind == "batch" and (job, first) not in recorded | accepted:
            back.discard((job, first))
            accepted.add((job, first))
            take(made.receive(now, batch(first, 3, job)))
        elif kind in ("done", "part") and slot is not None:
            at, count = next(iter(made._running[slot].todo))
            take(made.outcomes(now, slot, at, count if kind == "done" else 1, DONE))
            if kind == "done" or count == 1:
                take(made.slot_done(slot))
        elif kind == "died" and slot is not None:
            take(made.slot_idle(slot))
        elif kind == "receipt" and sent:
            serial = sorted(sent)[number % len(sent)]
            made.receive(now, Recorded([serial], []))
            del sent[serial]
        elif kind in ("scarce", "plenty"):
            made.places(frozenset({job}) if kind == "scarce" else frozenset())
        else:
            now += number / 10
        take(made.tick(now))
        held = {(name, first) for name, mine in made._held.items() for first in mine}
        assert held <= accepted
        recorded |= accepted - held
        accepted = held
        assert not held & back
        load = Counter(
            job for job, mine in made._held.items() for one in mine.values() if one.todo or one.slot is not None
        )
        assert all(each <= slots + prefetch for each in load.values())
        assert len(made._running) <= slots
        waiting = sum(map(len, made._waiting.values()))
        assert not (waiting and len(made._running) < slots), "nobody idles while a batch waits"


def test_a_restarted_sink_hears_results_again_after_the_first_wait() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    for now in range(1, 700):
        made.tick(float(now))
    made.sink_restarted(700.0)
    assert next(now for now in range(701, 2000) if serials(made.tick(float(now)))) == 710


def test_a_new_result_does_not_wait_for_an_old_ones_turn() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    for now in range(1, 311):
        made.tick(float(now))
    made.receive(311.0, batch(1))
    made.outcomes(311.0, 1, 1, 1, DONE)
    assert next(now for now in range(312, 2000) if serials(made.tick(float(now)))) == 321


def test_the_wait_to_say_results_again_has_a_bound() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    again = [now for now in range(20_000) if serials(made.tick(float(now)))]
    assert max(b - a for a, b in itertools.pairwise(again)) <= 120


def test_a_next_attempt_is_not_taken_for_a_duplicate() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, DONE)
    made.slot_done(0)  # its receipt is lost
    orders = made.receive(1.0, structs.replace(batch(0), attempt=2))
    assert runs(orders) or returned(made.tick(1.0))


def test_a_worker_forgets_the_jobs_that_are_over() -> None:
    made = worker()
    for n in range(50):
        made.receive(1.0, batch(0, job=f"job{n}"))
        finish(made)
    assert len(made._load) <= 1
