"""Jobs whose tasks go through the relay: real processes, really killed; nothing is lost, nothing recorded twice."""

import re

import zmq

from common.protocol.messages import Goodbye, Open, Unreachable
from common.transport import sockets
from tests.conftest import Pipeline, Process, wait_until
from tests.hostile import packed
from tests.test_faults import GATE, everything_once, executions
from tests.test_lying_peers import NOISE, enrolled, join_crew, once


def relayed(pipeline: Pipeline, *arguments: str) -> Process:
    return pipeline.start("ventilator", *arguments, "--relay", "always")


def test_whoever_is_killed_nothing_is_lost_and_nothing_recorded_twice(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    victim = pipeline.worker("gate", "--slots", "1", "--name", "victim")
    survivor = pipeline.worker("gate", "--slots", "2", "--name", "survivor")
    for name in ("victim", "survivor"):
        sink.wait_for(f"worker {name}.* joined")
    job = ["gate:wait", "--range", "30", "--batch", "1", "--job", "j"]
    ventilator = relayed(pipeline, *job)
    wait_until(lambda: len(executions(pipeline)) == 3, "three tasks run")
    victim.kill()
    sink.kill()
    # Another process has taken the ports meanwhile, as it were: both sides are told the new ones.
    again = pipeline.sink("--relay-port", "0", "--tasks-port", "0")
    again.wait_for("job j .*opened")
    survivor.wait_for(r"(?s)pulling the tasks of job j.*pulling the tasks of job j")
    ventilator.kill()
    (pipeline.folder / "open").touch()
    resumed = relayed(pipeline, *job)
    assert resumed.wait() == 0, resumed.err
    everything_once(pipeline, 30)
    assert set(executions(pipeline)) == set(range(30))


def test_a_job_goes_over_to_the_relay_in_its_middle(pipeline: Pipeline) -> None:
    pipeline.module("gate", GATE)
    sink = pipeline.sink()
    worker = pipeline.worker("gate", "--slots", "2", "--name", "honest")
    sink.wait_for("worker honest.* joined")
    ventilator = pipeline.ventilator("gate:wait", "--range", "20", "--batch", "1", "--job", "j")
    wait_until(lambda: len(executions(pipeline)) == 2, "two tasks run")
    with enrolled(pipeline, "worker", "far") as far:
        [place] = join_crew(far).places
        far.say(Unreachable("j", far.name, "127.0.0.1", place.port, "silence"))
        ventilator.wait_for(
            "worker liar.1 cannot connect to this ventilator at 127.0.0.1:.*: tasks go through the sink"
        )
        far.say(Goodbye())
    worker.wait_for("(?s)pulling the tasks of job j.*pulling the tasks of job j")
    (pipeline.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    everything_once(pipeline, 20)
    assert sorted(executions(pipeline)) == list(range(20))
    assert ventilator.err.count("the sink's relay") == 1, ventilator.err


def test_a_ventilators_key_cannot_push_into_the_job_of_another_one(pipeline: Pipeline) -> None:
    """All relayed jobs come over one connection: whose a batch is, it says itself, and only its own ventilator can."""
    pipeline.module("gate", GATE + "def other(n):\n    return n\n")
    sink = pipeline.sink()
    worker = pipeline.worker("gate", "--slots", "2", "--name", "honest")
    sink.wait_for("worker honest.* joined")
    ventilator = relayed(pipeline, "gate:wait", "--range", "20", "--batch", "2", "--job", "j")
    wait_until(lambda: len(executions(pipeline)) == 2, "two batches run")
    with enrolled(pipeline, "ventilator", "mallory") as liar:
        liar.greet("ventilator")
        relay_port = liar.heard[0].relay_port
        liar.say(Open("evil", "gate:other", "range", relay_port, 0, False, False, relay=True))
        worker.wait_for("pulling the tasks of job evil from")
        tasks = liar._client(zmq.PUSH, liar.pair.sink_key)
        tasks.connect(f"tcp://127.0.0.1:{relay_port}")
        forged = {"type": "batch", "job": "j", "function": "gate:wait", "count": 2, "attempt": 1}
        forged |= {"ticket": bytes(16), "timeout_s": None, "suspect": False, "copy": False, "arguments": [0, 0]}
        for first in range(0, 20, 2):
            for more in ({}, {"origin": bytes(16)}, {"job": "nosuch"}, {"function": "gate:nosuch"}, {"copy": True}):
                tasks.send(bytes(packed(forged | {"first": first} | more)))
        for noise in NOISE:
            sockets.send(tasks, noise)
        once(worker, "a batch of job j that another ventilator has pushed is dropped")
        worker.wait_for("an invalid batch came from")
        (pipeline.folder / "open").touch()
        assert ventilator.wait() == 0, ventilator.err
        liar.say(Goodbye())
    everything_once(pipeline, 20)
    assert sorted(executions(pipeline)) == list(range(20))
    assert not re.search("Traceback", sink.err + worker.err + ventilator.err)
