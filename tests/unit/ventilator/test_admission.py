"""Which keys the tasks link admits, and when its connections are cut."""

from common.protocol.messages import Opened, Present, Recall, Roster
from common.protocol.settings import Timing
from common.ventilator.admission import Admission, CutLinks

T = Timing()
ADA, BOB, EVE = "A" * 40, "B" * 40, "E" * 40
OPENED = Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0)
NEWS = Recall("job")
"""Any message: that the sink is heard is what counts."""


def admitting(*present: str) -> Admission:
    made = Admission(T)
    for message in (Roster([ADA, BOB, EVE]), Present(list(present)), OPENED):
        assert made.receive(0.0, message, 2) == []
    return made


def test_nobody_is_judged_before_the_sink_has_said_who_is_enrolled() -> None:
    assert Admission(T).judge(ADA) is None


def test_enrolled_keys_are_admitted_while_workers_are_here_with_them() -> None:
    admission = admitting(ADA)
    assert [admission.judge(key) for key in (ADA, BOB, "X" * 40)] == [True, None, False]
    admission.receive(1.0, Present([BOB]), 2)
    assert [admission.judge(key) for key in (ADA, BOB)] == [None, True]


def test_when_a_key_is_revoked_all_connections_are_cut_and_it_does_not_come_back() -> None:
    admission = admitting(ADA, EVE)
    assert admission.receive(1.0, Roster([ADA, BOB]), 2) == [CutLinks(0)]
    assert [admission.judge(key) for key in (ADA, EVE)] == [True, False]
    assert admission.receive(1.0, Present([ADA]), 2) == []
    assert admission.receive(100.0, NEWS, 2) == []


def test_a_key_that_is_enrolled_cuts_nobody() -> None:
    admission = admitting(ADA)
    assert admission.receive(1.0, Roster([ADA, BOB, EVE, "X" * 40]), 2) == []


def test_who_stays_connected_after_its_last_worker_has_left_is_cut_once() -> None:
    admission = admitting(ADA, EVE)
    assert admission.receive(1.0, Present([ADA]), 2) == []
    assert admission.receive(2.9, NEWS, 1) == []
    assert admission.receive(3.0, NEWS, 1) == [CutLinks(1)]
    assert admission.receive(9.0, NEWS, 1) == []


def test_nobody_is_cut_when_a_worker_came_back_with_its_key() -> None:
    admission = admitting(ADA, EVE)
    admission.receive(1.0, Present([ADA]), 2)
    admission.receive(2.0, Present([EVE, ADA]), 2)
    assert admission.receive(9.0, NEWS, 2) == []


def test_a_sink_that_has_started_again_has_time_to_hear_its_workers() -> None:
    admission = admitting(ADA, EVE)
    for message in (Roster([ADA, BOB, EVE]), Present([]), OPENED):
        assert admission.receive(10.0, message, 2) == []
    assert admission.receive(14.9, Present([ADA]), 2) == []
    assert admission.receive(15.0, NEWS, 1) == [CutLinks(1)]
