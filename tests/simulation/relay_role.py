"""The relay of a sink without sockets: it drives `RelayQueue` as `sink.py` does, and dies with its sink."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from common.protocol.settings import RELAYED_TASKS_PORT
from common.sink.relay import BYTES_OF_A_KEY_MAX
from common.sink.relay_queue import RelayQueue
from tests.simulation.world import Channel

if TYPE_CHECKING:
    from tests.simulation.farm import Farm
    from tests.simulation.sink_role import Sink
    from tests.simulation.ventilator_role import Ventilator
    from tests.simulation.worker_role import Worker


class Relay:
    """What ventilators push goes to the next worker in turn."""

    port = RELAYED_TASKS_PORT

    def __init__(self, farm: Farm, sink: Sink) -> None:
        self.pullers: deque[tuple[Worker, Channel]] = deque()
        self.name = f"{sink.name} relay"
        self._farm, self._world, self._sink = farm, farm.world, sink
        self._queue = RelayQueue(farm.timing.lease_s, BYTES_OF_A_KEY_MAX)
        self._pushers: list[Ventilator] = []
        self._present: frozenset[str] = frozenset()
        self._waiting: list[Worker] = []
        """They connect, and nobody with their key is here yet."""

    def connect(self, ventilator: Ventilator) -> None:
        """A ventilator's PUSH finds the relay."""
        key = ventilator.user.key

        def arrive(frame: bytes, label: Any) -> None:
            self._arrive(key, frame)

        ventilator.relay = Channel(self._world, f"{ventilator.name} {self.name} {self._world.now}", arrive, True)
        self._pushers.append(ventilator)
        ventilator.session.route.relay_is_up = True

    def admits(self, worker: Worker) -> bool:
        """Whether it has an enrolled key with which a worker is here; if that may come, its connection waits."""
        if worker.user.key not in self._present:
            self._waiting.append(worker)
        return worker.user.key in self._present and worker.user.key in self._farm.roster

    def let_in(self, keys: frozenset[str]) -> None:
        """Workers with these keys are here."""
        self._present = keys
        waiting, self._waiting = self._waiting, []
        for worker in waiting:
            self._farm.connect_tasks(worker, self.port)

    def give(self) -> None:
        """Send what is held while somebody is there, unless the process is stopped; what is too old is dropped."""
        if not self._sink.alive:
            return
        if self._world.now < self._sink.stalled_until:
            self._world.at(self._sink.stalled_until, self.give)
            return
        while (content := self._queue.next(self._world.now)) is not None and self.pullers:
            self.pullers.rotate(-1)
            self._world.note(self.name, f"-> {self.pullers[-1][0].name}")
            self.pullers[-1][1].send(content)
            self._queue.sent()

    def cut(self, living: int) -> None:
        """All workers connect anew if there are more than live."""
        if len(self.pullers) > living:
            self.drop_pullers()

    def drop_pullers(self) -> None:
        """All workers connect anew, and what was on its way to them is lost."""
        for worker, channel in self.pullers:
            channel.close(True)
            self._farm.connect_tasks(worker, self.port)
        self.pullers.clear()

    def kill(self) -> None:
        """SIGKILL of the sink: what it held is gone."""
        for ventilator in self._pushers:
            if ventilator.relay is not None:
                ventilator.relay.close(True)
            ventilator.relay = None
            ventilator.session.route.relay_is_up = False
        for _, channel in self.pullers:
            channel.close(True)
        self.pullers.clear()

    def _arrive(self, key: str, frame: bytes) -> None:
        if self._sink.alive:
            self._queue.put(self._world.now, key, frame)
            self.give()
            self._world.after(self._farm.timing.lease_s, self.give)
