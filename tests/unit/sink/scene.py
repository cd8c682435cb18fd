"""A sink's rules with a ledger and a clock to set, and how to read what they answer."""

import itertools
from typing import Any

import msgspec

from common.log_line import LogLine
from common.protocol.codec import ticket
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Ask,
    Beat,
    Hello,
    Message,
    Offer,
    Open,
    Results,
    ToSink,
)
from common.protocol.users import User
from common.sink.collector import Collector
from common.sink.outputs import Output, Send
from common.sink.settings import CollectorSettings
from common.sink.sqlite_ledger import Ledger
from tests.unit.builders import results

ADA = User("worker", "ada", "A" * 40)
BOB = User("worker", "bob", "B" * 40)
VERA = User("ventilator", "vera", "V" * 40)
VITO = User("ventilator", "vito", "W" * 40)
MAX = User("ventilator", "max", "X" * 40)
OLGA = User("observer", "olga", "O" * 40)
ROSTER = {user.key: user for user in (ADA, BOB, VERA, VITO, MAX, OLGA)}
SETTINGS = CollectorSettings()
TIMING = SETTINGS.timing
SQUARE, CUBE = "tasks:square", "tasks:cube"
OPEN = Open("job", SQUARE, "lines of text", 5557, 0, False, False)
REOPEN = msgspec.structs.replace(OPEN, reopens=True)
BEAT = Beat(serial=3, slots=2, prefetch=1, held={}, started={})


class Scene:
    """A sink's rules with a ledger, a clock to set, and people who are connected under their own names."""

    def __init__(self, path: str) -> None:
        self.now = 1_000.0
        self.path = path
        self.ledger = Ledger(path)
        self.sink = Collector(0.0, SETTINGS, self.ledger, "run", ROSTER)
        self.host = "10.0.0.1"
        self.serials = itertools.count()

    def send(self, user: User, message: ToSink, peer: bytes | None = None) -> list[Output]:
        return self.sink.receive(self.now, peer or user.name.encode(), user, self.host, message)

    def hello(self, user: User, peer: bytes | None = None, name: str | None = None) -> list[Output]:
        return self.send(user, Hello(PROTOCOL_VERSION, user.role, name or user.name), peer)

    def worker(self, user: User = ADA, functions: tuple[str, ...] = (SQUARE,), beat: Beat = BEAT) -> list[Output]:
        self.hello(user)
        return [*self.send(user, Offer(list(functions))), *self.send(user, beat)]

    def ventilator(self, user: User = VERA, job: str = "job", function: str = SQUARE) -> list[Output]:
        self.hello(user)
        return self.send(user, Open(job, function, "lines of text", 5557, 0, False, False))

    def batch(self, values: list[Any], first: int = 0, job: str = "job", **fields: Any) -> Results:
        """Results that a worker who was pushed this batch would send."""
        found = self.ledger.job(job)
        assert found is not None
        seal = ticket(found.ticket_key, first, len(values), 1)
        return results(values, first, job=job, serial=next(self.serials), **({"ticket": seal} | fields))

    def deliver(self, *batches: Results, user: User = ADA) -> list[Output]:
        return [output for batch in batches for output in self.sink.results(user, batch)]

    def pass_time(self, seconds: float, *alive: User) -> list[Output]:
        """Let time go by in steps of a beat, each of `alive` heard at every step."""
        outputs: list[Output] = []
        ends_at = self.now + seconds
        while self.now < ends_at:
            self.now = min(ends_at, self.now + TIMING.beat_s)
            for user in alive:
                outputs += self.send(user, BEAT if user.role == "worker" else Ask("job", 0, False))
            outputs += self.sink.tick(self.now)
        return outputs

    def row_count(self) -> int:
        return int(self.ledger.inspect("SELECT count(*) FROM results")[0][0])

    def fill_disk(self) -> None:
        (pages,) = self.ledger._db.execute("PRAGMA page_count").fetchone()
        self.ledger._db.execute(f"PRAGMA max_page_count={pages}")

    def free_disk(self) -> None:
        self.ledger._db.execute(f"PRAGMA max_page_count={2**30}")


def to(user: User | bytes, outputs: list[Output]) -> list[Message]:
    peer = user if isinstance(user, bytes) else user.name.encode()
    return [output.message for output in outputs if isinstance(output, Send) and output.peer == peer]


def of(kind: type[Message], outputs: list[Output]) -> list[tuple[bytes, Message]]:
    return [(each.peer, each.message) for each in outputs if isinstance(each, Send) and isinstance(each.message, kind)]


def said(outputs: list[Output]) -> list[str]:
    return [output.text for output in outputs if isinstance(output, LogLine)]


def levels(outputs: list[Output]) -> list[str]:
    return [output.level for output in outputs if isinstance(output, LogLine)]
