"""An enrolled peer that speaks for itself: CURVE sockets with its key file, and nothing of the product's shells."""

import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from common.protocol.codec import decode_batch, decode_from_sink, encode
from common.protocol.messages import PROTOCOL_VERSION, Batch, Hello, Message, Welcome
from common.transport import sockets
from common.transport.key_files import Certificate, load
from common.transport.sink_link import sink_addresses
from tests.conftest import PATIENCE_S


class Liar:
    """A key's own sockets: control and, once welcomed, results; tasks where it is told."""

    def __init__(self, key_file: Path, name: str) -> None:
        """`key_file` must name the sink by its address on this machine."""
        self.pair: Certificate = load(key_file)
        self.name = name
        self._context = zmq.Context()
        self._host, port = sink_addresses(self.pair, None)[0]
        self.control = self._client(zmq.DEALER, self.pair.sink_key)
        self.control.connect(f"tcp://{self._host}:{port}")
        self.results: zmq.Socket[bytes] | None = None
        self.heard: list[Any] = []

    def _client(self, kind: int, server_key: str) -> "zmq.Socket[bytes]":
        made = self._with_key(kind)
        made.curve_serverkey = server_key.encode()
        return made

    def _with_key(self, kind: int) -> "zmq.Socket[bytes]":
        made: zmq.Socket[bytes] = self._context.socket(kind)
        assert self.pair.secret is not None
        made.curve_publickey, made.curve_secretkey = self.pair.public.encode(), self.pair.secret.encode()
        made.linger, made.sndhwm, made.rcvhwm = 0, 0, 0
        made.sndtimeo = made.rcvtimeo = int(PATIENCE_S * 1000)
        return made

    def say(self, message: Message) -> None:
        sockets.send(self.control, encode(message))

    def hear(self, kind: type) -> Any:
        """The next message of this kind; what comes before it is kept in `heard`."""
        ends_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends_at:
            message = decode_from_sink(self.control.recv())
            self.heard.append(message)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"never heard {kind.__name__}")

    def greet(self, role: str = "worker") -> Welcome:
        """Say hello as an honest peer does; open the results link when it is a worker's."""
        self.say(Hello(PROTOCOL_VERSION, role, self.name))
        welcome: Welcome = self.hear(Welcome)
        if role == "worker":
            self.results = self._client(zmq.PUSH, self.pair.sink_key)
            self.results.connect(f"tcp://{self._host}:{welcome.results_port}")
        return welcome

    def pull(self, port: int, ventilator_key: str) -> Batch:
        """Really pull one batch of a ventilator."""
        tasks = self.tasks(ventilator_key)
        tasks.connect(f"tcp://{self._host}:{port}")
        batch = decode_batch(tasks.recv())
        tasks.close()
        return batch

    def tasks(self, ventilator_key: str) -> "zmq.Socket[bytes]":
        """What can be connected to a ventilator to pull its tasks."""
        return self._client(zmq.PULL, ventilator_key)

    def serve_tasks(self, port: int = 0) -> tuple["zmq.Socket[bytes]", int]:
        """A tasks link of its own, open to every key."""
        tasks = self._with_key(zmq.PUSH)
        tasks.curve_server = True
        if port:
            tasks.bind(f"tcp://127.0.0.1:{port}")
        else:
            port = tasks.bind_to_random_port("tcp://127.0.0.1", 20_000, 32_000)
        return tasks, port

    def close(self) -> None:
        self._context.destroy(linger=0)


def packed(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))
