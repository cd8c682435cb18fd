"""Enrolled peers that lie, with real sockets and CURVE: the honest ones beside them do not notice."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import zmq
from msgspec import msgpack

from common.protocol.codec import encode, join_results
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Again,
    Beat,
    Cancel,
    Goodbye,
    Heard,
    Hello,
    Offer,
    Open,
    Outcomes,
    Places,
    Quarantine,
    Recorded,
    Refused,
    Results,
    Returned,
    Welcome,
)
from common.protocol.settings import CURVE_BYTES, ENVELOPE_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from common.transport import monitor, sockets
from tests.conftest import Pipeline, Process, wait_until
from tests.hostile import Liar, packed
from tests.test_faults import GATE, everything_once, executions

RETURNS = int(os.environ.get("LYING_RETURNS", "20000"))
"""How many times a liar hands back all twenty batches of the honest job; in the soak 50,000, a million batches."""
TASKS = 40
NOISE = [b"", b"\x00", b"\xc1" * 100, os.urandom(1_000), b"\x91" * 100_000, b"\x81\xa4type", b'{"type": "hello"}']


class Farm:
    """A sink, an honest worker and an honest job of which two batches run, until `let_go` lets it end."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        pipeline.module("gate", GATE)
        self.sink = pipeline.sink()
        self.worker = pipeline.worker("gate", "--slots", "2", "--name", "honest")
        self.worker_name = self.sink.wait_for(r"worker (honest\.\S+) at \S+ joined")[1]
        self.ventilator = pipeline.ventilator("gate:wait", "--range", str(TASKS), "--batch", "2", "--job", "j")
        wait_until(lambda: len(executions(pipeline)) == 2, "two batches run")

    def liar(self, role: str, key: str, name: str = "liar.1") -> AbstractContextManager[Liar]:
        return enrolled(self.pipeline, role, key, name)

    def let_go(self) -> None:
        """From now on tasks end; the job ends, each task once and right, and nobody has noticed anything."""
        (self.pipeline.folder / "open").touch()
        assert self.ventilator.wait() == 0, self.ventilator.err
        everything_once(self.pipeline, TASKS)
        for process in (self.sink, self.worker):
            assert process.popen.poll() is None, process.err
        for process in self.pipeline.processes:
            assert "Traceback" not in process.err
            complaints = re.findall(r" \w+: (\w+ \w+: [^:]*|.*)(?:: .*)? \(logged once\)", process.err)
            assert len(complaints) == len(set(complaints)), complaints
        assert not re.search("silent|revoked|refuses|no message", self.ventilator.err), self.ventilator.err


@contextmanager
def enrolled(pipeline: Pipeline, role: str, key: str, name: str = "liar.1") -> Iterator[Liar]:
    """A peer that says what the test wants, with a key of its own."""
    path = pipeline.folder / f"{key}.key_secret"
    if not path.exists():
        here = re.search(r"tcp://127[^\"]*", (pipeline.folder / "keys/worker.key_secret").read_text())
        assert here
        assert pipeline.run("sink", "enrol", role, key, "--address", here[0]).wait() == 0
    made = Liar(path, name)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def farm(pipeline: Pipeline) -> Farm:
    return Farm(pipeline)


def once(process: Process, pattern: str) -> None:
    """The log has the complaint, and has it once."""
    process.wait_for(pattern)
    assert len(re.findall(pattern, process.err)) == 1, process.err


def result(liar: Liar, job: str, batch: tuple[int, int], ticket: bytes, values: list, **fields: object) -> bytes:
    outcomes = bytes(packed(Outcomes(values, [1e9] * len(values), [])))
    said = {"worker": liar.name, "serial": 1, "first": batch[0], "count": len(values)} | fields
    made = Results(job=job, batch=(*batch, 1), ticket=ticket, outcomes=outcomes, **said)  # type: ignore[arg-type]
    return join_results([encode(made)])


def join_crew(liar: Liar) -> Places:
    """Take part as a worker of the honest job's function with one slot."""
    liar.greet()
    liar.say(Offer(["gate:wait"]))
    places: Places = liar.hear(Places)
    liar.say(Beat(1, 1, 0, {}, {}))
    liar.hear(Heard)
    return places


