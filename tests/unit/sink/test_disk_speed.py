"""The sink's loop waits itself for a disk that was quick ten times, and for few rows."""

import pytest

from common.sink.disk_speed import DiskSpeed


@pytest.mark.parametrize(
    ("seconds", "may_wait"),
    [
        ([], False),
        ([0.0002] * 9, False),
        ([0.0002] * 10, True),
        ([0.0002] * 100 + [0.001], False),
        ([0.05] + [0.0002] * 9, False),
        ([0.05] + [0.0002] * 10, True),
    ],
)
def test_the_loop_waits_for_a_disk_whose_last_ten_commits_were_quick(seconds: list[float], may_wait: bool) -> None:
    speed = DiskSpeed()
    for each in seconds:
        speed.note(each)
    assert speed.may_wait(1, [100]) is may_wait


def test_the_loop_waits_for_small_commits_only() -> None:
    speed = DiskSpeed()
    for _ in range(10):
        speed.note(0.0002)
    assert speed.may_wait(10, [60_000, 5_536])
    assert not speed.may_wait(11, [100])
    assert not speed.may_wait(1, [65_537])
    assert not speed.may_wait(2, [60_000, 5_537])
