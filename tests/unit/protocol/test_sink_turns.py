"""Several sinks: one is dialled at a time, and the next one soon when nothing comes of it."""

import pytest

from common.log_line import LogLine
from common.protocol.handshake import Fail, Handshake, LinkEvent, Output, Redial
from common.protocol.messages import PROTOCOL_VERSION, Again, FromSink, Heard, Hello, Refused, Welcome
from common.protocol.settings import Timing
from common.protocol.sink_turns import SinkTurns

TIMING = Timing()
A, B, C = "tcp://a:5559", "tcp://b:5559", "tcp://c:5559"
HELLO = Hello(PROTOCOL_VERSION, "worker", "ada")
WELCOME = Welcome(PROTOCOL_VERSION, "run", 5558, "", 5556)
CONNECTED, NOBODY, CUT = LinkEvent.CONNECTED, LinkEvent.NOBODY, LinkEvent.CUT
NO_SUCH_NAME, BAD, REFUSED = LinkEvent.NO_SUCH_NAME, LinkEvent.BAD_HANDSHAKE, LinkEvent.KEY_REFUSED
BLACK_HOLE_S = 2.0
"""After this long libzmq gives up a connection that nobody answers."""


def joining(*addresses: str) -> Handshake:
    return Handshake(TIMING, "worker", "ada", addresses or (A, B), "keys/worker.key_secret")


Following = list[tuple[float, LinkEvent | FromSink]]
"""What follows a dial, each after some seconds."""


class Site:
    """The rules with what stands at each address: events or messages that follow a dial, each after some seconds."""

    def __init__(self, rules: Handshake, **met: Following) -> None:
        self.rules = rules
        self.met = met
        self.now = 0.0
        self.dialled: list[tuple[float, str]] = []
        self.said: list[tuple[float, Output]] = []
        self._coming: Following = []
        self._dial(0)

    def _dial(self, place: int) -> None:
        name = "abc"[place]
        self.dialled.append((self.now, name))
        self._coming = [(self.now + after_s, step) for after_s, step in self.met.get(name, [])]

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.said.append((self.now, output))
            if isinstance(output, Redial):
                self._dial(output.place)

    def until(self, end: float) -> None:
        turns = 0
        while True:
            self._take(self.rules.tick(self.now))
            deadline = self.rules.deadline()
            instants = [at for at in (deadline, *(at for at, _ in self._coming)) if at is not None]
            next_at = max(self.now, min(instants, default=end + 1))
            turns = turns + 1 if next_at == self.now else 0
            assert turns < 10, "the loop spins"
            if next_at > end:
                self.now = end
                return
            self.now = next_at
            due = [each for each in self._coming if each[0] <= self.now]
            self._coming = [each for each in self._coming if each[0] > self.now]
            for _, step in due:
                took = self.rules.event if isinstance(step, LinkEvent) else self.rules.receive
                self._take(took(self.now, step))  # type: ignore[arg-type]

    def texts(self) -> list[str]:
        return [output.text for _, output in self.said if isinstance(output, LogLine | Fail)]


REFUSES: Following = [(0.001, NOBODY)]
SERVES: Following = [(0.01, CONNECTED), (0.02, WELCOME)]
DARK: Following = [(BLACK_HOLE_S, NOBODY)]
STOPPED: Following = []
SILENT: Following = [(0.01, CONNECTED)]
FOREIGN: Following = [(0.01, LinkEvent.NO_TRADEWIND)]
OTHER_KEY: Following = [(0.1 * n, BAD) for n in range(1, 9)]
NAMELESS: Following = [(0.001, NO_SUCH_NAME)]
OTHER_VERSION: Following = [(0.01, CONNECTED), (0.02, Refused(2, "not this version"))]


@pytest.mark.parametrize(
    ("first", "within_s"),
    [(REFUSES, 0.1), (DARK, 1.6), (STOPPED, 1.6), (SILENT, 1.6), (FOREIGN, 0.1), (OTHER_KEY, 0.5), (NAMELESS, 0.1)],
    ids=["refuses", "dark", "stopped", "silent", "foreign", "another key", "no such name"],
)
def test_a_first_address_that_is_wrong_or_dead_costs_less_than_two_seconds(first: Following, within_s: float) -> None:
    site = Site(joining(), a=first, b=SERVES)
    site.until(3.0)
    assert site.rules.joined
    assert [name for _, name in site.dialled] == ["a", "b"]
    assert site.dialled[1][0] <= within_s
    assert site.texts() == []


@pytest.mark.parametrize("first", [REFUSES, DARK, STOPPED, SILENT, FOREIGN], ids=str)
def test_with_one_address_no_other_is_dialled(first: Following) -> None:
    site = Site(joining(A), a=first)
    site.until(20.0)
    assert site.dialled == [(0.0, "a")]


def test_a_slow_handshake_has_its_time_in_the_second_round() -> None:
    slow: Following = [(2.4, CONNECTED), (2.9, WELCOME)]
    site = Site(joining(), a=DARK, b=slow)
    site.until(20.0)
    assert site.rules.joined


def test_sinks_that_refuse_are_not_dialled_in_a_loop_and_none_is_forgotten() -> None:
    site = Site(joining(A, B, C), a=REFUSES, b=REFUSES, c=REFUSES)
    site.until(10.0)
    names = "".join(name for _, name in site.dialled)
    assert names.startswith("abcabcabc")
    assert 3 * 10 <= len(names) <= 3 * 25


def test_a_refusal_counts_no_more_once_the_port_takes_connections() -> None:
    """Both refuse; while the round lasts, the one that is dialled begins to serve."""
    site = Site(joining(), a=REFUSES, b=REFUSES)
    site.until(0.01)
    site._take(site.rules.event(0.02, CONNECTED))
    site.until(1.0)
    assert len(site.dialled) <= 4
    site._take(site.rules.receive(1.0, WELCOME))
    site.until(3.0)
    assert site.rules.joined


