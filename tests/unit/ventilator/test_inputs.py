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
from common.protocol.messages import UNUSABLE
from common.ventilator import inputs
from common.ventilator.inputs import Input, InputRequest, LineForm, LinesInput, RangeInput
from common.ventilator.inputs import open_input as open_requested
from common.ventilator.sources import PipeSource
from common.ventilator.spool import SpoolPlace

BYTES_MAX = 1024 * 1024
TEXT = LineForm()
PLACE = SpoolPlace(Path("spool"), "job")


class Pipe:
    """A pipe that is written to as the test likes, and the input that reads it."""

    def __init__(self, form: LineForm = TEXT) -> None:
        read, self._write = os.pipe()
        self._file = os.fdopen(read, "rb")
        self.input = LinesInput(PipeSource(self._file.fileno(), "standard input", PLACE), form)

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

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


def open_input(path: str | None, span: str | None, **more: bool) -> Input:
    return open_requested(InputRequest(path, span, **more), PLACE)


def is_readable(source: Input) -> bool:
    descriptor = source.fileno()
    return descriptor is not None and bool(select.select([descriptor], [], [], 0)[0])


def take(source: Input, count: int = 1_000) -> list[Any]:
    taken, payload = source.take(count, BYTES_MAX)
    arguments = msgspec.msgpack.decode(payload, ext_hook=unusable)
    assert len(arguments) == taken
    return list(arguments)


class Unusable(str):
    """The reason that goes in the place of an argument."""


