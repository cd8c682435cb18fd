"""What may happen to a job, decided before the ledger stores it: who may open it, and how its mark moves."""

from msgspec.structs import replace

from ..protocol.messages import Mark, Open
from .store import Job


def no_job(name: str) -> str:
    """Why nothing can be done with a job that the ledger does not have."""
    return f"there is no job {name}: `python sink.py jobs --key FILE` lists them"


def why_not_open(job: Job | None, message: Open) -> str | None:
    """Why the job cannot be opened as asked; None when it can."""
    if job is None:
        # Only failed tasks are to run, or tasks are to be added, and there are none.
        return no_job(message.job) if message.retry_failed or message.append else None
    if job.function != message.function:
        return f"job {job.name} runs {job.function}, not {message.function}: give another --job name"
    if job.source != message.source:
        return (
            f"job {job.name} was started on another input ({job.source}, now {message.source}): give another --job name"
        )
    if job.arguments and message.arguments and job.arguments != message.arguments:
        return f"the ledger has the arguments of job {job.name} in another form: give another --job name"
    if message.append:
        return _why_not_append(job, message.retry_failed)
    if job.base is not None:
        return (
            f"job {job.name} was appended to, and its last input begins at task {job.base}: give that input with"
            " --append, or another --job name"
        )
    return None


def _why_not_append(job: Job, retry_failed: bool) -> str | None:
    if retry_failed and job.base is None:
        return f"nothing was appended to job {job.name}: to run its failed tasks again, leave out --append"
    if not job.arguments:
        return f"the ledger has no arguments of job {job.name}, so nothing can be appended: give another --job name"
    if job.base is None and not is_complete(job):
        return (
            f"job {job.name} has tasks that are not recorded, and only its own input has their arguments: run this"
            " command with that input and without --append first, then again as it is"
        )
    return None


def is_complete(job: Job) -> bool:
    """True when the input was read to its end, and each task of it has its row."""
    return job.read_total is not None and job.done == job.read_total


def begins_to_append(job: Job, message: Open) -> bool:
    """True when this run's input is a new one; False when it goes on with the one that was appended last."""
    return message.append and not (message.reopens or message.retry_failed) and is_complete(job)


def stays_done(job: Job, message: Open) -> bool:
    """True when the job is done and this run has nothing to add, as when `Open` is resent and crosses the close."""
    return job.state == "done" and is_complete(job) and not message.retry_failed


def next_mark(job: Job, waiting: Mark | None, mark: Mark) -> Mark | None:
    """The mark to commit after `mark` has come, when `waiting` was to be committed.

    A mark never goes back, and the total of an input that was read to its end stays.
    """
    if mark.count < job.mark_count or (
        waiting is not None and (waiting.count == waiting.total or mark.count < waiting.count)
    ):
        return waiting
    return mark if job.read_total is None else replace(mark, total=None)
