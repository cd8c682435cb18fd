"""Which jobs `forget` removes, and how it asks first. No socket, no clock."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ..errors import OperatorError
from ..plain_text import counted
from .store import JobSummary

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NAMED = 10


def age(text: str) -> timedelta:
    """An age such as 30d, 12h or 90m. Raises OperatorError."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if found is None:
        raise OperatorError(f"--older-than: give a number with m, h, d or w (minutes, hours, days, weeks), not {text}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def chosen(
    jobs: Sequence[JobSummary], names: Sequence[str], done: bool, older_than: str | None, now: datetime
) -> list[JobSummary]:
    """The jobs that are named, or all that have ended as described. Raises OperatorError."""
    if not names and not done and older_than is None:
        raise OperatorError("name the jobs to forget, or choose them with --done or --older-than 30d")
    if names:
        if done or older_than is not None:
            raise OperatorError("name jobs, or choose them with --done and --older-than, not both")
        known = {job.name: job for job in jobs}
        if unknown := [name for name in names if name not in known]:
            raise OperatorError(f"there is no job {unknown[0]}: `python sink.py jobs` lists them; none was forgotten")
        return [known[name] for name in dict.fromkeys(names)]
    before = now - age(older_than or "0m")
    return [job for job in jobs if _ended_before(job, before) and not (done and job.state != "done")]


def _ended_before(job: JobSummary, instant: datetime) -> bool:
    if job.state == "open" or job.ended_at is None:
        return False
    ended_at = datetime.fromisoformat(job.ended_at)
    return (ended_at if ended_at.tzinfo else ended_at.replace(tzinfo=UTC)) <= instant


def question(jobs: Sequence[JobSummary]) -> str:
    """What to ask before."""
    names = ", ".join(job.name for job in jobs[:_NAMED])
    more = f" and {len(jobs) - _NAMED:,} more" if len(jobs) > _NAMED else ""
    results = counted(sum(job.done for job in jobs), "result")
    return f"forget {counted(len(jobs), 'job')} with {results} ({names}{more})? They cannot be brought back"