def test_noise_is_dropped_and_named_once(farm: Farm) -> None:
    with farm.liar("worker", "eve") as liar:
        liar.say(Beat(1, 1, 1, {"j": [(0, 2, 1)]}, {}))
        liar.hear(Again)
        liar.greet()
        assert liar.results is not None
        for _ in range(200):
            for noise in NOISE:
                sockets.send(liar.control, noise)
                sockets.send(liar.results, noise)
            for link in (liar.control, liar.results):
                link.send_multipart([b"a", b"", encode(Beat(3, 1, 1, {}, {}))])
                link.send(encode(Hello(PROTOCOL_VERSION, "worker", liar.name))[:-3])
        liar.say(Hello(PROTOCOL_VERSION, "worker", liar.name))
        liar.hear(Welcome)
        liar.results.send(result(liar, "nosuch", (0, 1), bytes(16), [1]))
        once(farm.sink, "worker eve: results for a job that this ledger does not have: nosuch")
    once(farm.sink, "worker eve: malformed message on the control link")
    once(farm.sink, "worker eve: malformed message on the results link")
    farm.let_go()


@pytest.mark.parametrize("size", [FRAME_BYTES_MAX + CURVE_BYTES + 1, 4 * MESSAGE_BYTES_MAX])
def test_an_oversized_frame_cuts_off_only_who_sent_it(farm: Farm, size: int) -> None:
    """libzmq refuses it by itself: the connection is ended, and the peer must greet anew."""
    for kind in ("control", "results"):
        with farm.liar("worker", "eve", f"liar.{kind}") as liar:
            liar.greet()
            socket = liar.control if kind == "control" else liar.results
            assert socket is not None
            watch = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            socket.send(bytes(size))
            assert watch.poll(60_000), "never cut off"
            socket.disable_monitor()
    farm.let_go()


def test_who_claims_a_routing_id_is_hung_up_on(farm: Farm) -> None:
    with farm.liar("observer", "peep") as liar:
        liar.greet("observer")
        for number in range(3):
            made = liar._client(zmq.DEALER, liar.pair.sink_key)
            made.setsockopt(zmq.ROUTING_ID, b"\0" + os.urandom(4))
            made.connect(liar.control.last_endpoint)
            watch = made.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            made.send(encode(Hello(PROTOCOL_VERSION, "observer", f"peep.{number}")))
            assert watch.poll(60_000), "never cut off"
            made.disable_monitor()
            made.close()
        once(farm.sink, "observer peep: malformed message on the control link: 127.0.0.1 sets a routing id")
    farm.let_go()


def test_what_a_key_may_not_do_is_refused_and_named_once(farm: Farm) -> None:
    open_job = Open("evil", "gate:wait", "range", 20_000, 0, False, False)
    quarantine = Quarantine("j", 3, 1, "honest.1", 2, packed([3]))
    with farm.liar("worker", "eve") as liar, farm.liar("observer", "peeper") as observer:
        for _ in range(50):
            liar.say(Hello(9, "worker", liar.name))
            liar.say(Hello(PROTOCOL_VERSION, "ventilator", liar.name))
            liar.say(Hello(PROTOCOL_VERSION, "worker", farm.worker_name))
        assert f"speaks protocol {PROTOCOL_VERSION}, " in liar.hear(Refused).reason
        liar.greet()
        observer.greet("observer")
        for _ in range(50):
            for message in (open_job, Cancel("j"), quarantine):
                liar.say(message)
            observer.say(open_job)
            observer.say(Beat(1, 9, 9, {"j": [(0, 2, 1)]}, {}))
        once(farm.sink, f"eve at 127.0.0.1 speaks protocol 9, not {PROTOCOL_VERSION}: refused")
        once(farm.sink, "key eve is enrolled as worker, not as ventilator")
        once(farm.sink, f"key eve: the name {re.escape(farm.worker_name)} is taken by a worker with another key")
        for word in ("open", "cancel", "quarantine"):
            once(farm.sink, f"worker eve: workers may not send {word}")
        for word in ("open", "beat"):
            once(farm.sink, f"observer peeper: observers may not send {word}")
        assert not [message for message in liar.heard if type(message).__name__ in ("Opened", "Dropped", "Roster")]
    assert farm.pipeline.query("SELECT name, state FROM jobs") == [("j", "open")]
    farm.let_go()


def test_results_that_are_not_its_own_are_not_recorded(farm: Farm) -> None:
    with farm.liar("worker", "eve") as liar:
        liar.greet()
        assert liar.results is not None
        for serial in range(100):
            liar.results.send(result(liar, "j", (0, 2), b"x" * 16, ["lie", "lie"], serial=serial))
            liar.results.send(result(liar, "j", (0, 2), bytes(16), ["l"], worker=farm.worker_name, serial=1))
            liar.results.send(result(liar, "nosuch", (0, 2), bytes(16), ["lie", "lie"], serial=serial))
        once(farm.sink, "worker eve: results for a job that this ledger does not have: nosuch")
        once(farm.sink, "worker eve: results for a batch that was never pushed: job j")
        once(farm.sink, "worker eve: results in the name of another worker are not recorded")
    assert farm.pipeline.query("SELECT * FROM results") == []
    farm.let_go()


