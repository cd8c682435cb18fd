"""Signals wake the poll, and a loop that asks for them gets each once."""

import os
import signal
from collections.abc import Iterator

import pytest

from common.transport import polling


@pytest.fixture
def signals() -> Iterator[polling.Signals]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    wakeup = signal.set_wakeup_fd(-1)
    yield polling.Signals()
    signal.set_wakeup_fd(wakeup)
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_each_signal_is_received_once_and_leaves_nothing_to_wake_for(signals: polling.Signals) -> None:
    assert signals.received() == []
    # Also one whose handler is somebody else's: the poll would wake for it for ever.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    for sent in ([signal.SIGTERM], [signal.SIGINT, signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGUSR1]):
        for number in sent:
            os.kill(os.getpid(), number)
        assert signals.pending(0)
        assert signals.received() == sent
        assert not signals.pending(0)
        assert signals.received() == []
