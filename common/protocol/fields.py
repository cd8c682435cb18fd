"""What the fields of messages may hold, and what all messages are."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .settings import BATCH_TASKS_MAX as BATCH_TASKS_MAX
from .settings import ROOM_MAX as ROOM_MAX
from .settings import SECONDS_MAX as SECONDS_MAX

PROTOCOL_VERSION = 2
TASK_MAX = 2**53
RESULTS_IN_FRAME_MAX = 1_000
CALL = 126
"""The MessagePack extension type of an argument that is several: an array, and a map of those that have names."""
UNUSABLE = 127
"""The MessagePack extension type of an argument that could not be made from the input: it holds the reason as text."""

Index = Annotated[int, Meta(ge=0, le=TASK_MAX)]
Count = Annotated[int, Meta(ge=0, le=TASK_MAX)]
BatchCount = Annotated[int, Meta(ge=1, le=BATCH_TASKS_MAX)]
TaskRange = tuple[Index, Annotated[int, Meta(ge=1, le=TASK_MAX)]]
"""Consecutive tasks: the first task's index, and how many."""
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z", max_length=100)]
Function = Annotated[str, Meta(pattern=r"^[^\s:\x00-\x1f\x7f]+:[^\s:\x00-\x1f\x7f]+\Z", max_length=300)]
Seconds = Annotated[float, Meta(ge=0, le=SECONDS_MAX)]
Rate = Annotated[float, Meta(ge=0, le=1e9)]
"""Tasks in a second."""
Attempt = Annotated[int, Meta(ge=1, le=1_000_000)]
BatchName = tuple[Index, BatchCount, Attempt]
"""What a batch is called within its job: its first task's index, how many tasks it has, and the attempt at them."""
Port = Annotated[int, Meta(ge=1, le=65535)]
Z85Key = Annotated[str, Meta(min_length=40, max_length=40)]
Slots = Annotated[int, Meta(ge=1, le=ROOM_MAX)]
Prefetch = Annotated[int, Meta(ge=0, le=ROOM_MAX)]
Text = Annotated[str, Meta(max_length=100_000)]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:%_-]*\Z", max_length=255)]
"""A name or an address, an IPv6 address without brackets."""
Obstacle = Literal["silence", "name", "handshake"]
"""Why a link does not come up: nothing answers, the name has no address, something answers that is not the peer."""
Digest = Annotated[bytes, Meta(min_length=16, max_length=16)]
ArgumentForm = Literal["", "text", "json"]
"""How the ledger keeps a job's arguments: not at all, as text, or as JSON text."""


HELD_MAX = 20_000
BatchNames = Annotated[list[BatchName], Meta(max_length=HELD_MAX)]
"""Batches of one job that a worker names: more than its slots and prefetch, and few enough to pass on."""
HELD_FACTOR = 64
"""How many times its slots and prefetch a worker may name of one job: results without a receipt are no load."""
JOBS_HELD_MAX = 1_000
"""At most how many jobs a beat names batches of."""
NamesByJob = Annotated[dict[Name, BatchNames], Meta(max_length=JOBS_HELD_MAX)]


class Message(Struct, frozen=True, gc=False, tag_field="type", tag=str.lower):
    """Any message; its class name in lower case is its `type` on the wire."""


class Outcomes(Struct, frozen=True, gc=False):
    """What `Results.outcomes` holds: values and run times in task order, errors and exact values by offset.

    A value is None, a bool, int, float, str or bytes, or `Ext(JSON_EXT, text)` for everything else. Where that cannot
    give the result back, `exact` has it too (`values.py`). An error is (offset, text, final); a final one is not to be
    retried.
    """

    values: list[Any]
    seconds: Annotated[list[Seconds], Meta(max_length=BATCH_TASKS_MAX)]
    errors: Annotated[list[tuple[Index, Text, bool]], Meta(max_length=BATCH_TASKS_MAX)]
    exact: Annotated[list[tuple[Index, bytes]], Meta(max_length=BATCH_TASKS_MAX)] = []