def test_of_results_said_twice_the_first_is_kept_and_times_may_be_absurd(farm: Farm) -> None:
    with farm.liar("worker", "eve") as liar:
        (place,) = join_crew(liar).places
        batch = liar.pull(place.port, place.key)
        right, mine = [batch.first, batch.first + 1], (batch.first, 2)
        assert liar.results is not None
        liar.results.send(result(liar, "j", mine, batch.ticket, right))
        assert liar.hear(Recorded).serials == [1]
        for serial, values in ((1, ["lie", "lie"]), (2, [None, None]), (3, [-1, -2])):
            liar.results.send(result(liar, "j", mine, batch.ticket, values, serial=serial))
        for place_outside in ((0, TASKS), (batch.first, 1), (batch.first + 1, 2)):
            liar.results.send(result(liar, "j", place_outside, batch.ticket, ["lie"], serial=4))
        once(farm.sink, "worker eve: results for a batch that was never pushed: job j")
        liar.say(Goodbye())
        farm.let_go()
    assert farm.pipeline.query("SELECT task FROM results WHERE worker='liar.1'") == [(task,) for task in right]


def test_what_cannot_be_read_fails_its_tasks_and_gets_its_receipt(farm: Farm) -> None:
    """Otherwise the batch is pushed and answered like that for ever."""
    tasks: set[int] = set()
    fine = 0
    with farm.liar("worker", "eve") as liar:
        (place,) = join_crew(liar).places
        assert liar.results is not None
        for serial in range(1, 5):
            # Of one task, when it waited behind the other one and was given back.
            batch = liar.pull(place.port, place.key)
            count, array = batch.count, bytes([0x90 + batch.count])
            one_bad = array + b"\xa1\xff" + b"\x02" * (count - 1)
            values = [b"\x93\x01\xa1\xff", one_bad, array + b"\x91" * 100_000, b"\xc1"][serial - 1]
            outcomes = b"\x83\xa6values" + values + b"\xa7seconds" + bytes(packed([0.0] * count)) + b"\xa6errors\x90"
            said = {"worker": liar.name, "serial": serial, "first": batch.first, "count": count}
            made = Results(job="j", batch=(batch.first, count, 1), ticket=batch.ticket, outcomes=outcomes, **said)
            sockets.send(liar.results, join_results([encode(made)]))
            assert liar.hear(Recorded).serials == [serial]
            tasks |= {batch.first + offset for offset in range(count)}
            fine += count - 1 if values is one_bad else 0
        rows = farm.pipeline.query("SELECT task, status, error FROM results WHERE worker='liar.1'")
        assert {task for task, _, _ in rows} == tasks
        assert [status for _, status, _ in rows].count("ok") == fine
        broken = msgpack.encode([{"type": "results", "worker": liar.name, "serial": 9, "job": 7}])
        sockets.send(liar.results, broken)
        assert liar.hear(Recorded).refused == [9]
        sockets.send(liar.results, b"\xc1")
        assert "key eve sent results that cannot be read" in liar.hear(Refused).reason
        liar.say(Goodbye())
        (farm.pipeline.folder / "open").touch()
        assert farm.ventilator.wait() == 1, farm.ventilator.err
    once(farm.sink, "worker eve: outcomes that cannot be read")
    assert farm.pipeline.query("SELECT count(*), sum(status='failed') FROM results") == [(TASKS, len(tasks) - fine)]


def test_batches_of_others_may_be_returned_and_named_without_end(farm: Farm) -> None:
    others = [(first, 2, 1) for first in range(0, TASKS, 2)]
    with farm.liar("worker", "eve") as liar:
        join_crew(liar)
        for count in range(RETURNS):
            liar.say(Returned("j" if count % 10 else "nosuch", liar.name, others, []))
            if count % 100 == 0:
                liar.say(Beat(1, 1, 0, {"j": others[:2]}, {"j": others[:2]}))
        (farm.pipeline.folder / "open").touch()
        wait_until(lambda: farm.pipeline.query("SELECT 1 FROM results"), "results are recorded all the while")
        liar.say(Goodbye())
        farm.sink.wait_for("worker liar.1 has left")
        farm.let_go()


