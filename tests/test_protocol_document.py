"""`docs/PROTOCOL.md` says what the code does: its tables, numbers and examples are compared with it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import msgspec
import pytest
import zmq
from msgspec.msgpack import Ext
from zmq.utils.monitor import recv_monitor_message

from common.errors import ProtocolError
from common.protocol import codec, explaining, fields, messages, reports, settings
from common.protocol.fields import Message
from common.protocol.handshake import Handshake
from common.protocol.messages import Batch, Results
from common.protocol.sink_turns import SinkTurns
from common.protocol.values import JSON_EXT
from common.sink import headline, reads
from common.sink.relay import BYTES_OF_A_KEY_MAX
from common.sink.rows import recording
from common.sink.settings import CollectorSettings
from common.transport import doorstep, sockets
from common.transport.key_files import Certificate
from common.transport.zap import ADMITTED, ZapHandler
from common.ventilator.dialog import Dialog
from common.ventilator.settings import DispatchSettings
from common.worker.settings import HoldingSettings
from tests import smallest_worker
from tests.conftest import TOP

DOCUMENT = (TOP / "docs" / "PROTOCOL.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
MESSAGES = {
    kind.__struct_config__.tag: kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
FROM_SINK = {kind.__struct_config__.tag for kind in messages.FromSink.__args__}

MESSAGE_BYTES_MAX = settings.MESSAGE_BYTES_MAX + settings.ENVELOPE_BYTES - settings.CURVE_BYTES
"""Of a message to whoever connects, which is a single frame. Tried below on real sockets."""
PATIENCE_MS = 30_000
WORDS = {"second": "1", "twice": "2", "five": "5"}
RULES = re.search(r"^# -- the rules -+\n(.*?)^# -- ", (TOP / "tests/smallest_worker.py").read_text(), re.M | re.S)

Maker = Callable[[zmq.Context[Any], Certificate], zmq.Socket[bytes]]


def sockets_of(side: str) -> list[Maker]:
    """The makers of sockets that bind, that connect, or all."""
    bind: list[Maker] = [
        sockets.control_server,
        sockets.results_server,
        sockets.tasks_server,
        sockets.relay_server,
    ]
    connect: list[Maker] = [
        sockets.control_client,
        sockets.results_client,
        sockets.tasks_client,
        sockets.relay_client,
    ]
    return {"bind": bind, "connect": connect, "all": bind + connect}[side]


WRITTEN: dict[str, Callable[[Any], Any]] = {
    "hex": bytes.fromhex,
    "packed": lambda value: msgspec.msgpack.encode(unhex(value)),
    "json": lambda text: Ext(JSON_EXT, text.encode()),
}


def unhex(value: Any) -> Any:
    """An example's JSON with {"hex": ...}, {"packed": ...} and {"json": ...} as what they stand for."""
    if isinstance(value, dict):
        [key, *others] = value
        if key in WRITTEN and not others:
            return WRITTEN[key](value[key])
        return {key: unhex(each) for key, each in value.items()}
    return [unhex(each) for each in value] if isinstance(value, list) else value


def decode(name: str, frame: bytes) -> Message:
    if MESSAGES[name] is Batch:
        return codec.decode_batch(frame)
    if MESSAGES[name] is Results:
        results = codec.decode_results(frame)
        outcomes = codec.decode_outcomes(results)
        assert msgspec.msgpack.encode(outcomes) == results.outcomes
        recording(results)
        return results
    return codec.decode_from_sink(frame) if name in FROM_SINK else codec.decode_to_sink(frame)


def test_every_message_has_its_section_and_no_other() -> None:
    assert SECTIONS.keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_the_fields_are_those_of_the_code(name: str) -> None:
    described = re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)
    assert tuple(described) == MESSAGES[name].__struct_fields__


@pytest.mark.parametrize("name", MESSAGES)
def test_the_example_is_decoded_and_encoded_again(name: str) -> None:
    [example] = re.findall(r"```message\n(.*?)\n```", SECTIONS[name], re.DOTALL)
    content = unhex(json.loads(example))
    message = decode(name, msgspec.msgpack.encode(content))
    assert type(message) is MESSAGES[name]
    assert msgspec.msgpack.decode(codec.encode(message)) == content


