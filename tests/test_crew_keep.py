"""`crew keep local`: real workers come with tasks and go without, and leave with who has started them."""

import re
import signal
import sys

from tests.conftest import Pipeline, Process, is_gone, wait_until

GATE = """
import os, time
def wait(n):
    while not os.path.exists("open"):
        time.sleep(0.01)
    return n
"""


def keep(pipeline: Pipeline, *arguments: str) -> Process:
    command = [sys.executable, "-m", "tradewind", "crew", "keep", "local", "--every", "0.2", *arguments]
    process = Process(command, pipeline.folder, f"keep-{len(pipeline.processes)}", pipeline.env, None)
    pipeline.processes.append(process)
    return process


def workers_of(sink: Process, keeper: Process) -> list[int]:
    """The processes of the keeper's workers that have joined the sink."""
    return [int(pid) for pid in re.findall(rf"worker \S+-keep-{keeper.pid}-\d+\.(\d+)-\S+ at \S+ joined", sink.err)]


def test_workers_of_this_machine_come_with_tasks_and_go_without(programs: Pipeline) -> None:
    programs.module("gate", GATE)
    sink = programs.sink()
    keeper = keep(programs, "--max", "2", "--within", "1", "--", "gate", "--exit-when-idle", "1")
    keeper.wait_for("no task is left: 0 workers wanted")
    ventilator = programs.ventilator("gate:wait", "--range", "6", "--batch", "1")
    wait_until(lambda: len(workers_of(sink, keeper)) > 1, "two workers")
    (programs.folder / "open").touch()
    assert ventilator.wait() == 0, ventilator.err
    keeper.wait_for("(?s)starting.*no task is left: 0 workers wanted, 0 started")
    assert all(map(is_gone, workers_of(sink, keeper)))
    assert list(programs.folder.glob("tradewind-*.log")) == []
    sink.kill()
    keeper.wait_for("the sink at .*; nothing is started until it answers")
    keeper.signal(signal.SIGTERM)
    assert keeper.wait() == 0


def test_they_leave_with_who_has_started_them_also_when_that_is_killed(programs: Pipeline) -> None:
    programs.module("gate", GATE)
    sink = programs.sink()
    ventilator = programs.ventilator("gate:wait", "--range", "2", "--batch", "1", "--retries", "0", "--job", "j")
    for how in (signal.SIGKILL, signal.SIGTERM):
        keeper = keep(programs, "--min", "1", "--max", "1", "--", "gate", "--grace", "0")
        wait_until(lambda: workers_of(sink, keeper), "a worker")  # noqa: B023
        keeper.signal(how)
        keeper.wait()
        [pid] = workers_of(sink, keeper)
        wait_until(lambda: is_gone(pid), "its worker leaves")  # noqa: B023
    assert keeper.popen.returncode == 0
    (programs.folder / "open").touch()
    keep(programs, "--", "gate")
    assert ventilator.wait() == 0, ventilator.err
    assert programs.query("SELECT task, attempt FROM results ORDER BY task") == [(0, 1), (1, 1)]


def test_what_does_not_go_together_is_said_in_one_line(programs: Pipeline) -> None:
    refused = keep(programs, "--time", "5", "--", "gate")
    assert refused.wait() == 2
    assert refused.err == "crew: --time is for Slurm: leave it out with local\n"
    refused = keep(programs, "--key", "-", "--", "gate")
    assert refused.wait() == 2
    assert refused.err == "crew: --key -: each worker reads the key by itself, so give a file\n"


def test_a_second_signal_does_not_wait_for_what_they_run(programs: Pipeline) -> None:
    programs.module("gate", GATE)
    sink = programs.sink()
    ventilator = programs.ventilator("gate:wait", "--range", "1", "--job", "j")
    keeper = keep(programs, "--min", "1", "--max", "1", "--", "gate", "--grace", "1000")
    wait_until(lambda: "j 1" in programs.run("sink", "status").out, "its worker runs the task")
    [pid] = workers_of(sink, keeper)
    keeper.signal(signal.SIGTERM)
    keeper.wait_for("leaving: the workers finish what they run; a second signal does not wait for them")
    assert not is_gone(pid)
    keeper.signal(signal.SIGTERM)
    assert keeper.wait() == 0
    assert is_gone(pid)
    (programs.folder / "open").touch()
    keep(programs, "--", "gate")
    assert ventilator.wait() == 0, ventilator.err