def test_whoever_takes_batches_and_keeps_them_is_found_and_gets_no_more(farm: Farm) -> None:
    with farm.liar("worker", "eve") as liar, farm.liar("worker", "bob", "bob.1") as other:
        for each in (other, liar):
            (place,) = join_crew(each).places
        tasks = liar.tasks(place.key)
        tasks.connect(f"tcp://127.0.0.1:{place.port}")
        assert tasks.poll(60_000)
        (farm.pipeline.folder / "open").touch()

        def ended() -> bool:
            for each in (other, liar):
                each.say(Beat(1, 1, 0, {}, {}))
            while tasks.poll(100):
                tasks.recv()
            return farm.ventilator.popen.poll() is not None

        wait_until(ended, "the job ends")
        once(farm.sink, "no worker names them: workers with key eve get no tasks of it for a moment")
    farm.let_go()


def test_a_ventilators_key_cannot_break_a_worker(farm: Farm) -> None:
    with farm.liar("ventilator", "mallory") as liar:
        liar.greet("ventilator")
        tasks, port = liar.serve_tasks()
        liar.say(Open("evil", "gate:wait", "range", port, 0, False, False))
        farm.worker.wait_for("pulling the tasks of job evil from")
        tasks.send(b"noise")
        good = {"type": "batch", "job": "evil", "function": "gate:wait", "first": 0, "count": 3, "attempt": 1}
        good |= {"ticket": bytes(16), "timeout_s": 0.0, "suspect": False, "arguments": [1, 2, 3]}
        lies = [{"arguments": [1]}, {"count": 10**6}, {"arguments": 7}, {"function": "os:system"}, {"timeout_s": -1}]
        lies += [{"first": 2**53}, {"suspect": True}, {"job": "j", "first": 4, "count": 3}, {"arguments": [[], "", {}]}]
        for _ in range(20):
            for noise in NOISE:
                tasks.send(noise)
            tasks.send_multipart([b"a", b"b"])
            for lie in lies:
                tasks.send(bytes(packed(good | lie)))
        tasks.send(bytes(MESSAGE_BYTES_MAX + ENVELOPE_BYTES + 1))
        once(farm.worker, r"an invalid batch came from 127.0.0.1: .* \(logged once\)")
        results = liar._client(zmq.PUSH, liar.pair.sink_key)
        results.connect(f"tcp://127.0.0.1:{liar.heard[0].results_port}")
        once(farm.sink, "refused the key of ventilator mallory from 127.0.0.1 on the results link")
        liar.say(Goodbye())
        farm.let_go()
    assert farm.pipeline.query("SELECT name, done FROM jobs ORDER BY name") == [("evil", 0), ("j", TASKS)]


def test_a_ventilators_key_that_claims_anothers_address_takes_nothing_along(farm: Farm) -> None:
    port = int(farm.worker.wait_for(r"pulling the tasks of job j from 127.0.0.1:(\d+)")[1])
    with farm.liar("ventilator", "mallory") as liar:
        liar.greet("ventilator")
        liar.say(Open("evil", "gate:wait", "range", port, 0, False, False))
        farm.sink.wait_for("job evil .*opened")
        liar.say(Goodbye())
        # The worker lets go of the address that both have claimed, and connects to the one that is left.
        farm.worker.wait_for("(?s)job j from.*pulling the tasks of job j from")
    farm.let_go()


def test_a_key_pulls_tasks_only_while_a_worker_is_here_with_it(farm: Farm) -> None:
    names = {zmq.EVENT_CONNECTED: "connected", zmq.EVENT_HANDSHAKE_SUCCEEDED: "in", zmq.EVENT_DISCONNECTED: "cut"}
    with farm.liar("worker", "eve") as eve:
        (place,) = join_crew(eve).places
        eve.say(Goodbye())
        farm.sink.wait_for("worker liar.1 has left")
        tasks = eve.tasks(place.key)
        watch = monitor.SocketMonitor(tasks, sum(names))
        seen: list[str] = []

        def look() -> list[str]:
            seen.extend(names[zmq.Event(event)] for event, _, _ in watch.events())
            return seen

        tasks.connect(f"tcp://127.0.0.1:{place.port}")
        wait_until(lambda: look() == ["connected"], "it waits at the gate")
        join_crew(eve)
        # At once, not with its next attempt.
        wait_until(lambda: look() == ["connected", "in"], "it is let in")
        eve.say(Goodbye())
        wait_until(lambda: look()[2:4] == ["cut", "connected"], "it is cut off, and connects anew")
        farm.let_go()
        assert look().count("in") == 1
        watch.close()
