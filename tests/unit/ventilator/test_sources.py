"""Where bytes come from: what is taken from a stream is on the disk before anybody gets it, and is read first again."""

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import OperatorError
from common.ventilator import spool
from common.ventilator.inputs import LineForm, LinesInput
from common.ventilator.sources import FileSource, PipeSource, Source, StreamSource, open_source
from common.ventilator.spool import SpoolPlace

LEDGER = "0011223344556677"


@pytest.fixture
def place(tmp_path: Path) -> SpoolPlace:
    return SpoolPlace(tmp_path / "spool", "mail")


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[int]:
    """A named FIFO, and a writer that holds it open."""
    os.mkfifo(tmp_path / "in")
    writer = os.open(tmp_path / "in", os.O_RDWR)
    yield writer
    os.close(writer)


@pytest.fixture
def stream(fifo: int, place: SpoolPlace) -> Callable[[], Source]:
    """Makes the source of a run of the job, which has begun."""

    def _begun() -> Source:
        made = open_source(str(place.folder.parent / "in"), False, b"\n", place)
        made.begin(LEDGER, True)
        return made

    return _begun


def read_all(source: Source) -> bytes:
    """What can be read without waiting."""
    found = b""
    while not source.fresh:
        if not (chunk := source.read()):
            return found
        found += chunk
    source.fileno()
    while chunk := source.read():
        found += chunk
    return found


def killed(source: Source) -> None:
    """Its process is gone: nothing was said, and nothing written."""
    assert isinstance(source, StreamSource)
    assert source._spool is not None
    os.close(source._spool.descriptor)


def spooled(place: SpoolPlace) -> dict[str, bytes]:
    if not place.folder.exists():
        return {}
    return {path.name.replace("-00112233", ""): path.read_bytes() for path in place.folder.iterdir()}


# -- streams --------------------------------------------------------------------------------------------------------


def test_what_was_read_is_on_the_disk_and_comes_first_again(
    stream: Callable[[], Source], fifo: int, place: SpoolPlace
) -> None:
    first = stream()
    os.write(fifo, b"1\n2\n3")
    assert read_all(first) == b"1\n2\n3"
    assert spooled(place) == {"mail.spool": b"1\n2\n3"}
    assert (place.folder / "mail-00112233.spool").stat().st_mode & 0o777 == 0o600
    killed(first)
    os.write(fifo, b"3\n4\n")
    second = stream()
    assert not second.fresh
    assert read_all(second) == b"1\n2\n33\n4\n"
    assert second.fresh


def test_what_nobody_has_read_yet_is_kept_when_the_job_stops(
    stream: Callable[[], Source], fifo: int, place: SpoolPlace
) -> None:
    first = stream()
    os.write(fifo, b"1\n")
    read_all(first)
    os.write(fifo, b"2\n" * 10_000)
    (said,) = first.leave(is_done=False)
    path = place.folder / "mail-00112233.spool"
    assert said == f"what was read from {first.name} is kept in {path}: the job reads it when it is run again"
    assert spooled(place) == {"mail.spool": b"1\n" + b"2\n" * 10_000}


def test_a_stream_that_is_not_to_be_read_is_not_touched(
    stream: Callable[[], Source], fifo: int, tmp_path: Path, place: SpoolPlace
) -> None:
    os.write(fifo, b"1\n")
    source = stream()
    assert source.fresh
    assert source.leave(is_done=False) == []
    assert spooled(place) == {}
    assert os.read(fifo, 9) == b"1\n", "it is still there for others"


def test_the_spool_of_a_stream_at_its_end_is_the_whole_input(tmp_path: Path, place: SpoolPlace) -> None:
    os.mkfifo(tmp_path / "in")
    name = str(tmp_path / "in")
    source = open_source(name, False, b"\n", place)
    source.begin(LEDGER, False)
    reader = source.fileno()
    (tmp_path / "in").write_bytes(b"1\n2")
    assert os.get_blocking(reader) is False
    assert read_all(source) == b"1\n2"
    assert spooled(place) == {"mail.ended": b"1\n2"}
    killed(source)
    again = open_source(name, False, b"\n", place)
    again.begin(LEDGER, True)
    assert not again.fresh
    assert read_all(again) == b"1\n2"
    assert not again.fresh
    assert again.leave(is_done=True) == []
    assert not place.folder.exists()


