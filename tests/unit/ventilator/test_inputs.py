"""Inputs: each line a task, wrong lines named by number, and nothing that depends on how the bytes arrive."""

import hashlib
import io
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.errors import OperatorError
from common.ventilator import inputs
from common.ventilator.inputs import Input, LinesInput, RangeInput, open_input

BYTES_MAX = 1024 * 1024


class Pipe:
    """A pipe that is written to as the test likes, and the input that reads it."""

    def __init__(self, json: bool = False) -> None:
        read, self._write = os.pipe()
        self._file = os.fdopen(read, "rb")
        self.input = LinesInput(self._file, "standard input", json)

    def write(self, chunk: bytes) -> None:
        assert os.write(self._write, chunk) == len(chunk)

    def end(self) -> None:
        os.close(self._write)
        self._write = -1

    def close(self) -> None:
        self._file.close()
        if self._write >= 0:
            self.end()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def is_readable(source: Input) -> bool:
    descriptor = source.fileno()
    return descriptor is not None and bool(select.select([descriptor], [], [], 0)[0])


def take(source: Input, count: int = 1_000) -> list[Any]:
    taken, payload = source.take(count, BYTES_MAX)
    arguments = msgspec.msgpack.decode(payload)
    assert len(arguments) == taken
    return list(arguments)


def take_all(source: Input) -> list[Any]:
    arguments: list[Any] = []
    while not source.ended:
        if not source.available():
            source.fill()
        if source.available():
            arguments += take(source)
    return arguments


def file_input(folder: Path, content: bytes, name: str = "tasks.txt") -> Input:
    path = folder / name
    path.write_bytes(content)
    return open_input(str(path), None)


# -- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "tasks"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\nb\r", ["a", "b"]),
        (b"\n\na\n \t\r\n\nb\n\n", ["a", "b"]),
        (b"  a b  \n", ["  a b  "]),
        (b"a\0b\n'\"\\\n", ["a\0b", "'\"\\"]),
        ("grün\u2028x\n".encode(), ["grün\u2028x"]),
        (b"a\rb\n", ["a\rb"]),
    ],
    ids=repr,
)
def test_each_line_with_text_is_a_task(tmp_path: Path, content: bytes, tasks: list[str]) -> None:
    source = file_input(tmp_path, content)
    assert take_all(source) == tasks
    assert source.ended
    assert source.expected == len(tasks)
    assert source.mark()[0] == len(tasks)