def unusable(code: int, content: memoryview) -> Unusable:
    assert code == UNUSABLE
    return Unusable(bytes(content).decode())


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
        (b"'\"\\\n", ["'\"\\"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf\na", ["a"]),
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


@pytest.mark.parametrize("name", ["t.jsonl", "t.JSONL", "t.ndjson", "t.NdJson"])
def test_a_file_is_json_by_its_name_in_any_case(tmp_path: Path, name: str) -> None:
    assert take_all(file_input(tmp_path, b"[1]\n", name)) == [[1]]


def test_json_and_nul_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"[1]\n2\n")
    assert take_all(open_input(str(path), None, json=True)) == [[1], 2]
    path.write_bytes(b"a\nb\0 \0\0c\r\0\xef\xbb\xbfd")
    source = open_input(str(path), None, nul_ends=True)
    assert source.source == "texts that end with NUL"
    assert take_all(source) == ["a\nb", " ", "c\r", "\ufeffd"]
    for options in ({"json": True}, {"nul_ends": True}, {"is_stream": True}):
        with pytest.raises(OperatorError, match=r"--range has no lines: leave out (--json|-0|--stream)"):
            open_input(None, "3", **options)
    with pytest.raises(OperatorError, match="leave out -0"):
        open_input(str(tmp_path / "x.jsonl"), None, nul_ends=True)


LATE = b"x\n" * 5_000
"""With this much text before it, a NUL does not make the input another kind of file."""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b"1\n\n{nope}\n", 't.jsonl:3: the line is not JSON (object keys must be strings (byte 1)): "{'),
        ("t.jsonl", b"1\n2 3\n", 't.jsonl:2: the line is not JSON (trailing characters (byte 3)): "2 3"'),
        ("t.jsonl", b"[1,\n", 't.jsonl:1: the line is not JSON (Input data was truncated): "[1,"'),
        ("t.jsonl", b'"\xff"\n', "t.jsonl:1: the line is not UTF-8 text (byte 0xff at 2; a file name, or text, in"),
        ("t.jsonl", b'\r\n"\\ud800"', "t.jsonl:2: the line holds a lone surrogate like \\ud800, which is half of a"),
        ("t.jsonl", b'"\\udc00x"', "t.jsonl:1: the line holds a lone surrogate like \\ud800, which is half of a"),
        ("t.jsonl", b'["\\ud83d\\u0041"]', "t.jsonl:1: the line holds a lone surrogate like \\ud800, which is half"),
        ("t.jsonl", b'{"x": NaN}\n', "t.jsonl:1: the line is not JSON, which has no NaN or Infinity: "),
        ("t.jsonl", b"[-Infinity]\n", "t.jsonl:1: the line is not JSON, which has no NaN or Infinity: "),
        ("t.jsonl", b"1e999\n", "t.jsonl:1: the line is not JSON (Number out of range): "),
        ("t.jsonl", b"123456789012345678901234\n", "t.jsonl:1: the value cannot be sent ("),
        ("t.jsonl", b"[" * 2_000 + b"]" * 2_000, "t.jsonl:1: the line's JSON is nested too deeply: "),
        ("t.jsonl", LATE.replace(b"x", b"1") + b"\0\n", "t.jsonl:5001: the line is not JSON (invalid char"),
        ("t.txt", b"a\n\nb\xe4\r\n", "t.txt:3: the line is not UTF-8 text (byte 0xe4 at 2; a file name, or text, in"),
        ("t.txt", b"b\xed\xb2\x80\n", "t.txt:1: the line holds a lone surrogate, which is half of a char"),
        ("t.txt", b"\xc3\n", "t.txt:1: the line is not UTF-8 text (byte 0xc3 at 1;"),
        ("t.txt", b"\x1b[31m\xff" + b"x" * 99, '"\\x1b[31m\\xff' + "x" * 54 + '..."'),
    ],
)
def test_a_line_that_cannot_be_a_task_is_one_with_a_reason(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    content = content.rstrip(b"\n") + b"\n"
    good = b'"good"' if name.endswith("jsonl") else b"good"
    tasks = take_all(file_input(tmp_path, content + good, name))
    assert tasks[-1] == good.decode().strip('"')
    assert not isinstance(tasks[-1], Unusable)
    (reason,) = [task for task in tasks if isinstance(task, Unusable)]
    assert words in reason
    assert reason.isprintable()
    assert len(reason) < 300


def test_all_other_lines_of_a_batch_are_as_they_would_be_alone(tmp_path: Path) -> None:
    source = file_input(tmp_path, b'1\nnope\n{"a": [2.5]}\n\n"\xff"\nnull', "t.jsonl")
    tasks = take_all(source)
    assert [type(task) is Unusable for task in tasks] == [False, True, False, True, False]
    assert tasks[::2] == [1, {"a": [2.5]}, None]
    assert [source.mark()[0], source.expected] == [5, 5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08\0\0\0\0\0", r".*compressed \(gzip\): give its text, as in `zcat FILE"),
        (b"BZh91AY&SY\0", r".*compressed \(bzip2\).*`bzcat"),
        (b"\xfd7zXZ\0", r".*compressed \(xz\).*`xzcat"),
        (b"\x28\xb5\x2f\xfd\0", r".*compressed \(Zstandard\).*`zstdcat"),
        ("a\n".encode("utf-16"), "it is UTF-16 text: convert it, as in `iconv"),
        (b"./a\0./b c\0", ".*it has NUL bytes; with -0, as `find -print0` writes it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is not text"),
    ],
)
def test_what_has_no_lines_of_text_is_no_input(tmp_path: Path, content: bytes, words: str) -> None:
    source = file_input(tmp_path, content)
    with pytest.raises(OperatorError, match=f"cannot use .*tasks.txt as the input: {words}"):
        source.fill()
    assert not source.available()


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


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_a_line_longer_than_a_message_is_passed_over_with_its_number(small_messages: int, pieces: int) -> None:
    marks = []
    for letter in (b"x", b"x", b"y"):
        pipe = Pipe()
        for _ in range(pieces):
            pipe.write(letter * (7_000 // pieces))
            pipe.input.fill()
            assert sum(map(len, pipe.input._partial)) <= small_messages
        pipe.write(letter * (7_000 % pieces) + b"\nb\n")
        pipe.end()
        tasks = take_all(pipe.input)
        assert tasks[1:] == ["b"]
        assert tasks[0] == (
            "standard input:1: the line takes 7000 bytes, but a message holds 1000: pass a path and let the worker read"
            " the file"
        )
        marks.append(pipe.input.mark())
        pipe.close()
    assert marks[0] == marks[1] != marks[2]


def test_a_long_line_that_was_skipped_is_forgotten(small_messages: int, pipe: Pipe) -> None:
    """While one is kept in mind, each line is encoded by itself, which takes many times as long."""
    for chunk in (b"x" * 2_000 + b"\na\n", b"y" * 3_000 + b"\nb\n"):
        pipe.write(chunk)
        pipe.input.fill()
    assert pipe.input.skip(2) == 2
    assert pipe.input._too_long == {3: 3_000}
    assert "the line takes 3000 bytes" in take(pipe.input)[0]
    assert not pipe.input._too_long


@pytest.mark.parametrize(("length", "fits"), [(990, True), (996, True), (997, False), (1_000, False), (1_001, False)])
def test_an_argument_too_large_for_a_message_cannot_be_a_task(
    small_messages: int, pipe: Pipe, length: int, fits: bool
) -> None:
    pipe.write(b"\na\n" + b"x" * length + b"\n")
    pipe.input.fill()
    assert take(pipe.input, 1) == ["a"]
    (task,) = take(pipe.input, 1)
    assert isinstance(task, Unusable) != fits
    assert task == "x" * length if fits else "standard input:3: the line takes" in task


# -- a file that does not stay -------------------------------------------------------------------------------------


CUT = r"tasks.txt is shorter than at the start of the job \(262144 instead of 300000 bytes\): restore it"
CHANGED = "tasks.txt was changed while the job read it: tasks may be missing or mixed up"


@pytest.mark.parametrize(
    ("how", "words"),
    [("emptied", CUT), ("cut", CUT), ("rewritten", CHANGED), ("longer", CHANGED), ("replaced", None), ("gone", None)],
)
def test_a_file_that_changes_while_it_is_read_is_said_at_its_end(tmp_path: Path, how: str, words: str | None) -> None:
    source = file_input(tmp_path, b"12345\n" * 50_000)
    path = tmp_path / "tasks.txt"
    was = path.stat()
    source.fill()
    taken = len(take(source, 100_000))
    if how in ("emptied", "cut"):
        os.truncate(path, 0 if how == "emptied" else 1_000)
    elif how == "gone":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "other").write_bytes(b"")
        (tmp_path / "other").rename(path)
    else:
        path.write_bytes(b"54321\n" * (50_000 + (how == "longer")))
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + (how == "rewritten")))
    if words is None:
        assert taken + len(take_all(source)) == 50_000, "what was opened is still whole"
    else:
        with pytest.raises(OperatorError, match=words):
            take_all(source)
        assert not source.ended


