"""The tables of a job's phases and a batch's states: the code obeys them, and ARCHITECTURE.md draws them."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from common.protocol.messages import Ask, Crew, Dropped, Member, Opened, Receipts
from common.ventilator.dispatch import Dispatch
from common.ventilator.flights import STATES, Flight, State
from common.ventilator.phases import PHASES, Phase
from common.ventilator.settings import DispatchSettings

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
TABLES: dict[str, dict[Any, Any]] = {"The life of a job": PHASES, "The life of a batch": STATES}


def edges(table: dict[Any, Any]) -> set[tuple[str, str]]:
    return {(before.name, after.name) for before, following in table.items() for after in following}


@pytest.mark.parametrize("title", TABLES)
def test_the_document_draws_the_table(title: str) -> None:
    section = DOCUMENT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    drawn = re.findall(r"^ *(\w+) --> (\w+)\b", section, re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == edges(TABLES[title])


@pytest.mark.parametrize(("kind", "first"), [(Phase, Phase.OPENING), (State, State.READY)])
def test_each_one_is_reached_from_the_first(kind: type[Enum], first: Enum) -> None:
    table: dict[Any, Any] = PHASES if kind is Phase else STATES
    reached, new = set(), {first}
    while new:
        reached |= new
        new = {after for before in new for after in table[before]} - reached
    assert reached == set(kind) == set(table)


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_a_job_enters_only_a_phase_that_may_follow(before: Phase, after: Phase) -> None:
    rules = Dispatch(DispatchSettings(), "job", "m:f")
    rules._phase = before
    if after in PHASES[before]:
        rules._enter(after)
        assert rules._phase is after
    else:
        with pytest.raises(AssertionError):
            rules._enter(after)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_batch_becomes_only_what_may_follow(before: State, after: State) -> None:
    flight = Flight(0, 1, Raw(b"\x91\x00"), state=before)
    if after in STATES[before]:
        flight.become(after)
        assert flight.state is after
    else:
        with pytest.raises(AssertionError):
            flight.become(after)


def opened(*, recorded: int = 0, mark: int = 0, gather_s: float = 0.0) -> Dispatch:
    """A job that was opened, with a crew, and all of whose receipts are read."""
    rules = Dispatch(DispatchSettings(batch_tasks=1), "job", "m:f")
    rules.receive(0.0, Opened("job", "ledger", b"k" * 32, mark, b"", None, 0, True, gather_s))
    assert rules._phase is Phase.OPENING
    rules.receive(0.0, Receipts("job", 0, 1, [(0, recorded)] * (recorded > 0), recorded, 0.0, recorded, 0, False))
    rules.receive(0.0, Crew([Member("w", 2, 0, [], [])], [], [], 0))
    return rules


def test_a_job_goes_from_phase_to_phase() -> None:
    rules = opened(recorded=2, mark=3, gather_s=1.0)
    assert rules._phase is Phase.GATHERING
    assert rules.plan(0.9) is None
    rules.tick(1.0)
    assert rules._phase is Phase.VERIFYING
    rules.skipped(2)
    assert rules.next_push(1.0) is None
    rules.offer(1.0, 1, Raw(b"\x91\x02"))
    assert rules._phase is Phase.RUNNING
    assert rules.next_push(1.0) is not None
    rules.pushed(1.0)
    rules.input_ended()
    rules.input_scarce(1.0, True)
    assert rules._phase is Phase.SCARCE
    rules.receive(1.0, Receipts("job", 1, 2, [(2, 1)], 1, 0.1, 3, 0, False))
    assert rules._phase is Phase.CLOSED
    assert rules.finished


def test_an_interrupted_job_is_closed_when_all_is_recorded_after_all() -> None:
    rules = opened()
    rules.offer(0.0, 1, Raw(b"\x91\x00"))
    rules.input_ended()
    rules.halt()
    assert rules._phase is Phase.HALTED
    rules.receive(0.0, Receipts("job", 1, 2, [(0, 1)], 1, 0.1, 1, 0, False))
    assert rules.finished
    rules.halt()
    assert rules.finished


@pytest.mark.parametrize("dry", [True, False])
def test_the_last_questions_say_of_the_job_what_was_said_before(dry: bool) -> None:
    rules = opened()
    for task in (0, 1):
        rules.offer(0.0, 1, Raw(bytes([0x91, task])))
    rules.input_ended()
    rules.input_scarce(0.0, dry)
    rules.halt()
    for position in (1, 2):
        receipts = Receipts("job", position, position + 1, [(position - 1, 1)], 1, 0.1, position, 0, False)
        assert rules.receive(0.0, receipts) == [Ask("job", position + 1, dry)]
    assert rules.finished


def test_a_job_that_is_interrupted_before_it_was_opened_is_not_done() -> None:
    rules = Dispatch(DispatchSettings(), "job", "m:f")
    rules.halt()
    rules.input_ended()
    assert (rules.finished, rules.total) == (False, None)
    assert not rules.caught_up


def test_a_job_that_is_interrupted_before_it_was_opened_may_catch_up() -> None:
    rules = Dispatch(DispatchSettings(), "job", "m:f")
    rules.halt()
    rules.receive(0.0, Opened("job", "ledger", b"k" * 32, 3, b"", None, 0, True, 0.0))
    rules.receive(0.0, Receipts("job", 0, 1, [(0, 1)], 1, 0.0, 1, 0, True))
    assert not rules.caught_up
    rules.receive(0.0, Receipts("job", 1, 2, [(1, 1)], 1, 0.0, 2, 0, False))
    assert rules.caught_up
    assert rules._phase is Phase.HALTED
    assert rules.plan(9.0) is None


@pytest.mark.parametrize("gather_s", [0.0, 1.0])
def test_a_cancelled_job_is_over_in_every_phase(gather_s: float) -> None:
    rules = opened(gather_s=gather_s)
    for _ in range(2):
        rules.receive(0.0, Dropped("job"))
        assert rules.dropped
        assert rules.plan(2.0) is None
        assert rules.next_push(2.0) is None
