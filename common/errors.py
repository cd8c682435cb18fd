"""Errors by owner, how their texts name commands, and the exit codes of the commands."""

import re
from collections.abc import Callable
from enum import IntEnum

_COMMAND = re.compile(r"\bpython (sink|worker|ventilator)\.py\b")


class ExitCode(IntEnum):
    """What the commands exit with; each command's `--help` repeats the ones it uses."""

    OK = 0
    TASKS_FAILED = 1
    WRONG_USE = 2
    CANCELLED = 3
    NO_WORKER = 3
    """Of the sink's `status`, for scripts."""
    INTERRUPTED = 130


class OperatorError(Exception):
    """A mistake of the operator, or a fault of the machine: one plain line that says what is wrong and what to do.

    The commands print its text as one line and exit with its code. A farm raises one of `farm/errors.py` instead.
    """

    code = ExitCode.WRONG_USE


class JobCancelled(OperatorError):
    """Another command cancelled the job."""

    code = ExitCode.CANCELLED


class NoWorkerHere(OperatorError):
    """Workers are here, and none of them exposes the function."""


class AnotherInput(OperatorError):
    """The input is not the one that an earlier run of the job has read."""


class WorkerEnded(OperatorError):
    """The private worker of a job has ended, and no other one will come."""


class EmptyLedger(OperatorError):
    """The ledger has no tables yet: its sink was interrupted at its first start, and the next one makes them."""


class SinkGone(OperatorError):
    """The sink has been away for longer than the job waits for it."""


class ProtocolError(Exception):
    """A mistake of the peer: what it sent is not a message of this protocol. It is dropped, counted and logged."""


def with_commands(text: str, named: Callable[[str], str]) -> str:
    """The text with the command of each role as `named` has it.

    All messages, also those from another machine, write commands as `python sink.py`.
    """
    return _COMMAND.sub(lambda found: named(found[1]), text)
