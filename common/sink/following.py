"""Rows of a ledger as they come, for its readers."""

import time
from collections.abc import Iterator

from .store import Reader, Row

_FOLLOW_S = 0.2


def followed(reader: Reader, job: int, failed: bool) -> Iterator[Row | None]:
    """Rows in order of commit as they come, until the job has ended; None now and then while none comes."""
    position = 0
    while True:
        ended = reader.ended(job)
        for at, arrived in reader.rows_after(job, position, failed):
            if arrived is not None:
                yield arrived
            position = at
        if ended:
            return
        yield None
        time.sleep(_FOLLOW_S)
