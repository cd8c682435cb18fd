"""`docs/PROTOCOL.md` says what the code does: its tables, numbers and examples are compared with it."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec
import pytest
import zmq

from common.protocol import codec, messages, settings
from common.protocol.messages import Batch, Message, Results
from common.transport import sockets
from common.transport.key_files import Certificate
from common.ventilator.settings import DispatchSettings
from tests.conftest import TOP

DOCUMENT = (TOP / "docs" / "PROTOCOL.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
MESSAGES = {
    kind.__struct_config__.tag: kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
FROM_SINK = {kind.__struct_config__.tag for kind in messages.FromSink.__args__}

Maker = Callable[[zmq.Context[Any], Certificate], zmq.Socket[bytes]]


def sockets_of(side: str) -> list[Maker]:
    """The makers of sockets that bind, that connect, or all."""
    bind: list[Maker] = [sockets.control_server, sockets.results_server, sockets.tasks_server]
    connect: list[Maker] = [sockets.control_client, sockets.results_client, sockets.tasks_client]
    return {"bind": bind, "connect": connect, "all": bind + connect}[side]


def unhex(value: Any) -> Any:
    """An example's JSON with {"hex": ...} as bytes."""
    if isinstance(value, dict):
        return (
            bytes.fromhex(value["hex"])
            if value.keys() == {"hex"}
            else {key: unhex(each) for key, each in value.items()}
        )
    return [unhex(each) for each in value] if isinstance(value, list) else value


def decode(name: str, frame: bytes) -> Message:
    if MESSAGES[name] is Batch:
        return codec.decode_batch(frame)
    if MESSAGES[name] is Results:
        results = codec.decode_results(frame)
        codec.decode_outcomes(results)
        return results
    return codec.decode_from_sink(frame) if name in FROM_SINK else codec.decode_to_sink(frame)


def test_every_message_has_its_section_and_no_other() -> None:
    assert SECTIONS.keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_the_fields_are_those_of_the_code(name: str) -> None:
    fields = re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)
    assert tuple(fields) == MESSAGES[name].__struct_fields__


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
        ("characters of a name", messages.Name),
        ("characters of a function", messages.Function),
        ("functions in `offer`", field(messages.Offer, "functions")),
        ("characters of `source`", field(messages.Open, "source")),
        ("`slots`, `prefetch`", messages.Slots),
        ("`slots`, `prefetch`", messages.Prefetch),
        ("tasks in a batch", messages.BatchCount),
        ("`attempt`", messages.Attempt),
        ("`retries`", field(messages.Open, "retries")),
        ("seconds", messages.Seconds),
        ("characters of one error", messages.Text),
    ],
)
def test_the_limits(limit: str, kind: Any) -> None:
    [said] = re.findall(rf"^\| {re.escape(limit)} \| ([\d,]+) \|$", DOCUMENT, re.MULTILINE)
    assert bounds(kind) == (int(said.replace(",", "")),)


@pytest.mark.parametrize(
    ("option", "makers", "values"),
    [
        ("MAXMSGSIZE", sockets_of("all"), ["maxmsgsize"]),
        ("HANDSHAKE_IVL", sockets_of("all"), ["handshake_ivl"]),
        ("CONNECT_TIMEOUT", sockets_of("connect"), ["connect_timeout", "reconnect_ivl", "reconnect_ivl_max"]),
        ("BACKLOG", sockets_of("bind"), ["backlog"]),
        ("RCVHWM", sockets_of("all"), ["rcvhwm"]),
    ],
)
def test_the_socket_options(option: str, makers: list[Maker], values: list[str]) -> None:
    [said] = re.findall(rf"^\| `{option}`[^|]*\| ([^|]*) \|", DOCUMENT, re.MULTILINE)
    public, secret = zmq.curve_keypair()
    pair = Certificate(TOP, public.decode(), secret.decode(), sink_key=public.decode())
    with zmq.Context() as context:
        for maker in makers:
            with maker(context, pair) as made:
                assert [getattr(made, value) for value in values] == [int(each) for each in re.findall(r"\d+", said)]


def test_the_key_file() -> None:
    pair = dict(re.findall(r'^ +(\w+)-key = "(.{40})"$', DOCUMENT, re.MULTILINE))
    assert zmq.curve_public(pair["secret"].encode()).decode() == pair["public"]


def test_the_ticket_vector() -> None:
    key, text, ticket = re.search(r"\| ([0-9a-f]{64}) \| `([\d ]+)` \| ([0-9a-f]{32}) \|", DOCUMENT).groups()  # type: ignore[union-attr]
    assert codec.ticket(bytes.fromhex(key), *map(int, text.split())).hex() == ticket


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r"^Version (\d+)\.", messages.PROTOCOL_VERSION),
        (r"\| tasks \|.*?\| (\d{4}) \|", settings.TASKS_PORT),
        (r"\| results \|.*?\| (\d{4}) \|", settings.RESULTS_PORT),
        (r"\| control \|.*?\| (\d{4}) \|", settings.CONTROL_PORT),
        (r"at most (\d+) bytes\s*\(16 MiB\)", settings.MESSAGE_BYTES_MAX),
        (r"a frame is at most (\d+) bytes more", settings.ENVELOPE_BYTES),
        (r"\| int, 1 to ([\d,]+) \| how many tasks", messages.BATCH_TASKS_MAX),
        (r"at once the first (\d+) times", DispatchSettings().returns_free),
        (r"split it \(into up to (\d+)", DispatchSettings().split_parts),
        (r"on (\d+) workers that died is given up", DispatchSettings().quarantine_after),
        (r"after (\d+) s, doubling up to", DispatchSettings().retry_wait_s),
        (r"doubling up to (\d+) s", DispatchSettings().retry_wait_max_s),
        (r"about (\d+) ms of work", DispatchSettings().batch_s * 1000),
        (r"at most (\d+) tasks and 1 MiB", DispatchSettings().batch_tasks_max),
    ],
)
def test_numbers(pattern: str, value: float) -> None:
    match = re.search(pattern, DOCUMENT, re.MULTILINE)
    assert match, pattern
    assert float(match[1].replace(",", "")) == value
