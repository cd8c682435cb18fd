"""`--speculate` with real processes: a worker on which tasks hang, and a quick one."""

import signal

import pytest

from tests.conftest import Pipeline

HANG = (
    "import os, time\n"
    "def work(n):\n"
    "    with open('executions', 'a') as file:\n        file.write(f'{n}\\n')\n"
    "    if os.environ.get('HANGS'):\n"
    "        open('hangs', 'w').close()\n"
    "        time.sleep(600)\n"
    "    while not os.path.exists('hangs'):\n        time.sleep(.01)\n"
    "    return n\n"
    "def quick(n):\n"
    "    return [n, bool(os.environ.get('HANGS'))]\n"
)
"""On the quick worker no task ends before one hangs on the slow one: it gets its share."""


@pytest.mark.parametrize("by", ["option", "environment"])
def test_copies_of_what_hangs_end_the_job_and_the_slow_worker_is_free_again(pipeline: Pipeline, by: str) -> None:
    pipeline.module("hang", HANG)
    sink = pipeline.sink()
    slow = pipeline.worker("hang", "--slots", "1", "--name", "slow", HANGS="1")
    quick = pipeline.worker("hang", "--slots", "1", "--name", "quick")
    for name in ("slow", "quick"):
        sink.wait_for(f"worker {name}.* joined")
    option, env = (["--speculate"], {}) if by == "option" else ([], {"TRADEWIND_SPECULATE": "1"})
    command = ["hang:work", "--range", "8", "--batch", "1", "--job", "j", *option]
    ventilator = pipeline.ventilator(*command, TRADEWIND_LOG_LEVEL="debug", **env)
    assert ventilator.wait() == 0, ventilator.err
    rows = pipeline.query("SELECT task, status, value, worker FROM results ORDER BY task")
    assert [row[:3] for row in rows] == [(n, "ok", n) for n in range(8)]
    assert {worker.partition(".")[0] for *_, worker in rows} == {"quick"}
    executions = [int(line) for line in (pipeline.folder / "executions").read_text().split()]
    assert set(executions) == set(range(8))
    assert 8 < len(executions) <= 10

    # What hung is ended: the slow worker, alone now, has its slot for the next job.
    quick.signal(signal.SIGTERM)
    assert quick.wait() == 0
    after = pipeline.ventilator("hang:quick", "--range", "3", "--job", "next")
    assert after.wait() == 0, (after.err, slow.err)
    values = pipeline.query("SELECT value FROM results JOIN jobs USING (job) WHERE name='next' ORDER BY task")
    assert values == [(f"[{n},true]",) for n in range(3)]
