"""The command `crew slurm`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, options
from ..default_files import key_file
from ..errors import OperatorError
from ..help_page import CONNECTION, PRINT, RUN
from ..protocol.users import WORKER
from .worker_line import WorkerLine, worker_line

if TYPE_CHECKING:
    from ..transport.key_files import Certificate
    from .job_script import JobOrder

DEFAULT_KEY = key_file(WORKER)
WORKERS_MAX = 10_000

Time = Annotated[
    str, options.option(RUN, None, "TIME", "The time limit of each worker, as Slurm writes it: 30 (minutes), 1:00:00.")
]
Workers = Annotated[int, options.option(RUN, None, "N", "How many workers to start.", min=1, max=WORKERS_MAX)]
Cpus = Annotated[
    int | None,
    options.option(RUN, None, "N", "How many CPUs each worker gets.", min=1, default="the worker's slots, or 1"),
]
Sbatch = Annotated[
    list[str] | None,
    options.option(
        RUN, None, "ARGUMENTS", "More arguments for sbatch, like '--partition=long'. Can be given again.", "--sbatch",
        default="none",
    ),
]  # fmt: skip
JobName = Annotated[
    str | None, options.option(RUN, None, "NAME", "The name of the job in Slurm.", default="one for each sink")
]
Submit = Annotated[bool, options.flag(PRINT, None, "Submit the script instead of printing it.", "--submit")]
Key = Annotated[Path, options.file(CONNECTION, "TRADEWIND_KEY", "The workers' key file, where all nodes can read it.")]


def slurm(
    context: typer.Context,
    time: Time,
    workers: Workers = 1,
    cpus: Cpus = None,
    sbatch: Sbatch = None,
    name: JobName = None,
    key: Key = DEFAULT_KEY,
    submit: Submit = False,
) -> None:
    """Print the script of an array of workers for Slurm, or submit it.

    Each worker leaves when it has had no task for 5 minutes, and before its time is over.
    """
    from .cluster import Cluster
    from .job_script import script

    line = worker_line(context)
    order = ordered(line, time, cpus, sbatch or [], name, key)
    if not submit:
        with console.pipe_may_close():
            print(script(order, workers), end="")
        return
    cluster = Cluster(order)
    cluster.try_out(workers)
    job = cluster.submit(workers)
    print(f"job {job} has been submitted: `squeue --job {job}` shows it, `scancel {job}` ends it")
    print(f"the workers log to {cluster.log_of(f'{job}_N')}")


def ordered(
    line: WorkerLine, time: str, cpus: int | None, sbatch: list[str], name: str | None, key: Path
) -> "JobOrder":
    """What each allocation is and runs. Raises OperatorError."""
    from ..protocol.sink_addresses import is_loopback
    from ..transport.key_files import is_name
    from ..transport.sink_link import sink_addresses
    from ..transport.sockets import endpoint
    from .job_script import JobOrder, job_name, limit_s, refused_words, sbatch_words

    if refused := refused_words(line.typed, line.grace_s):
        raise OperatorError(refused)
    if name is not None and not is_name(name):
        raise OperatorError(f"--name {name}: use letters, digits, dot, dash and underscore, at most 60")
    certificate = key_of_file(key)
    here = [endpoint(host, port) for host, port in sink_addresses(certificate, None) if is_loopback(host)]
    if here and "sink" not in line.typed:
        raise OperatorError(
            f"{key} says that the sink is at {here[0]}, which on a node is the node itself: "
            f"run `python sink.py enrol {WORKER} NAME`, and give the file that it writes with --key"
        )
    limit_s(time)
    return JobOrder(
        name=name or job_name(certificate.sink_key),
        limit=time,
        cpus=cpus or line.slots or 1,
        folder=str(Path.cwd()),
        key=str(key.absolute()),
        program=program(),
        words=line.words,
        typed=line.typed,
        extra=sbatch_words(sbatch),
    )


def key_of_file(path: Path) -> "Certificate":
    """The workers' key, in a file that each of them reads. Raises OperatorError."""
    from ..transport.key_files import STDIN, load_pair

    if path == STDIN:
        raise OperatorError("--key -: each worker reads the key by itself, so give a file")
    return load_pair(path, WORKER)


def program() -> list[str]:
    """What starts the command `tradewind` with this Python."""
    return [sys.executable, "-m", __package__.partition(".")[0]]
