"""The command `crew keep`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .. import console, options, own_process
from ..errors import OperatorError
from ..help_page import ARGUMENTS, CONNECTION, RUN, TUNING
from ..log_writer import LogFormat
from .slurm import DEFAULT_KEY, WORKERS_MAX, Cpus, JobName, Sbatch, key_of_file, ordered, program
from .worker_line import WorkerLine, worker_line

MOST = 20
OF_SLURM = ("--time", "--sbatch", "--name", "--backlog")


class Where(StrEnum):
    """Where workers are started."""

    slurm = "slurm"
    local = "local"


WhereArgument = Annotated[
    Where, options.argument(ARGUMENTS, "slurm|local", "Where to start workers: with Slurm, or on this machine.")
]
Least = Annotated[
    int, options.option(TUNING, None, "N", "How many workers to have at least.", "--min", min=0, max=WORKERS_MAX)
]
Most = Annotated[
    int | None,
    options.option(
        TUNING, None, "N", "How many workers to have at most.", "--max", min=1, max=WORKERS_MAX,
        default="20, or with local what the cores are enough for",
    ),
]  # fmt: skip
Backlog = Annotated[
    int, options.option(TUNING, None, "N", "How many workers may wait in Slurm's queue.", min=1, max=WORKERS_MAX)
]
Within = Annotated[
    float, options.option(TUNING, None, "SECONDS", "Start enough workers to finish what is left in this time.", min=1)
]
Every = Annotated[
    float | None,
    options.option(
        TUNING, None, "SECONDS", "How often to look at the sink and at the workers.", min=0.1,
        default="30, or 2 with local",
    ),
]  # fmt: skip
Time = Annotated[
    str | None, options.option(RUN, None, "TIME", "With slurm: the time limit of each worker, as Slurm writes it.")
]
Key = Annotated[
    Path, options.file(CONNECTION, "TRADEWIND_KEY", "The workers' key file; the sink is asked with it too.")
]


def keep(
    context: typer.Context,
    where: WhereArgument,
    least: Least = 0,
    most: Most = None,
    backlog: Backlog = 1,
    within: Within = 600.0,
    every: Every = None,
    time: Time = None,
    cpus: Cpus = None,
    sbatch: Sbatch = None,
    name: JobName = None,
    key: Key = DEFAULT_KEY,
    sink: options.Sink = None,
    log_format: options.Log = LogFormat.text,
) -> None:
    """Start workers while there are tasks for them, as many as finish what is left in 10 minutes (--within).

    They leave by themselves when they have had no task for 5 minutes. After three in a row that ended before they were
    ready for tasks, no more are started for a while, and the last lines of their log are shown. With slurm they stay
    when this command ends, and are found again when it is started again; with local they leave.
    """
    console.start_log("crew", log_format)
    own_process.prepare()
    from ..worker.cores import usable_cores
    from .cluster import Cluster
    from .demand import ServedFunctions
    from .keep_loop import KeepLoop
    from .keeping import Keeper, KeepSettings
    from .local_workers import LocalWorkers

    line = worker_line(context)
    slots = cpus or line.slots or 1
    is_local = where is Where.local
    if most is None:
        most = max(1, least, usable_cores().count // slots if is_local else MOST)
    if least > most:
        raise OperatorError(f"--min {least} is more than --max {most}: give no more than that")
    # On this machine nothing waits in a queue.
    settings = KeepSettings(least, most, most if is_local else backlog, slots, within)
    keeper = Keeper(settings, ServedFunctions(line.modules, line.commands))
    if is_local:
        if typed := [each for each in console.typed_options(context) if each in OF_SLURM]:
            raise OperatorError(f"{typed[0]} is for Slurm: leave it out with local")
        key_of_file(key)
        workers = LocalWorkers(local_command(line, slots, key), Path.cwd())
        loop = KeepLoop(keeper, workers, key, sink or line.sink, every or 2.0)
        code = loop.run()
        workers.leave(at_once=False)
        loop.wait_for(workers)
    else:
        if time is None:
            raise OperatorError("keep slurm needs --time: the time limit of each worker, like --time 1:00:00")
        cluster = Cluster(ordered(line, time, cpus, sbatch or [], name, key))
        cluster.try_out(1)
        code = KeepLoop(keeper, cluster, key, sink or line.sink, every or 30.0).run()
    raise typer.Exit(code)


def local_command(line: WorkerLine, slots: int, key: Path) -> list[str]:
    """What starts a worker on this machine, without its name. Raises OperatorError."""
    from .job_script import IDLE_S

    for option in ("name", "stop_with_stdin"):
        if option in line.typed:
            raise OperatorError(f"--{option.replace('_', '-')} cannot stand behind --: that is set for each worker")
    words = ["worker", "--key", str(key), "--stop-with-stdin"]
    if "slots" not in line.typed:
        words += ["--slots", str(slots)]
    if "exit_when_idle" not in line.typed:
        words += ["--exit-when-idle", str(IDLE_S)]
    return [*program(), *words, *line.words]