def test_lines_of_a_jsonl_file_are_json(tmp_path: Path) -> None:
    source = file_input(tmp_path, b'1\n"a"\n\n{"b": [null, true]}\r\n2.5', "tasks.jsonl")
    assert source.source == "lines of JSON"
    assert take_all(source) == [1, "a", {"b": [None, True]}, 2.5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b"1\n\n{nope}\n", "t.jsonl:3: the line is not JSON"),
        ("t.jsonl", b"1\n2 3\n", "t.jsonl:2: the line is not JSON"),
        ("t.jsonl", b'"\xff"\n', "t.jsonl:1: the line is not UTF-8"),
        ("t.jsonl", b'\r\n"\\ud800"', "t.jsonl:2: the line is not JSON"),
        ("t.jsonl", b"NaN\n", "t.jsonl:1: the line is not JSON"),
        ("t.txt", b"a\n\nb\xe4\n", "t.txt:3: the line is not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_a_task_is_named_by_its_number(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    source = file_input(tmp_path, content, name)
    with pytest.raises(OperatorError, match=words) as error:
        take_all(source)
    assert "\n" not in str(error.value)


def test_the_tasks_before_a_wrong_line_can_be_taken(tmp_path: Path) -> None:
    source = file_input(tmp_path, b"1\n2\nnope\n", "t.jsonl")
    source.fill()
    assert take(source, 2) == [1, 2]
    with pytest.raises(OperatorError, match=r"t\.jsonl:3"):
        take(source)
    assert source.mark()[0] == 2


def test_a_take_stops_below_its_bytes_but_has_a_task_at_least(pipe: Pipe) -> None:
    pipe.write(b"aaaaaaaaaa\nbbbb\ncccc\ndddd\n")
    pipe.input.fill()
    counts = [pipe.input.take(1_000, 8)[0] for _ in range(3)]
    assert counts == [1, 2, 1]
    assert not pipe.input.available()


@pytest.fixture
def small_messages(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(inputs, "MESSAGE_BYTES_MAX", 1_000)
    return 1_000


def test_an_endless_line_is_given_up_with_its_number(small_messages: int, pipe: Pipe) -> None:
    pipe.write(b"a\nb\n" + b"x" * (small_messages + 1))
    with pytest.raises(OperatorError, match="standard input:3: the line is longer than the 1000 bytes"):
        pipe.input.fill()


def test_an_argument_too_large_for_a_message_is_named_by_its_task(small_messages: int, pipe: Pipe) -> None:
    pipe.write(b"\na\n" + b"x" * small_messages + b"\n")
    pipe.input.fill()
    assert take(pipe.input, 1) == ["a"]
    with pytest.raises(OperatorError, match="argument of task 1 has 1004 bytes, but a message holds 1000"):
        take(pipe.input, 1)


# -- how the bytes arrive -------------------------------------------------------------------------------------------


def test_reading_when_readable_never_blocks(pipe: Pipe) -> None:
    assert not is_readable(pipe.input)
    for chunk, available in ((b"a", False), (b"\n", True), (b"\n", False), (b"b\nc", True), (b"d", False)):
        pipe.write(chunk)
        assert is_readable(pipe.input)
        pipe.input.fill()
        assert pipe.input.available() is available
        if available:
            take(pipe.input)
        assert not is_readable(pipe.input)
        assert not pipe.input.ended
    pipe.end()
    assert is_readable(pipe.input)
    pipe.input.fill()
    assert take(pipe.input) == ["cd"]
    assert pipe.input.ended
    assert pipe.input.fileno() is None


def test_a_batch_can_be_waited_for_as_a_whole(pipe: Pipe) -> None:
    pipe.write(b"a\n")
    pipe.input.fill()
    assert (pipe.input.available(), pipe.input.available(3)) == (True, False)
    pipe.write(b"b\n")
    pipe.input.fill()
    assert (pipe.input.available(2), pipe.input.available(3)) == (True, False)
    pipe.end()
    pipe.input.fill()
    assert pipe.input.available(3), "there will be no more"
    assert take(pipe.input, 3) == ["a", "b"]
    assert not pipe.input.available(1)


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6).map(str.encode)


@given(lines=st.lists(LINE, max_size=12), last=st.booleans(), draw=st.data())
@example(lines=[b"a\r", b"", b"b"], last=False, draw=None)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_tasks_and_mark_do_not_depend_on_chunks_nor_on_how_they_are_taken(
    lines: list[bytes], last: bool, draw: st.DataObject | None
) -> None:
    content = b"\n".join(lines) + (b"\n" if last else b"")
    tasks = [line.removesuffix(b"\r") for line in content.split(b"\n") if line and not line.isspace()]
    pipe = Pipe()
    found: list[Any] = []
    at = 0
    ended = False
    while not pipe.input.ended:
        if not pipe.input.available():
            size = draw.draw(st.integers(1, 9)) if draw else 1
            if at < len(content):
                pipe.write(content[at : at + size])
                at += size
            elif not ended:
                ended = True
                pipe.end()
            pipe.input.fill()
        while pipe.input.available():
            count = draw.draw(st.integers(1, 4)) if draw else 1
            if draw and draw.draw(st.booleans()):
                found += [None] * pipe.input.skip(count)
            else:
                found += take(pipe.input, count)
    pipe.close()
    assert len(found) == len(tasks)
    assert all(task is None or task.encode() == line for task, line in zip(found, tasks, strict=True))
    digest = hashlib.blake2b(b"".join(line + b"\n" for line in tasks), digest_size=16).digest()
    assert pipe.input.mark() == (len(tasks), digest)


def test_another_text_has_another_mark() -> None:
    marks = set()
    for content in (b"a\nb\n", b"b\na\n", b"ab\n", b"a\n", b""):
        pipe = Pipe()
        pipe.write(content + b"\n")
        pipe.end()
        take_all(pipe.input)
        marks.add(pipe.input.mark()[1])
        pipe.close()
    assert len(marks) == 5


def test_the_length_of_a_file_is_guessed_and_that_of_a_pipe_is_not(tmp_path: Path, pipe: Pipe) -> None:
    source = file_input(tmp_path, b"line\n" * 200_000)
    assert source.expected is None
    source.fill()
    assert source.expected == pytest.approx(200_000, rel=0.01)
    pipe.write(b"line\n")
    pipe.input.fill()
    assert pipe.input.expected is None


# -- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "tasks"),
    [("0:3", [0, 1, 2]), ("3", [0, 1, 2]), ("5:7", [5, 6]), ("-2:1", [-2, -1, 0]), ("4:4", []), ("0", [])],
)
def test_a_range_has_these_tasks(span: str, tasks: list[int]) -> None:
    source = open_input(None, span)
    assert source.expected == len(tasks)
    assert source.fileno() is None
    assert take_all(source) == tasks
    assert source.mark() == (len(tasks), b"")


@pytest.mark.parametrize("span", ["", ":", "3:", "a:b", "1:2:3", "2:1", "-3", "1.5", "0x10", "1e3", "1:b"])
def test_what_is_no_range_is_refused_in_one_line(span: str) -> None:
    with pytest.raises(OperatorError, match="--range") as error:
        open_input(None, span)
    assert "\n" not in str(error.value)


@given(st.integers(-5, 5), st.integers(0, 30), st.lists(st.tuples(st.booleans(), st.integers(1, 9))))
def test_a_range_can_be_taken_and_skipped_in_any_steps(start: int, length: int, steps: list[tuple[bool, int]]) -> None:
    source = RangeInput(start, start + length)
    at = start
    for skips, count in steps:
        if source.ended:
            break
        if skips:
            at += source.skip(count)
        else:
            got = take(source, count)
            assert got == list(range(at, at + len(got)))
            at += len(got)
        assert source.mark() == (at - start, b"")
        assert source.ended == (at == start + length)


def test_ranges_with_other_bounds_are_other_inputs() -> None:
    assert len({open_input(None, span).source for span in ("0:3", "0:4", "1:4")}) == 3


# -- which input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "span"), [(None, None), ("tasks.txt", "0:3")])
def test_exactly_one_input_must_be_named(path: str | None, span: str | None) -> None:
    with pytest.raises(OperatorError, match="give one input"):
        open_input(path, span)


def test_an_input_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OperatorError, match="cannot read the input"):
            open_input(str(path), None)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    pipe.write(b"a\n")
    pipe.end()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(os.fdopen(os.dup(pipe.input._descriptor), "rb")))
    assert take_all(open_input("-", None)) == ["a"]