def test_the_timing_table() -> None:
    table = DOCUMENT.split("\n## Timing\n")[1].split("\n## ")[0]
    rows = {name: float(value) for name, value in re.findall(r"^\| (\w+_s) \| ([\d.]+) \|", table, re.MULTILINE)}
    assert rows == asdict(settings.Timing())


def bounds(field: Any) -> tuple[Any, ...]:
    """The `Meta` values of an annotated type: its greatest value or length."""
    [meta] = field.__metadata__
    return tuple(value for value in (meta.le, meta.max_length) if value is not None)


def field(kind: type[Message], name: str) -> Any:
    return kind.__annotations__[name]


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("characters of a name", fields.Name),
        ("characters of a function", fields.Function),
        ("functions in `offer`", field(messages.Offer, "functions")),
        ("characters of `source`", field(messages.Open, "source")),
        ("`slots`, `prefetch`", fields.Slots),
        ("`slots`, `prefetch`", fields.Prefetch),
        ("tasks in a batch", fields.BatchCount),
        ("`attempt`", fields.Attempt),
        ("`retries`", field(messages.Open, "retries")),
        ("seconds", fields.Seconds),
        ("characters of one error", fields.Text),
    ],
)
def test_the_limits(limit: str, kind: Any) -> None:
    [said] = re.findall(rf"^\| {re.escape(limit)} \| ([\d,]+) \|$", DOCUMENT, re.MULTILINE)
    assert bounds(kind) == (int(said.replace(",", "")),)


@pytest.mark.parametrize(
    ("option", "makers", "values"),
    [
        ("MAXMSGSIZE", sockets_of("connect"), ["maxmsgsize"]),
        ("MAXMSGSIZE", sockets_of("bind"), ["maxmsgsize"]),
        ("HANDSHAKE_IVL", sockets_of("connect"), ["handshake_ivl"]),
        ("HANDSHAKE_IVL", sockets_of("bind"), ["handshake_ivl"]),
        ("CONNECT_TIMEOUT", sockets_of("connect"), ["connect_timeout", "reconnect_ivl", "reconnect_ivl_max"]),
        ("BACKLOG", sockets_of("bind"), ["backlog"]),
        ("RCVHWM", sockets_of("all"), ["rcvhwm"]),
    ],
)
def test_the_socket_options(option: str, makers: list[Maker], values: list[str]) -> None:
    [said] = re.findall(rf"^\| `{option}`[^|]*\| ([^|]*) \|", DOCUMENT, re.MULTILINE)
    if "; bind: " in said:
        said = said.split("; ")[makers == sockets_of("bind")]
    public, secret = zmq.curve_keypair()
    pair = Certificate(TOP, public.decode(), secret.decode(), sink_key=public.decode())
    with zmq.Context() as context:
        for maker in makers:
            with maker(context, pair) as made:
                assert [getattr(made, value) for value in values] == [int(each) for each in re.findall(r"\d+", said)]


OPTIONS = {
    ("IMMEDIATE", "required"): {"results_client": 0},
    ("IMMEDIATE", "advice"): {"control_client": 1, "relay_client": 1},
    ("SNDHWM", "required"): {"results_client": 0},
    ("SNDHWM", "advice"): {
        "tasks_server": 64,
        "relay_client": 64,
        "control_client": 10_000,
        "control_server": 10_000,
    },
    ("SNDBUF", "advice"): {"tasks_server": 262_144},
    ("LINGER", "advice"): {
        "control_client": 500,
        "control_server": 500,
        **dict.fromkeys(("results_client", "results_server", "tasks_client", "tasks_server"), 0),
        **dict.fromkeys(("relay_client", "relay_server"), 0),
    },
    ("TCP_MAXRT", "advice"): dict.fromkeys(
        ("control_client", "results_client", "tasks_client", "tasks_server", "relay_client"), 5_000
    ),
    ("IPV6", "required"): dict.fromkeys((maker.__name__ for maker in sockets_of("all")), 1),
}
"""By option and table: the sockets that the row is about, and what they have."""


