"""Which line of a failed task's error is shown: the one that says most, whatever the exception."""

import subprocess
import traceback
from collections.abc import Callable

import pytest

from common.sink.headline import HEADLINE_CHARACTERS_MAX, headline


def text_of(raise_it: Callable[[], object]) -> str:
    """The traceback as a child makes it."""
    try:
        raise_it()
    except BaseException as error:
        return "".join(traceback.format_exception(error)).rstrip()
    raise AssertionError("nothing was raised")


def plain() -> None:
    raise ValueError("no such row")


def silent() -> None:
    raise KeyError


def noted() -> None:
    error = ValueError("bad value")
    error.add_note("in row 7")
    error.add_note("of sheet A")
    raise error


def validation() -> None:
    raise type("ValidationError", (ValueError,), {"__module__": "pydantic_core"})(
        "2 validation errors for Model\nage\n  Input should be a valid integer [type=int_parsing]\n"
        "    For further information visit https://errors.pydantic.dev/2.9/v/int_parsing"
    )


def group() -> None:
    raise ExceptionGroup("several", [ValueError("one\nmore"), TypeError("two")])


def nested() -> None:
    try:
        plain()
    except ValueError as inner:
        members = [ExceptionGroup("inner", [inner, OSError("disk")]), TypeError("two")]
        raise ExceptionGroup("outer", members) from inner


def caused() -> None:
    try:
        group()
    except ExceptionGroup as error:
        raise RuntimeError("the step failed") from error


def empty_first_line() -> None:
    raise RuntimeError("\nthe disk is full")


def of_another_process() -> None:
    raise RuntimeError(f"the helper failed:\n{text_of(plain)}")


def recursion() -> None:
    recursion()


@pytest.mark.parametrize(
    ("raise_it", "line"),
    [
        (plain, "ValueError: no such row"),
        (silent, "KeyError"),
        (noted, "ValueError: bad value / in row 7 / of sheet A"),
        (validation, "pydantic_core.ValidationError: 2 validation errors for Model / age / Input should be a valid"
                     " integer [type=int_parsing]"),
        (group, "ExceptionGroup: several (2 sub-exceptions): ValueError: one / more; TypeError: two"),
        (nested, "ExceptionGroup: outer (2 sub-exceptions): ExceptionGroup: inner (2 sub-exceptions);"
                 " ValueError: no such row; OSError: disk; TypeError: two"),
        (caused, "RuntimeError: the step failed"),
        (empty_first_line, "RuntimeError: / the disk is full"),
        (of_another_process, "ValueError: no such row"),
        (lambda: compile("f(:", "x.py", "exec"), "SyntaxError: invalid syntax"),
        (lambda: subprocess.run(["false"], check=True),
         "subprocess.CalledProcessError: Command '['false']' returned non-zero exit status 1."),
        (recursion, "RecursionError: maximum recursion depth exceeded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_the_headline_of_a_traceback(raise_it: Callable[[], object], line: str) -> None:
    assert headline(text_of(raise_it)) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("the task killed its process by signal 9 (SIGKILL)", "the task killed its process by signal 9 (SIGKILL)"),
        ("\n panic: no index\n\ngoroutine 1:\n\tmain.go:3", "panic: no index / goroutine 1: / main.go:3"),
        ("exit code 1: E: x\n\nTraceback (most recent call last):\nE: y", "exit code 1: E: x"),
        ("signal 9 (SIGKILL), and nothing on standard error", "signal 9 (SIGKILL), and nothing on standard error"),
        ("", ""),
        ("x" * 1000, "x" * (HEADLINE_CHARACTERS_MAX - 1) + "…"),
        ("Traceback (most recent call last):\n  File 1", "Traceback (most recent call last): / File 1"),
    ],
)  # fmt: skip
def test_what_is_no_traceback_is_shown_from_its_beginning(error: str, line: str) -> None:
    assert headline(error) == line
