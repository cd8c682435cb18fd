"""What the observer makes of reports and of the ledger, without a sink."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from common.protocol.messages import Counters, JobReport, Report
from common.sink.sqlite_ledger import Ledger
from common.sink.store import JobSummary
from common.web import observer as module
from common.web.observer import Observer
from common.web.settings import JOBS_PERIOD_S, WATCHED_S
from tests.unit.builders import record
from tests.unit.writing import commit, open_job

NOW = 1_000_000_000.0
OPENED = "2026-01-01T00:00:00+00:00"


def report(done: int, counted: int) -> Report:
    return Report([JobReport("job", "m:f", done, 0, None, 1, 1.0)], [], Counters(ok=counted))


@pytest.fixture
def remote() -> Observer:
    return Observer(Path("no.key"), None, None)


def test_without_a_ledger_reports_make_the_history(remote: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    for at, done, counted in ((0, 100, 1_000), (10, 150, 1_100), (20, 150, 1_100)):
        monkeypatch.setattr(time, "time", lambda at=at: NOW + at)
        remote._take(report(done, counted))
    chart, of_job = remote.chart(), remote.chart_of("job", OPENED, True)
    assert sum(chart.rates) * chart.width_s == 100
    assert sum(of_job.rates) * of_job.width_s == 50


def test_a_sink_that_was_started_again_counts_from_0(remote: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, counted in ((0, 1_000), (10, 30), (30, 30)):
        monkeypatch.setattr(time, "time", lambda at=at: NOW + at)
        remote._take(report(0, counted))
    chart = remote.chart()
    assert sum(chart.rates) * chart.width_s == 30


def test_the_history_of_a_ledger_goes_on_where_it_was_read(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "results.db"))
    open_job(ledger, "job", "m:f", "lines")
    watching = Observer(Path("no.key"), None, str(tmp_path / "results.db"))
    for first in (0, 100):
        commit(ledger, [record([1] * 100, first)])
        watching._read_ledger()
        chart = watching.chart_of("job", OPENED, True)
        watching._jobs_read_at = float("-inf")
    assert watching._all.last_at() > 0
    assert sum(watching._all._counts.values()) == 200
    assert chart is not None
    assert [job.name for job in watching.snapshot.jobs] == ["job"]
    ledger.close()


def test_a_job_that_comes_again_has_a_history_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "results.db"))
    open_job(ledger, "job", "m:f", "lines")
    commit(ledger, [record([1] * 10)])
    watching = Observer(Path("no.key"), None, str(tmp_path / "results.db"))
    watching._read_ledger()
    watching.chart_of("job", OPENED, True)
    ledger._db.execute("DELETE FROM task_rows")
    ledger._db.execute("DELETE FROM receipts")
    watching._read_ledger()
    commit(ledger, [record([1] * 5)])
    watching.chart_of("job", "2026-02-02T00:00:00+00:00", True)
    watching._read_ledger()
    assert [sum(kept.series._counts.values()) for kept in watching._of_jobs.values()] == [10, 5]
    assert sum(watching._all._counts.values()) == 15
    ledger.close()


def test_nothing_is_read_while_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Observer(Path("no.key"), None, str(tmp_path / "none.db"))
    began = watching._watched_at
    monkeypatch.setattr(module.clock, "now", lambda: began + WATCHED_S + 1)
    watching._read_ledger()
    assert watching.snapshot.unread == ""
    watching.look()
    watching._read_ledger()
    assert "there is no ledger" in watching.snapshot.unread


def test_a_long_list_of_jobs_is_read_less_often(remote: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    now, reads = [1_000.0], []

    def slow() -> list[JobSummary]:
        reads.append(now[0])
        now[0] += 0.1
        return []

    monkeypatch.setattr(module.clock, "now", lambda: now[0])
    monkeypatch.setattr(remote.books, "jobs", slow)
    remote.look()
    for _ in range(40):
        remote.look()
        remote._read_ledger()
        now[0] += 1
    assert [second - first for first, second in pairwise(reads)] == [pytest.approx(20, abs=1.2)]
    remote._take(report(1, 1))
    now[0] += JOBS_PERIOD_S
    remote._read_ledger()
    assert len(reads) == 3, "a job has come or ended"


def test_the_ledger_of_another_sink_is_called_so(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "results.db"))
    watching = Observer(Path("no.key"), None, str(tmp_path / "results.db"))
    for known, expected in (("", False), (ledger.id, False), ("0011223344556677", True)):
        watching._take(Report([], [], ledger=known))
        watching._read_ledger()
        assert ("another sink's: give this sink's own" in watching.snapshot.unread) is expected
    ledger.close()
