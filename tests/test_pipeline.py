"""The three commands together, as a user types them."""

from pathlib import Path

import pytest

from tests.conftest import Pipeline


def test_three_commands_fit_together_without_any_option(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    ventilator = pipeline.ventilator("squares:square", "--range", "0:1000")
    assert ventilator.wait() == 0, ventilator.err
    rows = pipeline.query("SELECT task, status, value FROM results ORDER BY task")
    assert rows == [(n, "ok", n * n) for n in range(1000)]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_a_ventilator_listens_at_the_loopback_address_at_which_its_sink_does(pipeline: Pipeline) -> None:
    """`localhost` is ::1 on many machines."""
    pipeline._sink_options[1] = "::1"
    sink = pipeline.sink()
    worker = pipeline.worker("squares")
    ventilator = pipeline.ventilator("squares:square", "--range", "10")
    assert ventilator.wait() == 0, ventilator.err
    assert "listening at ::1" in sink.err
    worker.wait_for(r"pulling the tasks of job \S+ from \[::1\]:")
