"""The roles' loops: in which order a turn does things."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from common import sockets
from common.inputs import RangeInput
from common.keys import Certificate
from common.messages import Crew, Member, Opened, Receipts, decode_batch
from common.progress import ProgressDisplay
from common.roster import VENTILATOR
from common.settings import DispatchSettings
from ventilator import Options, Ventilator


@pytest.fixture
def ventilator() -> Iterator[Ventilator]:
    """A ventilator for the integers from 0, whose sink is not there."""
    (public, secret), (sink_key, _) = zmq.curve_keypair(), zmq.curve_keypair()
    keys = {"public": public.decode(), "secret": secret.decode(), "sink_key": sink_key.decode()}
    pair = Certificate(Path("none"), role=VENTILATOR, sink="tcp://127.0.0.1:1", **keys)
    options = Options("work:square", pair.path, None, "job", 0, False, DispatchSettings(batch_tasks=1))
    signals: Any = None
    made = Ventilator(options, RangeInput(0, 10), pair, sockets.Poll(), signals, None)
    made._display = ProgressDisplay("job")
    yield made
    made._link.close()
    made._tasks.close()
    made._gate.close()
    made._context.term()


def test_what_a_receipt_makes_room_for_is_pushed_before_the_next_question(
    ventilator: Ventilator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(ventilator._tasks, "send", lambda frame, _: sent.append(f"task {decode_batch(frame).first}"))
    monkeypatch.setattr(ventilator._link, "send", lambda message: sent.append(type(message).__name__))
    ventilator._receive(Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0))
    ventilator._receive(Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False))
    ventilator._receive(Crew([Member("ada", 1, 0, 0, [], [])], [], [], 0))
    ventilator._tick()
    assert "task 0" in sent
    assert "task 1" not in sent
    sent.clear()
    ventilator._receive(Receipts("job", 0, 1, [(0, 1)], 1, 0.1, 1, 0, False))
    ventilator._tick()
    assert sent[0] == "task 1"
    assert "Ask" in sent
