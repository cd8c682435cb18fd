"""The worker's rules under a clock that is a number."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, msgpack, structs

from common.protocol.codec import decode_results, ticket
from common.protocol.messages import Batch, Beat, Dropped, Heard, Recall, Recorded, Returned
from common.worker.holding import Holding, Output
from common.worker.settings import HoldingSettings
from common.worker.slot_orders import KillOrder, RunOrder
from common.worker.unacked import Submit

SETTINGS = HoldingSettings(slots=2, prefetch=1, ahead_bytes_max=0)
T = SETTINGS.timing
DONE = b"\xc0"


def batch(
    first: int,
    count: int = 1,
    job: str = "job",
    function: str = "m:f",
    suspect: bool = False,
    copy: bool = False,
    keep: bool = False,
) -> Batch:
    return Batch(
        job,
        function,
        first,
        count,
        1,
        ticket(b"k", first, count, 1),
        None,
        suspect,
        copy,
        Raw(msgpack.encode(list(range(count)))),
        keep=keep,
    )


def worker(settings: HoldingSettings = SETTINGS, ready: bool = True) -> Holding:
    made = Holding(settings, "w")
    made.expose(frozenset({"m:f"}))
    made.places(dict.fromkeys(("job", "a", "b", "busy", "next"), b""), frozenset())
    for slot in range(settings.slots if ready else 0):
        made.slot_idle(0.0, slot)
    made.tick(0.0)
    return made


def idle(made: Holding, now: float, slot: int) -> list[Output]:
    """The slot's child is done, or ready."""
    return made.slot_done(now, slot) if slot in made._orders.running else made.slot_idle(now, slot)


def died(made: Holding, now: float, slot: int, unclear: bool = False) -> list[Output]:
    """The slot's child dies; the next one is ready."""
    return made.slot_lost(now, slot, unclear) + made.slot_idle(now, slot)


def runs(outputs: list[Output]) -> list[tuple[int, int, int]]:
    orders = [output for output in outputs if isinstance(output, RunOrder)]
    return [(order.slot, part.first, part.count) for order in orders for part in order.parts]


def returned(outputs: list[Output]) -> list[tuple[int, int]]:
    return [batch[:2] for output in outputs if isinstance(output, Returned) for batch in output.batches]


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
    made = worker(HoldingSettings(slots=1, prefetch=3, ahead_bytes_max=0))
    for first in (2, 0, 3, 1):
        made.receive(1.0, batch(first))
    assert [finish(made) for _ in range(4)] == [2, 0, 3, 1]


def test_capacity_is_for_each_job() -> None:
    made = worker()
    for job in ("a", "b"):
        for first in range(4):
            made.receive(1.0, batch(first, job=job))
    assert sorted((output.job, output.batches) for output in made.tick(1.0) if isinstance(output, Returned)) == [
        ("a", [(3, 1, 1)]),
        ("b", [(3, 1, 1)]),
    ]


def test_jobs_are_served_in_turn() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=3, ahead_bytes_max=0))
    outputs = [output for job in "aaabb" for output in made.receive(1.0, batch(len(made._held.get(job, ())), job=job))]
    for now in (2.0, 3.0, 4.0, 5.0):
        made.outcomes(now, 0, *current(made), 1.0, DONE)
        outputs += idle(made, now, 0)
    assert [output.job for output in outputs if isinstance(output, RunOrder)] == ["a", "b", "a", "b", "a"]


def finish(made: Holding) -> int:
    """Finish the batch that has run longest; its receipt comes at once."""
    slot, [[held]] = next(iter(made._orders.running.items()))
    sent = serials(made.outcomes(1.0, slot, held.batch.first, held.batch.count, 1.0, DONE))
    idle(made, 0.0, slot)
    made.receive(1.0, Recorded(sent, []))
    return held.batch.first


