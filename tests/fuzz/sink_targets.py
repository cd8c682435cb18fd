"""The sink under lies: enrolled keys of every role that say anything, in any order, on control and results."""

import math
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.msgpack import Ext

from common.errors import ProtocolError
from common.log_line import LogLine
from common.protocol.codec import decode_from_sink, encode, join_results, split_results, ticket
from common.protocol.codec import decode_to_sink as decode_at_sink
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Ask,
    Beat,
    Hello,
    Offer,
    Open,
    Opened,
    Outcomes,
    Quarantine,
    Receipts,
    Recorded,
    Results,
    ToSink,
)
from common.protocol.users import OBSERVER, VENTILATOR, WORKER, User
from common.protocol.values import JSON_EXT
from common.sink.collector import Collector
from common.sink.outputs import Output, Send
from common.sink.settings import CollectorSettings
from common.sink.sqlite_ledger import Ledger
from tests.fuzz.draw import FUNCTIONS, JOBS, NAMES, VALUES, Draw, frame_of, index, kinds_of, mutated, packed

USERS = [
    User(WORKER, "ada", "A" * 40),
    User(WORKER, "eve", "B" * 40),
    User(VENTILATOR, "ventilator", "C" * 40),
    User(VENTILATOR, "rival", "D" * 40),
    User(OBSERVER, "observer", "E" * 40),
    User(WORKER, "revoked", "F" * 40),
]
HONEST = [User(WORKER, "honest-w", "G" * 40), User(VENTILATOR, "honest-v", "H" * 40)]
ROSTER = {user.key: user for user in (*USERS[:-1], *HONEST)}
_TO_SINK = kinds_of(ToSink)
_OF_ROLE = {
    WORKER: (Hello, Offer, Beat, *_TO_SINK[3:5]),
    VENTILATOR: (Hello, Open, Ask, *_TO_SINK[7:12]),
    OBSERVER: _TO_SINK,
}
_OPEN = Open("job", FUNCTIONS[0], "range", 5557, 1, False, False)


class SinkShell:
    """Does what the sink's shell does, with a real ledger in memory, and looks at everything that it would send."""

    def __init__(self) -> None:
        self.ledger = Ledger(":memory:")
        self.rules = Collector(0.0, CollectorSettings(), self.ledger, "run", ROSTER)
        self.now = 0.0
        self.complaints: set[tuple[str, str]] = set()
        self.sent: list[object] = []
        self.peers: set[bytes] = set()

    def perform(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, Send):
                # What it says is a message that its peers can read.
                self.sent.append(decode_from_sink(encode(output.message)))
            elif isinstance(output, LogLine):
                self._hear(output)
        return outputs

    def _hear(self, said: LogLine) -> None:
        assert said.text.isprintable(), said
        if said.text.endswith("(logged once)"):
            who, fault, *_ = said.text.split(": ")
            assert (who, fault) not in self.complaints, said
            self.complaints.add((who, fault))

    def control(self, peer: bytes, user: User, frame: bytes) -> list[Output]:
        try:
            message = decode_at_sink(frame)
        except ProtocolError as error:
            return self.perform(self.rules.malformed(user, "control", error))
        self.peers.add(peer)
        outputs = self.perform(self.rules.receive(self.now, peer, user, "10.0.0.1", message))
        if not isinstance(message, Quarantine) and any(isinstance(said, LogLine) for said in outputs):
            self._say_again(peer, user, message)
        return outputs

    def _say_again(self, peer: bytes, user: User, message: ToSink) -> None:
        again = self.perform(self.rules.receive(self.now, peer, user, "10.0.0.1", message))
        warned = [said for said in again if isinstance(said, LogLine) and said.level == "warning"]
        assert not warned, f"complains once a message: {warned}"

    def results(self, user: User, frame: bytes) -> list[Output]:
        try:
            split = split_results(join_results([frame]))
            return [output for results in split for output in self.perform(self.rules.results(user, results))]
        except ProtocolError as error:
            return self.perform(self.rules.malformed(user, "results", error))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.rules.tick(self.now))
        deadline = self.rules.deadline()
        assert deadline is None or not math.isnan(deadline)

    def ticket(self, batch: tuple[int, int], attempt: int, job: str) -> bytes:
        row = self.ledger.job(job)
        return ticket(row.ticket_key, *batch, attempt) if row else bytes(16)

    def finish(self) -> None:
        """Whatever was said before: honest peers are served, and what they record is in the ledger."""
        self.perform(self.rules.roster_changed(self.now, ROSTER))
        self.pass_time(0.0)
        (worker, ventilator), say = HONEST, self.control
        for message in (Hello(PROTOCOL_VERSION, WORKER, "honest.1"), Offer(["honest:f"]), Beat(3, 1, 1, {}, {})):
            say(b"w", worker, encode(message))
        say(b"v", ventilator, encode(Hello(PROTOCOL_VERSION, VENTILATOR, "honest.2")))
        opened = say(b"v", ventilator, encode(Open("honest", "honest:f", "range", 5557, 0, False, False)))
        assert any(isinstance(output, Send) and isinstance(output.message, Opened) for output in opened)
        self.sent.clear()
        two = msgspec.msgpack.encode(Outcomes([1, 2], [0.1, 0.1], []))
        right = self.ticket((0, 2), 1, "honest")
        self.results(worker, encode(Results("honest", "honest.1", 7, 0, 2, (0, 2, 1), right, two)))
        self.pass_time(0.0)
        say(b"v", ventilator, encode(Ask("honest", 0, False)))
        self.pass_time(0.0)
        assert Recorded([7], []) in self.sent
        receipts = [message for message in self.sent if isinstance(message, Receipts) and message.job == "honest"]
        assert receipts[-1].runs == [(0, 2)]
        assert receipts[-1].done == 2
        self.ledger.close()


