"""A sink serves, or stands by: when it waits, when it serves again, and when it ends."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import OperatorError
from common.sink import serving
from common.sink.loop import SinkOptions
from common.sink.store import LedgerAway, LedgerHeld, LedgerLost
from common.transport.key_folder import KeyFolder
from common.transport.polling import Signals


class Ledger:
    """What `open_ledger` gives."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Stage:
    """What happens to the sink, one thing after the other."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.options = SinkOptions("postgresql:///farm", folder / "keys", "*", 0, 0)
        self.key = KeyFolder(self.options.keys).prepare().public
        self.served: list[Ledger] = []
        self.signalled: list[bool] = []
        """Whether a signal was there when the sink began to serve."""
        self._opens: Iterator[Any] = iter(())
        self._runs: Iterator[Exception | None] = iter(())
        patch.setattr(serving, "open_ledger", self._open)
        patch.setattr(serving, "Sink", self._sink)
        patch.setattr(serving, "_AGAIN_S", 0.0)

    def _open(self, place: str, key: Callable[[], str]) -> Ledger:
        assert key() == self.key
        what = next(self._opens)
        if callable(what):
            what()
            return self._open(place, key)
        if what is not None:
            raise what
        return Ledger()

    def _sink(self, options: SinkOptions, ledger: Ledger) -> Any:
        self.served.append(ledger)
        error, signalled = next(self._runs), self.signalled

        class Served:
            def run(self, signals: Signals) -> None:
                signalled.append(signals.pending(0.0))
                if error is not None:
                    raise error

        return Served()

    def serve(self, opens: list[Exception | Callable[[], object] | None], runs: list[Exception | None]) -> None:
        self._opens, self._runs = iter(opens), iter(runs)
        serving.serve(self.options)
        assert not list(self._opens)
        assert not list(self._runs)
        assert all(ledger.is_closed for ledger in self.served)

    def held(self, key: str | None = None) -> LedgerHeld:
        return LedgerHeld("postgresql:///farm", "main", "process 7 on a", key or self.key)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Stage(tmp_path, monkeypatch)
    signal.set_wakeup_fd(-1)
    for number, action in before.items():
        signal.signal(number, action)


AWAY = LedgerAway("cannot use the ledger postgresql:///farm: connection refused; start the server")
LOST = LedgerLost("another sink has taken over the ledger postgresql:///farm: this one writes nothing more")


def test_a_sink_whose_ledger_is_free_serves(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.serve([None], [None])
    assert caplog.messages == []


def test_while_another_one_holds_the_ledger_it_stands_by(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage.serve([stage.held(), stage.held(), AWAY, AWAY, stage.held(), None], [None])
    held = (
        "standby: the sink of site main (process 7 on a) holds the ledger postgresql:///farm; taking over when it ends"
    )
    assert caplog.messages == [held, f"{AWAY}; still trying", held]


def test_a_sink_that_lost_its_ledger_stands_by(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.serve([None, stage.held(), None], [LOST, None])
    assert len(stage.served) == 2
    assert f"{LOST}; standing by" in caplog.messages


def test_a_server_that_is_away_is_waited_for(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """After a power cut it may come later than the sink."""
    caplog.set_level(logging.INFO)
    stage.serve([AWAY, AWAY, None], [None])
    assert caplog.messages == [f"{AWAY}; still trying"]


def test_another_key_than_the_serving_sinks_is_refused(stage: Stage) -> None:
    with pytest.raises(OperatorError, match=r"this sink has another key: copy that sink's key folder to .*keys here"):
        stage.serve([stage.held("k" * 40)], [])


def test_a_command_that_holds_the_ledger_is_waited_for(stage: Stage) -> None:
    stage.serve([LedgerHeld("postgresql:///farm", "main", "process 7 on a", ""), None], [None])


def test_a_signal_ends_the_wait(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage.serve([stage.held(), lambda: os.kill(os.getpid(), signal.SIGTERM), stage.held()], [])
    assert stage.served == []
    assert caplog.messages[1:] == ["leaving; this sink was not serving"]


def test_a_signal_that_comes_when_the_ledger_is_freed_is_not_lost(stage: Stage) -> None:
    stage.serve([stage.held(), lambda: os.kill(os.getpid(), signal.SIGTERM), None], [None])
    assert stage.signalled == [True]


def test_a_signal_that_comes_after_the_ledger_was_lost_is_not_lost(stage: Stage) -> None:
    stage.serve([None, lambda: os.kill(os.getpid(), signal.SIGTERM), stage.held()], [LOST])
    assert stage.signalled == [False]


def test_an_error_of_another_kind_ends_it_and_frees_the_ledger(stage: Stage) -> None:
    with pytest.raises(OperatorError, match="port 5559 is in use"):
        stage.serve([None], [OperatorError("port 5559 is in use")])
    assert stage.served[0].is_closed