def current(made: Holding, slot: int = 0) -> tuple[int, int]:
    [[held]] = made._orders.running[slot]
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
    assert beat(made, 2.0).held == {"job": [(0, 1, 1), (1, 1, 1), (2, 1, 1)]}
    [serial] = serials(made.outcomes(2.0, 0, 0, 1, 1.0, DONE))
    idle(made, 0.0, 0)
    told = beat(made, 3.0)
    assert told.held == {"job": [(0, 1, 1), (1, 1, 1), (2, 1, 1)]}
    assert sorted(told.started["job"]) == [(1, 1, 1), (2, 1, 1)]
    made.receive(3.0, Recorded([serial], []))
    assert beat(made, 4.0).held == {"job": [(1, 1, 1), (2, 1, 1)]}


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
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    made.tick(T.resend_s - 0.5)
    assert made.deadline() == T.resend_s


def test_results_say_of_which_batch_they_are_and_no_two_have_the_same_serial() -> None:
    made = worker()
    made.receive(0.0, structs.replace(batch(4, 6), attempt=3))
    sent = made.outcomes(0.0, 0, 4, 2, 1.0, DONE) + made.outcomes(0.0, 0, 6, 4, 1.0, DONE)
    parts = [decode_results(each.frame) for each in sent if isinstance(each, Submit)]
    assert [(each.first, each.count, each.batch, each.attempt) for each in parts] == [
        (4, 2, (4, 6, 3), 3),
        (6, 4, (4, 6, 3), 3),
    ]
    assert parts[0].serial != parts[1].serial


def test_only_results_that_are_overdue_are_said_again() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.receive(0.0, batch(1))
    [one] = serials(made.outcomes(0.0, 0, 0, 1, 1.0, DONE))
    made.outcomes(T.resend_s / 2, 1, 1, 1, 1.0, DONE)
    assert serials(made.tick(T.resend_s)) == [one]


def test_a_restarted_sink_is_given_time_as_if_all_was_said_first_then() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    said = [now for now in range(1, 69) if serials(made.tick(float(now)))]
    made.sink_restarted(69.0)
    said += [now for now in range(70, 100) if serials(made.tick(float(now)))]
    assert said == [10, 30, 79, 99]


def test_results_are_kept_until_their_receipt_and_said_again_ever_later() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    first = made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    idle(made, 0.0, 0)
    again = [now for now in range(1, 100) if serials(made.tick(float(now)))]
    assert again == [10, 30, 70]
    assert made.sink_restarted(100.0) == first
    made.receive(100.0, Recorded(serials(first), []))
    assert made.sink_restarted(101.0) == []
    assert made.empty


def test_refused_results_are_forgotten_too() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    sent = serials(made.outcomes(0.0, 0, 0, 1, 1.0, DONE))
    idle(made, 0.0, 0)
    made.receive(0.0, Recorded([], sent))
    assert made.empty


def test_a_batch_is_held_until_all_its_parts_have_receipts() -> None:
    made = worker()
    made.receive(0.0, batch(0, 5))
    [one] = serials(made.outcomes(0.0, 0, 0, 2, 1.0, DONE))
    made.receive(0.0, Recorded([one], []))
    [two] = serials(made.outcomes(0.0, 0, 2, 3, 1.0, DONE))
    idle(made, 0.0, 0)
    assert beat(made, 1.0).held == {"job": [(0, 5, 1)]}
    made.receive(0.0, Recorded([two], []))
    assert made.empty


def test_a_slot_gets_no_more_before_it_says_that_it_is_idle_even_if_all_receipts_are_here() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=1, ahead_bytes_max=0))
    made.receive(0.0, batch(0))
    made.receive(0.0, batch(1))
    outputs = made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    assert runs(outputs + made.receive(0.0, Recorded(serials(outputs), []))) == []
    assert runs(idle(made, 0.0, 0)) == [(0, 1, 1)]


def test_a_new_child_runs_only_the_tasks_that_have_no_outcome() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=1, ahead_bytes_max=0))
    made.receive(0.0, batch(0, 6))
    made.outcomes(0.0, 0, 0, 2, 1.0, DONE)
    made.outcomes(0.0, 0, 4, 1, 1.0, DONE)
    [order] = idle(made, 0.0, 0)
    assert isinstance(order, RunOrder)
    parts = [(part.first, part.count, msgpack.decode(part.arguments)) for part in order.parts]
    assert parts == [(2, 2, [2, 3]), (5, 1, [5])]
    made.outcomes(0.0, 0, 2, 2, 1.0, DONE)
    made.outcomes(0.0, 0, 5, 1, 1.0, DONE)
    assert runs(idle(made, 0.0, 0)) == []
    assert len(made._orders.running) == 0


