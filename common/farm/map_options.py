"""What `Farm.map` may be told."""

from collections.abc import Callable
from operator import index
from typing import Literal, TypedDict

from ..protocol.fields import BATCH_TASKS_MAX, SECONDS_MAX, TASK_MAX
from ..ventilator.settings import DispatchSettings
from ..ventilator.summary import Standing

Errors = Literal["raise", "return", "skip"]
Progress = Callable[[Standing], None]
WhenNobody = Literal["raise", "wait"]


class MapOptions(TypedDict, total=False):
    """The options of `Farm.map`, which says what they mean."""

    job: str | None
    """Its name. Under the name of an earlier job that one goes on. None makes a new name."""
    ordered: bool
    """Give values in the order of the arguments, not in that in which they are recorded."""
    errors: Errors
    """What a failed task does where its value would be: raise, return the error there, or skip it."""
    buffer: int
    """How many arguments are read ahead, and how many values are held for a slow one before them."""
    retries: int
    """How many times a failed task is tried again."""
    timeout: float | None
    """How many seconds a task may run before it is ended, and has failed."""
    batch: int | None
    """How many tasks travel together. None: as many as the measured task time suggests."""
    speculate: bool
    """Near the end idle slots run copies of the slowest tasks. The first result counts."""
    retry_failed: bool
    """Run the failed tasks of the earlier job again."""
    quarantine_after: int
    """Give a task up after this many workers died while running it."""
    total: int | None
    """How many arguments there are, where they have no `len`: for progress and the last batches."""
    star: bool
    """Call the function with the elements of each argument, which is a tuple or a list."""
    progress: Progress | bool | None
    """Is called with a Standing at most four times a second, in another thread. True shows a bar."""
    when_nobody: WhenNobody
    """When workers are there and none exposes the function: raise NoWorker after some seconds, or wait for one."""


def dispatch_settings(options: MapOptions) -> DispatchSettings:
    """The options that are rules of the ventilator. Raises TypeError or ValueError for one that cannot be."""
    return DispatchSettings(
        batch_tasks=between("batch", options.get("batch"), 1, BATCH_TASKS_MAX),
        retries=between("retries", options.get("retries", 0), 0, 1_000) or 0,
        timeout_s=seconds("timeout", options.get("timeout")),
        quarantine_after=between("quarantine_after", options.get("quarantine_after", 3), 1, 1_000_000) or 1,
        speculate=options.get("speculate", False),
        keep_arguments=True,
    )


def checked(options: MapOptions) -> MapOptions:
    """The options, with a `buffer`, if they can be. Raises TypeError or ValueError."""
    for name, words in (("errors", ("raise", "return", "skip")), ("when_nobody", ("raise", "wait"))):
        if (given := options.get(name, words[0])) not in words:
            raise ValueError(f"{name}={given!r}: give {' or '.join(map(repr, words))}")
    if options.get("retry_failed") and not options.get("job"):
        raise ValueError("retry_failed needs job=NAME: the job whose failed tasks to run again")
    progress = options.get("progress")
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress={progress!r}: give a function that takes a Standing, or True")
    if options.get("total") is not None:
        options = {**options, "total": between("total", options["total"], 0, TASK_MAX)}
    return {**options, "buffer": between("buffer", options.get("buffer", 10_000), 1, 10_000_000) or 1}


def between(name: str, value: int | None, least: int, most: int) -> int | None:
    """The value, if it lies there. Raises TypeError for what is no whole number, and ValueError."""
    if value is None:
        return None
    refused = f"{name}={value!r}: give a whole number from {least:,} to {most:,}"
    try:
        whole = index(value)
    except TypeError:
        raise TypeError(refused) from None
    if not least <= whole <= most:
        raise ValueError(refused)
    return whole


def seconds(name: str, value: float | None) -> float | None:
    """The value, if a message can hold it and it is above 0. Raises TypeError for what is no number, and ValueError."""
    if value is None:
        return None
    refused = f"{name}={value!r}: give a number of seconds above 0, at most {SECONDS_MAX:,.0f}"
    try:
        lies_there = 0 < value <= SECONDS_MAX
    except TypeError:
        raise TypeError(refused) from None
    if not lies_there:
        raise ValueError(refused)
    return float(value)
