"""The roles' loops: in which order a turn does things, and what it leaves undone."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from msgspec import Raw

from common.protocol.codec import decode_batch, encode
from common.protocol.handshake import Handshake
from common.protocol.messages import PROTOCOL_VERSION, Crew, FromSink, Member, Opened, Receipts, Welcome
from common.protocol.settings import ENVELOPE_BYTES, MESSAGE_BYTES_MAX, Timing
from common.protocol.users import VENTILATOR, WORKER
from common.transport import clock, polling, sockets
from common.transport.key_files import Certificate
from common.transport.sink_link import SinkLink
from common.transport.zap import ADMITTED, ZapHandler
from common.ventilator.inputs import Input, InputRequest, LinesInput, RangeInput, open_input
from common.ventilator.loop import Ventilator, VentilatorOptions
from common.ventilator.progress import ProgressDisplay
from common.ventilator.settings import DispatchSettings
from common.ventilator.spool import SpoolPlace
from common.worker.child_process import Limits
from common.worker.loop import Worker, WorkerOptions
from common.worker.session import TOGETHER_S
from common.worker.settings import HoldingSettings
from common.worker.slot_events import Outcome
from tests.conftest import wait_until


def _pair(role: str) -> Certificate:
    (public, secret), (sink_key, _) = zmq.curve_keypair(), zmq.curve_keypair()
    keys = {"public": public.decode(), "secret": secret.decode(), "sink_key": sink_key.decode()}
    return Certificate(Path("none"), role=role, sink="tcp://127.0.0.1:1", **keys)


@pytest.fixture
def make() -> Iterator[Callable[[Input], Ventilator]]:
    """Makes a ventilator for an input, whose sink is not there."""
    made: list[Ventilator] = []

    def _make(opened: Input) -> Ventilator:
        pair = _pair(VENTILATOR)
        options = VentilatorOptions("work:square", pair.path, None, "job", 0, False, DispatchSettings(batch_tasks=1))
        signals: Any = None
        made.append(Ventilator(options, opened, pair, polling.Poll(), signals, None, ProgressDisplay("job")))
        return made[-1]

    yield _make
    for each in made:
        each._link.close()
        each._tasks.close()
        each._context.term()


@pytest.fixture
def ventilator(make: Callable[[Input], Ventilator]) -> Ventilator:
    """A ventilator for the integers from 0, whose sink is not there."""
    return make(RangeInput(0, 10))


def _lines(path: Path, text: str) -> LinesInput:
    path.write_text(text)
    lines = open_input(InputRequest(str(path)), SpoolPlace(path.parent / "spool", "job"))
    assert isinstance(lines, LinesInput)
    lines.fill()
    lines.fill()
    return lines


def _resumed(ventilator: Ventilator, count: int, digest: bytes, total: int | None) -> list[int]:
    """Let it resume a job of which task 0 is recorded; returns the tasks that it pushes from now on."""
    pushed: list[int] = []
    ventilator._tasks.push = lambda frame: pushed.append(decode_batch(frame).first) is None  # type: ignore[method-assign]
    ventilator._receive(Opened("job", "ledger", b"k" * 32, count, digest, total, 0, True, 0.0))
    ventilator._receive(Receipts("job", 0, 1, [(0, 1)], 1, 0.1, 1, 0, False))
    ventilator._receive(Crew([Member("ada", 4, 4, [], [])], [], [], 0))
    return pushed


@pytest.mark.parametrize("text", ["1\n2\n4\n5\n", "1\n2\n", "1\n2\n{bad\n"], ids=["differs", "shorter", "malformed"])
def test_nothing_of_another_input_is_pushed(make: Callable[[Input], Ventilator], tmp_path: Path, text: str) -> None:
    before = _lines(tmp_path / "before.jsonl", "1\n2\n3\n4\n")
    before.take(3, 1_000)
    ventilator = make(_lines(tmp_path / "after.jsonl", text))
    pushed = _resumed(ventilator, *before.mark(), None)
    ventilator._turn()
    assert ventilator._end is not None
    assert "the input is not the one" in str(ventilator._end.error)
    assert pushed == []


def test_what_a_resumed_input_has_too_much_is_not_pushed(make: Callable[[Input], Ventilator], tmp_path: Path) -> None:
    before = _lines(tmp_path / "before.jsonl", "1\n2\n3\n")
    before.take(3, 1_000)
    ventilator = make(_lines(tmp_path / "after.jsonl", "1\n2\n3\n4\n"))
    pushed = _resumed(ventilator, *before.mark(), 3)
    ventilator._turn()
    assert pushed == [1, 2]


def test_a_file_that_is_cut_ends_the_job_like_any_other_mistake(
    make: Callable[[Input], Ventilator], tmp_path: Path
) -> None:
    """It is found while the input is read ahead, outside of the turn that asks for it."""
    path = tmp_path / "cut.txt"
    path.write_text("1\n" * 300_000)
    lines = open_input(InputRequest(str(path)), SpoolPlace(path.parent / "spool", "job"))
    lines.fill()
    lines.skip(100_000)
    ventilator = make(lines)
    os.truncate(path, 0)
    assert _resumed(ventilator, 0, b"", None) == []
    while lines.available():
        lines.skip(100_000)
    ventilator._turn()
    while ventilator._input_polled is not None:
        ventilator._fill()
        ventilator._turn()
    assert ventilator._end is not None
    assert "cut.txt is shorter than at the start" in str(ventilator._end.error)


def test_a_socket_that_is_gone_when_its_spool_is_read_ends_the_job_with_a_summary(
    make: Callable[[Input], Ventilator], tmp_path: Path
) -> None:
    """What was pushed before is waited for."""
    path, place = tmp_path / "socket", SpoolPlace(tmp_path / "spool", "job")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    place.folder.mkdir()
    (place.folder / "job-ledger.spool").write_text("1\n2\n")
    ventilator = make(open_input(InputRequest(str(path)), place))
    assert _resumed(ventilator, 0, b"", None) == []
    ventilator._turn()
    assert ventilator._input_polled is not None
    ventilator._fill()
    ventilator._turn()
    assert ventilator._end is None
    ventilator._receive(Receipts("job", 1, 2, [(1, 1)], 1, 0.1, 2, 0, False))
    ventilator._turn()
    assert ventilator._end is not None
    assert "cannot connect to the input" in str(ventilator._end.error)
    assert [line.text for line in ventilator._end.lines if "2 tasks are recorded" in line.text]


def test_a_link_to_another_sink_than_the_key_files_rests_while_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    context = zmq.Context()
    link = SinkLink(context, _pair(VENTILATOR), [("127.0.0.1", 2)], "v", lambda _: None, Timing())
    later = clock.now() + 2
    monkeypatch.setattr(clock, "now", lambda: later)
    link.tick()
    deadline = link.deadline()
    link.close()
    context.term()
    assert deadline is not None
    assert deadline > later


def test_what_a_receipt_makes_room_for_is_pushed_before_the_next_question(
    ventilator: Ventilator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def push(frame: bytes) -> bool:
        sent.append(f"task {decode_batch(frame).first}")
        return True

    monkeypatch.setattr(ventilator._tasks, "push", push)
    monkeypatch.setattr(ventilator._link, "send", lambda message: sent.append(type(message).__name__))
    ventilator._receive(Opened("job", "ledger", b"k" * 32, 0, b"", None, 0, False, 0.0))
    ventilator._receive(Receipts("job", 0, 0, [], 0, 0.0, 0, 0, False))
    ventilator._receive(Crew([Member("ada", 1, 0, [], [])], [], [], 0))
    ventilator._turn()
    assert "task 0" in sent
    assert "task 1" not in sent
    sent.clear()
    ventilator._receive(Receipts("job", 0, 1, [(0, 1)], 1, 0.1, 1, 0, False))
    ventilator._turn()
    assert sent[0] == "task 1"
    assert "Ask" in sent


class NoSignals:
    """Nobody tells the worker to end; waiting for it takes its time on this clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def pending(self, within_s: float) -> bool:
        self.now += within_s
        return False

    def received(self) -> list[int]:
        return []


