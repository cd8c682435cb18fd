"""What the sink counts since its start, and what a report says of running batches."""

from common.protocol.messages import Beat, Counters, Query, Report, Returned
from common.protocol.reports import LONGEST_MAX
from tests.unit.sink.scene import ADA, BOB, OLGA, REOPEN, SQUARE, TIMING, VERA, Scene, of


def asked(scene: Scene) -> Report:
    scene.hello(OLGA)
    ((_, report),) = of(Report, scene.send(OLGA, Query()))
    assert isinstance(report, Report)
    return report


def counted(scene: Scene) -> Counters:
    counters = asked(scene).counters
    counters.commit_s = 0.0
    return counters


def test_each_count_has_what_happened(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.worker(ADA)
    assert counted(scene) == Counters()
    twice = scene.batch([1, 2, 3], errors={1: "no"})
    scene.deliver(twice)
    scene.sink.flush(scene.now)
    scene.deliver(twice)
    scene.sink.flush(scene.now)
    scene.sink.flush(scene.now)
    scene.send(ADA, Returned("job", "ada", [(5, 1, 1), (6, 1, 1)], [(7, 1, 1)]))
    assert counted(scene) == Counters(ok=2, failed=1, duplicates=3, returned=3, commits=2)
    scene.pass_time(2 * TIMING.gone_s, VERA, OLGA)
    assert counted(scene) == Counters(ok=2, failed=1, duplicates=3, returned=3, commits=2, workers_lost=1)


def test_what_is_retried_is_no_failure_yet(scene: Scene) -> None:
    scene.hello(VERA)
    scene.send(VERA, REOPEN.__class__("job", SQUARE, "lines of text", 5557, 2, False, False))
    scene.worker(ADA)
    scene.deliver(scene.batch([1, 2], errors={0: "not yet"}))
    scene.sink.flush(scene.now)
    assert counted(scene) == Counters(ok=1, retried=1, commits=1)


def test_the_time_of_commits_adds_up(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.deliver(scene.batch([1]))
    scene.sink.flush(scene.now)
    report = asked(scene)
    assert 0 < report.counters.commit_s < 60
    assert report.ledger_bytes > 0
    assert not report.is_stuck


def test_a_stuck_ledger_is_said(scene: Scene) -> None:
    scene.ventilator(VERA)
    (pages,) = scene.ledger._db.execute("PRAGMA page_count").fetchone()
    scene.ledger._db.execute(f"PRAGMA max_page_count={pages}")
    scene.deliver(scene.batch(["x" * 100_000]))
    scene.sink.flush(scene.now)
    assert asked(scene).is_stuck


def test_a_report_says_what_runs_where_and_since_when(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.worker(ADA, beat=Beat(1, 8, 2, {}, {"job": [(0, 5, 1)], "of a ventilator that left": [(0, 1, 1)]}))
    scene.now += 2
    scene.worker(BOB, beat=Beat(1, 8, 2, {}, {"job": [(5, 5, 1), (10, 5, 1)]}))
    scene.now += 1
    scene.send(BOB, Beat(2, 8, 2, {}, {"job": [(10, 5, 1)]}))
    report = asked(scene)
    assert report.jobs[0].longest == [(0, 0, 5, 3.0), (1, 10, 5, 1.0)]
    assert [each.runs for each in report.workers] == [[(0, 1)], [(0, 1)]]


def test_of_many_running_batches_the_longest_are_named(scene: Scene) -> None:
    scene.ventilator(VERA)
    running: list[tuple[int, int, int]] = []
    for serial in range(2 * LONGEST_MAX):
        running.insert(0, (serial, 1, 1))
        scene.worker(ADA, beat=Beat(serial, 100, 2, {}, {"job": running.copy()}))
        scene.now += 1
    assert [task for _, task, _, _ in asked(scene).jobs[0].longest] == [*range(LONGEST_MAX)]


def test_a_lying_worker_has_no_more_running_than_slots(scene: Scene) -> None:
    scene.ventilator(VERA)
    scene.worker(ADA, beat=Beat(1, 2, 2, {}, {"job": [(task, 1, 1) for task in range(200)]}))
    assert len(asked(scene).jobs[0].longest) == 2
