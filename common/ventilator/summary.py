"""How a job stands and how it ended: counts, lines to log, exit code. No socket, no clock."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from .. import causes
from ..errors import AnotherInput, ExitCode, JobCancelled, NoWorkerHere, OperatorError, SinkGone
from ..log_line import LogLine
from ..pace import duration, rate_text
from ..plain_text import counted
from ..protocol.messages import Closed
from ..protocol.settings import what_serves


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands. Counts are tasks, but `outstanding` counts batches and `crew` workers."""

    done: int
    failed: int
    total: int | None
    outstanding: int
    crew: int
    slots: int
    is_estimate: bool = False
    """The total was estimated from a part of the input."""
    is_counted: bool = True
    """What earlier runs have recorded is among the `done`; before, they grow faster than any crew works."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """Order to the shell: leave, log these lines, then raise the error or exit with the code."""

    code: ExitCode
    lines: list[LogLine] = field(default_factory=list)
    error: OperatorError | None = None


def mistake(error: OperatorError) -> JobEnd:
    """The job cannot go on, and there is nothing to sum up."""
    return JobEnd(error.code, [], error)


def another_input(job: str, appends: bool = False, retry_failed: bool = False) -> OperatorError:
    """The input differs from the one that an earlier run of the job has read."""
    if appends and retry_failed:
        return OperatorError(f"the input is not the one that was appended to job {job} last: give that one")
    if appends:
        return OperatorError(
            f"job {job} has not finished the input that was appended to it before: append that input again first,"
            " then this one"
        )
    return AnotherInput(
        f"the input is not the one that job {job} was started with: give the same input again, or another --job name"
    )


def skipped(job: str, count: int) -> LogLine:
    """What was not taken of an input that was appended."""
    was, its_argument = ("was", "its argument") if count == 1 else ("were", "their arguments")
    return LogLine("info", f"{counted(count, 'task')} of the input {was} skipped: job {job} has had {its_argument}")


def no_spool(job: str, folder: str) -> OperatorError:
    """An earlier run has read more of the stream than is kept here."""
    return OperatorError(
        f"what job {job} has read of its stream is not in {folder}: run the command where that is, or give another"
        " --job name; nothing was taken from the stream"
    )


def stream_is_over(job: str) -> OperatorError:
    """The job has read its stream to the end."""
    return OperatorError(
        f"the stream of job {job} has ended: give another --job name for what comes now; nothing was taken from it"
    )


def cancelled(job: str) -> OperatorError:
    """Somebody has cancelled the job."""
    return JobCancelled(f"job {job} was cancelled; its recorded results stay in the ledger")


class Workers(Enum):
    """Where workers of the job can be started, for hints."""

    HERE = auto()
    """In this folder, which has the sink's keys."""
    ELSEWHERE = auto()
    """On machines that the sink has enrolled."""
    OURS = auto()
    """Nowhere: the ventilator has its private worker."""


def no_worker_yet(function: str, others: int, workers: Workers) -> str:
    """What to do while no worker exposes the function."""
    module = function.partition(":")[0]
    if workers is Workers.OURS:
        return f"the worker of --local does not expose {function} yet, as it is still importing {module}"
    served = what_serves(function)
    start = f"start one with `python worker.py {served}`"
    if workers is Workers.ELSEWHERE:
        start = f"start one on a machine that the sink has enrolled as a worker: `tradewind worker {served} --key FILE`"
    return str(causes.no_worker(function, others, start))


def no_worker(function: str, others: int, job: str) -> OperatorError:
    """Workers are here, and none of them exposes the function."""
    return NoWorkerHere(
        f"no worker exposes {function}; workers here ({others}) expose other functions: fix the name and run the"
        f" command again, or start a worker that exposes it and add --job {job}"
    )


def sink_gone(job: str, seconds: float) -> OperatorError:
    """The sink was away for longer than the job waits for it."""
    return SinkGone(
        f"the sink was away for {duration(seconds)}; what is recorded of job {job} is in its ledger: start it, and run"
        " the job again under its name"
    )


def stopped(job: str, standing: Standing, error: OperatorError | None) -> JobEnd:
    """The job was interrupted, or its input ended with an error."""
    code = ExitCode.INTERRUPTED if error is None else ExitCode.WRONG_USE
    if error is not None and not standing.done:
        return JobEnd(code, [], error)
    lines = [
        LogLine("info", f"job {job} stopped: {_recorded(standing)}"),
        LogLine("info", f"to go on with it, run the same command with --job {job}"),
    ]
    return JobEnd(code, lines, error)


def enough_failed(count: int, most: int) -> str:
    """What happens when as many tasks have failed as may."""
    failed = f"{counted(count, 'task')} failed, and --max-fails is {most}"
    return f"{failed}: pushing no more tasks, waiting for running ones; Ctrl-C to leave at once"


def halted(job: str, standing: Standing, results_options: Sequence[str] = ()) -> JobEnd:
    """As many tasks have failed as may."""
    lines = [
        LogLine("warning", f"job {job} is halted by --max-fails: {_recorded(standing)}"),
        LogLine("info", f"failed tasks: {_results_command(job, True, results_options)}"),
        LogLine(
            "info",
            f"to go on with it, run the same command with --job {job}; with --retry-failed, failed tasks are run again",
        ),
    ]
    return JobEnd(ExitCode.TASKS_FAILED, lines)


def _recorded(standing: Standing) -> str:
    of = "" if standing.total is None else f" of {'~' if standing.is_estimate else ''}{standing.total:,}"
    failed = f", {standing.failed:,} of them failed" if standing.failed else ""
    return f"{standing.done:,}{of} tasks are recorded{failed}"


def _results_command(job: str, failed: bool, results_options: Sequence[str]) -> str:
    where = "".join(f" {shlex.quote(option)}" for option in results_options)
    return f"python sink.py results {job}{' --failed' * failed}{where}"


def done(job: str, closed: Closed, seconds: float, results_options: Sequence[str] = ()) -> JobEnd:
    """Every task is recorded, and the sink has closed the job."""
    pace = f", in {duration(seconds)}, {rate_text(closed.done / seconds)}" if seconds else ""
    fine = counted(closed.done - closed.failed, "task")
    lines = [LogLine("info", f"job {job} is done: {fine} ok, {closed.failed:,} failed{pace}")]
    if not closed.done:
        lines.append(LogLine("warning", "the input has no task; blank lines are ignored"))
    for task, error, argument in closed.failures:
        named = "" if argument is None else f" ({argument})"
        lines.append(LogLine("warning", f"task {task}{named} failed: {error}"))
    if closed.failed > len(closed.failures):
        lines.append(LogLine("warning", f"and {closed.failed - len(closed.failures):,} more"))
    lines.append(LogLine("info", f"results: {_results_command(job, closed.failed > 0, results_options)}"))
    return JobEnd(ExitCode.TASKS_FAILED if closed.failed else ExitCode.OK, lines)
