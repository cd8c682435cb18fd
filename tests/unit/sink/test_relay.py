"""The relay on real CURVE sockets: what a ventilator pushes comes to a worker, whole, and to nobody else."""

from collections.abc import Callable, Iterator

import pytest
import zmq

from common.protocol.settings import FRAME_BYTES_MAX, Timing
from common.sink.relay import Relay
from common.transport import monitor, polling, sockets
from common.transport.door import Door
from common.transport.key_files import Certificate
from common.transport.zap import ADMITTED, REFUSED_FOR_GOOD, REFUSED_FOR_NOW
from tests.conftest import PATIENCE_S
from tests.unit.transport.test_door import turn_until
from tests.unit.transport.test_zap import pair


class House:
    """A relay, one loop for what its owner does, and peers."""

    def __init__(self) -> None:
        self.sink = pair()
        self.keys: dict[str, set[str]] = {"relay": set(), "tasks": set()}
        self.refused: list[tuple[str, str]] = []
        self.absent: set[str] = set()
        """Keys that are judged by who is here."""
        self.relay = Relay(
            self.sink,
            Timing(),
            self._judge,
            lambda link, key, _: self.refused.append((link, key)),
        )
        self.door = Door(1_000, self.relay.incoming, self.relay.outgoing)
        self.ports = self.relay.start("127.0.0.1", 0, 0)
        self.poll = polling.Poll()
        self.poll.register(self.relay.gate.socket, self.relay.gate.answer)
        self.door.register(self.poll)
        self.context = zmq.Context()

    def _judge(self, link: str, key: str, address: str, has_looked: bool) -> str | None:
        if link == "tasks" and key in self.absent and not self.relay.is_present(key):
            return REFUSED_FOR_NOW if has_looked else None
        self.door.showed_key(address)
        return ADMITTED if key in self.keys[link] else REFUSED_FOR_GOOD

    def enrol(self, link: str) -> Certificate:
        made = pair(self.sink.public)
        self.keys[link].add(made.public)
        self.admit()
        return made

    def admit(self) -> None:
        self.relay.admit(self.door, frozenset(self.keys["relay"]), frozenset(self.keys["tasks"]))

    def ventilator(self, certificate: Certificate) -> "zmq.Socket[bytes]":
        made = sockets.relay_client(self.context, certificate)
        made.connect(sockets.endpoint("127.0.0.1", self.ports[0]))
        return made

    def worker(self, certificate: Certificate) -> "zmq.Socket[bytes]":
        made = sockets.tasks_client(self.context, certificate)
        made.connect(sockets.endpoint("127.0.0.1", self.ports[1]))
        return made

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(condition, self.poll, self.door, PATIENCE_S)

    def push(self, made: "zmq.Socket[bytes]", content: bytes) -> None:
        self.until(lambda: made.poll(0, zmq.POLLOUT))
        sockets.send(made, content, zmq.DONTWAIT)

    def pulled(self, made: "zmq.Socket[bytes]") -> list[bytes]:
        self.until(lambda: made.poll(0))
        return made.recv_multipart()

    def close(self) -> None:
        self.context.destroy(0)
        self.relay.stop()
        self.door.close()
        self.relay.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_batches_come_through_whole_and_are_held_until_a_worker_is_there(house: House) -> None:
    ventilator = house.ventilator(house.enrol("relay"))
    large = bytes(range(256)) * (3 * FRAME_BYTES_MAX // 256) + b"end"
    for content in (b"small", large, b"last"):
        house.push(ventilator, content)
    worker = house.worker(house.enrol("tasks"))
    assert [house.pulled(worker) for _ in range(3)] == [[b"small"], [large], [b"last"]]
    house.relay.check()


def test_each_link_admits_its_own_role(house: House) -> None:
    ventilator, worker = house.enrol("relay"), house.enrol("tasks")
    wrong = house.ventilator(worker), house.worker(ventilator)
    house.until(lambda: len(house.refused) == 2)
    assert set(house.refused) == {("relay", worker.public), ("tasks", ventilator.public)}
    made = house.ventilator(ventilator), house.worker(worker)
    house.push(made[0], b"task")
    assert house.pulled(made[1]) == [b"task"]
    assert not wrong[0].poll(0, zmq.POLLOUT)
    assert not wrong[1].poll(0)


def test_a_key_that_is_struck_out_is_cut_off(house: House) -> None:
    struck, kept = house.enrol("relay"), house.enrol("relay")
    mallory, vera = house.ventilator(struck), house.ventilator(kept)
    eve_key, worker_key = house.enrol("tasks"), house.enrol("tasks")
    worker = house.worker(worker_key)
    for made in (mallory, vera):
        house.push(made, b"before")
        assert house.pulled(worker) == [b"before"]
    eve = house.worker(eve_key)
    house.until(lambda: house.door.known_count(house.relay.outgoing) == 2)
    house.keys["relay"].discard(struck.public)
    house.keys["tasks"].discard(eve_key.public)
    house.admit()
    house.until(lambda: {("relay", struck.public), ("tasks", eve_key.public)} <= set(house.refused))
    house.until(lambda: house.door.known_count(house.relay.outgoing) == 1)
    for number in range(10):
        house.push(vera, b"%d" % number)
    assert [house.pulled(worker) for _ in range(10)] == [[b"%d" % number] for number in range(10)]
    assert not mallory.poll(0, zmq.POLLOUT)
    assert not eve.poll(0)


def test_a_stopped_worker_is_cut_off_and_comes_back_if_it_lives(house: House) -> None:
    worker = house.worker(house.enrol("tasks"))
    house.until(lambda: house.door.known_count(house.relay.outgoing, "127.0.0.1") == 1)
    house.relay.cut_off(house.door, "127.0.0.1", living=1)
    house.relay.cut_off(house.door, "192.0.2.1", living=0)
    assert house.door.known_count(house.relay.outgoing) == 1
    watch = monitor.SocketMonitor(worker, zmq.EVENT_DISCONNECTED)
    house.relay.cut_off(house.door, "127.0.0.1", living=0)
    house.until(watch.events)
    watch.close()
    ventilator = house.ventilator(house.enrol("relay"))
    house.push(ventilator, b"task")
    assert house.pulled(worker) == [b"task"]


def test_a_worker_that_is_about_to_join_waits_for_that(house: House) -> None:
    key = house.enrol("tasks")
    house.absent.add(key.public)
    worker = house.worker(key)
    house.until(lambda: house.relay.gate.waiting)
    assert house.relay.gate.deadline() is not None
    house.relay.let_in(frozenset({key.public}))
    ventilator = house.ventilator(house.enrol("relay"))
    house.push(ventilator, b"task")
    assert house.pulled(worker) == [b"task"]
    assert house.relay.gate.deadline() is None


def test_who_only_pulls_is_refused_for_now(house: House) -> None:
    key = house.enrol("tasks")
    house.absent.add(key.public)
    puller = house.worker(key)
    house.until(lambda: house.relay.gate.waiting)
    at = house.relay.gate.deadline()
    assert at is not None
    house.relay.gate.tick(at)
    assert house.refused == [("tasks", key.public)]
    assert not puller.poll(0)
