"""What goes wrong with a farm, as exceptions for the user's program."""

from ..errors import AnotherInput, JobCancelled, NoWorkerHere, OperatorError, SinkGone
from .words import in_program


class TradewindError(Exception):
    """The base of all errors of a farm. The text says what is wrong and what to do."""


class TaskFailed(TradewindError):
    """A task has failed for good: it raised, took too long, ended its process, or several workers died with it.

    No exception of the worker is rebuilt here: `text` has its traceback.

    >>> str(TaskFailed(3, "Traceback (most recent call last):\\nValueError: odd", "lab1", 1, "evens"))
    "task 3 failed on worker lab1 (attempt 1): ValueError: odd; go on: map(..., job='evens', retry_failed=True)"
    """

    def __init__(self, task: int, text: str, worker: str, attempt: int, job: str) -> None:
        super().__init__(task, text, worker, attempt, job)
        self.task = task
        """Its place in the arguments, from 0."""
        self.text = text
        """The traceback, or another reason."""
        self.worker = worker
        self.attempt = attempt
        self.job = job

    def __str__(self) -> str:
        lines = self.text.strip().splitlines() or [""]
        return (
            f"task {self.task} failed on worker {self.worker} (attempt {self.attempt}): {lines[-1]}"
            f"; go on: map(..., job={self.job!r}, retry_failed=True)"
        )


class NoWorker(TradewindError):
    """Workers are there, and none of them exposes the function."""


class JobRefused(TradewindError):
    """The sink, or this process, does not run the job."""


class Cancelled(TradewindError):
    """Somebody has cancelled the job."""


class Halted(TradewindError):
    """The job was stopped before its end. What is recorded stays, and the job goes on when it is mapped again."""


class SinkAway(TradewindError):
    """The sink did not answer for too long. The job goes on when it is mapped again."""


class OtherInput(TradewindError):
    """The arguments are not those that the job was started with."""


def no_answer(error: OperatorError) -> TradewindError:
    """Why the sink has not answered a question."""
    text = in_program(str(error))
    return SinkAway(text) if isinstance(error, SinkGone) else JobRefused(text)


def for_program(error: OperatorError, job: str = "", sink: str = "") -> TradewindError:
    """The error of a role, in the words of a program."""
    again = f"map(..., job={job!r})"
    if isinstance(error, JobCancelled):
        return Cancelled(str(error))
    if isinstance(error, NoWorkerHere):
        found = str(error).partition(": ")[0]
        return NoWorker(f"{found}: fix the name, or start a worker that exposes it and go on: {again}")
    if isinstance(error, AnotherInput):
        return OtherInput(
            f"the arguments are not those that job {job} was started with: give the same again, or another job name"
        )
    if isinstance(error, SinkGone):
        found = str(error).partition(":")[0].replace("the sink", f"the sink at {sink}", 1)
        return SinkAway(f"{found}: start it, and go on: {again}")
    return JobRefused(in_program(str(error)))
