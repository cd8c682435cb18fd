"""A result that has its receipt survives whatever happens to the sink's machine, and no receipt is given too early."""

import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.sink.ledgers import open_care, open_reader
from common.sink.sqlite_ledger import Ledger
from tests.conftest import TOP, Pipeline, Process, wait_until
from tests.postgres import Server
from tests.test_faults import GATE, executions
from tests.unit.builders import record
from tests.unit.writing import commit, open_job

WRITER = """
import os, sys
from common.sink.sqlite_ledger import Ledger
from tests.unit.builders import record
from tests.unit.writing import commit, open_job

path = sys.argv[1]
ledger = Ledger(path)
open_job(ledger, "job", "tasks:square", "lines of text")
for count in range(1, 41):
    commit(ledger, [record([f"value {count}", None], 2 * count - 2, errors={1: "no"})])
    # All of the commit is on the disk now: this is the receipt.
    print(2 * count, os.path.getsize(path + "-wal"), flush=True)
os.kill(os.getpid(), 9)
"""
CUTS = 1_000


@dataclass
class Disk:
    """What a power cut finds: the files of a ledger, and the rows and the size of the log at each receipt."""

    ledger: Path
    log: bytes
    receipts: list[tuple[int, int]]

    def receipted(self, size: int) -> int:
        """The rows that have a receipt once `size` bytes of the log are on the disk for certain."""
        return max((rows for rows, synced in self.receipts if synced <= size), default=0)

    def rows_with(self, log: bytes) -> int:
        """Open the ledger with this log; returns how many rows it has, which are the first ones, whole."""
        for end in ("-wal", "-shm", ".lock"):
            self.ledger.with_name(self.ledger.name + end).unlink(missing_ok=True)
        with self.ledger.open("r+b") as file:
            file.write(self.first_pages)
            file.truncate(len(self.first_pages))
        self.ledger.with_name(self.ledger.name + "-wal").write_bytes(log)
        opened = Ledger(str(self.ledger))
        opened.close()
        db = sqlite3.connect(self.ledger)
        try:
            tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name='results'").fetchone()[0]
            assert tables, "a ledger that was made is there"
            rows = db.execute("SELECT task, status, value FROM results ORDER BY task").fetchall()
            (done,) = db.execute("SELECT coalesce(sum(done), 0) FROM jobs").fetchone()
            (receipted,) = db.execute("SELECT coalesce(sum(count), 0) FROM receipts").fetchone()
        finally:
            db.close()
        assert rows == [(n, "failed", None) if n % 2 else (n, "ok", f"value {n // 2 + 1}") for n in range(len(rows))]
        assert done == receipted == len(rows)
        return len(rows)

    def __post_init__(self) -> None:
        self.first_pages = self.ledger.read_bytes()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """The files that a process left which was killed after its last receipt."""
    path = tmp_path_factory.mktemp("disk") / "results.db"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    receipts = [(int(rows), int(size)) for rows, size in (line.split() for line in done.stdout.splitlines())]
    assert len(receipts) == 40
    return Disk(path, path.with_name("results.db-wal").read_bytes(), receipts)


def cut(log: bytes, at: int, chance: random.Random) -> bytes:
    """What was not synced is not there."""
    return log[:at]


def garble(log: bytes, at: int, chance: random.Random) -> bytes:
    """The file has its length, but its blocks were never written."""
    return log[:at] + chance.randbytes(len(log) - at)


def lose_blocks(log: bytes, at: int, chance: random.Random) -> bytes:
    """Of the blocks of the disk some were written, later ones perhaps before earlier ones."""
    kept = bytearray(log)
    for start in range(at, len(log), 512):
        if chance.random() < 0.5:
            end = min(start + 512, len(log))
            kept[start:end] = bytes(end - start)
    return bytes(kept)


@pytest.mark.parametrize("damage", [cut, garble, lose_blocks], ids=lambda damage: damage.__name__)
def test_a_power_cut_takes_no_receipted_row_and_leaves_whole_commits(
    disk: Disk, damage: Callable[[bytes, int, random.Random], bytes]
) -> None:
    """At any offset the log may have been when the power went: what had been synced before is there."""
    chance = random.Random(damage.__name__)
    made = disk.receipts[0][1] - 1
    for _ in range(CUTS // 3 + 1):
        at = chance.randrange(made, len(disk.log) + 1)
        rows = disk.rows_with(damage(disk.log, at, chance))
        assert rows % 2 == 0
        assert rows >= disk.receipted(at), f"cut at {at}"
        if damage is cut:
            assert rows == disk.receipted(at), f"cut at {at}"


# -- the sink itself --------------------------------------------------------------------------------------------------

SYNC_LOG = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *word, long size) {
    char line[64];
    int count = snprintf(line, sizeof line, "%s %ld\n", word, size);
    int fd = open("syncs", O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)!write(fd, line, count);
    close(fd);
}

