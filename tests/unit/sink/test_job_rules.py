"""What may happen to a job before the ledger hears of it."""

from dataclasses import replace

import pytest

from common.protocol.messages import Mark, Open
from common.sink.job_rules import begins_to_append, next_mark, stays_done, why_not_open
from common.sink.store import Job

JOB = Job(1, "job", "tasks:square", "lines of text", "open", None, 0, 0, 5, b"five", b"k" * 32, 0, 0)
DONE = replace(JOB, state="done", total=7, done=7)


KEPT = replace(DONE, arguments="text")
APPENDED = replace(KEPT, state="open", base=7, total=None)


def opening(
    function: str = JOB.function,
    source: str = JOB.source,
    retry_failed: bool = False,
    append: bool = False,
    reopens: bool = False,
) -> Open:
    return Open("job", function, source, 5557, 0, retry_failed, reopens, "text", append)


@pytest.mark.parametrize(
    ("job", "message", "words"),
    [
        (None, opening(retry_failed=True), "there is no job job"),
        (JOB, opening(function="tasks:cube"), "runs tasks:square, not tasks:cube: give another --job"),
        (None, opening(append=True), "there is no job job"),
        (DONE, opening(append=True), "the ledger has no arguments of job job"),
        (KEPT, opening(append=True, source="lines of JSON"), "another input (lines of text, now lines of JSON)"),
        (
            replace(KEPT, state="open"),
            opening(append=True),
            "run this command with that input and without --append first",
        ),
        (replace(KEPT, done=6), opening(append=True), "run this command with that input and without --append first"),
        (JOB, opening(append=True), "the ledger has no arguments of job job"),
        (
            replace(KEPT, total=None),
            opening(append=True),
            "run this command with that input and without --append first",
        ),
        (KEPT, opening(append=True, retry_failed=True), "to run its failed tasks again, leave out --append"),
        (APPENDED, opening(), "its last input begins at task 7: give that input with --append"),
        (APPENDED, opening(retry_failed=True), "its last input begins at task 7: give that input with --append"),
        (JOB, opening(source="range 0:5"), "another input (lines of text, now range 0:5): give another --job"),
        (replace(JOB, arguments="json"), opening(), "has the arguments of job job in another form: give another --job"),
    ],
)
def test_a_job_cannot_be_opened_for_another_function_or_input_or_for_failures_it_cannot_have(
    job: Job | None, message: Open, words: str
) -> None:
    assert words in (why_not_open(job, message) or "")


@pytest.mark.parametrize("job", [None, JOB, DONE, replace(JOB, state="cancelled")])
def test_a_job_can_be_opened_new_and_again_whatever_its_state(job: Job | None) -> None:
    assert why_not_open(job, opening()) is None
    assert job is None or why_not_open(job, opening(retry_failed=True)) is None


@pytest.mark.parametrize(
    ("job", "retry_failed", "stays"),
    [
        (DONE, False, True),
        (DONE, True, False),
        (replace(DONE, done=6), False, False),
        (replace(DONE, state="open"), False, False),
        (replace(DONE, state="cancelled"), False, False),
    ],
)
def test_a_job_that_is_done_stays_done_unless_failed_or_missing_tasks_are_to_run(
    job: Job, retry_failed: bool, stays: bool
) -> None:
    assert stays_done(job, opening(retry_failed=retry_failed)) == stays


def mark(count: int, total: int | None = None) -> Mark:
    return Mark("job", count, b"digest %d" % count, total)


@pytest.mark.parametrize(
    ("total", "waiting", "come", "wanted"),
    [
        (None, None, mark(4), None),
        (None, None, mark(5), mark(5)),
        (None, None, mark(9, 9), mark(9, 9)),
        (None, mark(8), mark(7), mark(8)),
        (None, mark(8), mark(9), mark(9)),
        (None, mark(8), mark(8, 8), mark(8, 8)),
        (None, mark(8, 8), mark(8), mark(8, 8)),
        (None, mark(8), mark(4), mark(8)),
        (5, None, mark(9, 9), mark(9)),
        (7, None, mark(6, 8), mark(6, 8)),
        (7, None, mark(9, 9), mark(9, 9)),
    ],
)
def test_a_mark_never_goes_back_and_the_total_of_a_read_input_stays(
    total: int | None, waiting: Mark | None, come: Mark, wanted: Mark | None
) -> None:
    assert next_mark(replace(JOB, total=total), waiting, come) == wanted


@pytest.mark.parametrize(
    ("job", "begins"),
    [
        (KEPT, True),
        (replace(KEPT, state="open", mark_count=7), True),
        (replace(KEPT, state="cancelled", mark_count=7), True),
        (replace(APPENDED, state="done", total=9, done=9), True),
        (APPENDED, False),
        (replace(APPENDED, state="cancelled"), False),
        (replace(APPENDED, base=0, done=0), False),
        (replace(APPENDED, total=9, done=8), False),
    ],
)
def test_an_input_is_appended_when_all_before_is_recorded_and_gone_on_with_until_then(job: Job, begins: bool) -> None:
    assert why_not_open(job, opening(append=True)) is None
    assert begins_to_append(job, opening(append=True)) == begins
    assert not begins_to_append(job, opening(append=True, reopens=True)), "it was begun before the sink was away"
    assert not begins_to_append(job, opening())
    assert not begins_to_append(job, opening(append=True, retry_failed=True)), "the last input's failed tasks"