@pytest.fixture
def made() -> Iterator[dict[str, zmq.Socket[bytes]]]:
    public, secret = zmq.curve_keypair()
    pair = Certificate(TOP, public.decode(), secret.decode(), sink_key=public.decode())
    with zmq.Context() as context:
        found = {maker.__name__: maker(context, pair) for maker in sockets_of("all")}
        yield found
        for each in found.values():
            each.close(0)


def row(option: str, table: str) -> str:
    [rows] = re.findall(rf"^\*\*{table}\.\*\*.*?\n\n(.*?)\n\n", DOCUMENT, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    [value] = re.findall(rf"^\| `{option}`[^|]*\| ([^|]*) \|", rows, re.MULTILINE)
    return value


@pytest.mark.parametrize(("option", "table"), OPTIONS)
def test_what_is_set_on_some_sockets_only(option: str, table: str, made: dict[str, zmq.Socket[bytes]]) -> None:
    said = OPTIONS[option, table]
    number = getattr(zmq, option)
    assert {name: made[name].get(number) for name in said} == said
    assert set(map(int, re.findall(r"\d+", row(option, table)))) == set(said.values())
    unset = zmq.Context.instance().socket(zmq.DEALER)
    if option in ("SNDBUF", "TCP_MAXRT"):
        assert {each.get(number) for name, each in made.items() if name not in said} == {unset.get(number)}
    unset.close()


def test_what_is_never_set_is_not(made: dict[str, zmq.Socket[bytes]]) -> None:
    assert {each.get(zmq.ROUTING_ID) for each in made.values()} == {b""}
    assert row("ROUTING_ID", "required") == row("HEARTBEAT_IVL", "required") == "never set"
    assert {each.get(zmq.HEARTBEAT_IVL) for each in made.values()} == {0}
    assert {each.get(zmq.HEARTBEAT_TTL) for each in made.values()} == {0}


def test_keepalive(made: dict[str, zmq.Socket[bytes]]) -> None:
    said = tuple(map(int, row("TCP_KEEPALIVE", "advice").split(", ")))
    options = [zmq.TCP_KEEPALIVE, zmq.TCP_KEEPALIVE_IDLE, zmq.TCP_KEEPALIVE_INTVL, zmq.TCP_KEEPALIVE_CNT]
    assert {tuple(each.get(option) for option in options) for each in made.values()} == {said}


def test_addresses_of_both_families() -> None:
    said = re.findall(r"`(tcp://\[[^`]*)`", DOCUMENT)
    assert said == [sockets.endpoint("2001:db8::7", 5557)]


@pytest.mark.parametrize("link", ["control", "results", "relay", "tasks"])
def test_the_largest_frame(link: str) -> None:
    """On real CURVE sockets: it passes, and one byte more ends the connection."""
    pair, server_pair = curve_pair(), curve_pair()
    pair = replace(pair, sink_key=server_pair.public)
    with zmq.Context() as context:
        zap = ZapHandler(context, lambda *_: ADMITTED, lambda *_: None)
        server: zmq.Socket[bytes] = getattr(sockets, f"{link}_server")(context, server_pair)
        port = sockets.bind(server, "127.0.0.1", 0, "--port")
        client: zmq.Socket[bytes] = getattr(sockets, f"{link}_client")(context, pair)
        watch = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        client.connect(sockets.endpoint("127.0.0.1", port))
        assert zap.socket.poll(PATIENCE_MS)
        zap.answer()
        assert recv_monitor_message(watch)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        sender, receiver = (server, client) if link == "tasks" else (client, server)
        bytes_max = MESSAGE_BYTES_MAX if link == "tasks" else settings.FRAME_BYTES_MAX
        sender.send(bytes(bytes_max))
        assert receiver.poll(PATIENCE_MS)
        assert [len(frame) for frame in receiver.recv_multipart()][-1] == bytes_max
        sender.send(bytes(bytes_max + 1))
        sender.send(b"behind it")
        assert watch.poll(PATIENCE_MS)
        assert recv_monitor_message(watch)["event"] == zmq.EVENT_DISCONNECTED
        # A client that has sent it connects again, one that was to receive it does not.
        assert bool(zap.socket.poll(3_000)) == (link != "tasks")
        assert not receiver.poll(0)
        client.disable_monitor()
        for each in (watch, client, server):
            each.close(0)
        zap.close()


def curve_pair() -> Certificate:
    public, secret = zmq.curve_keypair()
    return Certificate(TOP, public.decode(), secret.decode(), sink_key=public.decode())


# -- values -------------------------------------------------------------------------------------------------------


def recorded(value: bytes) -> str:
    """What the sink makes of a task's encoded value: recorded, or failed; or its worker's outcomes are lost."""
    outcomes = b"\x83\xa6values\x91" + value + b"\xa7seconds\x91\x00\xa6errors\x90"
    results = Results("j", "w", 1, 0, 1, (0, 1, 1), bytes(16), outcomes)
    [decoded] = codec.split_results(codec.join_results([codec.encode(results)]))
    assert isinstance(decoded, Results)
    try:
        return "failed" if recording(decoded).errors else "recorded"
    except ProtocolError:
        return "all failed"


def json_text(text: bytes) -> bytes:
    return msgspec.msgpack.encode(Ext(JSON_EXT, text))


def batch_of(argument: bytes) -> bytes:
    encoded = msgspec.Raw(b"\x91" + argument)
    return codec.encode(Batch("j", "m:f", 0, 1, 1, bytes(16), None, False, False, encoded))


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (
            "integers | -2^63 to 2^64 - 1",
            {-(2**63): "recorded", 2**64 - 1: "recorded", json_text(b"9" * 99): "recorded"},
        ),
        ("text | valid UTF-8", {b"\xa1\xff": "failed", b"\xa3\xed\xa0\x80": "failed", "é\0": "recorded"}),
        ("floats | 64 or 32 bits", {b"\xca\x3f\x80\x00\x00": "recorded", 1.5: "recorded", float("nan"): "recorded"}),
        ("arrays and maps | as JSON text", {json_text(b"[{}]"): "recorded", b"\x90": "failed", b"\x80": "failed"}),
        ("other extension types | none", {b"\xd4\x05\x00": "failed"}),
    ],
)
def test_what_can_be_recorded(line: str, values: dict[Any, str]) -> None:
    assert f"| {line}" in DOCUMENT
    encoded = {value: value if isinstance(value, bytes) else msgspec.msgpack.encode(value) for value in values}
    assert {value: recorded(encoded[value]) for value in values} == values