def test_a_spool_has_one_ventilator(stream: Callable[[], Source], fifo: int) -> None:
    """A stopped one that wakes up would write into what the next one has written."""
    first = stream()
    with pytest.raises(OperatorError, match=r"spool is in use by another ventilator of this job: end that one first"):
        stream()
    killed(first)
    stream()


def test_the_spool_of_another_ledger_is_another_one(stream: Callable[[], Source], fifo: int, place: SpoolPlace) -> None:
    os.write(fifo, b"1\n")
    read_all(stream())
    other = open_source(str(place.folder.parent / "in"), False, b"\n", place)
    other.begin("8899aabbccddeeff", False)
    assert other.fresh
    assert len(list(place.folder.iterdir())) == 2


def test_lines_of_the_spool_that_wait_are_not_new(stream: Callable[[], Source], fifo: int) -> None:
    """Until they are taken nobody knows whether the spool has all that the earlier run had read."""
    os.write(fifo, b"1\n2\n")
    read_all(first := stream())
    killed(first)
    lines = LinesInput(stream(), LineForm())
    assert lines.source == "a stream of lines of text"
    lines.fill()
    assert not lines.fresh
    lines.take(1, 1_000)
    assert not lines.fresh
    lines.skip(1)
    assert lines.fresh
    lines.fileno()
    lines.fill()
    assert not lines.ended, "nothing came, which is no end"


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_line_that_a_new_pipe_cannot_finish_is_saved_apart(end: bytes, place: SpoolPlace) -> None:
    for before, words in ((b"1" + end + b"2" + end, 0), (b"1" + end + b"hal", 1), (b"hal", 1), (b"", 0)):
        read, write = os.pipe()
        source = StreamSource("standard input", lambda read=read: read, False, end, place)
        path = place.folder / "mail-00112233.spool"
        place.folder.mkdir(exist_ok=True)
        path.write_bytes(before)
        said = source.begin(LEDGER, True)
        assert len(said) == 1 + words
        os.write(write, b"3" + end)
        assert read_all(source) == before.removesuffix(b"hal") + b"3" + end
        assert path.read_bytes() == before.removesuffix(b"hal") + b"3" + end
        os.close(read)
        os.close(write)
        killed(source)
    assert spooled(place)["mail.cut"] == b"hal" + end + b"hal" + end


def cut_spool(place: SpoolPlace) -> Source:
    """A stream that goes on behind a spool whose last line has no end."""
    made = spool.Spool(place, LEDGER)
    os.write(made.descriptor, b"1\nhal")
    os.close(made.descriptor)
    return StreamSource("standard input", lambda: 0, False, b"\n", place)


def test_what_is_kept_is_for_its_owner_only(place: SpoolPlace) -> None:
    before = os.umask(0o022)
    try:
        source = cut_spool(place)
        source.begin(LEDGER, True)
        PipeSource(0, "standard input", place).begin(LEDGER, True)
    finally:
        os.umask(before)
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in place.folder.iterdir()}
    assert modes == {".spool": 0o600, ".cut": 0o600, ".refused": 0o600}
    killed(source)


@pytest.mark.parametrize("name", ["pread", "fsync", "ftruncate"])
def test_a_last_line_that_cannot_be_saved_apart_is_said(
    place: SpoolPlace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = cut_spool(place)

    def full(descriptor: int, *_: object) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, full)
    with pytest.raises(OperatorError, match=r"cannot keep what is read in .*spool: No space left on device"):
        source.begin(LEDGER, True)


@pytest.mark.parametrize("has_splice", [True, False])
def test_a_socket_and_a_system_without_splice(
    tmp_path: Path, place: SpoolPlace, monkeypatch: pytest.MonkeyPatch, has_splice: bool
) -> None:
    if not has_splice:
        monkeypatch.delattr(os, "splice", raising=False)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        source = open_source(str(tmp_path / "socket"), False, b"\n", place)
        assert isinstance(source, StreamSource)
        source.begin(LEDGER, False)
        source.fileno()
        client, _ = server.accept()
        with client:
            client.send(b"1\n")
            assert source.read() == b"1\n"
        assert source.read() == b""
    assert spooled(place) == {"mail.ended": b"1\n"}
    with pytest.raises(OperatorError, match=r"cannot connect to the input .*: Connection refused"):
        late = open_source(str(tmp_path / "socket"), False, b"\n", SpoolPlace(place.folder, "other"))
        late.begin(LEDGER, False)
        late.fileno()


