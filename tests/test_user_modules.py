"""The child process is the user's: their own modules win there, and nothing of theirs can hurt the worker."""

import json
import math
import signal
from datetime import date

from common.protocol.values import value_of
from tests.conftest import Pipeline, wait_until


def test_a_project_with_its_own_common_worker_and_sink_works_unharmed(pipeline: Pipeline) -> None:
    pipeline.module("common/__init__", "WHOSE = 'mine'\n")
    pipeline.module("common/messages", "GREETING = 'hello'\n")
    pipeline.module("worker", "def who(n):\n    import common, sink\n    from common.messages import GREETING\n"
                    "    return [common.WHOSE, GREETING, sink.WHOSE, n]\n")  # fmt: skip
    pipeline.module("sink", "WHOSE = 'my sink'\n")
    pipeline.sink()
    pipeline.worker("worker")
    ventilator = pipeline.ventilator("worker:who", "--range", "2")
    assert ventilator.wait() == 0, ventilator.err
    expected = [(json.dumps(["mine", "hello", "my sink", n], separators=(",", ":")),) for n in range(2)]
    assert pipeline.query("SELECT value FROM results ORDER BY task") == expected


def test_the_child_imports_nothing_of_ours(pipeline: Pipeline) -> None:
    pipeline.module(
        "look",
        "import sys\n"
        "def modules(_):\n"
        "    return sorted({'common', 'worker', 'sink', 'ventilator', 'zmq', 'typer'} & set(sys.modules))\n"
        "def path(_):\n    return sys.path[0]\n",
    )
    pipeline.sink()
    pipeline.worker("look")
    assert pipeline.ventilator("look:modules", "--range", "1").wait() == 0
    assert pipeline.ventilator("look:path", "--range", "1").wait() == 0
    assert pipeline.query("SELECT value FROM results ORDER BY job") == [("[]",), (str(pipeline.folder),)]


PATCHED = """
import os, threading, time
assert threading.enumerate() == [threading.main_thread()], "gevent and eventlet patch what no thread has used yet"

def _for_greenlets_only(*_):
    raise RuntimeError("called from a thread without greenlets")

_sleep = time.sleep
for module, names in ((os, ("read", "write")), (threading, ("Thread", "Lock", "RLock")), (time, ("sleep",))):
    for name in names:
        setattr(module, name, _for_greenlets_only)

def wait(n):
    print("patched", n)
    _sleep(n)
    return n
"""


def test_modules_may_be_called_as_pythons_own_and_patch_these(pipeline: Pipeline) -> None:
    pipeline.module("select", "def mine(n):\n    return n\n")
    pipeline.module("patched", PATCHED)
    pipeline.sink()
    worker = pipeline.worker("select", "patched", "--slots", "1")
    worker.wait_for("exposing patched:wait, select:mine in 1 slot")
    jsonl = pipeline.folder / "times.jsonl"
    jsonl.write_text("0.3\n0\n0\n")
    # What waits behind the long one is given back, and what is done is said, by the child's other thread.
    ventilator = pipeline.ventilator("patched:wait", "times.jsonl", "--batch", "3")
    assert ventilator.wait() == 0, worker.err
    worker.wait_for("task 2: patched 0\n")
    assert worker.popen.poll() is None, worker.err


def test_the_next_job_runs_what_was_edited_and_a_bad_edit_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.module("helper", "NUMBER = 1\n")
    pipeline.module("edited", "import helper\ndef number(n):\n    return helper.NUMBER\n")
    pipeline.sink()
    worker = pipeline.worker("edited", "--slots", "2")
    for text, job in (
        ("NUMBER = 1\n", "one"),
        ("NUMBER = 22\n", "two"),
        ("NUMBER = \n", "bad"),
        ("NUMBER = 3333\n", "last"),
    ):
        pipeline.module("helper", text)
        ventilator = pipeline.ventilator("edited:number", "--range", "4", "--batch", "1", "--job", job)
        assert ventilator.wait() == 0, worker.err
    worker.wait_for(r"helper\.py was edited: importing it again before the next job begins")
    worker.wait_for(r"this worker goes on with what it has imported before the edit: module edited cannot be imported")
    rows = pipeline.query("SELECT DISTINCT jobs.name, value FROM results JOIN jobs ON jobs.job = results.job")
    assert sorted(rows) == [("bad", 22), ("last", 3333), ("one", 1), ("two", 22)]


