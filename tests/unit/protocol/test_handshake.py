"""Joining: who cannot reach the sink says so in words, again and again, and gives up only when waiting is no use."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.log_line import LogLine
from common.protocol.handshake import Fail, Handshake, LinkEvent, Output, Redial
from common.protocol.messages import PROTOCOL_VERSION, Again, FromSink, Heard, Hello, Refused, Welcome
from common.protocol.settings import Timing

TIMING = Timing()
ADDRESS = "tcp://sink:5559"
HELLO = Hello(PROTOCOL_VERSION, "worker", "ada")
WELCOME = Welcome(PROTOCOL_VERSION, "run", 5558, "", 5556)
CONNECTED, NOBODY, CUT = LinkEvent.CONNECTED, LinkEvent.NOBODY, LinkEvent.CUT
NO_SUCH_NAME = LinkEvent.NO_SUCH_NAME

Step = LinkEvent | FromSink


def joining() -> Handshake:
    return Handshake(TIMING, "worker", "ada", [ADDRESS], "keys/worker.key_secret")


def take(rules: Handshake, now: float, step: Step) -> list[Output]:
    return rules.event(now, step) if isinstance(step, LinkEvent) else rules.receive(now, step)


def wait(rules: Handshake, now: float, until: float) -> list[tuple[float, Output]]:
    """Tick at each deadline, as the loop does; every tick must move the deadline on."""
    outputs: list[tuple[float, Output]] = []
    turns_now = 0
    while True:
        outputs += [(now, output) for output in rules.tick(now)]
        deadline = rules.deadline()
        if deadline is None or deadline > until:
            return outputs
        turns_now = turns_now + 1 if deadline <= now else 0
        assert turns_now < 3, "the loop spins"
        now = max(now, deadline)


def words(outputs: list[Output]) -> str:
    return " / ".join(output.text for output in outputs if isinstance(output, LogLine | Fail))


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([CONNECTED], [HELLO]),
        ([CONNECTED, Again()], [HELLO]),
        ([CONNECTED, WELCOME], []),
        ([CONNECTED, WELCOME, Again()], [HELLO]),
        ([CONNECTED, WELCOME, CUT], []),
        ([CONNECTED, WELCOME, CUT, CONNECTED], [HELLO]),
        ([NOBODY], []),
        ([CUT], []),
    ],
    ids=str,
)
def test_what_is_sent(steps: list[Step], last: list[Output]) -> None:
    rules = joining()
    for step in steps[:-1]:
        take(rules, 0.0, step)
    assert take(rules, 0.0, steps[-1]) == last


@pytest.mark.parametrize(
    ("steps", "fragments"),
    [
        ([LinkEvent.KEY_REFUSED], [ADDRESS, "keys/worker.key_secret", "not enrolled", "enrol worker NAME"]),
        ([CONNECTED, WELCOME, CUT, LinkEvent.KEY_REFUSED], ["revoked"]),
        ([LinkEvent.NO_TRADEWIND], [ADDRESS, "not a Tradewind sink", "--sink"]),
        (
            [LinkEvent.BAD_HANDSHAKE] * 4,
            [ADDRESS, "another key", "--key", "or this key has connected there 2,000 times"],
        ),
        ([CONNECTED, Refused(PROTOCOL_VERSION, "the name is taken")], [ADDRESS, "the name is taken"]),
        ([CONNECTED, Refused(PROTOCOL_VERSION, "see `jobs --key FILE`")], ["see `jobs --key keys/worker.key_secret`"]),
    ],
    ids=["key refused", "revoked", "no sink", "wrong key", "refused", "key file"],
)
def test_what_waiting_cannot_fix_fails_in_one_line(steps: list[Step], fragments: list[str]) -> None:
    rules = joining()
    for step in steps[:-1]:
        assert not any(isinstance(output, Fail) for output in take(rules, 0.0, step))
    outputs = take(rules, 0.0, steps[-1])
    assert [type(output) for output in outputs] == [Fail]
    assert all(fragment in words(outputs) for fragment in fragments)
    assert "\n" not in words(outputs)


def test_bad_handshakes_are_forgiven_once_one_succeeds() -> None:
    rules = joining()
    for step in [LinkEvent.BAD_HANDSHAKE] * 3 + [CONNECTED, CUT] + [LinkEvent.BAD_HANDSHAKE] * 3:
        assert words(take(rules, 0.0, step)) == ""


def test_bad_handshakes_mean_nothing_once_the_sink_has_welcomed_this_key() -> None:
    rules = joining()
    for step in [CONNECTED, WELCOME, CUT] + [LinkEvent.BAD_HANDSHAKE] * 100:
        assert not any(isinstance(output, Fail) for output in take(rules, 0.0, step))


@pytest.mark.parametrize(
    ("steps", "fragment"),
    [
        ([], "no sink answers at tcp://sink:5559: start it there, in its folder, with `tradewind sink`, or"),
        (
            [NOBODY, NOBODY],
            "no sink answers at tcp://sink:5559: start it there, in its folder, with `tradewind sink`, or",
        ),
        (
            [NO_SUCH_NAME],
            "the name in tcp://sink:5559 does not resolve to an address: fix the sink's name with --sink",
        ),
        (
            [NO_SUCH_NAME, NOBODY],
            "no sink answers at tcp://sink:5559: start it there, in its folder, with `tradewind sink`, or",
        ),
        ([CONNECTED], "connected to tcp://sink:5559, but no sink answers there: it is stopped, or that is not"),
        (
            [CONNECTED, Again()],
            "connected to tcp://sink:5559, but no sink answers there: it is stopped, or that is not",
        ),
        (
            [CONNECTED, CUT],
            "no sink answers at tcp://sink:5559: start it there, in its folder, with `tradewind sink`, or",
        ),
        ([CONNECTED, WELCOME], "does not answer: results are kept"),
        ([CONNECTED, WELCOME, CUT], "does not answer: results are kept"),
        ([CONNECTED, WELCOME, CUT, NOBODY, CONNECTED], "does not answer: results are kept"),
        ([CONNECTED, WELCOME, Again()], "does not answer: results are kept"),
    ],
    ids=str,
)
def test_who_waits_says_for_what_within_seconds_and_says_it_again(steps: list[Step], fragment: str) -> None:
    rules = joining()
    for step in steps:
        take(rules, 0.0, step)
    waited = wait(rules, 0.0, 600.0)
    voices = [(now, output) for now, output in waited if isinstance(output, LogLine)]
    assert voices[0][0] <= TIMING.silence_s + TIMING.voice_s
    assert all(fragment in output.text and output.level == "warning" for _, output in voices)
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(voices)]
    assert max(gaps) <= 2 * TIMING.voice_s + 1
    assert min(gaps) >= TIMING.voice_s


def test_a_sink_that_is_there_is_not_complained_of() -> None:
    rules = joining()
    take(rules, 0.0, CONNECTED)
    take(rules, 0.0, WELCOME)
    for now in range(1, 600):
        assert wait(rules, float(now), float(now)) == []
        assert take(rules, float(now), Heard(3)) == []
        assert not rules.away(float(now))


def test_a_short_silence_is_not_worth_a_word() -> None:
    rules = joining()
    take(rules, 0.0, CONNECTED)
    take(rules, 0.0, WELCOME)
    assert wait(rules, 0.0, TIMING.silence_s + 1) == []
    assert rules.away(TIMING.silence_s + 1)
    assert take(rules, TIMING.silence_s + 1, Heard(3)) == []


@pytest.mark.parametrize("steps", [[Heard(3)], [CUT, CONNECTED, WELCOME]], ids=["still there", "started again"])
def test_a_sink_that_was_missed_is_greeted_back_once(steps: list[Step]) -> None:
    rules = joining()
    take(rules, 0.0, CONNECTED)
    take(rules, 0.0, WELCOME)
    assert wait(rules, 0.0, 60.0) != []
    heard = [output for step in [*steps, Heard(3)] for output in take(rules, 60.0, step)]
    assert [output.text for output in heard if isinstance(output, LogLine)] == [f"the sink at {ADDRESS} is back"]
    assert wait(rules, 60.0, 60.0 + TIMING.silence_s + 1) == []
    assert take(rules, 60.0 + TIMING.silence_s + 1, Heard(3)) == []


def test_the_first_welcome_is_not_a_return() -> None:
    rules = joining()
    wait(rules, 0.0, 60.0)
    take(rules, 60.0, CONNECTED)
    assert take(rules, 60.0, WELCOME) == []


def test_an_unanswered_hello_is_repeated_but_not_in_a_loop() -> None:
    rules = joining()
    take(rules, 0.0, CONNECTED)
    hellos = [output for _, output in wait(rules, 0.0, 10.0) if output == HELLO]
    assert 10 <= len(hellos) <= 25


def test_nothing_is_sent_while_nobody_is_connected() -> None:
    assert not any(output == HELLO for _, output in wait(joining(), 0.0, 60.0))


def test_joined_is_between_a_welcome_and_a_cut() -> None:
    rules = joining()
    seen = []
    for step in (CONNECTED, WELCOME, Heard(3), Again(), WELCOME, CUT, CONNECTED, WELCOME):
        take(rules, 0.0, step)
        seen.append(rules.joined)
    assert seen == [False, True, True, False, True, False, False, True]
    assert rules.welcome == WELCOME


STEPS = st.sampled_from([CONNECTED, CUT, NOBODY, WELCOME, Again(), Heard(3)])


PAUSES = st.integers(0, 160).map(lambda quarters: quarters / 4)


@given(st.lists(st.tuples(PAUSES, STEPS), max_size=8))
def test_whatever_happens_a_waiting_peer_is_not_silent_and_does_not_spin(story: list[tuple[float, Step]]) -> None:
    rules, now = joining(), 0.0
    for pause, step in story:
        wait(rules, now, now + pause)
        now += pause
        take(rules, now, step)
    later = wait(rules, now, now + 60.0)
    assert rules.away(now + 60.0)
    assert any(isinstance(output, LogLine) for _, output in later)


def test_a_socket_that_does_not_connect_again_after_a_cut_is_replaced() -> None:
    """libzmq's client stays away for good after a frame above its MAXMSGSIZE."""
    rules = joining()
    for step in (CONNECTED, WELCOME, CUT):
        take(rules, 0.0, step)
    redials = [at for at, output in wait(rules, 0.0, 16.0) if isinstance(output, Redial)]
    assert redials == [5.0, 10.0, 15.0]
    take(rules, 16.0, CONNECTED)
    assert not any(isinstance(output, Redial) for _, output in wait(rules, 16.0, 60.0))


def test_a_socket_that_goes_on_trying_is_kept() -> None:
    rules = joining()
    for step in (CONNECTED, WELCOME, CUT, NOBODY):
        take(rules, 0.0, step)
    assert not any(isinstance(output, Redial) for _, output in wait(rules, 0.0, 60.0))


def test_who_has_left_greets_again_over_the_same_connection_and_is_not_called_silent() -> None:
    rules = joining()
    for step in (CONNECTED, WELCOME):
        take(rules, 0.0, step)
    rules.leave()
    assert not rules.joined
    assert rules.tick(0.1) == [HELLO]
    take(rules, 0.2, WELCOME)
    assert rules.joined
    assert rules.tick(0.3) == []
