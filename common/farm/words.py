"""What roles say, in the words of a program: they name options and scripts of the command line."""

import re

from ..errors import with_commands

_OPTION = re.compile(r"(?<![\w`-])--(key|sink|port|ledger)(?![\w-])")
_COMMAND = re.compile(r"(`[^`]*`)")


def in_program(text: str) -> str:
    """The text with the parameters of `connect` and `map` in place of options, and the installed commands.

    >>> in_program("no sink answers: start it with `python sink.py --keys k`, or name its address with --sink")
    'no sink answers: start it with `tradewind sink --keys k`, or name its address with sink='
    >>> in_program("wait for it, or give another --job")
    'wait for it, or give another job name'
    """
    parts = _COMMAND.split(with_commands(text, "tradewind {}".format))
    # Every other part is a command.
    parts[::2] = [re.sub(r"--job(?: name)?\b", "job name", _OPTION.sub(r"\1=", part)) for part in parts[::2]]
    return "".join(parts).replace("the worker of --local", "the worker of this farm")