def test_only_what_the_operator_named_is_run(pipeline: Pipeline) -> None:
    pipeline.module(
        "api",
        "from os import system\n"
        "def fine(n):\n    return n\ndef _hidden(n):\n    return n\ndef other(n):\n    return n\n",
    )
    pipeline.sink()
    worker = pipeline.worker("api")
    worker.wait_for(r"exposing api:fine, api:other in")
    one = pipeline.worker("api:fine")
    one.wait_for(r"exposing api:fine in")
    ventilator = pipeline.ventilator("api:_hidden", "--range", "1")
    ventilator.wait_for("no worker exposes api:_hidden")


FAILURES = """
import os, signal, sys
class Odd:
    pass
def fail(n):
    if n == 1: raise KeyError("missing")
    if n == 2: os._exit(3)
    if n == 3: os.kill(os.getpid(), signal.SIGSEGV)
    if n == 4: return Odd()
    if n == 5: return {"deep": [Odd()]}
    if n == 6: return {"1": 2, 1: 2}
    if n == 7: return "x" * (17 * 1024 * 1024)
    if n == 8: sys.exit("stop")
    if n == 9: return (each for each in [])
    if n == 11:
        loop = []
        loop.append(loop)
        return loop
    return n
"""


def test_a_task_that_fails_costs_only_itself_and_is_named(pipeline: Pipeline) -> None:
    pipeline.module("odd", FAILURES)
    pipeline.sink()
    pipeline.worker("odd", "--slots", "1")
    ventilator = pipeline.ventilator("odd:fail", "--range", "20", "--batch", "20")
    assert ventilator.wait() == 1
    rows = dict(pipeline.query("SELECT task, error FROM results"))
    expected = {
        1: "KeyError: 'missing'",
        2: "ended its process with exit code 3",
        3: "killed its process by signal 11 (SIGSEGV)",
        4: "result: odd.Odd cannot be sent; return numbers, text, lists, ",
        5: "result['deep'][0]: odd.Odd cannot be sent; return ",
        6: "result[1]: another key of this map is the same as JSON text",
        7: "the result has 17825797 bytes, but a message holds 16777216: write it to a file and return the path",
        8: "SystemExit: stop",
        9: "result: generator cannot be sent",
        11: "the result is nested too deeply, or contains itself",
    }
    for task in range(20):
        if task in expected:
            assert expected[task] in rows[task]
        else:
            assert rows[task] is None


def test_tasks_of_which_no_result_can_be_sent_are_not_run_for_nothing(pipeline: Pipeline) -> None:
    pipeline.module(
        "models",
        "class Model:\n    pass\n"
        "def fit(n):\n    open('ran', 'a').write(f'{n}\\n')\n    return {'fit': [Model()]}\n"
        "def seldom(n):\n    return n if n % 10 == 2 else Model()\n",
    )
    pipeline.sink()
    worker = pipeline.worker("models", "--slots", "1")
    job = ("models:fit", "--range", "84", "--retries", "2", "--job", "j")
    assert pipeline.ventilator(*job).wait() == 1
    assert (pipeline.folder / "ran").read_text().split() == ["0", "1", "2"]
    rows = pipeline.query("SELECT status, attempt, error, seconds > 0 FROM results ORDER BY task")
    assert [row[:2] for row in rows] == [("failed", 1)] * 84
    assert all(row[2].splitlines()[-1].startswith("result['fit'][0]: models.Model cannot be sent") for row in rows)
    assert [row[2].startswith("not run: ") for row in rows] == [False] * 3 + [True] * 81
    # One that returns something else in time is run to its end.
    assert pipeline.ventilator("models:seldom", "--range", "30", "--batch", "30", "--job", "s").wait() == 1
    query = "SELECT count(*), count(value) FROM results WHERE job=2 AND seconds > 0"
    assert pipeline.query(query) == [(30, 3)]
    assert worker.popen.poll() is None, worker.err


def test_results_come_back_as_they_were_returned(pipeline: Pipeline) -> None:
    pipeline.module(
        "several",
        "import dataclasses, datetime, math\n"
        "@dataclasses.dataclass\nclass Fit:\n    at: object\n    parts: object\n"
        "def make(n):\n"
        "    day = datetime.date(2026, 1, 1)\n"
        "    day = datetime.date(2026, 1, 1)\n"
        "    return [(1, 'a'), {1: {2}}, [math.nan, -0.0], Fit(day, (b'x',)), 2**70, '\\udcff', 7][n]\n",
    )
    pipeline.sink()
    pipeline.worker("several", "--slots", "1")
    assert pipeline.ventilator("several:make", "--range", "7", "--batch", "7").wait() == 0
    rows = pipeline.query("SELECT value, json, exact FROM results ORDER BY task")
    assert [row[0] for row in rows] == [
        '[1,"a"]',
        '{"1":[2]}',
        '["NaN",-0.0]',
        '{"at":"2026-01-01","parts":["eA=="]}',
        str(2**70),
        "\\udcff",
        7,
    ]
    expected = [(1, "a"), {1: {2}}, [math.nan, -0.0], {"at": date(2026, 1, 1), "parts": (b"x",)}, 2**70, "\udcff", 7]
    assert [repr(value_of(*row)) for row in rows] == [repr(value) for value in expected]


