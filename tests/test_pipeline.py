"""The three commands together, as a user types them."""

from tests.conftest import Pipeline


def test_three_commands_fit_together_without_any_option(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    ventilator = pipeline.ventilator("squares:square", "--range", "0:1000")
    assert ventilator.wait() == 0, ventilator.err
    rows = pipeline.query("SELECT task, status, value FROM results ORDER BY task")
    assert rows == [(n, "ok", n * n) for n in range(1000)]
