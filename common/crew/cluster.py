"""Calls Slurm's commands: one call a question, none without an end."""

import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import OperatorError
from .allocations import Condition, of_squeue
from .job_script import errors_of, log_name

log = logging.getLogger(__name__)

_CALL_S = 60
"""How long a command of Slurm may take."""


class Cluster:
    """The allocations of one name, on the cluster that Slurm's commands reach from here."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        """Where the logs are."""

    def try_out(self, script: str) -> str:
        """What Slurm would do with the script. Raises OperatorError when it would refuse it."""
        ended = _call(["sbatch", "--test-only"], script)
        if ended.returncode:
            raise OperatorError(f"Slurm refuses the job: {errors_of(ended.stderr)}; see --time, --cpus and --sbatch")
        return errors_of(ended.stderr).removeprefix("sbatch: ")

    def submit(self, script: str) -> str:
        """Submit the script; the number of the job. Raises OperatorError."""
        ended = _call(["sbatch", "--parsable"], script)
        if ended.returncode:
            raise OperatorError(f"Slurm refuses the job: {errors_of(ended.stderr)}")
        return ended.stdout.strip().partition(";")[0]

    def allocations(self) -> dict[str, Condition]:
        """Those that Slurm knows, the ended ones that it remembers too. Raises OperatorError."""
        asked = ["squeue", "--noheader", "--array", "--me", f"--name={self.name}", "--states=all", "--format=%i %t"]
        ended = _call(asked)
        if ended.returncode:
            raise OperatorError(f"squeue does not answer: {errors_of(ended.stderr)}")
        return of_squeue(ended.stdout)

    def log_of(self, allocation: str) -> Path:
        """The file with what an allocation's worker has said."""
        return self._folder / log_name(self.name, allocation)


def _call(command: Sequence[str], given: str = "") -> "subprocess.CompletedProcess[str]":
    if shutil.which(command[0]) is None:
        raise OperatorError(f"{command[0]} is not found: go to a machine that has Slurm's commands, like a login node")
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, errors="replace", timeout=_CALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{command[0]} has not answered for {_CALL_S} seconds: is Slurm well? try `sinfo`"
        ) from None
    except OSError as error:
        raise OperatorError(f"{command[0]} cannot be run: {error.strerror}") from None
