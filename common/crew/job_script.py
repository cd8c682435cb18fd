"""What Slurm is given: the script of an array of workers, and the times that go with it."""

import hashlib
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OperatorError
from .recipes import AFTER_GRACE_S

LEAVES_BEFORE_S = 90
"""How long before the end of its time a worker begins to leave."""
SIGNAL_BEFORE_S = 60
"""When Slurm sends SIGTERM, in case that the time limit was lowered. Slurm may be up to a minute early."""
GRACE_S = 50
"""How long tasks may go on when the worker leaves: it is gone before its time is over."""
LEAST_S = 180
"""The shortest time limit."""
IDLE_S = 300
"""After how long without a task a worker leaves."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_OURS = {
    ("-t", "--time"): "--time",
    ("-a", "--array"): "--workers",
    ("-c", "--cpus-per-task"): "--cpus",
    ("-J", "--job-name"): "--name",
    ("-D", "--chdir"): "the folder in which you type this",
    ("-o", "--output"): "the folder in which you type this",
    ("--signal",): "--time",
    ("--wrap",): "what stands behind --",
}
"""Arguments of sbatch that the script sets, and what sets them here."""


class ScriptError(OperatorError):
    """What was asked for cannot be in a script; one line for the operator."""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What each allocation is and runs."""

    name: str
    """Of the job in Slurm."""
    limit: str
    """The time limit, as Slurm writes it."""
    cpus: int
    folder: str
    key: str
    program: Sequence[str]
    """What starts the command `tradewind` on a node."""
    words: Sequence[str]
    """What the worker is given."""
    typed: frozenset[str]
    """Which of its parameters are among these words."""
    extra: Sequence[str] = ()
    """More arguments of sbatch."""


def job_name(sink_key: str) -> str:
    """A name by which the allocations of one farm are known, also to a command that is started again."""
    return f"tradewind-{hashlib.sha256(sink_key.encode()).hexdigest()[:6]}"


def limit_s(text: str) -> int:
    """A time limit in seconds: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S. Raises ScriptError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ScriptError(f"--time {text}: give it as Slurm does, like 30 (minutes), 1:00:00 or 2-12 (days-hours)")
    days, *parts = (None if each is None else int(each) for each in match.groups())
    given = [each for each in parts if each is not None]
    if days is not None:
        hours, minutes, seconds = (*given, 0, 0)[:3]
    elif len(given) == 3:
        hours, minutes, seconds = given
    else:
        hours, (minutes, seconds) = 0, (*given, 0)[:2]
    found = ((days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds
    if found < LEAST_S:
        raise ScriptError(
            f"--time {text}: a worker leaves {LEAVES_BEFORE_S} seconds before its time is over; "
            f"give at least {LEAST_S // 60} minutes"
        )
    return found


def sbatch_words(texts: Sequence[str]) -> list[str]:
    """More arguments of sbatch, as they were typed in one text or in several. Raises ScriptError."""
    found = []
    for text in texts:
        try:
            found += shlex.split(text)
        except ValueError as error:
            raise ScriptError(f"--sbatch {text}: {str(error).lower()}") from None
    for word in found:
        for names, ours in _OURS.items():
            if any(_is_option(word, name) for name in names):
                raise ScriptError(f"--sbatch {word}: that is set by {ours}")
        if _CONTROLS.search(word):
            raise ScriptError(f"--sbatch {word!r}: an argument of sbatch must be on one line")
    return found


def _is_option(word: str, name: str) -> bool:
    given = word.partition("=")[0]
    # Of a long one sbatch takes the beginning too.
    return name.startswith(given) and len(given) > 3 if name.startswith("--") else word.startswith(name)


def script(order: JobOrder, workers: int) -> str:
    """The script. Nothing in it is secret: it names the key file. Raises ScriptError."""
    paths = {"this folder": order.folder, "the key file": order.key, "the program": " ".join(order.program)}
    for what, path in paths.items():
        if _CONTROLS.search(path):
            raise ScriptError(f"{what} has a line break or the like in its name ({path!r}): rename it")
    lines = [
        "#!/bin/sh",
        "# Workers of Tradewind, one in each task of the array. The nodes need the folder, the key file and the",
        "# program at the same places as here.",
        *(f"#SBATCH {line}" for line in _settings(order, workers)),
        "",
        *_checks(order),
        f"exec {' '.join([*map(shlex.quote, order.program), 'worker', *_worker_words(order)])}",
    ]
    return "\n".join(lines) + "\n"


def _settings(order: JobOrder, workers: int) -> list[str]:
    settings = [
        f"--job-name={order.name}",
        f"--array=1-{workers}",
        f"--time={order.limit}",
        "--ntasks=1",
        f"--cpus-per-task={order.cpus}",
        # To the worker only: it ends its children itself.
        f"--signal=B:TERM@{SIGNAL_BEFORE_S}",
        f"--chdir={shlex.quote(order.folder)}",
        f"--output={log_name(order.name, '%A_%a')}",
        "--open-mode=append",
    ]
    return [*settings, *([shlex.join(order.extra)] if order.extra else [])]


def log_name(name: str, allocation: str) -> str:
    """The file in which an allocation's worker logs."""
    return f"{name}-{allocation}.log"


