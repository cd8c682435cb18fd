"""Many workers in one process: the real session, sockets and handshake of each, with slots that only count.

    python -m benchmarks.scale.crew KEY_FILE WORKERS SLOTS TASK_S NAME

A line of JSON for each change of how many workers the sink has heard, and one for each SIGUSR1. SIGTERM ends it.
"""

import ctypes
import heapq
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import zmq

from common import descriptors
from common.errors import ProtocolError
from common.log_line import LogLine
from common.protocol.codec import decode_batch
from common.protocol.handshake import Fail
from common.protocol.messages import FromSink, Heard, Outcomes, Welcome
from common.protocol.settings import Timing
from common.transport import clock, monitor, polling, sockets
from common.transport import sink_link as link
from common.transport.key_files import Certificate, load_pair
from common.worker.session import (
    AwaitSignal,
    Connect,
    ConnectResults,
    Disconnect,
    End,
    LookForEdits,
    SendResults,
    SessionOutput,
    StartSlots,
    TryImport,
    WorkerSession,
)
from common.worker.settings import HoldingSettings, SessionSettings
from common.worker.slot_events import Done, Event, Outcome, Ready
from common.worker.slot_orders import KillOrder, ReplaceOrder, RunOrder

FUNCTIONS = ["work:square"]
_SAY_S = 0.05


class LightWorker:
    """One worker, as `common/worker/loop.py` drives it."""

    def __init__(self, crew: "LightCrew", name: str) -> None:
        self._crew = crew
        self.due_at: float | None = None
        self.heard_run = ""
        """The run of the sink that has heard a beat of this worker."""
        self.heard_at: float | None = None
        self.silence_s = 0.0
        """The longest time without a word of the sink since it was heard first."""
        self.over = False
        self._run = ""
        timing = Timing()
        holding = HoldingSettings(slots=crew.slots, prefetch=crew.slots)
        self._session = WorkerSession(SessionSettings(["work"], None, None, holding), name, clock.now())
        self._tasks = sockets.tasks_client(crew.context, crew.pair)
        self._watch = monitor.LinkMonitor(self._tasks)
        self._results: zmq.Socket[bytes] | None = None
        addresses = link.sink_addresses(crew.pair, None)
        self._link = link.SinkLink(crew.context, crew.pair, addresses, name, self._receive, timing)
        self._link.register(crew)  # type: ignore[arg-type]
        crew.register(self._tasks, self._take_batches, owner=self)
        crew.register(self._watch.socket, self._take_events, owner=self)
        self._performers: dict[type[Any], Callable[[Any], object]] = {
            RunOrder: self._begin,
            KillOrder: lambda order: None,
            ReplaceOrder: lambda order: self.event(Ready(order.slot, FUNCTIONS)),
            StartSlots: self._start,
            LookForEdits: lambda _: None,
            TryImport: lambda _: None,
            ConnectResults: self._connect_results,
            SendResults: self._send_results,
            Connect: lambda order: sockets.connect_tasks(
                self._tasks, sockets.endpoint(order.host, order.port), order.key
            ),
            Disconnect: lambda order: self._tasks.disconnect(sockets.endpoint(order.host, order.port)),
            AwaitSignal: lambda _: self._perform(self._session.waited(clock.now(), [])),
            LogLine: crew.say,
            Fail: self._fail,
            End: self._end,
        }
        self._perform(self._session.begin())
        self.tick()

    def tick(self) -> None:
        """The end of a turn that concerns this worker."""
        self._link.tick()
        self._perform(self._session.tick(clock.now()))
        instants = (self._link.deadline(), self._session.deadline())
        self.due_at = min((each for each in instants if each is not None), default=None)

    def _start(self, order: StartSlots) -> None:
        for slot in order.slots:
            self.event(Ready(slot, FUNCTIONS))

    def event(self, event: Event) -> None:
        """A slot says something."""
        self._perform(self._session.slot_event(clock.now(), event))

    def leave(self) -> None:
        """As SIGTERM."""
        self._perform(self._session.signalled(clock.now(), "SIGTERM"))
        self.tick()

    def close(self) -> None:
        self._link.close()
        self._watch.close()
        self._tasks.close()
        if self._results is not None:
            self._results.close()

    def _receive(self, message: FromSink) -> None:
        now = clock.now()
        if self.heard_at is not None:
            self.silence_s = max(self.silence_s, now - self.heard_at)
            self.heard_at = now
        if isinstance(message, Welcome):
            self._run = message.run
        elif isinstance(message, Heard) and self.heard_run != self._run:
            self.heard_run, self.heard_at = self._run, now
            self._crew.changed = True
        self._perform(self._session.receive(now, message, self._link.host))

    def _take_batches(self) -> None:
        batches = []
        for _, content in sockets.drain(self._tasks):
            try:
                batches.append(decode_batch(content))
            except ProtocolError as error:
                raise SystemExit(f"an invalid batch: {error}") from None
        self._perform(self._session.take(clock.now(), batches))

    def _take_events(self) -> None:
        for event, host, port in self._watch.events():
            self._perform(self._session.link_event(clock.now(), host, port, event))

    def _begin(self, order: RunOrder) -> None:
        parts = [(part.first, msgspec.msgpack.decode(part.arguments)) for part in order.parts]
        self._crew.later(self, order.slot, parts)

    def finish(self, slot: int, parts: list[tuple[int, list[int]]]) -> None:
        """The slot has run its order."""
        seconds = self._crew.task_s
        for first, arguments in parts:
            values = [each * each for each in arguments]
            outcomes = msgspec.msgpack.encode(Outcomes(values, [seconds] * len(values), [], []))
            self.event(Outcome(slot, first, len(values), seconds * len(values), outcomes))
        self.event(Done(slot))

    def _perform(self, outputs: Iterable[SessionOutput]) -> None:
        for output in outputs:
            self._performers.get(type(output), self._link.send)(output)

    def _connect_results(self, order: ConnectResults) -> None:
        if self._results is not None:
            self._results.close()
        self._results = sockets.results_client(self._crew.context, self._crew.pair)
        self._results.connect(sockets.endpoint(self._link.host, order.port))

    def _send_results(self, order: SendResults) -> None:
        assert self._results is not None
        sockets.send(self._results, order.frame)

    def _fail(self, order: Fail) -> None:
        raise SystemExit(order.text)

    def _end(self, _: End) -> None:
        self.over = True


