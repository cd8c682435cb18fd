"""Workers of `crew keep local`: processes of this machine, and their logs."""

from pathlib import Path

import pytest

from common.crew import local_workers
from common.crew.allocations import Condition
from common.crew.local_workers import LocalWorkers
from common.errors import OperatorError
from tests.conftest import wait_until


def ended(workers: LocalWorkers, count: int) -> list[Condition]:
    """Start workers one after the other, and wait for the end of each."""
    found: list[Condition] = []
    for _ in range(count):
        workers.start(1)
        so_far = len(found)

        def has_ended(so_far: int = so_far) -> bool:
            found.extend(each for each in workers.conditions().values() if each is not Condition.RUNS)
            return len(found) > so_far

        wait_until(has_ended, "a worker ends")
    return found


def test_a_link_under_the_name_of_a_log_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = LocalWorkers(["false"], tmp_path)
    monkeypatch.setattr(local_workers, "default_name", lambda: "here")
    monkeypatch.setattr(local_workers.os, "getpid", lambda: 7)
    mine = tmp_path / "mine"
    mine.write_text("kept")
    workers.log("here-keep-7-1").symlink_to(mine)
    assert ended(workers, 1) == [Condition.BROKEN]
    assert mine.read_text() == "kept"
    assert not workers.log("here-keep-7-1").is_symlink()
    workers.log("here-keep-7-2").mkdir()
    with pytest.raises(OperatorError, match=r"cannot start a worker that logs to .*here-keep-7-2.log: "):
        workers.start(1)


def test_logs_of_workers_that_failed_are_kept_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_workers, "LOGS_MAX", 2)
    workers = LocalWorkers(["false"], tmp_path)
    assert ended(workers, 4) == [Condition.BROKEN] * 4
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == ["2.log", "3.log", "4.log"]


def test_a_worker_that_ends_well_leaves_no_log(tmp_path: Path) -> None:
    assert ended(LocalWorkers(["true"], tmp_path), 2) == [Condition.LEFT] * 2
    assert not list(tmp_path.iterdir())