@pytest.mark.parametrize(("head", "end"), [(b"\x91", b""), (b"\x81\xa1k", b""), (b"[", b"]"), (b'{"k":', b"}")])
def test_how_deep_a_value_may_be(head: bytes, end: bytes) -> None:
    [levels] = re.findall(r"^\| nesting \| (\d+) levels", DOCUMENT, re.MULTILINE)
    if end:
        assert recorded(json_text(head * int(levels) + b"1" + end * int(levels))) == "recorded"
        assert recorded(json_text(head * 1_000 + b"1" + end * 1_000)) == "failed"
        return
    decoded = codec.decode_batch(batch_of(head * int(levels) + b"\x01"))
    assert codec.slice_arguments(decoded.arguments, 0, 1)
    with pytest.raises(ProtocolError):
        codec.decode_batch(batch_of(head * 1_000 + b"\x01"))


# -- the smallest worker ------------------------------------------------------------------------------------------


def test_the_smallest_worker_is_the_one_that_is_run() -> None:
    """Its rules in the document are those of the file, which `tests/test_smallest_worker.py` runs."""
    [shown] = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert RULES is not None
    assert shown == RULES[1].strip("\n") + "\n"


def test_the_smallest_worker_goes_by_the_same_numbers() -> None:
    timing = settings.Timing()
    assert smallest_worker.VERSION == fields.PROTOCOL_VERSION
    assert (timing.beat_s, timing.beat_soon_s) == (smallest_worker.BEAT_S, smallest_worker.SOON_S)
    assert (timing.resend_s, timing.resend_max_s) == (smallest_worker.RESEND_S, smallest_worker.RESEND_MAX_S)
    assert (Handshake._GREET_S, HoldingSettings(1, 0).grace_s) == (smallest_worker.HELLO_S, smallest_worker.GRACE_S)
    assert smallest_worker.VALUE_BYTES_MAX == settings.MESSAGE_BYTES_MAX
    assert smallest_worker.FRAME_BYTES_MAX == settings.FRAME_BYTES_MAX


