"""Which jobs `forget` chooses, and how it asks."""

from datetime import UTC, datetime, timedelta

import pytest

from common.errors import OperatorError
from common.sink.forgetting import age, chosen, question
from common.sink.store import JobSummary

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def job(name: str, state: str, days: float | None) -> JobSummary:
    ended_at = None if days is None else (NOW - timedelta(days=days)).isoformat(timespec="seconds")
    return JobSummary(name, "m:f", state, 10, 10, 0, "2026-01-01T00:00:00+00:00", ended_at)


JOBS = [
    job("old", "done", 40),
    job("new", "done", 2),
    job("cancelled", "cancelled", 50),
    job("open", "open", None),
    job("reopened", "open", 60),
]


@pytest.mark.parametrize(
    ("names", "done", "older_than", "found"),
    [
        (["open", "old", "open"], False, None, ["open", "old"]),
        ([], True, None, ["old", "new"]),
        ([], False, "30d", ["old", "cancelled"]),
        ([], True, "30d", ["old"]),
        ([], False, "1h", ["old", "new", "cancelled"]),
        ([], False, "500w", []),
    ],
)
def test_jobs_by_name_or_by_how_and_when_they_ended(
    names: list[str], done: bool, older_than: str | None, found: list[str]
) -> None:
    assert [each.name for each in chosen(JOBS, names, done, older_than, NOW)] == found


@pytest.mark.parametrize(
    ("names", "done", "older_than", "words"),
    [
        ([], False, None, "name the jobs to forget, or choose them"),
        (["old"], True, None, "not both"),
        (["old"], False, "3d", "not both"),
        (["old", "nosuch"], False, None, "there is no job nosuch.*none was forgotten"),
        ([], False, "30", "give a number with m, h, d or w"),
        ([], False, "-3d", "give a number with m, h, d or w"),
    ],
)
def test_wrong_use_forgets_nothing(names: list[str], done: bool, older_than: str | None, words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        chosen(JOBS, names, done, older_than, NOW)


def test_ages() -> None:
    assert [age(text) for text in ("90m", "12h", "30d", "2w")] == [
        timedelta(minutes=90), timedelta(hours=12), timedelta(days=30), timedelta(weeks=2),
    ]  # fmt: skip


def test_the_question_names_some_and_counts_all() -> None:
    assert question(JOBS[:1]) == "forget 1 job with 10 results (old)? They cannot be brought back"
    many = [job(f"j{number}", "done", 1) for number in range(12)]
    assert "forget 12 jobs with 120 results (j0, " in question(many)
    assert " and 2 more)?" in question(many)