def outcomes(draw: Draw, count: int) -> bytes:
    count = min(count, 5)
    if draw.often():
        values = [_value(draw) for _ in range(count)]
        seconds = [draw.pick((0.25, 1e9, 0.0)) for _ in range(count)]
        errors = [(draw.below(count + 1), "no\x00", bool(draw.below(2))) for _ in range(draw.below(3))]
        exact = [(draw.below(count + 1), b"\xc0") for _ in range(draw.below(2))]
        return msgspec.msgpack.encode({"values": values, "seconds": seconds, "errors": errors, "exact": exact})
    return packed(draw)


def _value(draw: Draw) -> Any:
    """A value as a worker sends it: JSON text for arrays and maps, or the map itself, or an extension of no meaning."""
    value = draw.pick(VALUES)
    if not isinstance(value, list | dict):
        return value
    text = draw.pick((b"[[{}]]", b'{"a":1}', b"[", b"", b'"\xff"', draw.taken(5)))
    return draw.pick((Ext(JSON_EXT, text), Ext(JSON_EXT, text), Ext(draw.below(5), packed(draw)), value))


def results_frame(draw: Draw, shell: SinkShell) -> bytes:
    """A results frame, often for tasks that the job has, with a right ticket."""
    job, attempt = draw.pick(JOBS), 1 + draw.below(3)
    first, count = draw.below(40), 1 + draw.below(4)
    batch = (first, count) if draw.often() else (index(draw), index(draw))
    made = Results(
        job=job,
        worker=draw.pick(NAMES),
        serial=draw.below(4),
        first=first,
        count=count,
        batch=(*batch, attempt),
        ticket=shell.ticket(batch, attempt, job) if draw.often() else draw.taken(16),
        outcomes=outcomes(draw, count),
    )
    return mutated(draw, encode(made))


def _known_peers(shell: SinkShell) -> None:
    """A crew and a job, so that the first lie meets somebody."""
    for peer, user in ((b"0", USERS[0]), (b"1", USERS[1])):
        shell.control(peer, user, encode(Hello(PROTOCOL_VERSION, WORKER, user.name)))
        shell.control(peer, user, encode(Offer([FUNCTIONS[0]])))
        shell.control(peer, user, encode(Beat(3, 1, 1, {}, {})))
    shell.control(b"2", USERS[2], encode(Hello(PROTOCOL_VERSION, VENTILATOR, "ventilator")))
    shell.control(b"2", USERS[2], encode(_OPEN))


def _join_again(draw: Draw, shell: SinkShell, peer: bytes, user: User) -> None:
    """A worker's or ventilator's first words, perhaps under another name than before."""
    shell.control(peer, user, encode(Hello(PROTOCOL_VERSION, user.role, draw.pick(NAMES))))
    if user.role == WORKER:
        shell.control(peer, user, encode(Offer([draw.pick(FUNCTIONS)])))
    else:
        shell.control(peer, user, encode(_OPEN))


def _record(draw: Draw, shell: SinkShell) -> None:
    """Results of two tasks as they should be, but for their values and times; then the ventilator asks."""
    run = (2 * draw.below(20), 2)
    proof = shell.ticket(run, 1, "job")
    said = Results("job", "ada", draw.below(4), run[0], 2, (*run, 1), proof, outcomes(draw, 2))
    shell.results(USERS[0], encode(said))
    shell.pass_time(0.0)
    shell.control(b"2", USERS[2], encode(Ask("job", 0, False)))
    shell.pass_time(1.0)


def collection(source: bytes) -> None:
    """The sink's rules against enrolled liars of every role."""
    draw, shell = Draw(source), SinkShell()
    if draw.often():
        _known_peers(shell)
    while draw:
        step, who = draw.below(10), draw.below(len(USERS))
        user = USERS[who]
        peer = b"%d" % who if draw.often() else b"%d" % draw.below(8)
        if step < 3:
            shell.control(peer, user, frame_of(draw, _OF_ROLE[user.role]))
        elif step == 3:
            shell.control(peer, user, frame_of(draw, _TO_SINK))
        elif step < 6:
            shell.results(user, results_frame(draw, shell))
        elif step == 6:
            _join_again(draw, shell, peer, user)
        elif step == 7:
            _record(draw, shell)
        elif step == 8:
            shell.pass_time(draw.pick((0.0, 1.0, 3.0, 6.0, 60.0)))
        else:
            gone = draw.below(len(USERS))
            left = {key: each for key, each in ROSTER.items() if each != USERS[gone]}
            shell.perform(shell.rules.roster_changed(shell.now, draw.pick((ROSTER, left))))
        # Memory goes by connections, not by what is said over them.
        assert shell.rules.inspect().worker_count <= len(shell.peers)
    shell.finish()


def quarantine(argument: bytes) -> Quarantine:
    """The word that a task with this argument is given up."""
    return Quarantine("job", 3, 1, "ada", 2, Raw(argument))
