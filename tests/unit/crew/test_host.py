"""One host of a crew: what is shown of it, and when it is tried again."""

import pytest

from common.crew.host import _PAUSES_S, LINES_A_MINUTE_MAX, CrewHost
from common.crew.remote import Way
from common.crew.why import SSH_FAILED

JOINED = "2026-11-26T06:40:34Z INFO worker: joined the sink at farm as lab1.4711-00ff"
DENIED = "ann@lab1: Permission denied (publickey)."


@pytest.fixture
def host() -> CrewHost:
    made = CrewHost("lab1", Way())
    made.began()
    return made


def fail(host: CrewHost, now: float, *lines: str) -> str:
    """An attempt that ssh ends; returns what is said of it and at which level."""
    host.began()
    for line in lines:
        host.line(0.0, line)
    said = host.ended(now, SSH_FAILED, leaves=False)
    assert said is not None
    return f"{said.level}: {said.text}"


def test_what_the_worker_says_is_shown_with_its_host_and_what_comes_before_is_not(host: CrewHost) -> None:
    assert [host.line(0.0, text) for text in ("Welcome to lab1", "", JOINED, "Traceback ...")] == [
        *([], []),
        [f"lab1: {JOINED}"],
        ["lab1: Traceback ..."],
    ]


def test_a_host_that_prints_without_end_is_shown_in_part_and_the_rest_is_counted(host: CrewHost) -> None:
    host.line(0.0, JOINED)
    shown = [line for number in range(LINES_A_MINUTE_MAX + 99) for line in host.line(1.0, f"worker: {number}")]
    assert len(shown) == LINES_A_MINUTE_MAX - 1
    assert shown[-1] == f"lab1: worker: {LINES_A_MINUTE_MAX - 2}"
    left_out = "lab1: 100 more like the last lines were not logged"
    assert host.line(60.0, "worker: on") == [left_out, "lab1: worker: on"]
    assert host.left_out() == []
    for _ in range(LINES_A_MINUTE_MAX + 99):
        host.line(61.0, "worker: on")
    assert host.left_out() == [left_out]


@pytest.mark.parametrize(
    "last",
    [
        "2026-11-26T06:41:34Z ERROR worker: the sink refuses this key",
        '{"time": "2026-11-26T06:41:34Z", "level": "ERROR", "message": "the sink refuses this key"}',
    ],
)
def test_what_tasks_print_leaves_out_no_word_of_the_worker(host: CrewHost, last: str) -> None:
    host.line(0.0, JOINED)
    shown = [line for number in range(LINES_A_MINUTE_MAX + 99) for line in host.line(1.0, f"{number}")]
    assert shown[-1] == f"lab1: {LINES_A_MINUTE_MAX - 2}"
    assert host.line(2.0, last) == ["lab1: 100 more like the last lines were not logged", f"lab1: {last}"]
    assert host.left_out() == []
    again = [line for _ in range(LINES_A_MINUTE_MAX) for line in host.line(3.0, last)]
    assert len(again) == LINES_A_MINUTE_MAX - 2, "these have a bound, too"
    assert host.left_out() == ["lab1: 2 more like the last lines were not logged"]


@pytest.mark.parametrize("first", ["worker: No such option: --stop-with-stdin", '{"time": "2026", "message": ""}'])
def test_a_worker_begins_with_its_last_words_or_with_json(host: CrewHost, first: str) -> None:
    assert host.line(0.0, first) == [f"lab1: {first}"]


def test_pauses_grow_to_a_minute_and_what_is_the_same_is_said_once(host: CrewHost) -> None:
    said = [fail(host, 100.0 * turn, DENIED) for turn in range(9)]
    assert said[0].startswith("warning: lab1 refuses to let you in (publickey)")
    assert said[0].endswith("; trying again in 1 s")
    assert {each.partition(":")[0] for each in said[1:]} == {"debug"}
    assert host.retry_at == 800 + 60
    assert [*_PAUSES_S] == sorted(_PAUSES_S)
    assert fail(host, 0.0, "Host key verification failed.").startswith("warning: the host key of lab1")


def test_a_host_that_had_joined_is_tried_at_once_and_said_again(host: CrewHost) -> None:
    for _ in range(4):
        fail(host, 0.0, DENIED)
    for now in (50.0, 90.0):
        assert "the connection to lab1 is lost" in fail(host, now, JOINED)
        assert host.retry_at == now + _PAUSES_S[0]
    assert fail(host, 100.0, DENIED).startswith("warning")


def test_a_worker_that_ends_by_itself_is_not_started_again(host: CrewHost) -> None:
    host.line(0.0, JOINED)
    said = host.ended(1.0, 0, leaves=False)
    assert said is not None and said.text == "lab1: its worker has left"
    assert (host.retry_at, host.has_failed) == (None, False)


def test_nor_is_one_whose_error_would_be_the_same(host: CrewHost) -> None:
    host.line(0.0, "worker: module nosuch not found: it is not in /srv/farm")
    said = host.ended(1.0, 2, leaves=False)
    assert said is not None and said.level == "error"
    assert (host.retry_at, host.has_failed) == (None, True)


def test_exit_code_2_of_a_shell_is_no_word_of_the_worker(host: CrewHost) -> None:
    host.line(0.0, "sh: syntax error")
    assert host.ended(1.0, 2, leaves=False) is not None
    assert (host.retry_at, host.has_failed) == (1.0 + _PAUSES_S[0], False)


def test_a_crew_that_leaves_tries_nothing_again(host: CrewHost) -> None:
    host.line(0.0, JOINED)
    said = host.ended(1.0, SSH_FAILED, leaves=True)
    assert said is not None and said.level == "warning"
    assert host.ended(1.0, -9, leaves=True) is None, "this command has ended it"
    assert host.retry_at is None


def test_an_earlier_attempt_counts_no_more(host: CrewHost) -> None:
    host.line(0.0, JOINED)
    host.began()
    assert not host.is_up
    assert "ssh to lab1 fails" in fail(host, 0.0)