def test_the_key_file() -> None:
    pair = dict(re.findall(r'^ +(\w+)-key = "(.{40})"$', DOCUMENT, re.MULTILINE))
    assert zmq.curve_public(pair["secret"].encode()).decode() == pair["public"]


def test_the_ticket_vector() -> None:
    key, text, ticket = re.search(r"\| ([0-9a-f]{64}) \| `([\d ]+)` \| ([0-9a-f]{32}) \|", DOCUMENT).groups()  # type: ignore[union-attr]
    assert codec.ticket(bytes.fromhex(key), *map(int, text.split())).hex() == ticket


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r"^Version (\d+)\.", fields.PROTOCOL_VERSION),
        (r"\| tasks \|.*?\| (\d{4}) \|", settings.TASKS_PORT),
        (r"\| results \|.*?\| (\d{4}) \|", settings.RESULTS_PORT),
        (r"\| control \|.*?\| (\d{4}) \|", settings.CONTROL_PORT),
        (r"at most (\d+) bytes\s*\(16 MiB\)", settings.MESSAGE_BYTES_MAX),
        (r"which is (\d+) \+ \d+", settings.MESSAGE_BYTES_MAX),
        (r"which is \d+ \+ (\d+)", settings.ENVELOPE_BYTES),
        (r"a message, everything included \| at most (\d+)", MESSAGE_BYTES_MAX),
        (r"a frame to the sink \| at most (\d+)", settings.FRAME_BYTES_MAX),
        (r"link, a frame has at\s+most (\d+) bytes", settings.FRAME_BYTES_MAX),
        (r"larger than (\d+) bytes into frames", settings.FRAME_BYTES_MAX),
        (r"At most (\d+) frames make a message", sockets.Inbox.FRAMES_MAX),
        (r"\| int, 1 to ([\d,]+) \| how many tasks", fields.BATCH_TASKS_MAX),
        (r"at once the first (\d+) times", DispatchSettings().returns_free),
        (r"split it \(into up to (\d+)", DispatchSettings().split_parts),
        (r"on (\d+) workers that died is given up", DispatchSettings().quarantine_after),
        (r"after (\d+) s, doubling up to", DispatchSettings().retry_wait_s),
        (r"doubling up to (\d+) s", DispatchSettings().retry_wait_max_s),
        (r"holds about (\d+) ms of work", DispatchSettings().batch_s * 1000),
        (r"take less than (\d+) ms a worker may raise", HoldingSettings(1, 0).short_s * 1000),
        (r"its `prefetch` to about (\d+) ms of work", HoldingSettings(1, 0).prefetch_s * 1000),
        (r"batches that take less than (\d+) ms: keeping", DispatchSettings().short_s * 1000),
        (r"dry \(nothing more to read now\) for ([\d.]+) s on end", settings.Timing().beat_soon_s),
        (r"no receipt has come for ([\d.]+) s say it of these", settings.Timing().beat_soon_s),
        (r"at most (\d+) tasks and 1 MiB", DispatchSettings().batch_tasks_max),
        (r"one place free for each (five) workers", DispatchSettings().one_free_in),
        (r"pushed at least (\d+) ms", DispatchSettings().straggler_s * 1000),
        (r"and (twice) the mean run time", DispatchSettings().straggler_factor),
        (r"at most (\d+) times a second", 1 / (settings.Timing().beat_s / 4)),
        (r"and again each (\d+) s until\s+`opened`", Dialog._REPEAT_S),
        (r"and again each (\d+) s until `closed`", Dialog._REPEAT_S),
        (r"repeat it after (\d+) s without an answer", settings.Timing().silence_s),
        (r"and again every ([\d.]+) s until `welcome`", Handshake._GREET_S),
        (r"each ([\d.]+) s until `welcome`", Handshake._GREET_S),
        (r"no `welcome` within ([\d.]+) s", SinkTurns._PATIENCE_S),
        (r"\((\d+) s once all were tried\)", SinkTurns._LATER_PATIENCE_S),
        (r"the sink does not answer for (\d+) s", settings.Timing().gone_s),
        (r"Try all of them\s+(twice) a second", 1 / SinkTurns._ROUND_S),
        (r"Send a beat each (second)", settings.Timing().beat_s),
        (r"no more often than each ([\d.]+) s", settings.Timing().beat_soon_s),
        (r"silent for (\d+) s is lost", settings.Timing().gone_s),
        (r"(\d+) s after it was sent, then 20 s, 40 s", settings.Timing().resend_s),
        (r"40 s and each (\d+) s after that", settings.Timing().resend_max_s),
        (r"a grace period \((\d+) s in Tradewind\)", HoldingSettings(1, 0).grace_s),
        (r"has a lease of (\d+) s", settings.Timing().lease_s),
        (r"waits no longer than ([\d.]+) s more", settings.Timing().unnamed_s),
        (r"the first (\d+) failed tasks", CollectorSettings().failures_shown),
        (r"a key (\d+) times a minute on each link", settings.HANDSHAKES_A_MINUTE_MAX),
        (r"is let in ([\d,]+) times a minute", settings.HANDSHAKES_A_MINUTE_MAX),
        (r"and comes within (\d+) s, or", doorstep.GREETING_S),
        (r"holds a claim for (\d+) s", doorstep.GREETING_S),
        (r"have not shown a key \((\d+) in a process", doorstep.WAITING_MAX),
        (r"`HANDSHAKE_IVL` \| connect: 5000; bind: (\d+)", doorstep.HANDSHAKE_S * 1000),
        (r"less (\d+) bytes of CURVE", settings.CURVE_BYTES),
        (r"maps in a message of the results link \| ([\d,]+) \|", fields.RESULTS_IN_FRAME_MAX),
        (r"an array of 1 to ([\d,]+) such maps", fields.RESULTS_IN_FRAME_MAX),
        (r"an extension of type (\d+)\. The ledger", JSON_EXT),
        (r"The first (\d+) lines there that are not blank", headline._MESSAGE_LINES),
        (r"at most (\d+) characters of that are shown", headline.HEADLINE_CHARACTERS_MAX),
        (r"Rows of a job: at most ([\d,]+) and", CollectorSettings().rows_page),
        (r"Rows of a job: at most [\d,]+ and at most (\d+) MiB", CollectorSettings().rows_page_bytes / 1024**2),
        (r"value and error are cut to ([\d,]+) characters", reads._CUT),
        (r"At most ([\d,]+) values and", CollectorSettings().values_page),
        (r"At most [\d,]+ values and at most (\d+) MiB", CollectorSettings().rows_page_bytes / 1024**2),
        (r"in which they were made, at most ([\d,]+)", CollectorSettings().jobs_page),
        (r"what its ventilator says\. Lists have at most (\d+)", explaining.NAMED_MAX),
        (r"`longest`: at most (\d+) arrays", reports.LONGEST_MAX),
        (r"`runs`: at most (\d+) arrays", reports.WORKER_JOBS_MAX),
    ],
)
def test_numbers(pattern: str, value: float) -> None:
    match = re.search(pattern.replace(" ", r"\s+"), DOCUMENT, re.MULTILINE)
    assert match, pattern
    assert float(WORDS.get(match[1], match[1].replace(",", ""))) == value


def test_what_the_relay_holds() -> None:
    [text] = re.findall(r"^The last two are the relay:.*?\n\n", DOCUMENT, re.MULTILINE | re.DOTALL)
    age_s, mebibytes = map(int, re.findall(r"\d+", text))
    assert age_s == settings.Timing().lease_s
    assert mebibytes * 1024 * 1024 == BYTES_OF_A_KEY_MAX
    ports = re.findall(r"^\| [\w, ]+ \| [^|]*PU[^|]* \| \w+ \| (\d+) \|", DOCUMENT, re.MULTILINE)
    assert list(map(int, ports)) == [
        settings.TASKS_PORT,
        settings.RESULTS_PORT,
        settings.RELAY_PORT,
        settings.RELAYED_TASKS_PORT,
    ]