def test_children_that_end_together_by_sigterm_hold_up_their_worker_once(monkeypatch: pytest.MonkeyPatch) -> None:
    signals: Any = NoSignals()
    options = WorkerOptions(
        ["m"], Path("none"), None, "w", None, None, Limits(), True, HoldingSettings(slots=50, prefetch=0)
    )
    worker = Worker(options, _pair(WORKER), polling.Poll(), signals)
    taken = []
    monkeypatch.setattr(clock, "now", lambda: signals.now)
    monkeypatch.setattr(worker._session.holding, "outcomes", lambda *outcome: taken.append(outcome[1]) or [])
    worker._take_slot_events([Outcome(slot, slot, 1, 0.0, Raw(b""), by_sigterm=True) for slot in range(50)])
    assert taken == list(range(50))
    assert signals.now <= TOGETHER_S
    worker._link.close()
    worker._tasks_watch.close()
    worker._tasks.close()
    worker._slots.close()
    worker._context.term()


def test_a_link_that_was_sent_too_large_a_frame_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever receives such a frame is cut off by its own libzmq, which then does not connect again."""
    monkeypatch.setattr(Handshake, "_REDIAL_S", 0.5)
    context, sink = zmq.Context(), _pair("sink")
    gate = ZapHandler(context, lambda *_: ADMITTED, lambda *_: None)
    server = sockets.control_server(context, sink)
    port = sockets.bind(server, "127.0.0.1", 0, "--port")
    pair = replace(_pair(VENTILATOR), sink_key=sink.public)
    link = SinkLink(context, pair, [("127.0.0.1", port)], "v", lambda _: None, Timing())
    poll = polling.Poll()
    poll.register(gate.socket, gate.answer)
    link.register(poll)
    peers: list[bytes] = []

    def greets() -> bool:
        poll.wait(clock.now() + 0.01)
        link.tick()
        with suppress(zmq.Again):
            peers.append(server.recv_multipart(zmq.DONTWAIT)[0])
        return bool(peers)

    try:
        wait_until(greets, "it says hello")
        server.send_multipart([peers[0], bytes(MESSAGE_BYTES_MAX + 2 * ENVELOPE_BYTES)])
        wait_until(lambda: greets() and peers[-1] != peers[0], "it says hello over another connection")
    finally:
        link.close()
        server.close()
        gate.close()
        context.term()


def test_who_takes_a_link_over_gets_what_comes_from_the_next_welcome_on(monkeypatch: pytest.MonkeyPatch) -> None:
    context = zmq.Context()
    link = SinkLink(context, _pair(VENTILATOR), [("127.0.0.1", 1)], "v", lambda _: None, Timing())
    stale, welcome, fresh = (
        Crew([], ["old"], [], 0),
        Welcome(PROTOCOL_VERSION, "run", 5558, "", 5556),
        Crew([], [], [], 1),
    )
    monkeypatch.setattr(sockets, "drain", lambda _: [(None, encode(each)) for each in (stale, welcome, fresh)])
    taken: list[FromSink] = []
    try:
        link.release()
        link.take_over(taken.append)
        link._receive()
        assert taken == [welcome, fresh]
    finally:
        monkeypatch.undo()
        link.close()
        context.term()