def test_an_idle_child_that_is_replaced_counts_once() -> None:
    made = worker()
    idle(made, 0.0, 0)
    outputs = [output for first in range(3) for output in made.receive(0.0, batch(first))]
    assert runs(outputs) == [(0, 0, 1), (1, 1, 1)] or runs(outputs) == [(1, 0, 1), (0, 1, 1)]


def test_the_start_of_a_suspect_batch_is_said_before_it_starts() -> None:
    made = worker()
    [told] = made.receive(0.0, batch(0, suspect=True))
    assert isinstance(told, Beat)
    assert told.started == {"job": [(0, 1, 1)]}
    assert made.receive(0.0, Heard(told.serial - 1)) == [], "that was an earlier beat"
    assert runs(made.receive(0.0, Heard(told.serial + 1))) == [(0, 0, 1)], "a later beat has said it too"
    assert made.receive(0.0, Heard(told.serial + 1)) == []


def test_a_suspect_batch_that_was_dropped_or_returned_before_the_sink_has_heard_of_it_is_not_run() -> None:
    for end in (lambda made: made.receive(0.0, Dropped("job")), lambda made: made.leave(0.0, 0.0)):
        made = worker()
        [told] = made.receive(0.0, batch(0, suspect=True))
        end(made)
        assert made.receive(0.0, Heard(told.serial)) == []


def test_of_a_scarce_job_only_free_slots_take_batches() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    made.places({"job": b""}, frozenset({"job"}))
    assert returned(made.tick(0.0)) == [(2, 1)]
    made.receive(0.0, batch(7))
    assert returned(made.tick(0.0)) == [(7, 1)]


def test_a_scarce_job_waits_for_its_turn_among_others() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=1, ahead_bytes_max=0))
    made.receive(0.0, batch(0, job="busy"))
    made.places({"job": b""}, frozenset({"job"}))
    made.receive(0.0, batch(0))
    assert returned(made.tick(0.0)) == []
    assert [output.job for output in (made.outcomes(0.0, 0, 0, 1, 1.0, DONE), idle(made, 0.0, 0))[1]] == ["job"]  # type: ignore[union-attr]


def test_a_scarce_job_has_its_share_of_the_slots_and_what_is_free() -> None:
    made = worker(HoldingSettings(slots=4, prefetch=4, ahead_bytes_max=0))
    made.places({"job": b""}, frozenset({"job"}))
    made.receive(0.0, batch(0, job="busy"))
    for first in range(4):
        made.receive(0.0, batch(first))
    assert returned(made.tick(0.0)) == [(3, 1)]
    assert len(made._orders.running) == 4


def test_of_a_job_that_becomes_scarce_the_last_batches_above_its_share_are_returned() -> None:
    made = worker(HoldingSettings(slots=4, prefetch=4, ahead_bytes_max=0))
    for first in range(4):
        made.receive(0.0, batch(first, job="busy"))
    for first in range(3):
        made.receive(0.0, batch(first))
    made.places({"job": b""}, frozenset({"job"}))
    assert returned(made.tick(0.0)) == [(2, 1)]
    made.receive(0.0, batch(3))
    assert returned(made.tick(0.0)) == [(3, 1)]
    assert beat(made, 1.0).held["job"] == [(0, 1, 1), (1, 1, 1)]


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
    sent = serials(made.outcomes(3.0, 0, 0, 1, 1.0, DONE))
    idle(made, 0.0, 0)
    made.receive(3.0, Recorded(sent, []))
    assert not made.empty
    outputs = made.tick(31.0)
    assert [output for output in outputs if isinstance(output, KillOrder)] == [KillOrder(1)]
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
    made.outcomes(0.0, 1, 1, 1, 1.0, DONE)
    assert made.receive(0.0, Dropped("job")) == [KillOrder(0)]
    assert made.empty
    assert serials(made.tick(T.resend_s)) == []
    assert runs(idle(made, 0.0, 0)) == []
    assert runs(made.receive(0.0, batch(7))) == [], "what was on its way when the job was cancelled is not run"
    assert made.empty
    assert returned(made.tick(0.0)) == []
    assert runs(made.receive(0.0, batch(0, job="next"))) == [(0, 0, 1)]
    idle(made, 0.0, 1)
    made.places({"job": b""}, frozenset())
    assert runs(made.receive(0.0, batch(7))) == [(1, 7, 1)], "the job is run again"


