"""Links to ventilators that do not come up are said, at both ends, and again while that lasts."""

from itertools import pairwise

import pytest

from common.log_line import LogLine
from common.protocol.handshake import LinkEvent
from common.protocol.messages import Unreachable
from common.protocol.settings import Timing
from common.worker.tasks_links import TasksLinks

TIMING = Timing()
AT = ("10.0.0.7", 5557)
UP = [LogLine("info", "pulling the tasks of job j from 10.0.0.7:5557")]


def links() -> TasksLinks:
    made = TasksLinks(TIMING, "w")
    made.connect(0.0, AT, "j")
    return made


def told(made: TasksLinks, until: float) -> list[tuple[float, str]]:
    """When the ventilator is told, and what, if nothing else happens."""
    found = []
    while (now := made.deadline()) is not None and now <= until:
        for output in made.tick(now):
            if isinstance(output, Unreachable):
                assert output == Unreachable("j", "w", *AT, output.obstacle)
                found.append((now, output.obstacle))
    return found


def test_a_link_that_is_up_is_said_once_and_asks_for_nothing() -> None:
    made = links()
    assert made.event(0.1, AT, LinkEvent.CONNECTED) == UP
    assert made.event(0.2, AT, LinkEvent.CONNECTED) == []
    assert made.deadline() is None
    assert made.tick(1e6) == []


def test_a_host_that_was_named_is_seen_by_its_address_after_a_cut() -> None:
    made = TasksLinks(TIMING, "w")
    made.connect(0.0, ("sinkhost", 5557), "j")
    made.connect(0.0, ("10.0.0.8", 5557), "k")
    for host in ("sinkhost", "10.0.0.8"):
        made.event(0.1, (host, 5557), LinkEvent.CONNECTED)
    assert made.event(9.0, ("sinkhost", 5557), LinkEvent.CUT) == []
    assert made.event(9.1, ("10.0.0.7", 5557), LinkEvent.CONNECTED) == [
        LogLine("info", "pulling the tasks of job j from sinkhost:5557")
    ]
    assert made.deadline() is None
    assert made.event(9.2, ("10.0.0.7", 5560), LinkEvent.CUT) == []
    assert made.deadline() is None, "that is nobody's"


def test_a_link_that_does_not_come_up_is_said_more_and_more_seldom() -> None:
    made = links()
    instants = [now for now, _ in told(made, 5_000.0)]
    assert instants[:5] == [5.0, 15.0, 35.0, 75.0, 155.0]
    assert {later - now for now, later in pairwise(instants[7:])} == {600.0}


@pytest.mark.parametrize(
    ("event", "obstacle", "words"),
    [
        (None, "silence", "nothing answers there"),
        (LinkEvent.NOBODY, "silence", "nothing answers there"),
        (LinkEvent.NO_SUCH_NAME, "name", "no address here"),
        (LinkEvent.BAD_HANDSHAKE, "handshake", "something else answers"),
        (LinkEvent.KEY_REFUSED, "handshake", "something else answers"),
        (LinkEvent.NO_TRADEWIND, "handshake", "something else answers"),
    ],
)
def test_it_is_said_why(event: LinkEvent | None, obstacle: str, words: str) -> None:
    made = links()
    if event is not None:
        assert made.event(1.0, AT, event) == []
    message, line = made.tick(TIMING.voice_s)
    assert message == Unreachable("j", "w", *AT, obstacle)  # type: ignore[arg-type]
    assert isinstance(line, LogLine)
    assert line.text.startswith("cannot reach the tasks of job j at 10.0.0.7:5557: ")
    assert words in line.text


def test_a_link_that_is_cut_has_time_until_the_sink_knows_more() -> None:
    """A ventilator that dies is no longer named by then, and is not complained about."""
    made = links()
    made.event(0.1, AT, LinkEvent.CONNECTED)
    made.event(100.0, AT, LinkEvent.CUT)
    for late in range(20):
        made.event(100.0 + late / 4, AT, LinkEvent.NOBODY)
    assert made.deadline() == 100.0 + TIMING.gone_s + TIMING.voice_s
    assert made.event(104.0, AT, LinkEvent.CONNECTED) == UP
    assert made.deadline() is None
    made.event(200.0, AT, LinkEvent.CUT)
    made.disconnect(AT)
    assert made.deadline() is None
    assert made.event(201.0, AT, LinkEvent.CONNECTED) == []


def test_a_failed_handshake_beside_a_link_that_is_up_says_nothing_about_it() -> None:
    """Two ventilators may claim one address: one of the two connections has the wrong key."""
    made = links()
    made.connect(0.0, AT, "other")
    made.event(0.1, AT, LinkEvent.CONNECTED)
    made.event(0.2, AT, LinkEvent.BAD_HANDSHAKE)
    assert made.deadline() is None


def test_every_job_of_a_link_hears_of_it() -> None:
    made = links()
    made.connect(1.0, AT, "other")
    jobs = [output.job for output in made.tick(5.0) if isinstance(output, Unreachable)]
    assert jobs == ["j", "other"]


def test_an_ipv6_address_is_written_with_brackets() -> None:
    made = TasksLinks(TIMING, "w")
    made.connect(0.0, ("::1", 5557), "j")
    assert [line.text for line in made.event(0.0, ("::1", 5557), LinkEvent.CONNECTED)] == [
        "pulling the tasks of job j from [::1]:5557"
    ]
