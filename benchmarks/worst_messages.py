"""The worst messages that an enrolled worker can send to the sink: how long each keeps it, and the memory it takes.

    python -m benchmarks.worst_messages [CASE]

Each case is a message of about 15 MiB, in a process of its own. The rules of the sink take it and commit what it
brings; seconds are those of the processor, so that other programs do not count.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.msgpack import Ext, encode

from common.errors import ProtocolError
from common.protocol.codec import encode as encode_message
from common.protocol.codec import split_results, ticket
from common.protocol.messages import PROTOCOL_VERSION, Hello, Open, Results
from common.protocol.users import User
from common.protocol.values import JSON_EXT
from common.sink.collector import Collector
from common.sink.settings import CollectorSettings
from common.sink.sqlite_ledger import Ledger

SIZE = 15 * 1024 * 1024
WORKER, VENTILATOR = User("worker", "ada", "A" * 40), User("ventilator", "vera", "V" * 40)


def array(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


def json_text(text: bytes) -> bytes:
    return b"\x91" + encode(Ext(JSON_EXT, text))


class Message:
    """Makes results for a job, with right tickets."""

    def __init__(self, ticket_key: bytes) -> None:
        self._key = ticket_key

    def __call__(self, values: bytes, count: int = 1, errors: bytes = b"\x90", exact: bytes = b"\x90") -> bytes:
        """One message of `count` tasks, as what is sent: an array."""
        return array(1) + self.item(values, count, 0, errors, exact)

    def item(self, values: bytes, count: int, first: int, errors: bytes = b"\x90", exact: bytes = b"\x90") -> bytes:
        seconds = encode([0.1] * count)
        outcomes = b"\x84\xa6values" + values + b"\xa7seconds" + seconds + b"\xa6errors" + errors + b"\xa5exact" + exact
        seal = ticket(self._key, first, count, 1)
        return encode_message(Results("job", "ada", first, first, count, (first, count, 1), seal, outcomes))

    def with_equal_keys(self) -> bytes:
        fields = self.item(b"\x91\x01", 1, 0)
        count = SIZE // 105
        return (
            array(1) + b"\xdf" + (count + 10).to_bytes(4, "big") + encode({"job": "a" * 100})[1:] * count + fields[1:]
        )


CASES: dict[str, Callable[[Message], bytes]] = {
    "one value of 15 million empty arrays": lambda made: made(b"\x91" + array(SIZE) + b"\x90" * SIZE),
    "15 million values for one task": lambda made: made(array(SIZE) + b"\x90" * SIZE),
    "JSON of empty arrays": lambda made: made(json_text(b"[" + b"[]," * (SIZE // 3) + b"1]")),
    "JSON of numbers": lambda made: made(json_text(b"[" + b"1," * (SIZE // 2) + b"1]")),
    "JSON that is nested 15 million times": lambda made: made(json_text(b"[" * SIZE)),
    "one text": lambda made: made(b"\x91" + encode("a" * SIZE)),
    "one exact value": lambda made: made(b"\x91\x01", exact=encode([(0, bytes(SIZE))])),
    "100,000 texts": lambda made: made(encode(["x" * 130] * 100_000), 100_000),
    "100,000 errors": lambda made: made(
        encode([None] * 100_000), 100_000, encode([(at, "e" * 120, False) for at in range(100_000)])
    ),
    "the same field 150,000 times": Message.with_equal_keys,
    "15 million maps": lambda made: array(SIZE) + b"\x80" * SIZE,
    "1,000 maps of unknown fields": lambda made: (
        array(1_000) + (b"\xdf" + (SIZE // 3_000).to_bytes(4, "big") + b"\xa1a\xc0" * (SIZE // 3_000)) * 1_000
    ),
    "1,000 messages of 100 texts": lambda made: (
        array(1_000) + b"".join(made.item(encode(["x" * 130] * 100), 100, 100 * at) for at in range(1_000))
    ),
}


def _memory_mb(what: str) -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) / 1000


def measure(case: str, folder: str) -> str:
    """One row of the table."""
    ledger = Ledger(str(Path(folder) / "results.db"))
    sink = Collector(0.0, CollectorSettings(), ledger, "run", {user.key: user for user in (WORKER, VENTILATOR)})
    sink.receive(0.0, b"v", VENTILATOR, "", Hello(PROTOCOL_VERSION, "ventilator", "vera"))
    sink.receive(0.0, b"v", VENTILATOR, "", Open("job", "m:f", "range", 5557, 0, False, False))
    job = ledger.job("job")
    assert job is not None
    content = CASES[case](Message(job.ticket_key))
    Path("/proc/self/clear_refs").write_text("5")  # Begins the peak anew.
    memory_mb, began = _memory_mb("VmRSS"), time.process_time()
    try:
        for results in split_results(content):
            sink.results(WORKER, results)
        sink.flush(0.0)
    except ProtocolError as error:
        sink.malformed(WORKER, "results", error)
    seconds = time.process_time() - began
    [(count,)] = ledger.inspect("SELECT count(*) FROM results")
    ledger.close()
    return f"| {case} | {seconds:.2f} s | {_memory_mb('VmHWM') - memory_mb:.0f} MB | {count:,} |"


def main() -> None:
    """The table, or one row."""
    if sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(sys.argv[1], folder))
        return
    print("| what is in it | seconds | memory | rows |\n| --- | --- | --- | --- |", flush=True)
    for case in CASES:
        subprocess.run([sys.executable, "-m", "benchmarks.worst_messages", case], check=True)


if __name__ == "__main__":
    main()