def test_a_slot_that_was_stuck_with_a_dropped_job_gets_orders_ahead_again() -> None:
    made = worker(replace(SETTINGS, slots=1, ahead_bytes_max=1_000))
    made.receive(0.0, batch(0))
    made.given_back(0.0, 0, [], 0)
    assert made.receive(0.0, Dropped("job")) == [KillOrder(0)]
    idle(made, 0.0, 0)
    made.receive(0.0, batch(0, job="next"))
    assert runs(made.receive(0.0, batch(1, job="next"))) == [(0, 1, 1)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["batch", "done", "part", "died", "stuck", "receipt", "scarce", "plenty", "time"]),
        st.integers(0, 30),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(0, 3), st.sampled_from([0, 9]), st.sampled_from([0, 1_000]))
def test_hold_or_return(steps: list[tuple[str, int]], slots: int, prefetch: int, prefetch_max: int, ahead: int) -> None:
    """Every batch that came is returned, or in care until its receipts; never both, never beyond the capacity."""
    most = replace(SETTINGS, slots=slots, prefetch=prefetch, prefetch_max=prefetch_max, ahead_bytes_max=ahead)
    made = worker(most)
    if prefetch_max:
        made._times._batch_s = 0.0001
    accepted: set[tuple[str, int]] = set()
    back: set[tuple[str, int]] = set()
    recorded: set[tuple[str, int]] = set()
    sent: dict[int, tuple[str, int]] = {}
    now = 0.0

    def take(outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Returned):
                for first, _, _ in output.batches:
                    assert (output.job, first) not in recorded
                    back.add((output.job, first))
                    accepted.discard((output.job, first))
            elif isinstance(output, Submit):
                results = decode_results(output.frame)
                assert (results.job, results.batch[0]) not in back or results.serial in sent
                sent[results.serial] = (results.job, results.batch[0])

    for kind, number in steps:
        job, first = ("a", "b")[number % 2], number // 2 * 3
        running = sorted(made._orders.running)
        slot = running[number % len(running)] if running else None
        if kind == "batch" and (job, first) not in recorded | accepted:
            back.discard((job, first))
            accepted.add((job, first))
            take(made.receive(now, batch(first, 3, job)))
        elif kind in ("done", "part") and slot is not None:
            if not made._orders.running[slot][0]:
                take(made.slot_done(now, slot))
                continue
            part = made._orders.running[slot][0][0].parts()[0]
            count = part.count if kind == "done" else 1
            take(made.outcomes(now, slot, part.first, count, number / 5000, DONE))
            if not made._orders.running[slot][0]:
                take(made.slot_done(now, slot))
        elif kind == "died" and slot is not None:
            take(died(made, now, slot))
        elif kind == "stuck" and slot is not None:
            current, *ahead = made._orders.running[slot]
            take(made.given_back(now, slot, [held.next_task() for held in current[1:]], len(ahead)))
        elif kind == "receipt" and sent:
            serial = sorted(sent)[number % len(sent)]
            made.receive(now, Recorded([serial], []))
            del sent[serial]
        elif kind in ("scarce", "plenty"):
            made.places(dict.fromkeys("ab", b""), frozenset({job}) if kind == "scarce" else frozenset())
        else:
            now += number / 10
        take(made.tick(now))
        held = {(name, first) for name, mine in made._held.items() for first in mine}
        assert held <= accepted
        recorded |= accepted - held
        accepted = held
        assert not held & back
        load = Counter(job for job, mine in made._held.items() for one in mine.values() if not one.is_done)
        assert all(each <= slots + max(prefetch, prefetch_max) for each in load.values())
        assert len(made._orders.running) <= slots
        waiting = made._queue.count()
        patient = made._queue.patience_until is not None and now < made._queue.patience_until <= now + 0.05
        assert not (waiting and len(made._orders.running) < slots) or patient, "nobody idles while a batch waits"


