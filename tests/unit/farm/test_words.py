"""What roles say on their command line is said to a program in its own words."""

import doctest
import logging
import threading
from pathlib import Path

import pytest

import common
from common.errors import OperatorError, SinkGone
from common.farm import errors, job_run, words
from common.farm.words import in_program
from common.transport import sink_link
from common.ventilator import summary


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("port 5559 is in use: stop that program, or give another with --port", "or give another with port="),
        ("the sink at tcp://a:1 refuses: job x runs m:f, not m:g: give another --job name", "give another job name"),
        ("wait for it, or give another --job", "give another job name"),
        ("that is not its control port (--sink)", "its control port (sink=)"),
        ("give another path with --ledger", "another path with ledger="),
        ("start it in its folder with `python sink.py --ledger a.db`", "with `tradewind sink --ledger a.db`"),
        ("start one: `tradewind worker mine --key FILE`", "`tradewind worker mine --key FILE`"),
        ("a --portable --key-file stays", "a --portable --key-file stays"),
    ],
)
def test_options_are_parameters_and_commands_stay_commands(said: str, wanted: str) -> None:
    assert wanted in in_program(said)
    assert wanted in str(errors.for_program(OperatorError(said)))
    assert wanted in str(errors.no_answer(OperatorError(said)))


def test_the_examples_hold() -> None:
    assert doctest.testmod(words) == (0, 2)


def test_a_sink_that_is_away_has_its_address() -> None:
    error = errors.for_program(summary.sink_gone("long", 60), "long", "tcp://lab:5559")
    assert str(error).startswith("the sink at tcp://lab:5559 was away for 1 min 00 s;")
    assert str(error).endswith(": start it, and go on: map(..., job='long')")
    assert isinstance(error, common.SinkAway)
    assert isinstance(errors.no_answer(SinkGone("")), common.SinkAway)


def test_the_log_of_a_job_has_them_too_and_that_of_a_command_has_not(caplog: pytest.LogCaptureFixture) -> None:
    def say() -> None:
        sink_link.log.warning("name its address with --sink")

    job = threading.Thread(target=say, name=f"{job_run._THREAD}job")
    job.start()
    job.join()
    say()
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "name its address with sink=", "name its address with --sink"
    ]  # fmt: skip


def test_connecting_before_the_sink_was_ever_started_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRADEWIND_KEY", raising=False)
    with pytest.raises(common.JobRefused, match=r"no keys/ventilator.key_secret in this folder: start a sink here"):
        common.connect()
    with pytest.raises(common.JobRefused, match=r"cannot read the key file other: .*`enrol ventilator NAME` wrote"):
        common.connect("other")
