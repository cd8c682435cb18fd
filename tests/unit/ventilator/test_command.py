"""The command line of the ventilator: what it refuses of --command, in words."""

import pytest

from common.errors import OperatorError
from common.ventilator.command import check_command


@pytest.mark.parametrize(
    ("function", "local", "command", "said"),
    [
        ("squares:square", None, "x=true", "--command is for --local"),
        ("command:x", None, "x=true", "--command is for --local"),
        ("squares:square", 1, "square=true", "the job runs squares:square; give both the same name"),
        ("command:x", 1, "y=true", "the job runs command:x; give both the same name"),
        ("command:x", 1, None, "say what the command is, with --command x='PROGRAM {}'"),
    ],
)
def test_what_makes_no_sense_is_refused(function: str, local: int | None, command: str | None, said: str) -> None:
    with pytest.raises(OperatorError) as raised:
        check_command(function, local, command)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("function", "local", "command"),
    [
        ("squares:square", 1, None),
        ("command:x", None, None),
        ("command:x", 2, "x=true"),
        ("squares:square", None, None),
    ],
)
def test_what_makes_sense_is_not(function: str, local: int | None, command: str | None) -> None:
    check_command(function, local, command)
