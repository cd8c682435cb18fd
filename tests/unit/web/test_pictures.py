"""What the pages show, made of a report and of the ledger's jobs."""

from common.protocol.messages import JobReport, Report, WorkerReport
from common.sink.store import JobSummary
from common.web import pictures

AT, LATER = "2026-11-26T06:40:00+00:00", "2026-11-26T06:41:40+00:00"
REPORT = Report(
    [JobReport("big", "m:f", 500, 5, 1_000, 2, 25.0, [(1, 7, 2, 12.5), (9, 1, 1, 1.0)])],
    [
        WorkerReport("w2", "lab", "10.0.0.2", 4, 3, 5, 0.5, [(0, 3), (7, 1)]),
        WorkerReport("w1", "lab", "10.0.0.1", 2, 9, 2, 0.5),
    ],
)
KNOWN = [
    JobSummary("old", "m:f", "done", 100, 100, 0, AT, LATER),
    JobSummary("big", "m:f", "open", 1_000, 400, 0, AT, None),
    JobSummary("left", "m:g", "open", None, 10, 1, AT, None),
]


def test_running_jobs_come_first_then_the_newest() -> None:
    assert [(job.name, job.state) for job in pictures.JobList(REPORT, KNOWN)] == [
        ("big", "running"),
        ("left", "stopped"),
        ("old", "done"),
    ]
    assert [job.state for job in pictures.JobList(None, KNOWN)] == ["stopped", "stopped", "done"]


def test_a_running_job_is_as_the_sink_sees_it() -> None:
    job = pictures.JobList(REPORT, KNOWN)[0]
    assert (job.done, job.share, job.failed_share, job.left_s) == (500, 0.5, 0.005, 20.0)
    assert job.longest == (("w1", 7, 2, 12.5),), "of a worker that is in the report"
    assert job.opened_at == AT


def test_an_ended_job_has_its_mean_rate() -> None:
    job = pictures.JobList(None, KNOWN)[2]
    assert (job.took_s, job.rate, job.left_s, job.share) == (100.0, 1.0, None, 1.0)


def test_jobs_by_name_and_those_that_are_open() -> None:
    jobs = pictures.JobList(REPORT, KNOWN)
    left = jobs.named("left")
    assert left is not None
    assert (left.done, left.state) == (10, "stopped")
    assert jobs.named("none") is None
    assert [job.name for job in jobs.open()] == ["big", "left"]
    assert [job.name for job in jobs[1:]] == ["left", "old"]


def test_what_is_not_known_is_not_said() -> None:
    unknown = pictures.JobList(Report([JobReport("x", "m:f", 5, 0, None, 0, 0.0)], []), [])[0]
    assert (unknown.share, unknown.left_s, unknown.failed_share, unknown.opened_at) == (None, None, 0.0, None)
    empty = pictures.JobList(Report([JobReport("x", "m:f", 0, 0, 0, 0, 0.0)], []), [])[0]
    assert (empty.share, empty.failed_share) == (1.0, 0.0)


def test_workers_by_name_with_what_they_run() -> None:
    first, second = pictures.workers(REPORT)
    assert (first.name, first.runs, first.share) == ("w1", (), 1.0)
    assert (second.name, second.runs, second.share) == ("w2", (("big", 3),), 0.75)
    assert pictures.workers(None) == []


def test_the_figures_on_top() -> None:
    found = pictures.farm(REPORT)
    assert (found.workers, found.slots, found.busy, found.running, found.rate) == (2, 6, 5, 1, 25.0)
    assert pictures.farm(None).slots == 0


def test_jobs_and_workers_are_found_by_any_of_their_words() -> None:
    for wanted, found in (("M:G", ["left"]), ("done", ["old"]), ("stopped", ["left"]), ("RUNN", ["big"]), ("x", [])):
        assert [job.name for job in pictures.JobList(REPORT, KNOWN, wanted)] == found
    workers = pictures.workers(REPORT)
    assert [worker.name for worker in pictures.matching_workers(workers, "big")] == ["w2"]
    assert [worker.name for worker in pictures.matching_workers(workers, "0.0.1")] == ["w1"]
