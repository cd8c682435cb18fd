"""What a worker does about its sink, jobs, children and signals."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import Raw, msgpack, structs

from common.errors import ProtocolError
from common.log_line import LogLine
from common.protocol.codec import split_results, ticket
from common.protocol.handshake import Fail, LinkEvent
from common.protocol.messages import (
    Again,
    Batch,
    Beat,
    Dropped,
    Heard,
    Offer,
    Outcomes,
    Place,
    Places,
    Recorded,
    Returned,
    Unreachable,
    Welcome,
)
from common.worker import session as module
from common.worker.session import (
    TOGETHER_S,
    AwaitSignal,
    Connect,
    ConnectResults,
    Disconnect,
    End,
    LookForEdits,
    SendResults,
    SessionOutput,
    StartSlots,
    TryImport,
    WorkerSession,
)
from common.worker.settings import HoldingSettings, SessionSettings
from common.worker.slot_events import Broken, Done, Edited, Imported, Lost, NotImported, Outcome, Ready
from common.worker.slot_orders import KillOrder, ReplaceOrder, RunOrder

SETTINGS = SessionSettings(["m"], None, None, HoldingSettings(slots=2, prefetch=2, grace_s=30.0))
VOICE_S = SETTINGS.holding.timing.voice_s
DONE = msgpack.encode(Outcomes([None], [1.0], []))
WELCOME = Welcome(2, "run1", 5558, "", 5556)


def batch(first: int, job: str = "job") -> Batch:
    return Batch(job, "m:f", first, 1, 1, ticket(b"k", first, 1, 1), None, False, False, Raw(msgpack.encode([first])))


def place(job: str = "job", host: str = "", port: int = 5557, key: str = "k" * 40) -> Place:
    return Place(job, host, port, key, False)


def importing(settings: SessionSettings = SETTINGS) -> WorkerSession:
    return WorkerSession(settings, "w", 0.0)


def ready(settings: SessionSettings = SETTINGS) -> WorkerSession:
    """All its children wait for work, and the job is known."""
    made = importing(settings)
    made.receive(0.0, WELCOME, "sink")
    for slot in range(settings.holding.slots):
        made.slot_event(0.0, Ready(slot, ["m:f"]))
    made.receive(0.0, Places([place()]), "sink")
    made.link_event(0.0, "sink", 5557, LinkEvent.CONNECTED)
    made.tick(0.0)
    return made


def busy(settings: SessionSettings = SETTINGS) -> WorkerSession:
    """It runs tasks 0 and 1, and 2 and 3 wait."""
    made = ready(replace(settings, holding=replace(settings.holding, ahead_bytes_max=0)))
    made.take(0.0, [batch(first) for first in range(4)])
    return made


def words(outputs: list[SessionOutput]) -> list[str]:
    return [output.text for output in outputs if isinstance(output, LogLine)]


def kinds(outputs: list[SessionOutput]) -> list[type]:
    return [type(output) for output in outputs]


def returned(outputs: list[SessionOutput]) -> list[int]:
    return [first for output in outputs if isinstance(output, Returned) for first, _, _ in output.batches]


# -- the start ----------------------------------------------------------------------------------------------------


def test_one_child_imports_the_modules_first_and_then_the_others() -> None:
    made = importing()
    assert made.begin() == [StartSlots(range(1))]
    outputs = made.slot_event(0.0, Ready(0, ["m:f", "m:g"]))
    assert outputs == [StartSlots(range(1, 2)), LogLine("info", "exposing m:f, m:g in 2 slots")]
    assert made.slot_event(0.0, Ready(1, ["m:f", "m:g"])) == []


@pytest.mark.parametrize("welcome_first", [True, False])
def test_the_sink_is_told_what_is_exposed_once_both_are_there(welcome_first: bool) -> None:
    made = importing()
    steps: list[Callable[[], list[SessionOutput]]] = [
        lambda: made.receive(0.0, WELCOME, "sink"),
        lambda: made.slot_event(0.0, Ready(0, ["m:f"])),
    ]
    first, second = steps if welcome_first else reversed(steps)
    assert Offer not in kinds(first())
    assert Offer(["m:f"]) in second()


def test_nothing_is_said_to_the_sink_before_the_modules_are_imported() -> None:
    made = importing()
    assert made.tick(1.0) == []


# -- the sink and its ventilators ---------------------------------------------------------------------------------


def test_a_sink_that_was_started_again_gets_a_new_results_socket_and_the_results_again() -> None:
    made = busy()
    made.slot_event(0.0, Outcome(0, 0, 1, 1.0, DONE))
    assert SendResults in kinds(made.tick(0.0))
    assert kinds(made.receive(1.0, WELCOME, "sink")) == [Offer], "the same sink: the link was cut"
    assert SendResults not in kinds(made.tick(1.0))
    outputs = made.receive(2.0, replace_run("run2"), "sink")
    assert kinds(outputs) == [Offer, LogLine, ConnectResults]
    assert words(outputs) == ["joined the sink at sink as w"]
    assert SendResults in kinds(made.tick(2.0))


def replace_run(run: str) -> Welcome:
    return Welcome(2, run, 5558, "", 5556)


def test_what_was_not_sent_yet_goes_to_a_new_sink_once() -> None:
    made = ready()
    made.take(1.0, [batch(0)])
    made.slot_event(1.0, Outcome(0, 0, 1, 1.0, DONE))
    made.receive(1.0, replace_run("run2"), "sink")
    [sent] = [output for output in made.tick(1.0) if isinstance(output, SendResults)]
    assert [results.serial for results in split_results(sent.frame)] == [1]


def test_results_follow_the_sink_to_another_host_also_when_it_is_the_same_run() -> None:
    """One sink may be reached at two addresses: what was on its way to the first may be lost."""
    made = ready()
    made.take(1.0, [batch(0)])
    made.slot_event(1.0, Outcome(0, 0, 1, 1.0, DONE))
    assert SendResults in kinds(made.tick(1.0))
    assert ConnectResults not in kinds(made.receive(2.0, WELCOME, "sink"))
    assert ConnectResults in kinds(made.receive(2.0, WELCOME, "elsewhere"))
    assert SendResults in kinds(made.tick(2.0))


A, B = Connect("a", "sink", 1, "k" * 40), Connect("b", "sink", 2, "k" * 40)


@pytest.mark.parametrize(
    ("before", "after", "outputs"),
    [
        ([], [place("a", "", 1)], [A]),
        ([place("a", "", 1)], [place("a", "", 1)], []),
        ([place("a", "", 1)], [place("a", "", 1), place("b", "", 2)], [B]),
        ([place("a", "", 1), place("b", "", 2)], [place("b", "", 2)], [Disconnect("sink", 1)]),
        ([place("a", "", 1)], [place("a", "sink", 1)], []),
        (
            [place("a", "", 1)],
            [place("a", "", 1, "n" * 40)],
            [Disconnect("sink", 1), Connect("a", "sink", 1, "n" * 40)],
        ),
        (
            [place("a", "", 1), place("b", "", 1, "n" * 40)],
            [place("a", "", 1)],
            [Disconnect("sink", 1), A],
        ),
        ([place("a", "", 1)], [place("a", "else", 1)], [Disconnect("sink", 1), Connect("a", "else", 1, "k" * 40)]),
    ],
    ids=["new", "same", "one more", "one less", "the same host", "another key", "one address, two keys", "moved"],
)
def test_it_pulls_from_the_places_that_the_sink_names(
    before: list[Place], after: list[Place], outputs: list[SessionOutput]
) -> None:
    made = importing()
    made.receive(0.0, Places(before), "sink")
    assert made.receive(0.0, Places(after), "sink") == outputs


def test_places_that_cannot_be_reached_are_said_until_they_are_no_longer_named() -> None:
    made = ready()
    made.receive(1.0, Places([place(), place("other", "::1", 5560)]), "sink")
    made.link_event(1.1, "::1", 5560, LinkEvent.NOBODY)
    due_at = 1.0 + VOICE_S
    assert made.deadline() <= due_at  # type: ignore[operator]
    outputs = made.tick(due_at)
    assert [each for each in outputs if isinstance(each, Unreachable)] == [
        Unreachable("other", "w", "::1", 5560, "silence")
    ]
    assert words(outputs) == [
        "cannot reach the tasks of job other at [::1]:5560: nothing answers there, or a firewall is in between;"
        " its ventilator is told so; still trying"
    ]
    made.receive(due_at, Places([place()]), "sink")
    assert words(made.tick(100.0)) == []


R = Connect("a", "sink", 5555, "s" * 40)


@pytest.mark.parametrize(
    ("before", "after", "outputs"),
    [
        ([], ["a", "b"], [R]),
        (["a"], ["a", "b"], []),
        (["a", "b"], ["b"], []),
        (["a", "b"], [], [Disconnect("sink", 5555)]),
    ],
    ids=["new", "one more", "one less", "none"],
)
def test_jobs_of_the_relay_share_one_link(before: list[str], after: list[str], outputs: list[SessionOutput]) -> None:
    made = importing()
    made.receive(0.0, Places([place(job, "", 5555, "s" * 40) for job in before]), "sink")
    assert made.receive(0.0, Places([place(job, "", 5555, "s" * 40) for job in after]), "sink") == outputs


def test_a_job_that_joins_a_link_that_is_up_is_said() -> None:
    made = ready()
    outputs = made.receive(1.0, Places([place(), place("other")]), "sink")
    assert words(outputs) == ["pulling the tasks of job other from sink:5557"]
    assert words(made.receive(2.0, Places([place(), place("other")]), "sink")) == []
    made.link_event(3.0, "sink", 5557, LinkEvent.CUT)
    assert words(made.link_event(3.1, "sink", 5557, LinkEvent.CONNECTED)) == [
        "pulling the tasks of job job, other from sink:5557"
    ]


def test_a_batch_that_overtakes_the_sinks_word_of_its_job_is_run() -> None:
    made = ready()
    early = structs.replace(batch(0, "other"), origin=b"o" * 16)
    forged = structs.replace(batch(1, "other"), origin=b"x" * 16)
    assert made.take(1.0, [early, forged]) == []
    outputs = made.receive(1.1, Places([place(), structs.replace(place("other"), origin=b"o" * 16)]), "sink")
    outputs += made.tick(1.1)
    assert [output.slot for output in outputs if isinstance(output, RunOrder)] == [0]
    assert words(outputs) == [
        "pulling the tasks of job other from sink:5557",
        "a batch of job other that another ventilator has pushed is dropped (logged once)",
    ]


def test_a_batch_that_came_early_waits_for_edits_that_are_found_when_its_job_begins() -> None:
    made = ready()
    made.take(1.0, [structs.replace(batch(0, "other"), origin=b"o" * 16)])
    outputs = made.receive(1.1, Places([place(), structs.replace(place("other"), origin=b"o" * 16)]), "sink")
    assert LookForEdits in kinds(outputs)
    assert RunOrder not in kinds(outputs), "it would run what was edited since"
    made.slot_event(1.1, Edited(["work.py"]))
    assert RunOrder not in kinds(made.tick(1.1))
    outputs = made.slot_event(1.5, NotImported("no such name"))
    assert RunOrder in kinds(outputs), "the old children go on"


def test_a_batch_of_a_job_that_stays_unknown_is_forgotten() -> None:
    made = ready()
    made.take(1.0, [batch(0, "other")])
    made.tick(2.0)
    outputs = made.receive(2.0, Places([place(), place("other")]), "sink")
    assert RunOrder not in kinds(outputs)


def test_results_that_the_sink_refuses_are_said() -> None:
    made = busy()
    assert words(made.receive(0.0, Recorded([], [1, 2]), "sink")) == [
        "the sink refuses 2 results of a job that it does not know"
    ]
    assert words(made.receive(0.0, Recorded([1], []), "sink")) == []
    lines = [words(made.receive(1.0, Recorded([], [1]), "sink")) for _ in range(1_000)]
    assert sum(map(len, lines)) < 10, "whoever pushes batches of no job does not fill the log"


def test_a_ventilator_that_sends_nonsense_is_named_once() -> None:
    made = ready()
    error = ProtocolError("no batch")
    assert len(made.malformed("10.0.0.1", error)) == 1
    assert made.malformed("10.0.0.1", error) == []
    assert len(made.malformed("10.0.0.2", error)) == 1


# -- results ------------------------------------------------------------------------------------------------------


def sent(outputs: list[SessionOutput]) -> list[list[int]]:
    """The first tasks of the results in each frame."""
    return [
        [each.first for each in split_results(output.frame)] for output in outputs if isinstance(output, SendResults)
    ]


def test_results_of_one_turn_share_a_frame() -> None:
    made = busy()
    outputs = made.slot_event(0.0, Outcome(0, 0, 1, 1.0, DONE)) + made.slot_event(0.0, Outcome(1, 1, 1, 1.0, DONE))
    assert sent(outputs) == []
    assert sent(made.tick(0.0)) == [[0, 1]]
    assert sent(made.tick(0.1)) == []


def test_a_frame_of_results_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTGOING_BYTES_MAX", 10)
    made = busy()
    assert sent(made.slot_event(0.0, Outcome(0, 0, 1, 1.0, DONE))) == []
    assert sent(made.slot_event(0.0, Outcome(1, 1, 1, 1.0, DONE))) == [[0]]
    assert sent(made.tick(0.0)) == [[1]]


# -- leaving ------------------------------------------------------------------------------------------------------


IN_ORDER = "returning what has not started, finishing what runs"


@pytest.mark.parametrize(
    ("settings", "told", "says"),
    [
        (SETTINGS, lambda made: made.signalled(1.0, "SIGTERM"), [f"SIGTERM: {IN_ORDER}; again to leave at once"]),
        (SETTINGS, lambda made: made.input_ended(1.0), [f"standard input has ended: {IN_ORDER}"]),
        (replace(SETTINGS, stop_after_s=1.0), lambda made: made.tick(1.0), [f"the time is over: {IN_ORDER}"]),
    ],
    ids=["signal", "standard input", "stop after"],
)
def test_it_leaves_in_order(
    settings: SessionSettings, told: Callable[[WorkerSession], list[SessionOutput]], says: list[str]
) -> None:
    made = busy(settings)
    outputs = told(made)
    assert words(outputs) == says
    assert sorted(returned(outputs)) == [2, 3]
    for slot in (0, 1):
        made.slot_event(2.0, Outcome(slot, slot, 1, 1.0, DONE))
        made.slot_event(2.0, Done(slot))
    assert End not in kinds(made.tick(2.0)), "it waits for its receipts"
    made.receive(3.0, Recorded([1, 2], []), "sink")
    assert End() in made.tick(3.0)


def test_a_worker_whose_parent_is_gone_leaves_at_once() -> None:
    assert busy().parent_gone() == [End(at_once=True)]


def test_the_second_signal_ends_it_at_once() -> None:
    made = busy()
    made.signalled(1.0, "SIGINT")
    outputs = made.signalled(1.5, "SIGTERM")
    assert words(outputs) == ["SIGTERM again: leaving at once; running tasks are pushed to other workers"]
    assert outputs[-1] == End(at_once=True)


def test_a_worker_that_leaves_by_itself_takes_the_first_signal_for_the_first() -> None:
    made = busy(replace(SETTINGS, stop_after_s=1.0))
    made.tick(1.0)
    outputs = made.signalled(2.0, "SIGTERM")
    assert words(outputs) == ["SIGTERM: already leaving; again to leave at once"]
    assert End not in kinds([*outputs, *made.tick(2.0)])
    assert KillOrder in kinds(made.tick(31.0)), "its grace began when it began to leave"
    assert made.signalled(31.5, "SIGTERM")[-1] == End(at_once=True)


def test_what_runs_past_the_grace_is_ended_and_returned() -> None:
    made = busy()
    made.signalled(1.0, "SIGTERM")
    assert KillOrder not in kinds(made.tick(30.9))
    outputs = made.tick(31.0)
    assert [output for output in outputs if isinstance(output, KillOrder)] == [KillOrder(0), KillOrder(1)]
    assert sorted(returned(outputs)) == [0, 1]
    assert outputs[-1] == End()


def test_a_worker_that_imports_ends_at_once() -> None:
    made = importing()
    made.signalled(0.0, "SIGTERM")
    assert made.tick(0.0)[-1] == End()


def test_it_leaves_when_it_was_idle_and_not_while_it_holds_something() -> None:
    made = busy(replace(SETTINGS, exit_when_idle_s=5.0))
    for now in (4.0, 8.0):
        assert words(made.tick(now)) == []
    for first in range(4):
        made.slot_event(8.0, Outcome(first % 2, first, 1, 1.0, DONE))
        made.slot_event(8.0, Done(first % 2))
    assert words(made.tick(20.0)) == [], "its results have no receipts"
    made.receive(21.0, Recorded([1, 2, 3, 4], []), "sink")
    assert made.deadline() is not None
    assert words(made.tick(24.9)) == []
    outputs = made.tick(25.0)
    assert words(outputs) == ["no task for 5 seconds: leaving"]
    assert outputs[-1] == End()


@pytest.mark.parametrize("told", [{"exit_when_idle_s": 5.0}, {"stop_after_s": 5.0}], ids=str)
def test_a_worker_that_leaves_by_itself_and_has_met_no_sink_says_so(told: dict[str, float]) -> None:
    made = importing(replace(SETTINGS, **told))
    assert End not in kinds(made.tick(4.9))
    assert made.tick(5.0)[-1] == End(unmet=True)
    signalled = importing(replace(SETTINGS, **told))
    signalled.signalled(4.9, "SIGTERM")
    assert signalled.tick(5.0)[-1] == End(), "it does what it was told"
    met = importing(replace(SETTINGS, **told))
    met.receive(1.0, WELCOME, "sink")
    assert met.tick(5.0)[-1] == End()


def test_the_deadline_is_when_it_was_told_to_leave() -> None:
    made = importing(replace(SETTINGS, stop_after_s=3.0, exit_when_idle_s=4.0))
    assert made.deadline() == 3.0
    made = importing(replace(SETTINGS, exit_when_idle_s=4.0))
    assert made.deadline() == 4.0


# -- the whole group is told to end -------------------------------------------------------------------------------


def died(slot: int) -> Outcome:
    """The child of the slot was ended by SIGTERM while it ran a task."""
    return Outcome(slot, slot, 1, 0.0, DONE, by_sigterm=True)


BROKEN = Broken(1, "the module cannot be imported")


def test_a_task_whose_child_ended_by_sigterm_is_blamed_when_no_signal_comes() -> None:
    made = busy()
    assert made.slot_event(1.0, died(0)) == [AwaitSignal(1.0 + TOGETHER_S)]
    made.waited(1.0 + TOGETHER_S, [])
    made.slot_event(1.2, Lost(0))
    assert sent(made.tick(1.2)) == [[0]]


def test_a_task_whose_child_ended_with_its_worker_is_not_blamed() -> None:
    made = busy()
    made.slot_event(1.0, died(0))
    assert sorted(returned(made.waited(1.1, ["SIGTERM"]))) == [2, 3]
    assert made.slot_event(1.1, Lost(0)) == []
    outputs = made.tick(1.1)
    assert sent(outputs) == []
    assert returned(outputs) == [0], "another worker runs it"
    assert made.slot_event(1.1, died(1)) == [], "it leaves: nothing is waited for any more"


def test_children_that_end_together_are_waited_for_once() -> None:
    made = busy()
    assert made.slot_event(1.0, died(0)) == [AwaitSignal(1.0 + TOGETHER_S)]
    made.waited(1.0 + TOGETHER_S, [])
    assert AwaitSignal not in kinds(made.slot_event(1.0 + TOGETHER_S, died(1)))
    assert sent(made.tick(1.3)) == [[0, 1]]


@pytest.mark.parametrize(
    ("signals", "kind"), [([], Fail), (["SIGTERM"], LogLine)], ids=["the modules are broken", "it is told to end"]
)
def test_a_child_that_cannot_import_ends_its_worker_unless_that_leaves(signals: list[str], kind: type) -> None:
    made = importing()
    assert made.slot_event(1.0, BROKEN) == [AwaitSignal(1.0 + TOGETHER_S)]
    last = made.waited(1.1, signals)[-1]
    assert isinstance(last, kind)
    assert BROKEN.text in last.text  # type: ignore[attr-defined]


# -- the voice ----------------------------------------------------------------------------------------------------


def test_it_says_what_it_waits_for() -> None:
    made = importing()
    assert made.deadline() == VOICE_S
    assert words(made.tick(VOICE_S)) == ["still importing m"]
    assert words(made.tick(VOICE_S + 0.1)) == []
    assert words(made.tick(3 * VOICE_S)) == ["still importing m"]
    made = busy()
    assert words(made.tick(100.0)) == []
    made.signalled(100.0, "SIGTERM")
    assert words(made.tick(100.0 + VOICE_S)) == [
        "still finishing running tasks, or waiting for their receipts; a second signal leaves at once"
    ]


def test_batches_run_and_what_comes_beyond_is_returned() -> None:
    made = ready()
    outputs = made.take(0.0, [batch(first) for first in range(6)])
    assert RunOrder in kinds(outputs)
    assert returned(made.tick(0.0)) == [4, 5]


def test_what_was_returned_to_a_sink_that_did_not_know_the_worker_is_returned_again() -> None:
    made = ready()
    made.take(0.0, [batch(first) for first in range(6)])
    assert returned(made.tick(0.0)) == [4, 5]
    made.receive(0.1, Again(), "sink")
    made.take(0.2, [batch(6)])
    assert returned(made.tick(0.2)) == [6]
    assert kinds(made.receive(0.3, WELCOME, "sink")) == [Offer]
    assert returned(made.tick(0.3)) == [4, 5, 6], "after the offer"
    made.receive(0.4, WELCOME, "sink")
    assert returned(made.tick(0.4)) == [], "once"


def test_what_the_sink_has_heard_or_is_held_again_is_not_returned_again() -> None:
    made = ready()
    made.take(0.0, [batch(first) for first in range(5)])
    outputs = made.tick(0.0)
    assert returned(outputs) == [4]
    beats = [output.serial for output in [*outputs, *made.tick(2.0)] if isinstance(output, Beat)]
    made.receive(2.1, Heard(max(beats)), "sink")
    made.take(2.2, [batch(5)])
    assert returned(made.tick(2.2)) == [5]
    made.receive(2.3, Again(), "sink")
    made.slot_event(2.3, Outcome(0, 0, 1, 1.0, DONE))
    made.take(2.3, [batch(5)])
    made.receive(2.4, WELCOME, "sink")
    assert returned(made.tick(2.4)) == []


# -- edited modules -------------------------------------------------------------------------------------------------


def test_a_job_that_begins_makes_it_look_for_edits_before_it_takes_its_tasks() -> None:
    made = ready()
    assert LookForEdits not in kinds(made.receive(1.0, Places([place()]), "sink"))
    outputs = kinds(made.receive(1.0, Places([place(), place("one", port=1000)]), "sink"))
    assert outputs.index(LookForEdits) < outputs.index(Connect)
    # The next job may have the address of the last one.
    assert kinds(made.receive(1.0, Places([place(), place("two", port=1000)]), "sink"))[0] is LookForEdits


def test_no_reload_only_says_so() -> None:
    made = busy(replace(SETTINGS, reloads=False))
    said = "m.py was edited: this worker goes on with what it has imported; start it again, or use --reload"
    assert made.slot_event(1.0, Edited(["m.py"])) == [LogLine("warning", said)]


def test_outdated_children_begin_nothing_and_are_replaced_when_they_have_nothing_to_do() -> None:
    made = busy()
    assert kinds(made.slot_event(1.0, Edited(["m.py"]))) == [LogLine, TryImport]
    assert RunOrder not in kinds(made.slot_event(1.1, Done(0)))
    assert ReplaceOrder(0) in made.slot_event(1.2, Imported(["m:f"]))
    assert ReplaceOrder(1) in made.slot_event(1.3, Done(1))


def test_outdated_children_get_no_order_ahead() -> None:
    made = ready()
    made.take(0.5, [batch(first) for first in range(2)])
    made.slot_event(1.0, Edited(["m.py"]))
    assert RunOrder not in kinds(made.take(1.1, [batch(2)]))
    made.slot_event(1.2, NotImported("no"))
    assert RunOrder in kinds(made.take(1.3, [batch(3)]))


def half_started() -> WorkerSession:
    """Its second child imports the modules, and they are edited."""
    made = importing(replace(SETTINGS, holding=replace(SETTINGS.holding, ahead_bytes_max=0)))
    made.receive(0.0, WELCOME, "sink")
    made.slot_event(0.0, Ready(0, ["m:f"]))
    made.receive(0.0, Places([place()]), "sink")
    made.slot_event(1.0, Edited(["m.py"]))
    made.take(1.0, [batch(0)])
    return made


def runs(outputs: list[SessionOutput]) -> list[tuple[int, int]]:
    """The slots that are given orders, and the first tasks of these."""
    return [(output.slot, output.parts[0].first) for output in outputs if isinstance(output, RunOrder)]


@pytest.mark.parametrize("ready_at", [1.1, 1.3], ids=["it is ready first", "the trial is over first"])
def test_a_child_that_starts_when_an_edit_is_noticed_is_outdated_too(ready_at: float) -> None:
    made = half_started()
    steps: dict[float, Imported | Ready] = {1.2: Imported(["m:f"]), ready_at: Ready(1, ["m:f"])}
    outputs = [output for now in sorted(steps) for output in made.slot_event(now, steps[now])]
    assert sorted(output.slot for output in outputs if isinstance(output, ReplaceOrder)) == [0, 1], "each once"
    assert runs(outputs) == []
    assert runs(made.slot_event(1.4, Ready(1, ["m:f"]))) == [(1, 0)], "its new child"


def test_a_child_that_starts_when_an_edit_is_noticed_goes_on_when_that_cannot_be_imported() -> None:
    made = half_started()
    assert made.slot_event(1.1, Ready(1, ["m:f"])) == []
    assert made.slot_event(1.1, Ready(1, ["m:f"])) == [], "whatever it says"
    made.take(1.1, [batch(1)])
    assert sorted(runs(made.slot_event(1.2, NotImported("no")))) == [(0, 0), (1, 1)]
    made = half_started()
    assert runs(made.slot_event(1.2, NotImported("no"))) == [(0, 0)]
    made.take(1.3, [batch(1)])
    assert runs(made.slot_event(1.4, Ready(1, ["m:f"]))) == [(1, 1)]


@pytest.mark.parametrize("lost", [True, False], ids=["it is lost", "its job is dropped"])
def test_the_next_child_of_a_slot_is_not_outdated(lost: bool) -> None:
    made = busy()
    made.slot_event(1.0, Edited(["m.py"]))
    if lost:
        made.slot_event(1.1, Lost(0))
        assert runs(made.slot_event(1.2, Ready(0, ["m:f"]))) == [(0, 0)]
    else:
        made.receive(1.1, Dropped("job"), "sink")
        made.receive(1.1, Places([place("next")]), "sink")
        made.take(1.1, [batch(7, "next")])
        assert runs(made.slot_event(1.2, Ready(0, ["m:f"]))) == [(0, 7)]
    assert ReplaceOrder(0) not in made.slot_event(1.3, Imported(["m:f"]))


def test_an_edit_that_cannot_be_imported_leaves_the_children_as_they_are() -> None:
    made = busy()
    made.slot_event(1.0, Edited(["m.py"]))
    made.slot_event(1.1, Done(0))
    outputs = made.slot_event(1.2, NotImported("no"))
    assert words(outputs) == ["this worker goes on with what it has imported before the edit: no"]
    assert RunOrder in kinds(outputs)
    assert words(made.slot_event(2.0, Edited(["m.py"], refused=True))) == [
        "m.py was edited and cannot be imported: this worker goes on with what it has imported before"
    ]


def test_other_functions_after_an_edit_are_offered() -> None:
    made = busy()
    made.slot_event(1.0, Edited(["m.py"]))
    assert Offer(["m:g"]) in made.slot_event(1.1, Imported(["m:g"]))


def test_batches_of_a_job_are_taken_from_its_own_ventilator_only() -> None:
    made = ready()
    mine, foreign = b"o" * 16, b"f" * 16
    made.receive(0.0, Places([structs.replace(place(), origin=mine), place("other", port=5558)]), "sink")
    batches = [structs.replace(batch(first), origin=foreign) for first in (0, 1)]
    assert words(made.take(0.0, batches)) == [
        "a batch of job job that another ventilator has pushed is dropped (logged once)"
    ]
    assert RunOrder not in kinds(made.take(0.0, batches)), "and it is not repeated"
    assert returned(made.tick(0.0)) == [], "its own ventilator has not lost it"
    assert RunOrder in kinds(made.take(0.0, [structs.replace(batch(0), origin=mine)]))


def test_a_job_that_has_lost_its_ventilator_still_takes_no_batches_of_another() -> None:
    made = ready()
    mine, foreign = b"o" * 16, b"f" * 16
    made.receive(0.0, Places([structs.replace(place(), origin=mine)]), "sink")
    made.receive(1.0, Places([place("other", port=5558)]), "sink")
    assert words(made.take(1.0, [structs.replace(batch(0), origin=foreign)])) == [
        "a batch of job job that another ventilator has pushed is dropped (logged once)"
    ]
    assert runs(made.take(1.0, [structs.replace(batch(1), origin=mine)])) == [(0, 1)], "it was on its way"


@pytest.mark.parametrize("job", ["job", "unknown"])
def test_batches_of_a_dropped_or_unknown_job_are_dropped_without_a_word(job: str) -> None:
    made = ready()
    made.receive(0.0, Places([structs.replace(place(), origin=b"o" * 16)]), "sink")
    made.receive(1.0, Dropped("job"), "sink")
    assert made.take(1.0, [structs.replace(batch(0, job), origin=origin) for origin in (b"o" * 16, b"f" * 16)]) == []
    assert returned(made.tick(1.0)) == []
