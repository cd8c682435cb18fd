"""A file of results takes its name when it is whole."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import OperatorError
from common.sink.output_file import opened


def test_the_name_is_taken_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with opened(path) as out:
        out.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == "é\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(error), opened(path) as out:
        out.write("new")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_of_a_file_and_a_link_to_it_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "out.csv", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    with opened(link) as out:
        out.write("new")
    assert path.read_text() == "new"
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with opened(fifo) as out:
        out.write("new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(OperatorError, match=r"cannot write .*/nosuch/out: No such file or directory"),
        opened(tmp_path / "nosuch" / "out"),
    ):
        pass
    with pytest.raises(OperatorError, match=r"cannot write .*: Is a directory"), opened(tmp_path):
        pass
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(OperatorError, match="cannot write /dev/full: No space left on device"),
        opened(Path("/dev/full")) as out,
    ):
        out.write("new")


def test_a_ledger_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(x)")
    before = path.read_bytes()
    said = r"results.db is an SQLite file, maybe a ledger: name another file"
    with pytest.raises(OperatorError, match=said), opened(path):
        pytest.fail("it was opened")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_may_be_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(Path(name)) as out:
        out.write("new")
    assert capsys.readouterr().out == "new"
