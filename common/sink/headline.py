"""The line of an error that says most: of a traceback, what was raised, with the beginning of what it says."""

import re

HEADLINE_CHARACTERS_MAX = 300
_MESSAGE_LINES = 3
"""How many lines of a message are shown: the first one often only counts those that follow, as in pydantic."""
_TRACEBACK = re.compile(r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE)
_COMMANDS = ("exit code ", "signal ")
"""With these begin the errors of commands; what they have printed comes behind the first line."""
_MARGIN = re.compile(r"^ +[|+] ?")
_MEMBER = re.compile(r"^ +\+-(?:\+-)?-* \S+ -+$", re.MULTILINE)


def headline(error: str) -> str:
    """The useful line of a failed task's error."""
    shown = _headline(error)
    cut = len(shown) > HEADLINE_CHARACTERS_MAX
    return shown[: HEADLINE_CHARACTERS_MAX - 1] + "…" if cut else shown


def _headline(error: str) -> str:
    if error.startswith(_COMMANDS):
        return error.partition("\n")[0]
    last = 0
    for found in _TRACEBACK.finditer(error):
        # Of exceptions that caused each other the last one is the task's.
        last = found.start()
    is_group = error.startswith("  + ", last)
    if not is_group:
        return _raised(error[last:].splitlines())
    group, *members = _MEMBER.split(error[last:])
    shown = _raised(_without_margin(group))
    firsts = [_raised(_without_margin(member)) for member in members]
    return f"{shown}: {'; '.join(first for first in firsts if first)}"


def _without_margin(part: str) -> list[str]:
    """The lines of one member of a group; members of members stand further to the right."""
    return [_MARGIN.sub("", line, count=1) for line in part.strip("\n").splitlines()]


def _raised(lines: list[str]) -> str:
    """What stands below the frames of one traceback, on one line; without frames, the first lines."""
    at = 0
    if any(line.startswith(("Traceback (", "Exception Group Traceback (")) for line in lines[:1]):
        at = next((at for at, line in enumerate(lines[1:], 1) if line and not line.startswith(" ")), 0)
    message = [line.strip() for line in lines[at:] if line.strip(" |+-")]
    return " / ".join(message[:_MESSAGE_LINES])
