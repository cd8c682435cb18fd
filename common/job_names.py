"""What a job may be called, and how the name of one begins that was given none."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def is_job(name: str) -> bool:
    """True when a job can have this name."""
    return _NAME.fullmatch(name) is not None


def base(function: str) -> str:
    """How the name of a job of this function begins; a function may have nothing that a name may begin with."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", function)[:60].lstrip("-._") or "job"
