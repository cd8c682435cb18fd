"""What a worker does about its sink, jobs, children and signals. No socket, no process, no clock.

`now` is monotonic seconds. The answers are data, which the loop performs and the simulator too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ProtocolError
from ..log_line import LineBudget, LogLine
from ..plain_text import counted
from ..protocol.codec import join_results
from ..protocol.handshake import Fail, LinkEvent
from ..protocol.messages import (
    RESULTS_IN_FRAME_MAX,
    Batch,
    FromSink,
    Message,
    Offer,
    Place,
    Places,
    Recorded,
    Welcome,
)
from .early_batches import EarlyBatches
from .holding import Holding
from .holding import Output as HoldingOutput
from .settings import SessionSettings
from .slot_events import Broken, Done, Edited, Event, GivenBack, Imported, Lost, NotImported, Outcome, Ready
from .slot_orders import KillOrder, ReplaceOrder, RunOrder
from .tasks_links import TasksLinks
from .unacked import Submit

TOGETHER_S = 0.2
"""Seconds within which a signal that is meant for a whole process group reaches each process of it."""
OUTGOING_BYTES_MAX = 1024 * 1024
"""At most this many bytes of results are sent as one frame."""
_REFUSALS_A_MINUTE = 10


@dataclass(frozen=True, slots=True)
class StartSlots:
    """Order to the shell: start the children of these slots."""

    slots: range


@dataclass(frozen=True, slots=True)
class LookForEdits:
    """Order to the shell: a job begins; report `Edited` if the modules are not what the children have imported."""


@dataclass(frozen=True, slots=True)
class TryImport:
    """Order to the shell: let a trial child import the modules, and report whether it could."""


@dataclass(frozen=True, slots=True)
class ConnectResults:
    """Order to the shell: another sink is there, or the same elsewhere; connect a new results socket to this port."""

    port: int


@dataclass(frozen=True, slots=True)
class SendResults:
    """Order to the shell: PUSH this frame to the sink."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Order to the shell: pull tasks from there too; the first job for which that is done is this one."""

    job: str
    host: str
    port: int
    key: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Order to the shell: pull nothing from this address any more."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class AwaitSignal:
    """Order to the shell: wait for a signal until then at most, and call `waited` before anything else."""

    until: float


@dataclass(frozen=True, slots=True)
class End:
    """Order to the shell: the worker is done; `at_once` when it must not wait for its children.

    `unmet` when it leaves because its time is over and has never met a sink, which is an error.
    """

    at_once: bool = False
    unmet: bool = False


SessionOutput = (
    Message
    | RunOrder
    | KillOrder
    | ReplaceOrder
    | StartSlots
    | LookForEdits
    | TryImport
    | ConnectResults
    | SendResults
    | Connect
    | Disconnect
    | AwaitSignal
    | LogLine
    | Fail
    | End
)