def test_a_file_as_standard_input_counts_from_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_bytes(b"a\nb\nc\n")
    with (tmp_path / "in").open("rb") as file:
        os.lseek(file.fileno(), 2, os.SEEK_SET)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        source = open_input("-", None)
        source.fill()
        assert source.expected == 2
        assert take_all(source) == ["b", "c"]


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "in").open("wb") as only_written:
        source = LinesInput(PipeSource(only_written.fileno(), "standard input", PLACE), LineForm())
        with pytest.raises(OperatorError, match="cannot read standard input: Bad file descriptor"):
            source.fill()
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(OperatorError, match="standard input is closed: give it a file or a pipe"):
        open_input("-", None)


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


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n\0\ufeff"), max_size=6).map(str.encode)


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
    digest = hashlib.sha256(b"".join(line + b"\n" for line in tasks)).digest()
    assert pipe.input.mark() == (len(tasks), digest)


def test_a_job_that_an_older_release_has_begun_goes_on_with_its_digest(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # What was read is kept in its folder `spool`.
    found = hashlib.blake2b(b"a\nb\n", digest_size=16).digest()
    pipe.input.begin("", True, found)
    pipe.write(b"a\nb\nc\n")
    pipe.input.fill()
    take(pipe.input, 2)
    assert pipe.input.mark() == (2, found)
    pipe.input.begin("", True, found)  # The sink was started again.
    take(pipe.input, 1)
    assert pipe.input.mark() == (3, hashlib.blake2b(b"a\nb\nc\n", digest_size=16).digest())


def test_the_digest_stays_when_the_sink_is_started_again(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # What was read is kept in its folder `spool`.
    pipe.input.begin("", False, b"")
    pipe.write(b"a\nb\n")
    pipe.input.fill()
    take(pipe.input, 1)
    pipe.input.begin("", True, pipe.input.mark()[1])
    take(pipe.input, 1)
    assert pipe.input.mark() == (2, hashlib.sha256(b"a\nb\n").digest())


def test_a_byte_order_mark_may_come_in_pieces(pipe: Pipe) -> None:
    for piece in (b"\xef", b"\xbb\xbf", b"a\n"):
        pipe.write(piece)
        pipe.input.fill()
    assert take(pipe.input) == ["a"]


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
    assert source.is_estimate
    whole = file_input(tmp_path, b"line\n\nlast")
    whole.fill()
    assert (whole.expected, whole.is_estimate, whole.ended) == (2, False, False), "its last byte was read"
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
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(os.fdopen(os.dup(pipe.descriptor), "rb")))
    assert take_all(open_input("-", None)) == ["a"]


def test_a_stream_has_no_end_and_cannot_be_appended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    words = "--append reads an input to its end: give a file or a pipe, not a stream"
    with pytest.raises(OperatorError, match=words):
        open_input(str(tmp_path / "in"), None, append=True)
    (tmp_path / "in.txt").write_text("1\n")
    assert open_input(str(tmp_path / "in.txt"), None, append=True).source == "lines of text"
