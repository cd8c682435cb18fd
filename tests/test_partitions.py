"""Rows of the fault table about the network, with real processes on machines that are really cut off."""

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.roads import Machines, Proxies
from tests.conftest import Pipeline, wait_until
from tests.namespaces import Network, network_of
from tests.test_faults import GATE, everything_once, executions

COMMAND = ["gate:wait", "--batch", "1", "--job", "j"]
SLEEP = "import time\ndef sleep(n):\n    time.sleep(.005)\n    return n\n"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without being asked")


@pytest.fixture
def network(pipeline: Pipeline) -> Iterator[Network]:
    with network_of("sink", "ventilator", "worker1", "worker2") as made:
        yield made
        pipeline.close()


@pytest.fixture
def proxies(pipeline: Pipeline) -> Iterator[Proxies]:
    made = Proxies(pipeline)
    try:
        yield made
    finally:
        made.close()


def test_an_unplugged_workers_tasks_run_elsewhere_and_its_late_results_are_not_recorded_twice(
    pipeline: Pipeline, network: Network
) -> None:
    pipeline.module("gate", GATE)
    machines = Machines(pipeline, network)
    sink = machines.start("sink")
    sink.wait_for("listening at")
    unplugged = machines.start("worker1", "gate", "--slots", "1", "--name", "unplugged", "--grace", "600")
    ventilator = machines.start("ventilator", *COMMAND, "--range", "4")
    wait_until(lambda: executions(pipeline) == [0], "a task runs")

    network.silence("worker1", ["sink", "ventilator"])
    # It finishes what it runs, and tells nobody.
    (pipeline.folder / "open").touch()
    sink.wait_for("worker unplugged.* is silent: its batches are pushed again")
    machines.start("worker2", "gate", "--slots", "4", "--name", "other")
    assert ventilator.wait() == 0, ventilator.err
    assert executions(pipeline).count(0) == 2
    unplugged.wait_for("the sink at .* does not answer: results are kept until it is back")
    rows = pipeline.query("SELECT task, worker FROM results ORDER BY task")
    assert [(task, worker.partition(".")[0]) for task, worker in rows] == [(n, "other") for n in range(4)]

    network.heal("worker1")
    unplugged.wait_for(r"\d is back")
    unplugged.signal(signal.SIGTERM)
    # It has ten minutes for them, so it leaves only because its late results got their receipts.
    assert unplugged.wait() == 0
    assert pipeline.query("SELECT task, worker FROM results ORDER BY task") == rows
    assert pipeline.query("SELECT done, failed, total, state FROM jobs") == [(4, 0, 4, "done")]
    everything_once(pipeline, 4)


def test_a_ventilator_that_loses_its_sink_goes_on_after_the_heal_and_runs_nothing_twice(
    pipeline: Pipeline, network: Network
) -> None:
    pipeline.module("gate", GATE)
    machines = Machines(pipeline, network)
    sink = machines.start("sink")
    sink.wait_for("listening at")
    machines.start("worker1", "gate", "--slots", "2")
    ventilator = machines.start("ventilator", *COMMAND, "--range", "40")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")

    network.silence("ventilator", ["sink"])
    ventilator.wait_for("the sink at .* does not answer")
    sink.wait_for("the ventilator of job j is silent")
    (pipeline.folder / "open").touch()
    wait_until(lambda: len(pipeline.query("SELECT 1 FROM results")) >= 4, "what the worker held is recorded")
    assert ventilator.popen.poll() is None

    network.heal("ventilator")
    assert ventilator.wait() == 0, ventilator.err
    ventilator.wait_for(r"\d is back")
    everything_once(pipeline, 40)
    assert sorted(executions(pipeline)) == list(range(40))


@linux
def test_links_that_are_reset_or_half_closed_in_mid_job_are_made_again(pipeline: Pipeline, proxies: Proxies) -> None:
    pipeline.module("sleep", SLEEP)
    proxies.start("sink").wait_for("listening at")
    workers = [proxies.start(host, "sleep", "--slots", "2") for host in ("worker1", "worker2")]
    ventilator = proxies.start("ventilator", "sleep:sleep", "--range", "4000", "--batch", "5", "--job", "j")

    def recorded() -> int:
        return int(pipeline.query("SELECT coalesce(sum(done), 0) FROM jobs")[0][0])

    for fault in ("reset", "half_close"):
        for host, link in [
            ("worker1", "results"),
            ("worker1", "control"),
            ("worker2", "tasks"),
            ("ventilator", "control"),
        ]:
            before = recorded()
            wait_until(lambda before=before: recorded() > before, "the job goes on")
            proxies.strike(host, f"{fault}@{link}")
    assert recorded() < 4000
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 4000)
    assert [worker.popen.poll() for worker in workers] == [None, None]


@linux
def test_a_forwarder_whose_sink_is_away_is_no_sink_with_another_key(pipeline: Pipeline, proxies: Proxies) -> None:
    """What listens there resets each connection, as a tunnel does: whoever comes waits, and joins in the end."""
    pipeline.run("sink", "enrol", "observer", "makes-the-keys")
    worker = proxies.start("worker1", "squares")
    ventilator = proxies.start("ventilator", "squares:square", "--range", "10")
    for waiting in (worker, ventilator):
        waiting.wait_for("no sink answers at .*; still trying")
    sink = proxies.start("sink")
    sink.wait_for("joined with")
    assert ventilator.wait() == 0, ventilator.err


@linux
def test_a_sink_that_answers_late_loses_nobody(pipeline: Pipeline, proxies: Proxies) -> None:
    pipeline.module("gate", GATE)
    sink = proxies.start("sink")
    sink.wait_for("listening at")
    worker = proxies.start("worker1", "gate", "--slots", "2")
    ventilator = proxies.start("ventilator", *COMMAND, "--range", "8")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    for host in ("worker1", "ventilator"):
        proxies.strike(host, "delay@all")
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    assert sorted(executions(pipeline)) == list(range(8))
    assert "is silent" not in sink.err
    assert "does not answer" not in worker.err + ventilator.err