def worker_name(allocation: str) -> str:
    """What an allocation's worker is called."""
    return f"slurm-{allocation}"


def allocation_of(worker: str) -> str:
    """The allocation of the worker of this name."""
    return worker.removeprefix("slurm-")


def _checks(order: JobOrder) -> list[str]:
    """What a node that is not set up says in the log."""
    return [
        f"for needed in {shlex.quote(order.key)} {shlex.quote(order.program[0])}; do",
        '    [ -r "$needed" ] && continue',
        '    echo "node $(hostname) cannot read $needed: put it on a file system that all nodes have" >&2',
        "    exit 2",
        "done",
    ]


def _worker_words(order: JobOrder) -> list[str]:
    own = ["--key", shlex.quote(order.key)]
    own += ["--name", worker_name("${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}")]
    if "slots" not in order.typed:
        own += ["--slots", '"$SLURM_CPUS_PER_TASK"']
    if "exit_when_idle" not in order.typed:
        own += ["--exit-when-idle", str(IDLE_S)]
    if "grace" not in order.typed:
        own += ["--grace", str(GRACE_S)]
    own += ["--stop-after", str(limit_s(order.limit) - LEAVES_BEFORE_S)]
    return [*own, *map(shlex.quote, order.words)]


def refused_words(typed: frozenset[str], grace_s: float) -> str | None:
    """Why a worker of the array cannot be given this; None when it can."""
    if "name" in typed:
        return "--name cannot stand behind --: each worker has the name of its allocation"
    if "stop_after" in typed:
        return f"--stop-after cannot stand behind --: --time says it, less {LEAVES_BEFORE_S} seconds"
    most_s = LEAVES_BEFORE_S - AFTER_GRACE_S
    if "grace" in typed and grace_s > most_s:
        return f"--grace {math.ceil(grace_s)}: give at most {most_s}, as Slurm ends what is left"
    return None


_UNREACHED = ("contact slurm controller", "establish a configuration source")
"""What sbatch says when it has asked nobody."""


def errors_of(stderr: str) -> str:
    """What sbatch or squeue has to say against something, in one line."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line).strip() for line in stderr.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "it says nothing"


def refusal(stderr: str, advice: str = "") -> str:
    """Why sbatch has not taken a job: Slurm was not reached, or it refuses the job."""
    said = errors_of(stderr)
    if any(words in said for words in _UNREACHED):
        return f"Slurm cannot be reached from here: {said}; try `sinfo`, or go to a login node"
    return f"Slurm refuses the job: {said}{advice}"
