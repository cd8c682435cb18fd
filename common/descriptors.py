"""How many descriptors this process may have: raised at its start, and as it was for whatever it starts."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import OperatorError

_WANTED = 65_536
_SYSTEMS_MAX = 10_240
"""What macOS takes where it says that there is no limit."""
_NEEDED = 64
_started_with: int | None = None


def raise_limit() -> int:
    """Raise the soft limit as far as it may be raised; returns it. Raises OperatorError when that is not enough."""
    global _started_with
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _started_with is None:
        _started_with = soft
    for wanted in (_WANTED, _SYSTEMS_MAX):
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < limit and _set(limit):
            soft = limit
            break
    limit = _WANTED if soft == resource.RLIM_INFINITY else soft
    if limit < _NEEDED:
        raise OperatorError(f"only {limit} files may be open here: allow more with `ulimit -n 1024` (or LimitNOFILE)")
    return limit


@contextmanager
def as_started() -> Iterator[None]:
    """Inside it the limit is as it was: programs that use `select` break with descriptors above 1,023."""
    raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = _started_with is not None and _started_with != raised and _set(_started_with)
    try:
        yield
    finally:
        if lowered:
            _set(raised)


def _set(limit: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError):
        return False
    return True
