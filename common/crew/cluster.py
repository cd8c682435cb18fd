"""Calls Slurm's commands: one call a question, none without an end."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import OperatorError
from .allocations import Condition, of_squeue
from .job_script import JobOrder, allocation_of, errors_of, log_name, refusal, script, worker_name

_CALL_S = 60
"""How long a command of Slurm may take."""


class Cluster:
    """The allocations of one job name, on the cluster that Slurm's commands reach from here."""

    def __init__(self, order: JobOrder) -> None:
        self._order = order

    def try_out(self, workers: int) -> None:
        """Ask whether Slurm would take an array of workers. Raises OperatorError when it would not."""
        ended = _call(["sbatch", "--test-only"], script(self._order, workers))
        if ended.returncode:
            raise OperatorError(refusal(ended.stderr, "; see --time, --cpus and --sbatch"))

    def submit(self, workers: int) -> str:
        """Submit an array of workers; the number of the job. Raises OperatorError."""
        ended = _call(["sbatch", "--parsable"], script(self._order, workers))
        if ended.returncode:
            raise OperatorError(refusal(ended.stderr))
        return ended.stdout.strip().partition(";")[0]

    def log_of(self, allocation: str) -> Path:
        """The file in which an allocation's worker logs."""
        return Path(self._order.folder) / log_name(self._order.name, allocation)

    # -- for `crew keep` ----------------------------------------------------------------------------------------

    def start(self, count: int) -> list[str]:
        """Submit an array of workers; their names. Raises OperatorError."""
        job = self.submit(count)
        return [worker_name(f"{job}_{number}") for number in range(1, count + 1)]

    def conditions(self) -> dict[str, Condition]:
        """By worker's name, of all that Slurm knows, the ended ones that it remembers too. Raises OperatorError."""
        name = f"--name={self._order.name}"
        ended = _call(["squeue", "--noheader", "--array", "--me", name, "--states=all", "--format=%i %t"])
        if ended.returncode:
            raise OperatorError(f"squeue says: {errors_of(ended.stderr)}")
        return {worker_name(each): condition for each, condition in of_squeue(ended.stdout).items()}

    def log(self, worker: str) -> Path:
        """The file in which this worker logs."""
        return self.log_of(allocation_of(worker))

    def left_behind(self) -> str:
        """What becomes of the workers when nobody keeps the crew any longer."""
        return f"the workers stay until they are idle; `scancel --me --name={self._order.name}` ends them"


def _call(command: Sequence[str], given: str = "") -> "subprocess.CompletedProcess[str]":
    if shutil.which(command[0]) is None:
        raise OperatorError(f"{command[0]} is not found: go to a machine that has Slurm's commands, like a login node")
    try:
        # In a session of its own: Ctrl-C is for this process, and must not cut a submission short.
        return subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CALL_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{command[0]} has not answered for {_CALL_S} seconds: is Slurm well? try `sinfo`"
        ) from None
    except OSError as error:
        raise OperatorError(f"{command[0]} cannot be run: {error.strerror}") from None
