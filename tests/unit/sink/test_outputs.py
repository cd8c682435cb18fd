"""The log lines that peers cause: none of them fills the log."""

from typing import Any

import pytest
from msgspec import Raw

from common.errors import ProtocolError
from common.protocol.messages import (
    Cancel,
    Close,
    Goodbye,
    Offer,
    Quarantine,
)
from common.sink.outputs import LogLimiter, Output
from tests.unit.sink.scene import ADA, BOB, SQUARE, TIMING, VERA, VITO, Scene, said


def come_and_go(scene: Scene) -> list[Output]:
    return [*scene.worker(ADA), *scene.send(ADA, Goodbye())]


def open_again(scene: Scene) -> list[Output]:
    return scene.ventilator(VERA)


def close_again(scene: Scene) -> list[Output]:
    return [*scene.send(VERA, Close("job", 0, False)), *scene.sink.tick(scene.now)]


def cancel_again(scene: Scene) -> list[Output]:
    scene.hello(VITO)
    return scene.send(VITO, Cancel("job"))


def quarantine_again(scene: Scene) -> list[Output]:
    return scene.send(VERA, Quarantine("job", 0, 1, "ada", 3, Raw(b"\x91\x01")))


@pytest.mark.parametrize("act", [come_and_go, open_again, close_again, cancel_again, quarantine_again])
def test_what_a_key_does_again_and_again_does_not_fill_the_log(scene: Scene, act: Any) -> None:
    scene.ventilator(VERA)
    lines = [line for _ in range(2 * LogLimiter.A_MINUTE_MAX) for line in said(act(scene))]
    assert len(lines) <= LogLimiter.A_MINUTE_MAX + 1
    assert len([line for line in lines if "lines a minute: the rest of this minute is not logged" in line]) == 1
    assert "worker bob at 10.0.0.1 joined with 1 function" in said(scene.worker(BOB))
    scene.now += 60
    assert said(act(scene)) != []
    later = [line for _ in range(2 * LogLimiter.A_MINUTE_MAX) for line in said(act(scene))]
    assert "the rest of this minute is not logged" in later[-1], "it is said in each such minute"


def test_a_key_whose_workers_fall_silent_all_together_does_not_fill_the_log(scene: Scene) -> None:
    lines = []
    for number in range(2 * LogLimiter.A_MINUTE_MAX):
        name = f"ada.{number}"
        scene.hello(ADA, name.encode(), name)
        lines += said(scene.send(ADA, Offer([SQUARE]), name.encode()))
    lines += said(scene.pass_time(4 * TIMING.gone_s))
    assert scene.sink.inspect().worker_count == 0
    assert len(lines) == LogLimiter.A_MINUTE_MAX + 1


def test_another_workers_fault_is_said_again(scene: Scene) -> None:
    scene.worker(ADA)
    scene.worker(BOB)
    error = ProtocolError("no message")
    assert len(scene.sink.malformed(ADA, "control", error)) == 1
    assert scene.sink.malformed(ADA, "control", error) == []
    assert len(scene.sink.malformed(BOB, "control", error)) == 1
