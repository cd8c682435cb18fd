"""The arguments of a role that another process has started for itself: as on its command line, but always complete."""

from collections.abc import Sequence


def read(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options by name, each with a value, and what stands behind `--`; the first argument is the program."""
    options, rest = [*arguments[1:]], []
    if "--" in options:
        at = options.index("--")
        options, rest = options[:at], options[at + 1 :]
    return dict(zip(options[::2], options[1::2], strict=True)), rest