/* Notes how long the write-ahead log was when it was synced; while the file `hold` is there, it never is. */
static int watched(const char *name, int fd) {
    int (*sync)(int) = dlsym(RTLD_NEXT, name);
    char link[64], path[4096] = "";
    struct stat file;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    (void)!readlink(link, path, sizeof path - 1);
    if (strlen(path) < 4 || strcmp(path + strlen(path) - 4, "-wal")) return sync(fd);
    fstat(fd, &file);
    if (!access("hold", F_OK)) note("held", file.st_size);
    while (!access("hold", F_OK)) usleep(1000);
    int result = sync(fd);
    if (!result) note("synced", file.st_size);
    return result;
}

int fdatasync(int fd) { return watched("fdatasync", fd); }
int fsync(int fd) { return watched("fsync", fd); }
"""


@pytest.fixture
def sync_log(pipeline: Pipeline) -> str:
    """A library for LD_PRELOAD that notes each sync of a write-ahead log in the file `syncs`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler: it watches the sink's calls of fdatasync")
    source, library = pipeline.folder / "sync_log.c", pipeline.folder / "sync_log.so"
    source.write_text(SYNC_LOG)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)


def power_cut(pipeline: Pipeline, sink: Process) -> None:
    """End the sink, and with it all of the write-ahead log that was never synced."""
    sink.kill()
    synced = re.findall(r"^synced (\d+)$", (pipeline.folder / "syncs").read_text(), re.MULTILINE)
    with (pipeline.folder / "results.db-wal").open("r+b") as log:
        log.truncate(int(synced[-1]) if synced else 0)
    (pipeline.folder / "results.db-shm").unlink()


def test_while_the_disk_hangs_the_sink_answers_and_leaves_when_all_is_written(
    pipeline: Pipeline, sync_log: str
) -> None:
    sink = pipeline.sink(LD_PRELOAD=sync_log)
    worker = pipeline.worker("squares", "--slots", "2")
    sink.wait_for("joined with")
    assert pipeline.ventilator("squares:square", "--range", "3", "--job", "first").wait() == 0
    (pipeline.folder / "hold").touch()
    ventilator = pipeline.ventilator("squares:square", "--range", "3", "--job", "held")
    sink.wait_for("the ledger accepts no results: the disk takes longer than a second to write; no receipts are sent")
    results = pipeline.run("sink", "results", "first", "--key", "keys/ventilator.key_secret", "--format", "values")
    assert results.out == "0\n1\n4\n"
    refused = pipeline.run("sink", "forget", "first", "--yes", "--key", "keys/ventilator.key_secret")
    assert "the ledger accepts no change at the moment: try again" in refused.err
    assert "silent" not in sink.err + worker.err + ventilator.err
    sink.signal(signal.SIGTERM)
    (pipeline.folder / "hold").unlink()
    assert sink.wait() == 0
    assert pipeline.query("SELECT name FROM jobs ORDER BY job") == [("first",), ("held",)]


def test_the_log_is_on_the_disk_before_the_receipt_is_given(pipeline: Pipeline, sync_log: str) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink(LD_PRELOAD=sync_log)
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:wait", "--range", "6", "--batch", "1", "--job", "j")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    (pipeline.folder / "hold").touch()
    (pipeline.folder / "open").touch()
    syncs = pipeline.folder / "syncs"
    wait_until(lambda: syncs.exists() and "held" in syncs.read_text(), "the sink syncs its log for the first results")
    power_cut(pipeline, sink)
    (pipeline.folder / "hold").unlink()
    # Nobody had a receipt: the worker still has the results.
    sink = pipeline.sink(LD_PRELOAD=sync_log)
    assert ventilator.wait() == 0, ventilator.err
    power_cut(pipeline, sink)
    Ledger(str(pipeline.folder / "results.db")).close()
    assert pipeline.query("SELECT task, status, value FROM results") == [(n, "ok", n) for n in range(6)]
    assert sorted(executions(pipeline)) == list(range(6))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with small_file_system(tmp_path / "small", "1m") as folder:
        yield folder