def test_a_full_disk_takes_nothing_from_the_stream(
    stream: Callable[[], Source], fifo: int, place: SpoolPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stream()
    os.write(fifo, b"1\n")
    real = os.fstatvfs
    monkeypatch.setattr(spool, "_ROOM_BYTES", 2**80)
    with pytest.raises(OperatorError, match=r"no room is left for .*mail-00112233.spool"):
        read_all(source)
    monkeypatch.setattr(spool, "_ROOM_BYTES", 0)

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "splice", full)
    with pytest.raises(OperatorError, match=r"cannot keep what is read in .*spool: No space left on device"):
        source.read()
    monkeypatch.undo()
    killed(source)
    assert os.fstatvfs is real
    assert read_all(stream()) == b"1\n"


def test_what_is_read_is_synced_before_it_is_given(
    stream: Callable[[], Source], fifo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stream()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    os.write(fifo, b"1\n")
    assert source.read() == b"1\n"
    assert len(synced) == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, fifo: int) -> None:
    (tmp_path / "spool").write_text("")
    for path, resumed in ((str(tmp_path / "in"), False), ("/dev/null", True)):
        source = open_source(path, False, b"\n", SpoolPlace(tmp_path / "spool", "mail"))
        with pytest.raises(OperatorError, match=r"cannot keep what is read in .*: (File exists|Not a directory)"):
            source.begin(LEDGER, resumed)


# -- pipes that can be replayed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("verified", [False, True])
def test_what_is_refused_from_a_pipe_is_kept(place: SpoolPlace, resumed: bool, verified: bool) -> None:
    for number in (1, 2):
        read, write = os.pipe()
        source = PipeSource(read, "standard input", place)
        source.begin(LEDGER, resumed)
        os.write(write, b"%d\n" % number)
        assert source.read() == b"%d\n" % number
        if verified:
            source.verified()
        said = source.leave(is_done=False)
        assert len(said) == (resumed and not verified)
        os.close(read)
        os.close(write)
    kept = {"mail.refused": b"1\n", "mail.refused2": b"2\n"} if resumed and not verified else {}
    assert spooled(place) == kept


# -- which is which -------------------------------------------------------------------------------------------------


def test_what_each_path_is(tmp_path: Path, place: SpoolPlace, fifo: int) -> None:
    (tmp_path / "file").write_text("1\n")
    assert isinstance(open_source(str(tmp_path / "file"), False, b"\n", place), FileSource)
    assert isinstance(open_source(str(tmp_path / "in"), False, b"\n", place), StreamSource)
    (tmp_path / "link").symlink_to("in")
    assert isinstance(open_source(str(tmp_path / "link"), False, b"\n", place), StreamSource)
    read, write = os.pipe()
    path = f"/dev/fd/{read}"
    assert isinstance(open_source(path, False, b"\n", place), PipeSource), "as a shell names what it pipes"
    assert isinstance(open_source(path, True, b"\n", place), StreamSource)
    os.close(read)
    os.close(write)
    with pytest.raises(OperatorError, match=r"file is a file, which is read again: leave out --stream, or"):
        open_source(str(tmp_path / "file"), True, b"\n", place)
    with pytest.raises(OperatorError, match=r"cannot read the input .*: it is a folder"):
        open_source(str(tmp_path), False, b"\n", place)


def test_what_standard_input_is(tmp_path: Path, fifo: int) -> None:
    program = (
        "from common.ventilator.sources import open_source; from common.ventilator.spool import SpoolPlace;"
        "from pathlib import Path; import sys;"
        "print(type(open_source('-', sys.argv[1:] == ['s'], b'', SpoolPlace(Path('.'), 'j'))).__name__)"
    )
    (tmp_path / "file").write_text("")
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with (tmp_path / "file").open() as file:
        named = os.open(tmp_path / "in", os.O_RDONLY | os.O_NONBLOCK)
        for stdin, kind in (
            (file.fileno(), "FileSource"),
            (read, "PipeSource"),
            (named, "StreamSource"),
            (ours.fileno(), "StreamSource"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", program],
                stdin=stdin,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[3],
            )
            assert done.stdout == f"{kind}\n", done.stderr
        for descriptor in (named, read, write):
            os.close(descriptor)
    ours.close()
    theirs.close()