class WorkerSession:
    """One run of a worker, from the start of its first child to its end."""

    def __init__(self, settings: SessionSettings, name: str, now: float) -> None:
        self.holding = Holding(settings.holding, name)
        self._settings = settings
        self._timing = settings.holding.timing
        self._name = name
        self._refusals = LineBudget(_REFUSALS_A_MINUTE)
        self._functions: list[str] | None = None
        """None while the first child imports the modules."""
        self._sink_run: tuple[str, str] | None = None
        """The run of the sink, and at which host it was reached: results go there."""
        self._places: dict[tuple[str, int, str], list[str]] = {}
        """Where tasks are pulled: host, port and key, and of which jobs."""
        self._early = EarlyBatches(self._timing.beat_s)
        self._links = TasksLinks(self._timing, name)
        self._jobs: frozenset[str] = frozenset()
        """Those that have a ventilator."""
        self._complained: set[str] = set()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._busy_at = now
        self._voice_at = now + self._timing.voice_s
        self._leaves_by_itself = False
        self._stop_at = None if settings.stop_after_s is None else now + settings.stop_after_s
        self._together_until: float | None = None
        """Until then a signal is waited for that may explain what the slots report in this turn."""
        self._doubted: Outcome | Broken | None = None

    # -- the sink -----------------------------------------------------------------------------------------------

    def receive(self, now: float, message: FromSink, sink_host: str) -> list[SessionOutput]:
        """Take a message of the sink, which was reached at this host."""
        if isinstance(message, Welcome):
            return self._receive_welcome(now, message, sink_host)
        if isinstance(message, Places):
            origins = {place.job: place.origin for place in message.places}
            begun, self._jobs = origins.keys() - self._jobs, frozenset(origins)
            self.holding.places(origins, frozenset(place.job for place in message.places if place.scarce))
            look: list[SessionOutput] = [LookForEdits()] if begun and self._functions is not None else []
            # Batches that came early are taken by the next tick: edits that are found now come first.
            return [*look, *self._receive_places(now, message.places, sink_host)]
        said: list[SessionOutput] = []
        if isinstance(message, Recorded) and message.refused:
            text = f"the sink refuses {counted(len(message.refused), 'result')} of a job that it does not know"
            said += [LogLine("warning", line) for line in self._refusals.say(now, text)]
        return said + self._joined(self.holding.receive(now, message))

    def _receive_welcome(self, now: float, welcome: Welcome, sink_host: str) -> list[SessionOutput]:
        outputs: list[SessionOutput] = [] if self._functions is None else [Offer(self._functions)]
        self.holding.sink_joined()
        if (welcome.run, sink_host) == self._sink_run:
            return outputs
        self._sink_run = welcome.run, sink_host
        outputs.append(LogLine("info", f"joined the sink at {sink_host} as {self._name}"))
        outputs.append(ConnectResults(welcome.results_port))
        # What was to be sent in this turn has no receipt either.
        self._outgoing, self._outgoing_bytes = [], 0
        return outputs + self._joined(self.holding.sink_restarted(now))

    def _receive_places(self, now: float, places: Sequence[Place], sink_host: str) -> list[SessionOutput]:
        wanted: dict[tuple[str, int, str], list[str]] = {}
        for place in places:
            wanted.setdefault((place.host or sink_host, place.port, place.key), []).append(place.job)
        before, self._places = self._places, wanted
        # Two ventilators may claim the same address; letting go of it lets go of both.
        gone = dict.fromkeys(known[:2] for known in before if known not in wanted)
        outputs: list[SessionOutput] = []
        for address in gone:
            self._links.disconnect(address)
            outputs.append(Disconnect(*address))
        at: dict[tuple[str, int], list[str]] = {}
        for (host, port, key), jobs in wanted.items():
            if (host, port, key) not in before or (host, port) in gone:
                self._links.connect(now, (host, port), jobs[0])
                outputs.append(Connect(jobs[0], host, port, key))
            at.setdefault((host, port), []).extend(jobs)
        return [*outputs, *(line for address, jobs in at.items() for line in self._links.serve(address, jobs))]

    # -- ventilators --------------------------------------------------------------------------------------------

    def take(self, now: float, batches: Iterable[Batch]) -> list[SessionOutput]:
        """Take batches that came together; of a job only those of its own ventilator."""
        mine, said = [], []
        for batch in batches:
            origin = self.holding.origin(batch.job)
            if origin is None:
                self._early.keep(now, batch)
            elif origin == batch.origin:
                mine.append(batch)
            elif batch.job not in self._complained:
                self._complained.add(batch.job)
                text = f"a batch of job {batch.job} that another ventilator has pushed is dropped (logged once)"
                said.append(LogLine("warning", text))
        return [*said, *self._joined(self.holding.take(now, mine))]

    def link_event(self, now: float, host: str, port: int, event: LinkEvent) -> list[SessionOutput]:
        """Take what the monitor of the tasks socket has seen."""
        return [*self._links.event(now, (host, port), event)]

    def malformed(self, address: str, error: ProtocolError) -> list[SessionOutput]:
        """An invalid batch came from this address: from a ventilator there, or through the relay."""
        if address in self._complained:
            return []
        self._complained.add(address)
        return [LogLine("warning", f"an invalid batch came from {address}: {error} (logged once)")]

    # -- slots --------------------------------------------------------------------------------------------------

    def begin(self) -> list[SessionOutput]:
        """One child imports the modules first: if that fails, it fails once."""
        return [StartSlots(range(1))]

    def slot_event(self, now: float, event: Event) -> list[SessionOutput]:
        """Take what a slot reports."""
        if (isinstance(event, Outcome) and event.by_sigterm) or isinstance(event, Broken):
            # The whole process group may be told to end: that is no fault of the task, nor of the modules.
            self._doubted = event
            if self._together_until is None:
                self._together_until = now + TOGETHER_S
            if now < self._together_until and not self.holding.leaving:
                return [AwaitSignal(self._together_until)]
            return self.waited(now, [])
        if isinstance(event, Edited | Imported | NotImported):
            return self._edit_event(now, event)
        if isinstance(event, Outcome):
            return self._outcome(now, event)
        if isinstance(event, Done):
            return self._joined(self.holding.slot_done(now, event.slot))
        if isinstance(event, GivenBack):
            return self._joined(self.holding.given_back(now, event.slot, event.firsts, event.orders_back))
        if isinstance(event, Lost):
            return self._joined(self.holding.slot_lost(now, event.slot, event.unclear))
        return self._ready(now, event)

    def _edit_event(self, now: float, event: Edited | Imported | NotImported) -> list[SessionOutput]:
        """New children serve the edited modules; as long as these cannot be imported, the old ones go on."""
        if isinstance(event, Edited):
            edited = ", ".join(event.files)
            if not self._settings.reloads:
                text = "this worker goes on with what it has imported; start it again, or use --reload"
                return [LogLine("warning", f"{edited} was edited: {text}")]
            if event.refused:
                text = "was edited and cannot be imported: this worker goes on with what it has imported before"
                return [LogLine("error", f"{edited} {text}")]
            self.holding.park()
            return [LogLine("info", f"{edited} was edited: importing it again before the next job begins"), TryImport()]
        if isinstance(event, NotImported):
            text = f"this worker goes on with what it has imported before the edit: {event.text}"
            return [LogLine("error", text), *self._joined(self.holding.unpark(now))]
        outputs = self._joined(self.holding.replace_children(frozenset(event.functions)))
        if event.functions != self._functions:
            self._functions = event.functions
            outputs += [LogLine("info", f"exposing {', '.join(event.functions)}"), Offer(event.functions)]
        return outputs

    def waited(self, now: float, signals: Iterable[str]) -> list[SessionOutput]:
        """These signals came while the shell waited for one."""
        outputs = [output for name in signals for output in self.signalled(now, name)]
        event, self._doubted = self._doubted, None
        if isinstance(event, Outcome) and not self.holding.leaving:
            outputs += self._outcome(now, event)
        elif isinstance(event, Broken) and not self.holding.leaving:
            outputs.append(Fail(event.text))
        elif isinstance(event, Broken):
            # A leaving worker needs no new child for what the others still run.
            outputs.append(LogLine("warning", f"slot {event.slot} has no child process any longer: {event.text}"))
        return outputs

    def _outcome(self, now: float, event: Outcome) -> list[SessionOutput]:
        order = (event.slot, event.first, event.count, event.seconds, event.outcomes)
        return self._joined(self.holding.outcomes(now, *order))

    def _ready(self, now: float, ready: Ready) -> list[SessionOutput]:
        outputs: list[SessionOutput] = []
        if self._functions is None:
            self._functions = ready.functions
            self.holding.expose(frozenset(ready.functions))
            slots = self._settings.holding.slots
            outputs.append(StartSlots(range(1, slots)))
            outputs.append(LogLine("info", f"exposing {', '.join(ready.functions)} in {counted(slots, 'slot')}"))
            if self._sink_run is not None:
                outputs.append(Offer(ready.functions))
        return outputs + self._joined(self.holding.slot_idle(now, ready.slot))

    # -- leaving ------------------------------------------------------------------------------------------------

    def signalled(self, now: float, name: str) -> list[SessionOutput]:
        """A signal of this name came: leave in order, or at once if it is the second one."""
        if self.holding.leaving and self._leaves_by_itself:
            # Slurm, for one, sends a signal shortly before it ends what is left.
            self._leaves_by_itself = False
            return [LogLine("info", f"{name}: already leaving; again to leave at once")]
        if self.holding.leaving:
            return [
                LogLine("warning", f"{name} again: leaving at once; running tasks are pushed to other workers"),
                End(at_once=True),
            ]
        text = f"{name}: returning what has not started, finishing what runs; again to leave at once"
        return self._leave(now, text)

    def input_ended(self, now: float) -> list[SessionOutput]:
        """Standard input has ended, with which this worker is to leave."""
        return self._leave(now, "standard input has ended: returning what has not started, finishing what runs")

    def parent_gone(self) -> list[SessionOutput]:
        """The process that started this worker for itself has ended: nobody wants what still runs."""
        return [End(at_once=True)]

    def _leave(self, now: float, text: str, by_itself: bool = False) -> list[SessionOutput]:
        if self.holding.leaving:
            return []
        self._leaves_by_itself = by_itself
        return [LogLine("info", text), *self._joined(self.holding.leave(now, self._settings.holding.grace_s))]

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[SessionOutput]:
        """The end of a turn: do what is due, send the results that are there, say what takes long."""
        self._together_until = None
        outputs: list[SessionOutput] = []
        if early := self._early.take(self._jobs):
            outputs += self.take(now, early)
        if self._functions is not None:
            outputs += self._joined(self.holding.tick(now))
        if not self.holding.empty:
            self._busy_at = now
        idle_s = self._settings.exit_when_idle_s
        if idle_s is not None and now >= self._busy_at + idle_s:
            outputs += self._leave(now, f"no task for {idle_s:g} seconds: leaving", by_itself=True)
        if self._stop_at is not None and now >= self._stop_at:
            text = "the time is over: returning what has not started, finishing what runs"
            outputs += self._leave(now, text, by_itself=True)
        outputs += self._send_results()
        outputs += self._speak(now)
        outputs += self._links.tick(now)
        self._early.tick(now)
        if self.holding.leaving and (self.holding.empty or self._functions is None):
            outputs.append(End(unmet=self._leaves_by_itself and self._sink_run is None))
        return outputs

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        instants = [at for at in (self._links.deadline(), self._early.deadline()) if at is not None]
        if self._functions is not None:
            instants.append(self.holding.deadline())
        if self._stop_at is not None and not self.holding.leaving:
            instants.append(self._stop_at)
        if self._settings.exit_when_idle_s is not None and not self.holding.leaving:
            instants.append(self._busy_at + self._settings.exit_when_idle_s)
        if self._functions is None or self.holding.leaving:
            instants.append(self._voice_at)
        return min(instants, default=None)

    def _speak(self, now: float) -> list[SessionOutput]:
        """Say for what the worker waits, while it waits for its own children."""
        if self._functions is not None and not self.holding.leaving:
            self._voice_at = now + self._timing.voice_s
        elif now >= self._voice_at:
            self._voice_at = now + 2 * self._timing.voice_s
            importing = f"importing {', '.join(self._settings.modules)}"
            finishing = "finishing running tasks, or waiting for their receipts; a second signal leaves at once"
            return [LogLine("info", f"still {finishing if self.holding.leaving else importing}")]
        return []

    # -- results ------------------------------------------------------------------------------------------------

    def _joined(self, outputs: Iterable[HoldingOutput]) -> list[SessionOutput]:
        """Keep results for those that follow in this turn: a message costs more than what is in it."""
        kept: list[SessionOutput] = []
        for output in outputs:
            if not isinstance(output, Submit):
                kept.append(output)
                continue
            is_full = len(self._outgoing) == RESULTS_IN_FRAME_MAX
            if is_full or self._outgoing_bytes + len(output.frame) > OUTGOING_BYTES_MAX:
                kept += self._send_results()
            self._outgoing.append(output.frame)
            self._outgoing_bytes += len(output.frame)
        return kept

    def _send_results(self) -> list[SessionOutput]:
        if not self._outgoing:
            return []
        frame = join_results(self._outgoing)
        self._outgoing, self._outgoing_bytes = [], 0
        return [SendResults(frame)]
