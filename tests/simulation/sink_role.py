"""The sink without sockets: it drives `Collector` as `sink.py` does, and checks each receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import ProtocolError
from common.protocol.codec import decode_outcomes, decode_results, decode_to_sink, encode, ticket
from common.protocol.messages import Beat, Crew, Heard, Message, Open, Opened, Recall, Receipts, Recorded, Results
from common.sink.collector import Collector
from common.sink.crew_news import joined
from common.sink.outputs import Admit, CutOff, Output, Send
from common.sink.registry import Peer
from common.sink.settings import CollectorSettings
from common.sink.store import Job, LedgerLost
from tests.simulation.relay_role import Relay
from tests.simulation.role import Connection, Role
from tests.simulation.site import HeldDisk
from tests.simulation.truth import Disk

if TYPE_CHECKING:
    from tests.simulation.farm import Farm


@dataclass(frozen=True, slots=True)
class Opener:
    """Whose message the rules answer when they open a job, and how large the job's crew is then."""

    message: Open
    crew_count: int


class Sink(Role):
    """`sink.py`."""

    def __init__(self, farm: Farm, name: str, place: int = 0) -> None:
        super().__init__(farm, name)
        self.place = place
        """At which of the site's addresses it listens."""
        self.connections: dict[bytes, Connection] = {}
        self.disk: Disk = farm.disk
        self.site = HeldDisk(self.disk, self) if farm.plan.has_standby else None
        settings = CollectorSettings(timing=farm.timing, receipts_page=farm.receipts_page)
        self.rules = Collector(farm.world.now, settings, self.site or self.disk, name, farm.roster)
        self._roster = farm.roster
        self.relay = Relay(farm, self)
        self._turn_at: float | None = None
        self._answers: list[Output] = []
        """What this poll's messages are answered with, at its end."""
        self._beats: dict[str, Any] = {}
        self._labels: dict[int, Any] = {}
        """By which object a member of a crew is: the last beat at the time at which the rules have made it."""
        self._came: dict[tuple[str, int], Any] = {}
        self._opens: dict[tuple[bytes, str], list[tuple[Open, dict[int, Results]]]] = {}
        """Who wants to open which job, each message with the results that had come before."""
        self._openings: dict[tuple[bytes, str], list[Opener]] = {}
        """The ventilators that got an open job from the rules, until that is checked."""
        self._watch_openings()
        self.disk.wake = lambda: self.happen(_nothing)

    def control(self, peer: bytes, frame: bytes, label: Any) -> None:
        """A frame of the control link."""
        connection = self.connections.get(peer)
        message = decode_to_sink(frame)
        user = connection.client.user if connection else self.farm.user_of(peer.decode().rpartition("#")[0])
        if isinstance(message, Open):
            self._opens.setdefault((peer, message.job), []).append((message, self._uncommitted(message.job)))
        answers = self.rules.receive(self.world.now, peer, user, "10.0.0.1", message)
        if isinstance(message, Beat) and Send(peer, Heard(message.serial)) in answers:
            self._beats[label[0]] = label[1]
        self._answers += self._checked(answers)

    def results(self, frame: bytes, label: Any) -> None:
        """A frame of the results link."""
        results = decode_results(frame)
        self._came[results.worker, results.serial] = results
        self.farm.last_results[results.job] = frame
        user, before = self.farm.user_of(results.worker), self.rules.inspect().pending_count
        try:
            self.perform(self.rules.results(user, results))
        except ProtocolError as error:
            self.perform(self.rules.malformed(user, "results", error))
        taken, require = self.rules.inspect().pending_count > before, self.world.require
        require(not taken or user.key in self._roster, "results of a key that was revoked are taken:", results.worker)
        # Its tasks have the same values in the new job, so the rows do not tell.
        require(not taken or not self._is_of_the_forgotten(results), "results of a forgotten job are taken:", results)

    def roster_changed(self) -> None:
        """The key folder has changed, and it has looked."""
        self._answer()
        self._roster = self.farm.roster
        self.relay.drop_pullers()
        self.perform(self.rules.roster_changed(self.world.now, self._roster))

    def take(self, action: Callable[..., None], *arguments: Any) -> None:
        """Messages are taken together for a moment, as a poll that finds several."""
        self._guard(action, *arguments)
        if self._turn_at is None and self.alive:
            self._turn_at = self.world.now + self.dice.uniform(0, 0.001)
            self.world.at(self._turn_at, self._end_of_poll)

    def _end_of_poll(self) -> None:
        self._turn_at = None
        if not self.alive:
            return
        if self.world.now < self.stalled_until:
            self.happen(_nothing)
            return
        self._answer()
        self.turn()
        self.arm()

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        self._send(joined(answers))

    def overhear(self, came: Callable[[Message], None], went: Callable[[Message], None]) -> None:
        """Tell of each message that comes from now on, and of each that is sent."""
        receive, results, check = self.rules.receive, self.rules.results, self._check

        def heard(now: float, peer: bytes, user: Any, address: str, message: Any) -> Any:
            came(message)
            return receive(now, peer, user, address, message)

        def heard_results(user: Any, message: Any) -> Any:
            came(message)
            return results(user, message)

        def checked(peer: bytes, message: Message) -> None:
            went(message)
            check(peer, message)

        self.rules.receive, self.rules.results, self._check = heard, heard_results, checked  # type: ignore[assignment,method-assign]

    def turn(self) -> None:
        """Commit and answer."""
        self._guard(lambda: self._send(joined(self._checked(self.rules.tick(self.world.now)))))

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except LedgerLost:
            self.farm.sink_was_replaced(self)

    def deadline(self) -> float | None:
        """When the machine has something to do."""
        at = self.rules.deadline()
        if self.site is None:
            return at
        return self.site.look_at if at is None else min(at, self.site.look_at)

    def perform(self, outputs: Iterable[Output]) -> None:
        """Check and send."""
        self._send(self._checked(outputs))

    def _checked(self, outputs: Iterable[Output]) -> list[Output]:
        """The same, looked at as the rules have given it: before several messages are one."""
        outputs = list(outputs)
        sent = [output for output in outputs if isinstance(output, Send)]
        self._check_opened(sent)
        members = [member for each in sent if isinstance(each.message, Crew) for member in each.message.members]
        self._labels |= {id(member): self._beats.get(member.worker) for member in members}
        return outputs

    def _send(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, CutOff):
                self.relay.cut(output.living)
                continue
            if isinstance(output, Admit):
                self.relay.let_in(output.keys)
                continue
            if not isinstance(output, Send):
                self.world.note(self.name, "says", output.text)
                continue
            self.sent_count += 1
            message = output.message
            has_held = self.site is None or self.site.has_held
            self.world.require(has_held, f"{self.name} answers before it has the site:", message)
            self._check(output.peer, message)
            label = None
            if isinstance(message, Crew):
                label = [self._labels.pop(id(member)) for member in message.members]
                for worker in message.lost:
                    self.farm.lost(worker)
            connection = self.connections.get(output.peer)
            if connection is not None:
                connection.down.send(encode(message), label)

    def _check(self, peer: bytes, message: Message) -> None:
        """A receipt only after the commit."""
        require, disk = self.world.require, self.disk
        if isinstance(message, Recorded):
            worker = peer.decode().rpartition("#")[0]
            for serial in message.refused:
                late = self._is_of_the_forgotten(self._came.get((worker, serial)))
                require(late, "a result of the farm's own is refused:", message)
            require(self.farm.user_of(worker).key in self._roster, "a receipt for a key that was revoked:", worker)
            for serial in message.serials:
                results = self._came.get((worker, serial))
                require(results is not None, "a receipt for what never came:", (worker, serial))
                require(self._is_dealt_with(results), "a receipt before its commit:", (worker, results))
        elif isinstance(message, Receipts):
            for first, count in message.runs:
                for task in range(first, first + count):
                    require(disk.is_recorded(message.job, task), "a receipt before its commit:", (message.job, task))

    def _check_opened(self, sent: list[Send]) -> None:
        """When a job is opened, and whose batches are recalled.

        A new run of a job has handed back what has not started; a run that opens it again has not.
        """
        require = self.world.require
        # In one turn a job may be opened twice: by a run, and by one that took its place.
        wanted: Counter[str] = Counter()
        for peer, opened in [(each.peer, each.message) for each in sent if isinstance(each.message, Opened)]:
            opener = self._openings[peer, opened.job].pop(0)
            before = self._came_before(peer, opener.message)
            late = [before[each] for each in before.keys() & self._uncommitted(opened.job).keys()]
            require(not late, "a job is opened before the results that came first are recorded:", (opened.job, late))
            wanted[opened.job] += opener.crew_count if opened.resumed and not opener.message.reopens else 0
            if opened.job in self.disk.reopened:
                self.disk.reopened.discard(opened.job)
                self.farm.check_reopened(opened.job, peer)
        recalled = Counter(each.message.job for each in sent if isinstance(each.message, Recall))
        for job, count in wanted.items():
            require(recalled[job] == count, "recalled from another crew than the job's:", (recalled[job], count))

    def _watch_openings(self) -> None:
        """Note which message the rules answer, and with which crew: at the end of the turn it may be another one."""
        jobs, registry = self.rules._jobs, self.rules._registry
        opened = jobs._opened

        def watched(now: float, peer: bytes, known: Peer, message: Open, before: Job | None) -> list[Output]:
            crew = [each for each in registry.workers.values() if each.slots and message.function in each.functions]
            self._openings.setdefault((peer, message.job), []).append(Opener(message, len(crew)))
            return opened(now, peer, known, message, before)

        jobs._opened = watched  # type: ignore[method-assign]

    def _came_before(self, peer: bytes, message: Open) -> dict[int, Results]:
        """The results that came before this message, or before the first of those that it has taken the place of."""
        opens = self._opens[peer, message.job]
        end = next(place for place, (each, _) in enumerate(opens) if each is message)
        before = opens[0][1]
        del opens[: end + 1]
        return before

    def _uncommitted(self, name: str) -> dict[int, Results]:
        """The results of the job that have come and are not committed, each by which object it is: some are resent."""
        commits = self.rules._commits
        groups = [commits._pending, *([commits._begun] if commits._begun else [])]
        found = [each.results for group in groups for each in group.recordings.values()]
        return {id(each): each for each in found if each.job == name}

    def _is_of_the_forgotten(self, results: Any) -> bool:
        """True for a result of a job that was forgotten; its name may have another one."""
        job = self.disk.job(results.job)
        return job is None or results.ticket != ticket(job.ticket_key, *results.batch)

    def _is_dealt_with(self, results: Any) -> bool:
        outcomes = decode_outcomes(results)
        failed = {offset for offset, _, final in outcomes.errors if not final}
        job = self.disk.job(results.job)
        assert job is not None
        attempts_max = job.attempts_max
        return all(
            self.disk.is_recorded(job.name, results.first + offset)
            or (offset in failed and results.attempt < attempts_max)
            for offset in range(results.count)
        )


def _nothing() -> None:
    """What a process that is continued finds: that time has passed."""
