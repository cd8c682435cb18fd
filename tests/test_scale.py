"""Many workers at one sink: real links and handshakes, slots that only count. `benchmarks.scale` has a thousand."""

import pytest

from benchmarks.scale import join


def test_a_crew_joins_works_and_joins_again_when_the_sink_was_killed(capfd: pytest.CaptureFixture[str]) -> None:
    """All that was recorded is checked value by value."""
    found = join.measure(60, task_s=0.01, idle_s=0.0)
    assert (found.workers, found.tasks) == (60, 600)
    assert found.joined_s > 0
    assert found.rejoined_s > 0
    assert found.worker_bytes < 1_000_000