@pytest.mark.parametrize(
    ("end", "within_s"),
    [([CUT, NOBODY], 0.1), ([CUT], 1.6), ([NOBODY], 0.1)],
    ids=["killed", "cut off", "bad handshake after a cut"],
)
def test_a_sink_that_is_gone_is_left_soon(end: list[LinkEvent], within_s: float) -> None:
    site = Site(joining(), a=SERVES, b=SERVES)
    site.until(1.0)
    for event in [CUT, *end] if end[0] is not CUT else end:
        site._take(site.rules.event(1.0, event))
    site.until(1.0 + within_s)
    assert [name for _, name in site.dialled] == ["a", "b"]
    assert site.rules.joined
    assert f"went over to the sink at {B}" in site.texts()


def test_a_sink_that_does_not_answer_beats_is_left_after_the_gone_time() -> None:
    site = Site(joining(), a=SERVES, b=SERVES)
    site.until(1.0)
    for beat in range(1, 12):
        site.rules.said(float(beat))
        if beat < 4:
            site._take(site.rules.receive(beat + 0.1, Heard(beat)))
        site.until(beat + 1.0)
    assert [name for _, name in site.dialled] == ["a", "b"]
    assert site.dialled[1][0] == pytest.approx(3.1 + TIMING.gone_s)


def test_who_asks_seldom_does_not_take_its_own_silence_for_the_sinks() -> None:
    site = Site(joining(), a=SERVES, b=SERVES)
    site.until(100.0)
    assert len(site.dialled) == 1
    site.rules.said(100.0)
    site.until(102.9)
    assert len(site.dialled) == 1
    site.until(103.1)
    assert [name for _, name in site.dialled] == ["a", "b"]


def test_again_and_goodbye_do_not_lead_away() -> None:
    site = Site(joining(), a=SERVES, b=SERVES)
    site.until(1.0)
    site._take(site.rules.receive(1.0, Again()))
    site._coming = [(1.1, WELCOME)]
    site.until(5.0)
    site.rules.leave()
    site._coming = [(5.1, WELCOME)]
    site.until(20.0)
    assert site.rules.joined
    assert len(site.dialled) == 1


def test_at_the_start_the_word_of_the_sink_that_answers_counts() -> None:
    for first in ([(0.01, REFUSED)], OTHER_VERSION):
        site = Site(joining(), a=first, b=REFUSES)
        site.until(1.0)
        assert [type(output) for _, output in site.said if isinstance(output, Fail)] == [Fail]


def test_who_was_revoked_ends_though_another_address_is_there() -> None:
    site = Site(joining(), a=SERVES, b=REFUSES)
    site.until(1.0)
    for event in (CUT, NOBODY):
        site._take(site.rules.event(1.0, event))
    site.met["a"] = [(0.01, REFUSED)]
    site.until(5.0)
    assert "refuses this key" in site.texts()[-1]


def test_a_sink_that_has_taken_over_with_an_old_roster_ends_nobody() -> None:
    """It is said, and the sink that knows the key is found when it is back."""
    site = Site(joining(), a=SERVES, b=[(0.01, REFUSED)])
    site.until(1.0)
    site.met["a"] = REFUSES
    for event in (CUT, NOBODY):
        site._take(site.rules.event(1.0, event))
    site.until(20.0)
    assert not any(isinstance(output, Fail) for _, output in site.said)
    assert f"the sink at {B} refuses this key" in site.texts()[-1]
    assert f"the sink at {A} does not answer" in site.texts()[-1]
    site.met["a"] = SERVES
    site.until(25.0)
    assert site.rules.joined


def test_when_waiting_helps_at_no_address_it_is_the_end() -> None:
    site = Site(joining(), a=FOREIGN, b=OTHER_KEY)
    site.until(5.0)
    assert any(isinstance(output, Fail) for _, output in site.said)


@pytest.mark.parametrize(
    ("met", "text"),
    [
        (
            {"a": REFUSES, "b": REFUSES},
            f"no sink answers at {A} or {B}: start it there, in its folder, with `tradewind sink`, or name its address"
            " with --sink; still trying",
        ),
        (
            {"a": NAMELESS, "b": DARK},
            f"the name in {A} does not resolve to an address; no sink answers at {B}: fix the sink's name with --sink"
            " or in keys/worker.key_secret, or this machine's DNS; still trying",
        ),
        (
            {"a": SILENT, "b": REFUSES},
            f"connected to {A}, but no sink answers there; no sink answers at {B}: it is stopped, or that is not its"
            " control port (--sink); still trying",
        ),
        (
            {"a": FOREIGN, "b": REFUSES},
            f"the program at {A} is not a Tradewind sink; no sink answers at {B}: give the sink's host with --sink;"
            " still trying",
        ),
    ],
    ids=["both refuse", "no such name", "silent", "foreign"],
)
def test_who_waits_names_what_was_met_at_each(met: dict[str, Following], text: str) -> None:
    site = Site(joining(), **met)
    site.until(6.0)
    assert site.texts() == [text]


def test_who_has_lost_its_sink_names_all() -> None:
    site = Site(joining(), a=SERVES, b=REFUSES)
    site.until(1.0)
    site.met["a"] = REFUSES
    for event in (CUT, NOBODY):
        site._take(site.rules.event(1.0, event))
    site.until(9.0)
    assert site.texts() == [f"the sink at {A} or {B} does not answer: results are kept until it is back; still trying"]


def test_a_single_address_keeps_its_turn() -> None:
    turns = SinkTurns([A])
    assert turns.is_alone
    turns.go_on(0.0)
    assert turns.address == A
