"""Log lines: what they look like, and that nobody waits for their reader."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator

import pytest

from common.log_writer import WAITING_BYTES_MAX, LineFormatter, LogFormat, LogHandler, LogWriter

LONG = "x" * 999


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    try:
        yield ours, theirs
    finally:
        for descriptor in (ours, theirs):
            try:
                os.close(descriptor)
            except OSError:
                pass


def record(text: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("", level, "", 0, text, arguments, None)
    made.created, made.msecs = 1_795_675_234.5, 500.0
    return made


def test_a_line_has_date_level_and_role() -> None:
    line = LineFormatter("sink", LogFormat.text).format(record("%s has left", "a\x1b"))
    assert line == "2026-11-26T06:40:34Z INFO sink: a\\x1b has left"


def test_a_json_line_has_the_same_in_fields() -> None:
    line = LineFormatter("worker", LogFormat.json).format(record("a\x1b\x7f\n\u202eb", level=logging.WARNING))
    assert line.isprintable()
    assert json.loads(line) == {
        "time": "2026-11-26T06:40:34.500Z", "level": "warning", "role": "worker", "message": "a\x1b\x7f\n\u202eb",
    }  # fmt: skip


@pytest.mark.parametrize("kind", LogFormat)
def test_lines_that_nobody_reads_are_counted_and_the_writer_goes_on(kind: LogFormat, pipe: tuple[int, int]) -> None:
    handler = LogHandler("sink", kind, pipe[1], "ascii")
    for _ in range(3 * WAITING_BYTES_MAX // len(LONG)):
        handler.handle(record(f"{LONG}ä"))
    handler.writer.show("12%")
    handler.writer.close(0)
    handler.close()
    os.set_blocking(pipe[0], False)
    got = b""
    ends_at = time.monotonic() + 30
    while not (count := re.search(rb"(\d+) log lines were dropped here, because nobody read the log", got)):
        assert time.monotonic() < ends_at
        try:
            got += os.read(pipe[0], 1_000_000)
        except BlockingIOError:
            time.sleep(0.001)
    assert got.count(LONG.encode()) + int(count[1]) == 3 * WAITING_BYTES_MAX // len(LONG)
    assert rb"\xe4" in got if kind is LogFormat.text else rb"\u00e4" in got


def test_the_end_waits_for_the_last_lines_but_not_for_ever(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], "utf-8", str)
    writer.write("last")
    writer.close()
    assert os.read(pipe[0], 100) == b"last\n"
    stuck = LogWriter(pipe[1], "utf-8", str)
    stuck.write("x" * 200_000)
    began_at = time.monotonic()
    stuck.close(0.05)
    assert time.monotonic() - began_at >= 0.05


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LogWriter(pipe[1], "utf-8", str)
    for _ in range(3):
        writer.write("unread")
    writer.close(30)
    writer.write("later")


def test_the_status_stands_below_the_last_line(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], "utf-8", str)
    seen = b""

    def wait_for(more: bytes) -> None:
        nonlocal seen
        while not seen.endswith(more):
            seen += os.read(pipe[0], 1000)

    writer.show("1/3")
    wait_for(b"1/3\r")
    writer.write("a line")
    wait_for(b"a line\n1/3\r")
    writer.show("2/3")
    wait_for(b"2/3\r")
    writer.close()
    wait_for(b"\r\x1b[K")
    assert seen == b"1/3\r\r\x1b[Ka line\n1/3\r\r\x1b[K2/3\r\r\x1b[K"