def test_a_restarted_sink_hears_results_again_after_the_first_wait() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    for now in range(1, 700):
        made.tick(float(now))
    made.sink_restarted(700.0)
    assert next(now for now in range(701, 2000) if serials(made.tick(float(now)))) == 710


def test_a_new_result_does_not_wait_for_an_old_ones_turn() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    for now in range(1, 311):
        made.tick(float(now))
    made.receive(311.0, batch(1))
    made.outcomes(311.0, 1, 1, 1, 1.0, DONE)
    assert next(now for now in range(312, 2000) if serials(made.tick(float(now)))) == 321


def test_the_wait_to_say_results_again_has_a_bound() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    again = [now for now in range(20_000) if serials(made.tick(float(now)))]
    assert max(b - a for a, b in itertools.pairwise(again)) <= 120


def test_a_next_attempt_is_not_taken_for_a_duplicate() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    idle(made, 0.0, 0)  # its receipt is lost
    orders = made.receive(1.0, replace_attempt(batch(0), 2))
    assert runs(orders) or returned(made.tick(1.0))


def test_a_worker_forgets_the_jobs_that_are_over() -> None:
    made = worker()
    for n in range(50):
        made.places({f"job{n}": b""}, frozenset())
        made.receive(1.0, batch(0, job=f"job{n}"))
        finish(made)
    assert len(made._capacity.load) <= 1


SHORT = HoldingSettings(slots=1, prefetch=1, prefetch_max=50, ahead_bytes_max=0)


def short_job(made: Holding, count: int = 200) -> None:
    """Let the worker see that batches are done in no time, and say so; it runs batch 1."""
    made.receive(0.0, batch(0))
    for _ in range(count):
        made._times.measured(0.0, 0.0001)
    sent = serials(made.outcomes(0.0, 0, 0, 1, 0.0001, DONE))
    idle(made, 0.0, 0)
    made.receive(0.0, batch(1))
    made.receive(0.0, Recorded(sent, []))
    made.tick(T.beat_s)


def test_while_batches_are_done_in_no_time_more_are_held_and_it_is_said_at_once() -> None:
    made = worker(SHORT)
    made.receive(1.0, batch(0))
    made.outcomes(1.0, 0, 0, 1, 0.0001, DONE)
    idle(made, 1.0, 0)
    made.receive(1.0, batch(1))
    made.tick(1.0)
    for _ in range(200):
        made._times.measured(1.0, 0.0001)
    made.outcomes(1.1, 0, 1, 1, 0.0001, DONE)
    assert beat(made, 1.1).prefetch == 50
    idle(made, 1.1, 0)
    for first in range(2, 60):
        made.receive(1.1, batch(first))
    assert len(returned(made.tick(1.1))) == 58 - (1 + 50)


def test_a_few_short_batches_say_nothing() -> None:
    made = worker(SHORT)
    short_job(made, 10)
    assert beat(made, 9.0).prefetch == 1


def test_a_worker_that_has_nothing_left_holds_no_more_of_what_comes_next() -> None:
    made = worker(SHORT)
    short_job(made)
    assert made._capacity.prefetch == 50
    sent = serials(made.outcomes(1.0, 0, 1, 1, 0.0001, DONE))
    idle(made, 1.0, 0)
    made.receive(1.0, Recorded(sent, []))
    assert made.deadline() == T.beat_s + SHORT.stuck_s
    assert beat(made, T.beat_s + SHORT.stuck_s).prefetch == 1


def test_with_an_explicit_prefetch_no_more_are_held() -> None:
    made = worker(replace(SHORT, prefetch_max=0))
    short_job(made)
    assert beat(made, 9.0).prefetch == 1


def test_a_slot_is_given_several_batches_that_are_done_in_no_time_but_no_suspect() -> None:
    made = worker(SHORT)
    short_job(made)
    for first in range(2, 12):
        made.receive(1.0, batch(first, suspect=first == 7))
    made.outcomes(1.0, 0, 1, 1, 0.0001, DONE)
    assert runs(idle(made, 1.0, 0)) == [(0, first, 1) for first in range(2, 7)]
    for first in range(2, 7):
        made.outcomes(1.0, 0, first, 1, 0.0001, DONE)
    [told] = idle(made, 1.0, 0)
    assert runs(made.receive(1.0, Heard(told.serial))) == [(0, 7, 1)]


