"""What an enrolled liar must not be able to cost the machines."""

import msgspec
import pytest
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol.codec import decode_batch, decode_to_sink, encode
from common.protocol.messages import Batch, Beat, Crew, Member, Opened, Receipts
from common.ventilator.dispatch import Dispatch, Skip, Take
from common.ventilator.settings import DispatchSettings
from common.worker.holding import Holding
from common.worker.settings import HoldingSettings

MILLION = 1_000_000


def fresh_dispatch(held: list[tuple[int, int]]) -> Dispatch:
    """A job that nobody has run before, and a crew of one whose beat names these batches."""
    rules = Dispatch(DispatchSettings(batch_tasks=10), "job", "m:f")
    rules.receive(0.0, Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0))
    rules.receive(0.0, Crew([Member("eve", 2, 2, [(*each, 1) for each in held], [])], [], [], 0))
    rules.receive(0.0, Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False))
    return rules


def offered(rules: Dispatch, batches: int) -> int:
    """How many batches the rules let in, of at most this many."""
    for count in range(batches):
        plan = rules.plan(0.0)
        if not isinstance(plan, Take):
            return count
        rules.offer(0.0, plan.count, Raw(b"\xc0" * plan.count))
    return batches


def test_a_beat_cannot_take_a_batch_that_was_never_pushed() -> None:
    rules = fresh_dispatch([(0, 10)])
    offered(rules, 1)
    assert rules.next_push(0.0) is not None


def test_a_beat_cannot_make_the_ventilator_read_its_input_into_memory() -> None:
    assert not isinstance(fresh_dispatch([(0, MILLION)]).plan(0.0), Skip | None)
    assert offered(fresh_dispatch([(first, 1) for first in range(100)]), 100) <= 4
    plan = fresh_dispatch([(0, MILLION)]).plan(0.0)
    assert plan is not None
    assert plan.count <= 10_000


def test_a_false_batch_does_not_stand_in_for_the_true_one() -> None:
    rules = Holding(HoldingSettings(1, 3), "ada")
    rules.expose(frozenset(["m:f"]))
    rules.places({"job": b""}, frozenset())
    false = Batch("job", "m:f", 0, 1, 1, b"f" * 16, None, False, False, Raw(b"\x91\x01"))
    rules.receive(0.0, false)
    rules.receive(0.0, msgspec.structs.replace(false, ticket=b"t" * 16))
    assert rules.duplicate_count == 0


def test_invented_jobs_do_not_fill_the_worker() -> None:
    rules = Holding(HoldingSettings(1, 1), "ada")
    rules.expose(frozenset(["m:f"]))
    rules.places({"job": b""}, frozenset())
    for number in range(100):
        rules.receive(0.0, Batch(f"job{number}", "m:f", 0, 1, 1, bytes(16), None, False, False, Raw(b"\x91\x01")))
    (beat,) = [output for output in rules.tick(1.0) if isinstance(output, Beat)]
    assert len(beat.held) < 100


def _deeper(frames: int, rules: Holding) -> None:
    if frames:
        return _deeper(frames - 1, rules)
    rules.outcomes(0.0, 0, 0, 1, 0.0, b"\xc0")
    rules.slot_idle(0.0, 0)
    return None


def _deepest() -> bytes:
    """A batch whose arguments are nested as deep as they may be to be decoded here."""
    frame = b""
    for depth in range(100, 2_000):
        arguments = Raw(b"\x92\x01" + b"\x91" * depth + b"\xc0")
        made = encode(Batch("job", "m:f", 0, 2, 1, bytes(16), None, False, False, arguments))
        try:
            decode_batch(made)
        except ProtocolError:
            break
        frame = made
    return frame


def test_arguments_nested_just_too_deep_to_be_cut_do_not_end_the_worker() -> None:
    """The worker cuts a batch from further down its stack than it has decoded it."""
    rules = Holding(HoldingSettings(1, 1), "ada")
    rules.expose(frozenset(["m:f"]))
    rules.places({"job": b""}, frozenset())
    rules.slot_idle(0.0, 0)
    rules.receive(0.0, decode_batch(_deepest()))
    _deeper(10, rules)


def test_a_beat_names_no_more_batches_than_any_worker_holds() -> None:
    runs = [(first, 1, 1) for first in range(300_000)]
    with pytest.raises(ProtocolError):
        decode_to_sink(encode(Beat(3, 1, 1, {"job": runs}, {})))
