"""Values of a command line that need no check but that of their plain type.

Newer typers check each value, defaults too, with a library that takes longer to import than a short job runs. A
default, a text, and a number within its limits go around it; all other values, and each error, stay typer's.
"""

import re
from functools import partial
from typing import Any, get_args, get_type_hints

import typer

_NUMBERS = {int: re.compile(r"-?\d{1,18}"), float: re.compile(r"\d{1,15}(\.\d{1,15})?")}


def limits(parameter: Any) -> tuple[float | None, float | None]:
    """The least and the most that an option takes."""
    # Newer typers have the limits at the option, older ones at its type.
    least, most = (getattr(parameter, at, getattr(getattr(parameter, "type", None), at, None)) for at in ("min", "max"))
    return least, most


def spare_checks(command: Any, context: Any) -> None:
    """Let the plain values of this command go around typer's checks."""
    kinds = get_type_hints(command.callback) if command.callback else {}
    for parameter in command.get_params(context):
        if parameter.nargs == 1 and not parameter.multiple and "process_value" not in vars(parameter):
            kind = _plain(kinds.get(parameter.name, bool))
            parameter.process_value = partial(_value, parameter, parameter.process_value, kind)


def _plain(kind: Any) -> Any:
    """The type that may also be None, without that."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if len(kinds) == 1 else kind


def _value(parameter: Any, checked: Any, kind: Any, context: Any, value: Any) -> Any:
    source = context.get_parameter_source(parameter.name)
    if source is not None and isinstance(kind, type):
        if source.name == "DEFAULT" and (isinstance(value, kind) or (value is None and not parameter.required)):
            return value if parameter.callback is None else parameter.callback(context, parameter, value)
        if parameter.callback is None and _is_plain(parameter, kind, value):
            return kind(value)
    found = checked(context, value)
    if found != found:
        # Not a number lies within all limits for an older typer, as it compares to nothing.
        raise typer.BadParameter(f"{value} is no number", context, param=parameter)
    return found


def _is_plain(parameter: Any, kind: type, value: Any) -> bool:
    """Whether the text can only mean this text, or this number within the limits."""
    if not isinstance(value, str):
        return False
    if kind not in _NUMBERS:
        return kind is str
    least, most = limits(parameter)
    return _NUMBERS[kind].fullmatch(value) is not None and not (
        (least is not None and kind(value) < least) or (most is not None and kind(value) > most)
    )