def test_a_result_that_the_function_changes_later_is_recorded_as_it_was_returned(pipeline: Pipeline) -> None:
    pipeline.module("shared", "kept = []\ndef grow(n):\n    kept.append(n)\n    return kept\n")
    pipeline.sink()
    pipeline.worker("shared", "--slots", "1")
    assert pipeline.ventilator("shared:grow", "--range", "4", "--batch", "4").wait() == 0
    assert pipeline.query("SELECT value FROM results ORDER BY task") == [
        ("[0]",),
        ("[0,1]",),
        ("[0,1,2]",),
        ("[0,1,2,3]",),
    ]


def test_an_argument_too_large_for_a_message_fails_with_advice(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("builtins:len")
    (pipeline.folder / "in.txt").write_text("short\n" + "x" * (17 * 1024 * 1024) + "\n")
    ventilator = pipeline.ventilator("builtins:len", "in.txt")
    assert ventilator.wait() == 1
    assert "in.txt:2: the line takes 17825792 bytes, but a message holds 16777216: pass a path" in ventilator.err


def test_a_result_nested_too_deep_costs_only_its_task(pipeline: Pipeline) -> None:
    pipeline.module(
        "deep",
        "def nest(depth):\n    value = 0\n    for _ in range(depth):\n        value = [value]\n    return value\n",
    )
    pipeline.sink()
    pipeline.worker("deep", "--slots", "1")
    (pipeline.folder / "depths.jsonl").write_text("".join(f"{depth}\n" for depth in (3, 850, 950, 978, 990, 2000, 4)))
    ventilator = pipeline.ventilator("deep:nest", "depths.jsonl", "--batch", "7")
    assert ventilator.wait() == 1, ventilator.err
    rows = pipeline.query("SELECT status, error FROM results ORDER BY task")
    assert [status for status, _ in rows[:2]] == ["ok", "ok"]
    assert rows[5] == ("failed", "the result is nested too deeply, or contains itself")
    assert rows[6][0] == "ok"


def test_arguments_that_no_message_can_hold_fail_with_their_line(pipeline: Pipeline) -> None:
    pipeline.sink()
    pipeline.worker("squares")
    for line, reason in [("[" * 980 + "]" * 980, "nested too deeply"), ("18446744073709551616", "cannot be sent")]:
        (pipeline.folder / "in.jsonl").write_text(f"1\n{line}\n")
        ventilator = pipeline.ventilator("squares:square", "in.jsonl")
        assert ventilator.wait() == 1, ventilator.err
        assert "in.jsonl:2: " in ventilator.err
        assert reason in ventilator.err


def test_results_that_are_large_together_do_not_lose_each_other(pipeline: Pipeline) -> None:
    pipeline.module(
        "large",
        "def make(n):\n    if n >= 10:\n        raise ValueError('e' * 49_000)\n"
        "    return 'x' * (1_000_000 if n % 2 == 0 else 16_000_000)\n",
    )
    pipeline.sink()
    pipeline.worker("large", "--slots", "1")
    ventilator = pipeline.ventilator("large:make", "--range", "600", "--batch", "600")
    assert ventilator.wait() == 1, ventilator.err
    assert pipeline.query("SELECT status, count(*) FROM results GROUP BY status ORDER BY status") == [
        ("failed", 590),
        ("ok", 10),
    ]


def test_a_worker_that_leaves_does_not_wait_for_a_dead_sink_beyond_its_grace(pipeline: Pipeline) -> None:
    sink = pipeline.sink()
    pipeline.module("gate", GATE)
    worker = pipeline.worker("gate", "--grace", "1")
    pipeline.ventilator("gate:wait", "--range", "1")
    wait_until(lambda: (pipeline.folder / "runs").exists(), "the task runs")
    sink.kill()
    (pipeline.folder / "open").touch()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


GATE = (
    "import os, time\n"
    "def wait(n):\n    open('runs', 'w').close()\n"
    "    while not os.path.exists('open'):\n        time.sleep(.01)\n    return n\n"
)
