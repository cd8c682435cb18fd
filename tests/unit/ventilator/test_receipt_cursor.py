"""What a run of a job knows of its failures."""

import pytest

from common.protocol.messages import Receipts
from common.protocol.settings import Timing
from common.ventilator.receipt_cursor import ReceiptCursor


@pytest.mark.parametrize(
    ("pages", "failed_in_run"),
    [
        ([], 0),
        ([(1, 11, 4)], 0),
        ([(1, 11, 5)], 1),
        ([(3, 13, 5), (2, 15, 7)], 3),
        ([(1, 10, 4)], 1),  # tried again with --retry-failed, and failed again
        ([(1, 10, 3)], 0),  # tried again, and fine
        ([(2, 11, 4), (1, 11, 4)], 2),  # one of each kind: a new one that is fine, two that have failed again
        ([(4, 12, 4)], 2),  # two again, of which one is fine; two new ones, of which one fails
    ],
)
def test_failures_are_counted_from_the_beginning_of_the_run(
    pages: list[tuple[int, int, int]], failed_in_run: int
) -> None:
    """The job has 10 tasks recorded when the run begins, of which 4 have failed."""
    cursor = ReceiptCursor(Timing(), "job")
    position = 0
    for count, done, failed in [(7, 10, 4), (3, 10, 4), (0, 0, 0), *pages]:
        if not count:
            cursor.begin_run()
            continue
        assert cursor.take(Receipts("job", position, position + 1, [], count, 0.1, done, failed, False))
        position += 1
    assert cursor.failed_in_run == failed_in_run