@contextmanager
def small_file_system(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = shutil.which("mount")
    options = f"size={size}"
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "none", folder], check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_costs_no_result_and_the_job_goes_on_when_there_is_room(
    pipeline: Pipeline, small_disk: Path
) -> None:
    pipeline.module("gate", GATE + "def long(n):\n    return wait(n) and 'x' * 4_000\n")
    (pipeline.folder / "open").touch()
    sink = pipeline.sink("--ledger", "small/results.db")
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:long", "--range", "1:401", "--batch", "20", "--job", "j")
    sink.wait_for("the ledger accepts no results: database or disk is full; no receipts are sent; retrying")
    db = sqlite3.connect(f"{(small_disk / 'results.db').as_uri()}?mode=ro", uri=True)
    (recorded,) = db.execute("SELECT count(*) FROM results").fetchone()
    assert recorded < 400
    assert ventilator.popen.poll() is None
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    sink.wait_for("the ledger accepts results again")
    assert ventilator.wait() == 0, ventilator.err
    assert db.execute("SELECT count(*), min(status), max(status) FROM results").fetchone() == (400, "ok", "ok")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert sorted(executions(pipeline)) == list(range(1, 401))


@pytest.fixture
def small_space(postgres: Server) -> Iterator[Path]:
    """16 megabytes where the server may keep a database."""
    with small_file_system(postgres.folder / "small", "16m") as folder:
        postgres.own(folder)
        yield folder


def test_a_full_disk_of_the_database_costs_no_result_either(
    pipeline: Pipeline, postgres: Server, small_space: Path
) -> None:
    with postgres.asked() as db:
        db.execute(f"CREATE TABLESPACE small LOCATION '{small_space}'")
        db.execute("CREATE DATABASE small TABLESPACE small")
    try:
        pipeline.keep_in(postgres.address("small"))
        pipeline.module("noise", "import os\ndef text(n):\n    return os.urandom(100_000).hex()\n")
        sink = pipeline.sink()
        pipeline.worker("noise", "--slots", "2")
        ventilator = pipeline.ventilator("noise:text", "--range", "150", "--batch", "2", "--job", "j")
        sink.wait_for("the ledger accepts no results: could not extend file .*; no receipts are sent; retrying")
        assert ventilator.popen.poll() is None
        subprocess.run(["mount", "-o", "remount,size=128m", small_space], check=True)
        sink.wait_for("the ledger accepts results again")
        assert ventilator.wait() == 0, ventilator.err
        with closing(open_reader(pipeline.ledger)) as reader:
            assert [row.task for row in reader.rows(reader.job("j"), failed=False)] == list(range(150))
        assert open_care(pipeline.ledger).faults() == []
    finally:
        pipeline.close()
        with postgres.asked() as db:
            db.execute("DROP DATABASE small WITH (FORCE)")
            db.execute("DROP TABLESPACE small")


def test_a_ledger_that_another_program_has_locked_is_waited_for(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    pipeline.worker("gate", "--slots", "2")
    ventilator = pipeline.ventilator("gate:wait", "--range", "6", "--batch", "1", "--job", "j")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    other = sqlite3.connect(pipeline.folder / "results.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (pipeline.folder / "open").touch()
    sink.wait_for("the ledger accepts no results: database is locked; no receipts are sent; retrying every second")
    assert other.execute("SELECT count(*) FROM results").fetchone() == (0,)
    assert ventilator.popen.poll() is None
    other.execute("ROLLBACK")
    other.close()
    sink.wait_for("the ledger accepts results again")
    assert ventilator.wait() == 0, ventilator.err
    assert pipeline.query("SELECT task, status, value FROM results") == [(n, "ok", n) for n in range(6)]
    assert sorted(executions(pipeline)) == list(range(6))


def test_a_damaged_ledger_is_refused_at_start_with_what_to_do(pipeline: Pipeline) -> None:
    path = pipeline.folder / "results.db"
    ledger = Ledger(str(path))
    open_job(ledger, "job", "tasks:square", "lines of text")
    for first in range(0, 3_000, 100):
        commit(ledger, [record(["value" * 10] * 100, first)])
    ledger.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(random.Random(1).randbytes(8_192))
    sink = pipeline.start("sink", "--listen", "127.0.0.1", "--control-port", "0", "--results-port", "0")
    assert sink.wait() == 2
    [line] = sink.err.splitlines()
    assert re.match(r"sink: cannot use the ledger results.db: .*(damaged|malformed)", line)
    assert line.endswith("; restore it from a copy, or give another file with --ledger")
