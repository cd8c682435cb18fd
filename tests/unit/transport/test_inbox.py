"""Messages of several frames, on real CURVE sockets: whole, bounded, and nobody's message keeps the others waiting."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import zmq

from common.protocol.settings import ENVELOPE_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from common.transport import sockets
from common.transport.doorstep import GivenIds
from common.transport.zap import ADMITTED, ZapHandler
from tests.unit.transport.test_zap import PATIENCE_MS, pair

WHOLE_MAX = MESSAGE_BYTES_MAX + ENVELOPE_BYTES


class Link:
    """A server, its inbox and two clients that have come in."""

    def __init__(self, name: str) -> None:
        self.context = zmq.Context()
        self.gate = ZapHandler(self.context, lambda *_: ADMITTED, lambda *_: None)
        server_pair = pair()
        self.server: zmq.Socket[bytes] = getattr(sockets, f"{name}_server")(self.context, server_pair)
        ids = GivenIds(sockets.next_routing_id(self.context, self.server)) if name == "control" else None
        self.inbox = sockets.Inbox(self.server, 200, ids and ids.include)
        port = sockets.bind(self.server, "127.0.0.1", 0, "--port")
        self.clients = []
        for _ in range(2):
            made = getattr(sockets, f"{name}_client")(self.context, replace(pair(), sink_key=server_pair.public))
            made.connect(sockets.endpoint("127.0.0.1", port))
            if ids is not None:
                ids.one_more()
            assert self.gate.socket.poll(PATIENCE_MS)
            self.gate.answer()
            assert made.poll(PATIENCE_MS, zmq.POLLOUT)
            self.clients.append(made)

    def next(self) -> tuple[int, list[sockets.Arrived]]:
        """The next messages, and how many turns they took."""
        turns, found = 0, []
        while not found:
            assert self.server.poll(PATIENCE_MS), "nothing comes"
            turns, found = turns + 1, list(self.inbox.take())
        return turns, found

    def close(self) -> None:
        for each in (*self.clients, self.server):
            each.close(0)
        self.gate.close()
        self.context.term()


@pytest.fixture(params=["control", "results"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    made = Link(request.param)
    yield made
    made.close()


def contents(arrived: list[sockets.Arrived]) -> list[bytes]:
    return [bytes(each.content) for each in arrived]


@pytest.mark.parametrize("size", [0, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, WHOLE_MAX])
def test_a_message_of_any_size_arrives_whole(link: Link, size: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    sockets.send(link.clients[0], content)
    assert contents(link.next()[1]) == [content]
    sockets.send(link.clients[0], b"next")
    [arrived] = link.next()[1]
    assert arrived.content == b"next"
    assert sockets.user_id(arrived.frame)
    assert bool(arrived.peer) == (link.server.type == zmq.ROUTER)


@pytest.mark.parametrize(
    "frames",
    [
        [bytes(FRAME_BYTES_MAX)] * (WHOLE_MAX // FRAME_BYTES_MAX) + [b"12"],
        [b"x"] * (sockets.Inbox.FRAMES_MAX + 1),
        [b"x"] * 20_000,
    ],
    ids=["bytes", "frames", "many"],
)
def test_one_that_is_too_large_is_malformed_and_the_next_is_not(
    link: Link, frames: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets.Inbox, "SKIPPED_MAX", 5_000)
    link.clients[0].send_multipart(frames)
    sockets.send(link.clients[0], b"next")
    turns, found = link.next()
    while len(found) < 2:
        found += link.next()[1]
    assert contents(found) == [b"", b"next"]
    read_count = min(len(frames), sockets.Inbox.FRAMES_MAX)
    least = read_count / 200 + (len(frames) - read_count) / 5_000
    assert turns >= least, "a turn is bounded"
    assert turns <= least + 2 or len(frames[0]) > 1, "what is skipped takes few turns"


def test_what_comes_behind_a_message_that_is_too_large_is_whose_it_is(link: Link) -> None:
    """Also when the message looks as if it ended before, and when there is nothing behind it."""
    sockets.send(link.clients[1], b"before")
    [before] = link.next()[1]
    for _ in range(3):
        link.clients[0].send_multipart([b"\0abcd", b"", b"x"] * 5_000)
        assert contents(link.next()[1]) == [b""]
        link.clients[0].send_multipart([b"x"] * 5_000)
        sockets.send(link.clients[0], b"own")
        found: list[sockets.Arrived] = []
        while len(found) < 2:
            found += link.next()[1]
        assert contents(found) == [b"", b"own"]
        assert found[0].peer == found[1].peer
        assert sockets.user_id(found[0].frame) == sockets.user_id(found[1].frame) != sockets.user_id(before.frame)
    sockets.send(link.clients[1], b"x" * FRAME_BYTES_MAX * 3)
    [after] = link.next()[1]
    assert (after.peer, len(after.content)) == (before.peer, 3 * FRAME_BYTES_MAX)


def test_a_turn_ends_after_its_bytes(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets.Inbox, "TURN_BYTES", 25)
    for _ in range(200):
        sockets.send(link.clients[0], bytes(10))
    counts = []
    while sum(counts) < 200:
        counts.append(len(link.next()[1]))
    assert max(counts) == 3


def test_several_frames_from_whoever_binds_are_malformed() -> None:
    link = Link("control")
    sockets.send(link.clients[0], b"hello")
    [arrived] = link.next()[1]
    link.server.send_multipart([arrived.peer, b"first", b"last"])
    link.server.send_multipart([arrived.peer, b"next"])
    found: list[bytes] = []
    while len(found) < 2:
        assert link.clients[0].poll(PATIENCE_MS)
        found += [bytes(content) for _, content in sockets.drain(link.clients[0])]
    assert found == [b"", b"next"]
    link.close()