class LightCrew:
    """The workers of this process, and the poll that they share."""

    def __init__(self, pair: Certificate, workers: int, slots: int, task_s: float, name: str) -> None:
        descriptors.raise_limit()
        self.pair, self.slots, self.task_s = pair, slots, task_s
        self.context = zmq.Context()
        self.context.max_sockets = 10 * workers + 100
        self.changed = False
        self._poll = polling.Poll()
        self._touched: dict[LightWorker, None] = {}
        self._running: list[tuple[float, int, LightWorker, int, Any]] = []
        self._serials = count()
        self._said_at = 0.0
        self._lines = 0
        self._signals = polling.Signals()
        signal.signal(signal.SIGUSR1, lambda *_: None)
        self._poll.register(self._signals, lambda: None)
        self.workers: list[LightWorker] = []
        for number in range(workers):
            self.workers.append(LightWorker(self, f"{name}-{number}"))

    def register(self, what: Any, call: Callable[[], object], owner: LightWorker | None = None) -> None:
        """As a poll, for a worker and for its link to the sink."""
        worker: Any = owner or call.__self__._receiver.__self__  # type: ignore[attr-defined]

        def touched() -> None:
            self._touched[worker] = None
            call()

        self._poll.register(what, touched)

    def unregister(self, what: Any) -> None:
        """The same."""
        self._poll.unregister(what)

    def later(self, worker: LightWorker, slot: int, parts: list[tuple[int, list[int]]]) -> None:
        """Let the slot be done with these tasks when they have taken their time."""
        due_at = clock.now() + self.task_s * sum(len(arguments) for _, arguments in parts)
        heapq.heappush(self._running, (due_at, next(self._serials), worker, slot, parts))

    def say(self, line: LogLine) -> None:
        """The first warnings."""
        if line.level != "info" and self._lines < 2:
            self._lines += 1
            print(line.text, file=sys.stderr, flush=True)

    def run(self) -> None:
        """Work until SIGTERM; then leave in order."""
        leaves = False
        while not all(worker.over for worker in self.workers):
            self._poll.wait(self._deadline())
            now = clock.now()
            while self._running and self._running[0][0] <= now:
                _, _, worker, slot, parts = heapq.heappop(self._running)
                worker.finish(slot, parts)
                self._touched[worker] = None
            touched, self._touched = self._touched, {}
            for worker in self.workers:
                if worker in touched or (worker.due_at is not None and worker.due_at <= now):
                    worker.tick()
            if self.changed and now >= self._said_at + _SAY_S:
                self._say_heard(now)
            told = self._signals.received()
            if signal.SIGUSR1 in told:
                self._say_heard(now)
            if signal.SIGTERM in told and not leaves:
                leaves = True
                for worker in self.workers:
                    worker.leave()
        for worker in self.workers:
            worker.close()
        self.context.destroy()

    def _deadline(self) -> float | None:
        instants = [worker.due_at for worker in self.workers if worker.due_at is not None]
        if self._running:
            instants.append(self._running[0][0])
        if self.changed:
            instants.append(self._said_at + _SAY_S)
        return min(instants, default=None)

    def _say_heard(self, now: float) -> None:
        self.changed, self._said_at = False, now
        heard: dict[str, int] = {}
        for worker in self.workers:
            if worker.heard_run:
                heard[worker.heard_run] = heard.get(worker.heard_run, 0) + 1
        silence_s = max(worker.silence_s for worker in self.workers)
        print(json.dumps({"at": now, "heard": heard, "silence_s": silence_s}), flush=True)


def main() -> None:
    key_file, workers, slots, task_s, name = sys.argv[1:]
    logging.disable()
    if sys.platform == "linux":
        # It ends with whoever started it.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    pair = load_pair(Path(key_file), "worker")
    LightCrew(pair, int(workers), int(slots), float(task_s), f"{name}.{os.getpid()}").run()


if __name__ == "__main__":
    main()
