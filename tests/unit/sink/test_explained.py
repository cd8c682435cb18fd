"""The words of an explanation: the first true cause, in the words of the waits, and where a task is."""

from typing import Any

import pytest
from msgspec.structs import replace

from common import causes
from common.protocol.explaining import (
    Account,
    Barred,
    Explanation,
    Holder,
    RecordedTask,
    Running,
    TaskPlace,
)
from common.sink.explained import first_cause, lines
from common.ventilator.out_of_reach import OutOfReach
from common.ventilator.summary import Workers, no_worker_yet
from tests.unit.ventilator.test_out_of_reach import unreachable

ACCOUNT = Account("j", None, "running", "open", 12, 4, 2, 8, None)
FOUND = Explanation(
    job="j",
    task=None,
    state="open",
    function="m:f",
    done=4,
    failed=1,
    total=40,
    is_stuck=False,
    ventilator="10.0.0.8:5557",
    relayed=False,
    silent_s=0.1,
    workers=3,
    crew=2,
    slots=4,
    busy=2,
    held=2,
    running=2,
    others=[],
    near=[],
    cut_off=[],
    cut_off_count=0,
    longest=[Running("ada", 6, 2, 42.0)],
    recorded=None,
    holders=[],
    account=ACCOUNT,
)
ALL_WRONG: list[tuple[str, dict[str, Any]]] = [
    ("the sink records nothing", {"is_stuck": True}),
    ("does not answer (last heard 4.5 s ago)", {"account": None, "silent_s": 4.5}),
    ("waiting for the sink to open job j", {"account": replace(ACCOUNT, phase="opening")}),
    ("no worker is here", {"workers": 0, "crew": 0}),
    ("(such as m:g)", {"crew": 0, "near": ["m:g"]}),
    (
        "cannot connect to this ventilator at 192.0.2.7:5557",
        {"held": 0, "cut_off": [Barred("ada", "192.0.2.7", 5557, "silence")], "cut_off_count": 2},
    ),
    (
        "the input has not brought again what job j has read before (12 tasks so far)",
        {"account": replace(ACCOUNT, phase="verifying", input="dry")},
    ),
    ("the input has no new line", {"account": replace(ACCOUNT, input="dry", outstanding=0)}),
    ("all 4 slots that could run it run other jobs (big)", {"running": 0, "busy": 4, "others": [("big", 4)]}),
    ("the crew has all the batches that it takes (8; 2 of 4 slots run)", {"account": replace(ACCOUNT, in_flight=8)}),
]
"""What may be wrong, the root before what follows from it."""


@pytest.mark.parametrize(("words", "changes"), ALL_WRONG, ids=[words for words, _ in ALL_WRONG])
def test_each_cause_alone(words: str, changes: dict[str, Any]) -> None:
    found = replace(FOUND, **changes)
    cause = first_cause(found)
    assert cause is not None
    assert words in cause.what
    assert lines(found)[:2] == [cause.what, f"-> {cause.do}"]


@pytest.mark.parametrize("root", range(len(ALL_WRONG) - 1))
def test_the_root_comes_before_what_follows_from_it(root: int) -> None:
    later = dict(ALL_WRONG[root + 1][1])
    cause = first_cause(replace(FOUND, **later | ALL_WRONG[root][1]))
    assert cause is not None
    assert ALL_WRONG[root][0] in cause.what


def test_a_job_that_goes_on_has_no_cause() -> None:
    assert first_cause(FOUND) is None
    assert lines(FOUND) == [
        "job j (m:f) is open: 4 of 40 tasks are recorded, 1 of them failed; 12 read, 4 batches out;"
        " 2 workers with 4 slots, 2 held, 2 running",
        "ada runs tasks 6 to 7 for 42 s",
    ]


def test_a_job_that_nobody_runs() -> None:
    left = replace(FOUND, ventilator="", account=None)
    assert first_cause(left) == causes.no_ventilator("j")
    assert first_cause(replace(left, state="cancelled")) == causes.was_cancelled("j")
    assert first_cause(replace(left, state="done")) is None
    assert "is done" in lines(replace(left, state="done", longest=[]))[0]


PLACES: list[tuple[dict[str, Any], str]] = [
    ({"recorded": RecordedTask("failed", 2, "ada", 0.25)}, "is recorded: failed, attempt 2, 0.25 s on ada"),
    (
        {"holders": [Holder("ada", (6, 2, 1), 42.0, 0)]},
        "is with ada, which began 42 s ago, in the batch of tasks 6 to 7",
    ),
    ({"holders": [Holder("ada", (7, 1, 3), None, 2)]}, "waits at ada, behind 2 batches of this job, attempt 3"),
    ({"account": None}, "is not recorded, and no worker here holds it"),
    ({"total": 7}, "is not there: the job has 7 tasks, numbered from 0"),
    ({"place": TaskPlace("unread")}, "is not read yet: the input is read up to task 12"),
    ({"place": TaskPlace("ready")}, "waits at the ventilator until a worker has room"),
    ({"place": TaskPlace("ready", is_suspect=True, lost=2)}, "(suspect: 2 workers died with it)"),
    ({"place": TaskPlace("returned", 1, 0.5, 4)}, "is pushed again in 0.5 s (handed back 4 times)"),
    ({"place": TaskPlace("retry", 2, 8.0)}, "has failed, and is tried again in 8 s (attempt 2)"),
    ({"place": TaskPlace("given", 1, 9.5)}, "is on its way to a worker"),
    ({"place": TaskPlace("settled")}, "is recorded"),
]


@pytest.mark.parametrize(("changes", "words"), PLACES, ids=[words for _, words in PLACES])
def test_where_a_task_is(changes: dict[str, Any], words: str) -> None:
    more = {name: value for name, value in changes.items() if name != "place"}
    found = replace(FOUND, task=7, **{"account": replace(ACCOUNT, place=changes.get("place"))} | more)
    assert words in lines(found)[0]
    assert lines(found)[0].startswith("task 7 ")


def test_the_words_are_those_of_the_waits() -> None:
    alone = first_cause(replace(FOUND, crew=0, workers=3))
    assert str(alone) == no_worker_yet("m:f", 3, Workers.HERE)
    command = first_cause(replace(FOUND, crew=0, workers=3, function="command:shot"))
    assert str(command) == no_worker_yet("command:shot", 3, Workers.HERE)
    waits = OutOfReach(5.0)
    waits.take(0.0, unreachable("ada"))
    waits.take(0.0, unreachable("bob"))
    [line] = waits.tick(1.0, False)
    cut_off = [Barred(name, "192.0.2.7", 5557, "silence") for name in ("ada", "bob")]
    assert str(first_cause(replace(FOUND, held=0, cut_off=cut_off, cut_off_count=2))) == line.text