def test_idle_slots_share_what_waits() -> None:
    made = worker(replace(SHORT, slots=2))
    short_job(made)
    for first in range(2, 12):
        made.receive(1.0, batch(first))
    waiting = made._queue.count()
    made._orders.running.clear()
    made._orders.idle.extend([0, 1])
    orders = [order for order in made._fill(1.0) if isinstance(order, RunOrder)]
    assert [len(order.parts) for order in orders] == [waiting - waiting // 2, waiting // 2]


def test_what_a_stuck_slot_gives_back_runs_first_elsewhere() -> None:
    made = worker(replace(SHORT, slots=2))
    short_job(made)
    made._orders.running.clear()
    made._orders.idle.clear()
    for first in range(10, 20):
        made.receive(1.0, batch(first))
    idle(made, 1.0, 0)
    given = [held.batch.first for held in made._orders.running[0][0]]
    assert len(given) == 10
    [order] = [each for each in idle(made, 1.0, 1) if isinstance(each, RunOrder)] or [None]
    assert order is None, "nothing waits"
    [order] = made.given_back(1.0, 0, given[1:], 0)
    assert isinstance(order, RunOrder)
    assert order.slot == 1
    assert order.parts[0].first == given[1]


def test_what_a_stuck_slot_gives_back_is_returned_by_a_worker_that_leaves() -> None:
    made = worker(SHORT)
    short_job(made)
    for first in range(2, 6):
        made.receive(1.0, batch(first))
    made.outcomes(1.0, 0, 1, 1, 0.0001, DONE)
    idle(made, 1.0, 0)
    made.leave(1.0, 30.0)
    made.given_back(1.1, 0, [3, 4, 5], 0)
    assert returned(made.tick(1.1)) == [(5, 1), (4, 1), (3, 1)]
    assert not made.empty


def test_batches_that_turn_out_to_be_slow_are_returned_again() -> None:
    made = worker(SHORT)
    short_job(made)
    made.outcomes(1.0, 0, 1, 1, 0.0001, DONE)
    idle(made, 1.0, 0)
    for first in range(2, 40):
        made.receive(1.0, batch(first))
    assert returned(made.tick(1.0)) == []
    assert made.deadline() <= 1.0 + SHORT.stuck_s
    outputs = made.tick(1.0 + SHORT.stuck_s)
    assert len(returned(outputs)) == 38 - 2, "slots and prefetch are left"
    assert [output.prefetch for output in outputs if isinstance(output, Beat)] == [1]
    assert made.deadline() > 1.0 + SHORT.stuck_s


def test_returns_and_beats_say_the_attempt() -> None:
    made = worker(HoldingSettings(slots=1, prefetch=0, ahead_bytes_max=0))
    made.receive(0.0, replace_attempt(batch(0), 3))
    made.receive(0.0, replace_attempt(batch(1), 4))
    outputs = made.tick(1.0)
    assert [output.batches for output in outputs if isinstance(output, Returned)] == [[(1, 1, 4)]]
    assert [output.held for output in outputs if isinstance(output, Beat)] == [{"job": [(0, 1, 3)]}]


def replace_attempt(one: Batch, attempt: int) -> Batch:
    return structs.replace(one, attempt=attempt, ticket=ticket(b"k", one.first, one.count, attempt))


AHEAD = HoldingSettings(slots=1, prefetch=3)


def test_a_slot_that_runs_is_given_its_next_order_before_it_asks_and_no_more() -> None:
    made = worker(AHEAD)
    outputs = [output for first in range(4) for output in made.receive(0.0, batch(first))]
    assert runs(outputs) == [(0, 0, 1), (0, 1, 1)]
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    assert runs(made.slot_done(0.0, 0)) == [(0, 2, 1)]
    assert beat(made, 1.0).started == {"job": [(1, 1, 1)]}


def test_idle_slots_come_before_those_that_run() -> None:
    made = worker(replace(AHEAD, slots=2))
    outputs = made.take(0.0, [batch(first) for first in range(4)])
    assert runs(outputs) == [(0, 0, 1), (1, 1, 1), (0, 2, 1), (1, 3, 1)]


def test_nothing_scarce_suspect_or_large_is_given_ahead() -> None:
    made = worker(replace(AHEAD, ahead_bytes_max=10))
    made.receive(0.0, batch(0))
    assert runs(made.receive(0.0, batch(1, count=50))) == []
    made = worker(AHEAD)
    made.receive(0.0, batch(0))
    assert made.receive(0.0, batch(1, suspect=True)) == []
    made = worker(replace(AHEAD, slots=2))
    made.places({"job": b""}, frozenset({"job"}))
    made.take(0.0, [batch(0), batch(1)])
    assert made.receive(0.0, batch(2)) == []


def test_what_is_ahead_of_a_stuck_slot_comes_back_and_is_not_given_to_it_again_before_it_is_done() -> None:
    made = worker(AHEAD)
    made.take(0.0, [batch(0), batch(1), batch(2)])
    assert runs(made.given_back(0.1, 0, [], 1)) == []
    assert runs(made.receive(0.1, batch(3))) == []
    assert sorted(returned(made.leave(0.2, 30.0))) == [(1, 1), (2, 1), (3, 1)]


def test_a_child_that_is_gone_leaves_its_orders_to_the_other_slots_at_once() -> None:
    made = worker(replace(AHEAD, slots=2))
    made.take(0.0, [batch(first) for first in range(3)])
    made.outcomes(0.0, 1, 1, 1, 1.0, DONE)
    made.slot_done(0.0, 1)
    assert runs(made.slot_lost(0.1, 0)) == [(1, 0, 1), (1, 2, 1)]
    assert runs(made.receive(0.1, batch(9))) == [], "the slot has no child yet"
    assert runs(made.slot_idle(0.2, 0)) == [(0, 9, 1)]


def test_an_unclear_death_makes_the_tasks_of_its_order_run_singly() -> None:
    made = worker(AHEAD)
    made.take(0.0, [batch(0, 3), batch(3, 2)])
    assert runs(made.slot_lost(0.0, 0, unclear=True)) == []
    assert runs(made.slot_idle(0.0, 0)) == [(0, 0, 1), (0, 3, 2)], "what was behind is not suspected"
    made.outcomes(0.0, 0, 0, 1, 1.0, DONE)
    assert runs(made.slot_done(0.0, 0)) == [], "no task that is, is given ahead"
    made.outcomes(0.0, 0, 3, 2, 1.0, DONE)
    assert runs(made.slot_done(0.0, 0)) == [(0, 1, 1)]


def test_an_order_given_back_whole_comes_back_though_only_a_part_of_its_batch_was_left() -> None:
    made = worker(replace(AHEAD, slots=2))
    made.take(0.0, [batch(0, 4), batch(4), batch(5)])
    made.outcomes(0.0, 0, 0, 2, 1.0, DONE)
    made.slot_lost(0.0, 0)
    [ahead] = [order for order in made._orders.running[1] if order[0].batch.first == 0] or [None]
    assert ahead is not None
    made.given_back(0.1, 1, [], 1)
    assert runs(made.slot_idle(0.1, 0))[0] == (0, 2, 2)


def test_an_order_ahead_of_another_job_is_not_taken_for_the_part_that_begins_like_it() -> None:
    made = worker(replace(SHORT, ahead_bytes_max=1000))
    short_job(made)
    assert runs(made.take(1.0, [batch(2), batch(3)])) == [(0, 2, 1), (0, 3, 1)]
    made.outcomes(1.0, 0, 1, 1, 0.0001, DONE)
    made.slot_done(1.0, 0)
    assert runs(made.receive(1.0, batch(3, job="a"))) == [(0, 3, 1)], "ahead"
    assert runs(made.given_back(1.1, 0, [3], 0)) == []
    made.outcomes(1.1, 0, 2, 1, 0.1, DONE)
    made.slot_done(1.1, 0)
    [submit] = made.outcomes(1.1, 0, 3, 1, 0.1, DONE)
    assert isinstance(submit, Submit)
    assert decode_results(submit.frame).job == "a"


def test_a_batch_of_which_a_part_has_begun_stays_with_its_slot() -> None:
    made = worker(replace(SHORT, slots=2))
    made._times._batch_s = 0.0001
    made.take(0.0, [batch(0, 3), batch(3, 3)])
    for slot in (0, 1):
        made.outcomes(0.0, slot, 3 * slot + 1, 1, 0.0001, DONE)
    made._orders.idle.clear()
    made.slot_lost(0.0, 0)
    made.slot_lost(0.0, 1)
    orders = made.slot_idle(0.0, 0)
    assert runs(orders) == [(0, 3, 1), (0, 5, 1), (0, 0, 1), (0, 2, 1)]
    made.outcomes(0.1, 0, 3, 1, 0.1, DONE)
    made.outcomes(0.1, 0, 5, 1, 0.1, DONE)
    assert runs(made.given_back(0.1, 0, [2], 0)) == []
    made.outcomes(0.1, 0, 0, 1, 0.1, DONE)
    assert runs(made.slot_done(0.1, 0)) == [(0, 2, 1)]


def test_a_job_that_may_not_be_given_ahead_keeps_its_turn() -> None:
    made = worker(AHEAD)
    made.places({"a": b"", "b": b""}, frozenset({"b"}))
    outputs = made.take(0.0, [batch(first, job="a") for first in range(4)])
    outputs += made.receive(0.0, batch(0, job="b"))
    for _ in range(4):
        first = made._orders.running[0][0][0].batch.first
        made.outcomes(0.0, 0, first, 1, 1.0, DONE)
        outputs += made.slot_done(0.0, 0)
    assert "b" in [output.job for output in outputs if isinstance(output, RunOrder)][:4]


def test_a_copy_of_a_batch_that_is_here_is_refused_and_the_batch_stays() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.receive(0.0, batch(0, copy=True))
    [refused] = [output for output in made.tick(0.0) if isinstance(output, Returned)]
    assert (refused.batches, refused.copies) == ([], [(0, 1, 1)])
    assert beat(made, T.beat_s).held == {"job": [(0, 1, 1)]}
    assert made.duplicate_count == 0


def test_a_copy_is_run_like_any_batch() -> None:
    made = worker()
    assert runs(made.receive(0.0, batch(0, copy=True))) == [(0, 0, 1)]
    assert beat(made, T.beat_s).held == {"job": [(0, 1, 1)]}


def test_a_copy_for_which_there_is_no_room_is_refused_as_one() -> None:
    made = worker()
    for first in range(3):
        made.receive(0.0, batch(first))
    made.receive(0.0, batch(3, copy=True))
    made.receive(0.0, batch(4))
    [back] = [output for output in made.tick(0.0) if isinstance(output, Returned)]
    assert (back.batches, back.copies) == ([(4, 1, 1)], [(3, 1, 1)])


def test_a_copy_that_waited_is_given_back_like_any_batch() -> None:
    made = worker()
    made.receive(0.0, batch(0))
    made.receive(0.0, batch(1))
    made.receive(0.0, batch(2, copy=True))
    made.receive(0.0, Recall("job"))
    [back] = [output for output in made.tick(0.0) if isinstance(output, Returned)]
    assert (back.batches, back.copies) == ([(2, 1, 1)], [])


def test_results_carry_the_arguments_of_their_own_tasks_where_the_batch_asks_for_them() -> None:
    made = worker()
    made.take(0.0, [batch(10, 5, keep=True), batch(20, 2)])
    outputs = made.outcomes(0.0, 0, 10, 3, 0.1, DONE) + made.outcomes(0.0, 0, 13, 2, 0.1, DONE)
    outputs += made.outcomes(0.0, 1, 20, 2, 0.1, DONE)
    made.take(0.0, [batch(30, 4, keep=True)])
    [order] = [output for output in idle(made, 0.0, 0) if isinstance(output, RunOrder)]
    outputs += made.outcomes(0.0, order.slot, 30, 4, 0.1, DONE)
    found = [decode_results(output.frame).arguments for output in outputs if isinstance(output, Submit)]
    assert [said and msgpack.decode(said) for said in found] == [[0, 1, 2], [3, 4], None, [0, 1, 2, 3]]
