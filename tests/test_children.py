"""A task can do what it likes to its own process: that costs only itself, and its row says in words what happened.

One job has a batch for each misdeed: four healthy mates around one task that commits it. The tests look at its rows.
"""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pipeline, Process, is_gone, wait_until

BATCH, PLACE = 5, 2
MISDEEDS = '''
import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time


FOLDER = os.getcwd()

def note(name, what):
    with open(f"{FOLDER}/{name}", "a") as file:
        file.write(f"{what}\\n")


def segfault():
    ctypes.string_at(0)

def leave():
    os._exit(3)

def leave_well():
    os._exit(0)

def abort():
    os.abort()

def kill_itself():
    """Also what the kernel does when the machine is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)

def terminate_itself():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)

def interrupt_itself():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)

def ask_for_much_memory():
    return len(bytearray(4_000_000_000))

def ask_for_memory_again_and_again():
    kept = []
    while True:
        kept.append(bytes(10_000_000))

def return_half_the_memory():
    return bytes(300_000_000)

def exit_with_grandchildren():
    if os.fork() == 0:
        note("grandchildren", os.getpid())
        time.sleep(600)
    os.system(f"sleep 600 & echo $! >> {FOLDER}/grandchildren")
    while len(open(f"{FOLDER}/grandchildren").readlines()) < 2:
        time.sleep(0.01)
    os._exit(4)

def return_with_grandchildren():
    if os.fork() == 0:
        time.sleep(600)
    subprocess.Popen(["sleep", "600"])

def return_twice():
    os.fork()

def raise_twice():
    os.fork()
    raise ValueError("twice")

def exit_in_a_grandchild():
    if os.fork() == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0

def use_a_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert sum(pool.map(abs, [-1, -1])) == 2

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note("daemons", os.getpid())
            time.sleep(600)
        os._exit(0)
    time.sleep(600)

def print_much():
    print("much" * 250_000, end="")

def print_in_pieces():
    for _ in range(3):
        print("piece", end=" ", flush=True)

def print_past_python():
    os.write(1, b"\\xff\\x1d\\x1dpast")
    os.write(2, bytes(range(256)) * 100)

def close_descriptors():
    for number in range(256):
        try:
            os.close(number)
        except OSError:
            pass

def close_descriptors_and_stay():
    os.closerange(0, 256)
    time.sleep(600)

def close_output():
    sys.stdout.close()
    sys.stderr.close()

def close_output_descriptors():
    os.close(1)
    os.close(2)

def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)

def stop():
    os.kill(os.getpid(), signal.SIGSTOP)

def swallow_everything():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

def leave_threads():
    for daemon in (True, False):
        threading.Thread(target=time.sleep, args=(600,), daemon=daemon).start()

def exit():
    sys.exit()

def interrupt():
    raise KeyboardInterrupt

def change_folder():
    os.chdir("/")

def recurse():
    recurse()

def recurse_without_limit():
    class Itself:
        def __repr__(self):
            return repr(self)
    sys.setrecursionlimit(10**9)
    repr(Itself())

def raise_much():
    raise ValueError("e" * 10_000_000 + " the end")

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

def raise_without_words():
    raise Mute

class Hostile(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)

def raise_something_hostile():
    raise Hostile

def return_a_generator():
    return (n for n in range(3))

def return_an_object():
    return object()
'''
TIMEOUT = "ran longer than its timeout of 2.5 seconds$"
MEMORY = "MemoryError: the child's memory is limited to 524288000 bytes$"
SAID = {
    "segfault": r"^the task killed its process by signal 11 \(SIGSEGV\)$",
    "leave": "^the task ended its process with exit code 3$",
    "leave_well": "^the task ended its process with exit code 0$",
    "abort": r"signal 6 \(SIGABRT\)$",
    "kill_itself": r"signal 9 \(SIGKILL\)$",
    "terminate_itself": r"signal 15 \(SIGTERM\)$",
    "interrupt_itself": "KeyboardInterrupt$",
    "ask_for_much_memory": MEMORY,
    "ask_for_memory_again_and_again": MEMORY,
    "return_half_the_memory": "the result has 300000005 bytes, but a message holds 16777216: write it to a file",
    "exit_with_grandchildren": "ended its process with exit code 4$",
    "return_with_grandchildren": None,
    "return_twice": None,
    "raise_twice": "ValueError: twice$",
    "exit_in_a_grandchild": None,
    "use_a_pool": None,
    "daemon": TIMEOUT,
    "print_much": None,
    "print_in_pieces": None,
    "print_past_python": None,
    "close_descriptors": "^the task closed its process's link to the worker$",
    "close_descriptors_and_stay": "^the task closed its process's link to the worker$",
    "close_output": None,
    "close_output_descriptors": None,
    "block_signals": TIMEOUT,
    "stop": TIMEOUT,
    "swallow_everything": TIMEOUT,
    "leave_threads": None,
    "exit": "SystemExit$",
    "interrupt": "KeyboardInterrupt$",
    "change_folder": None,
    "recurse": "RecursionError: maximum recursion depth exceeded$",
    "recurse_without_limit": r"signal 11 \(SIGSEGV\)$",
    "raise_much": "e{40000} the end$",
    "raise_without_words": r"Mute: <exception str\(\) failed>$",
    "raise_something_hostile": "Hostile$",
    "return_a_generator": "^result: generator cannot be sent; ",
    "return_an_object": "^result: object cannot be sent; ",
}
"""What the row of each misdeed says; None when it is no failure."""
NAMES = list(SAID)
ENDS_ITS_PROCESS = ("process", "timeout", "signal")
"""Words of errors after which the slot has a new child, so that mates before the misdeed may have run twice."""
MODULE = MISDEEDS + (
    f"\nNAMES = {NAMES}\n"
    "def act(n):\n"
    f"    if n % {BATCH} == {PLACE}:\n"
    f"        return globals()[NAMES[n // {BATCH}]]() or n\n"
    "    print('mate', n)\n"
    "    note('ran', n)\n"
    # A slot is given several batches at once that are done in no time; a misdeed in one would then cost the others.
    "    time.sleep(0.002)\n"
    "    return n\n"
)


class Deeds:
    """The rows of the job, and what its worker said."""

    def __init__(self, pipeline: Pipeline, worker: Process) -> None:
        self.pipeline = pipeline
        self.worker = worker
        self.rows = {
            task: (status, value, error, attempt)
            for task, status, value, error, attempt in pipeline.query(
                "SELECT task, status, value, error, attempt FROM results"
            )
        }
        self.ran = [int(line) for line in (pipeline.folder / "ran").read_text().split()]

    def noted(self, name: str) -> list[int]:
        return [int(line) for line in (self.pipeline.folder / name).read_text().split()]


@pytest.fixture(scope="module")
def deeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deeds]:
    pipeline = Pipeline(tmp_path_factory.mktemp("children"))
    pipeline.module("misdeeds", MODULE)
    try:
        pipeline.sink()
        worker = pipeline.worker("misdeeds:act", "--slots", "2", "--memory-limit", "500M")
        count = BATCH * len(NAMES)
        ventilator = pipeline.ventilator(
            "misdeeds:act", "--range", str(count), "--batch", str(BATCH), "--timeout", "2.5", "--job", "j"
        )
        assert ventilator.wait() == 1, ventilator.err + worker.err
        made = Deeds(pipeline, worker)
        yield made
        for pid in made.noted("daemons"):
            os.kill(pid, signal.SIGKILL)
    finally:
        pipeline.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_misdeed_costs_only_its_own_task_and_is_named(deeds: Deeds, name: str) -> None:
    first = BATCH * NAMES.index(name)
    for task in range(first, first + BATCH):
        status, value, error, attempt = deeds.rows[task]
        assert attempt == 1
        if task == first + PLACE and (said := SAID[name]):
            assert (status, value) == ("failed", None)
            assert re.search(said, error), error
        else:
            assert (status, value, error) == ("ok", task, None)


def test_the_mates_of_a_misdeed_print_under_their_own_numbers(deeds: Deeds) -> None:
    mates = {str(task) for task in deeds.rows if task % BATCH != PLACE}
    wait_until(lambda: set(re.findall(r": mate (\d+)\n", deeds.worker.err)) == mates, "all mates have printed")
    assert set(re.findall(r"worker: job j task (\d+): mate \1\n", deeds.worker.err)) == mates


def test_a_child_that_lives_on_runs_each_task_once(deeds: Deeds) -> None:
    for at, said in enumerate(SAID.values()):
        if said is None or not any(word in said for word in ENDS_ITS_PROCESS):
            mates = [task for task in range(BATCH * at, BATCH * (at + 1)) if task % BATCH != PLACE]
            assert [task for task in sorted(deeds.ran) if task // BATCH == at] == mates, NAMES[at]


def test_what_a_misdeed_prints_is_logged_in_bounded_whole_lines(deeds: Deeds) -> None:
    task = {name: BATCH * at + PLACE for at, name in enumerate(NAMES)}
    deeds.worker.wait_for(rf"job j task {task['print_much']}: (much){{2000,2048}} \[cut\]\n")
    deeds.worker.wait_for(rf"job j task {task['print_in_pieces']}: piece piece piece\n")
    deeds.worker.wait_for(r": \\xff\\x1d\\x1dpast")
    assert max(map(len, deeds.worker.err.split("\n"))) < 40_000


def test_grandchildren_end_with_a_child_that_dies(deeds: Deeds) -> None:
    assert len(deeds.noted("grandchildren")) == 2
    for pid in deeds.noted("grandchildren"):
        wait_until(lambda pid=pid: is_gone(pid), f"grandchild {pid} has ended")


def test_grandchildren_of_an_idle_child_end_with_their_worker(pipeline: Pipeline) -> None:
    pipeline.module(
        "leaves",
        "import subprocess\ndef leave(n):\n    return subprocess.Popen(['sleep', '600']).pid\n",
    )
    pipeline.sink()
    worker = pipeline.worker("leaves", "--slots", "2")
    assert pipeline.ventilator("leaves:leave", "--range", "8", "--batch", "1").wait() == 0
    pids = [pid for (pid,) in pipeline.query("SELECT value FROM results")]
    assert not any(map(is_gone, pids))
    worker.kill()
    for pid in pids:
        wait_until(lambda pid=pid: is_gone(pid), f"grandchild {pid} has ended")


def test_a_child_that_imports_ends_with_its_worker(pipeline: Pipeline) -> None:
    pipeline.module("slow", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    pipeline.sink()
    worker = pipeline.worker("slow")
    pid = pipeline.folder / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "the import runs")
    worker.kill()
    wait_until(lambda: is_gone(int(pid.read_text())), "the child has ended")


def test_children_that_have_run_their_tasks_are_replaced_and_each_task_runs_once(pipeline: Pipeline) -> None:
    pipeline.module("quick", "def note(n):\n    with open('ran', 'a') as file:\n        file.write(f'{n}\\n')\n")
    pipeline.sink()
    worker = pipeline.worker("quick", "--slots", "2", "--max-tasks-per-child", "3")
    ventilator = pipeline.ventilator("quick:note", "--range", "60", "--batch", "1")
    assert ends_or(ventilator, worker, "Traceback|error") == 0
    assert sorted(map(int, (pipeline.folder / "ran").read_text().split())) == list(range(60))
    assert worker.popen.poll() is None, worker.err


def test_a_child_that_is_no_longer_needed_ends_like_any_program(pipeline: Pipeline) -> None:
    pipeline.module(
        "atexits",
        "import atexit, os\n"
        "def note(name):\n    with open(name, 'a') as file:\n        file.write(f'{os.getpid()}\\n')\n"
        "note('began')\natexit.register(note, 'ended')\n"
        "def task(n):\n    return n\n",
    )
    pipeline.sink()
    worker = pipeline.worker("atexits", "--slots", "2", "--max-tasks-per-child", "3")
    assert pipeline.ventilator("atexits:task", "--range", "13", "--batch", "1").wait() == 0
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    began, ended = (sorted((pipeline.folder / name).read_text().split()) for name in ("began", "ended"))
    assert len(began) >= 5
    assert ended == began, worker.err


# -- what a worker must see for itself ------------------------------------------------------------------------------

SABOTAGE = """
import os, signal, threading, time

def leave_its_group(n):
    if n == 1:
        os.setpgid(0, os.getpgid(os.getppid()))
        time.sleep(600)
    return n

def write_into_the_link(n):
    if n == 1:
        for number in range(3, 64):
            try:
                os.write(number, b"nonsense" * 100)
            except OSError:
                pass
    return n

def stop_when_idle(n):
    def stop():
        while not os.path.exists("idle"):
            time.sleep(.01)
        os.kill(os.getpid(), signal.SIGSTOP)
    threading.Thread(target=stop).start()
    open("pid", "w").write(str(os.getpid()))
    return n

def fine(n):
    return n
"""


HANGS = r"job \S+: \d/3, .*\n(.*\n)*.*job \S+: \d/3, "
"""Progress was logged twice, which takes 20 seconds."""


def ends_or(ventilator: Process, other: Process, sign: str) -> int:
    """Wait until the ventilator ends; fail at once when `other` says what it says when it waits in vain."""
    wait_until(lambda: ventilator.popen.poll() is not None or re.search(sign, other.err), "the job ends, or hangs")
    assert ventilator.popen.poll() is not None, f"the job hangs: {other.err}"
    return ventilator.wait()


def test_a_task_that_leaves_its_process_group_is_ended_by_its_timeout(pipeline: Pipeline) -> None:
    pipeline.module("sabotage", SABOTAGE)
    sink = pipeline.sink()
    pipeline.worker("sabotage", "--slots", "1")
    options = ["--range", "3", "--batch", "3", "--timeout", "1.5"]
    ventilator = pipeline.ventilator("sabotage:leave_its_group", *options)
    assert ends_or(ventilator, sink, "worker .* is silent") == 1
    rows = pipeline.query("SELECT task, status FROM results ORDER BY task")
    assert rows == [(0, "ok"), (1, "failed"), (2, "ok")]


def test_a_task_that_writes_into_the_link_costs_only_itself(pipeline: Pipeline) -> None:
    pipeline.module("sabotage", SABOTAGE)
    pipeline.sink()
    pipeline.worker("sabotage", "--slots", "1")
    options = ["--range", "3", "--batch", "3", "--timeout", "1.5"]
    ventilator = pipeline.ventilator("sabotage:write_into_the_link", *options)
    assert ends_or(ventilator, ventilator, HANGS) in (0, 1)
    rows = dict(pipeline.query("SELECT task, status FROM results"))
    assert (rows[0], rows[2]) == ("ok", "ok")


def test_a_child_that_was_stopped_when_idle_is_replaced(pipeline: Pipeline) -> None:
    pipeline.module("sabotage", SABOTAGE)
    pipeline.sink()
    pipeline.worker("sabotage", "--slots", "1")
    assert pipeline.ventilator("sabotage:stop_when_idle", "--range", "1").wait() == 0
    (pipeline.folder / "idle").touch()
    stat = Path(f"/proc/{(pipeline.folder / 'pid').read_text()}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the child has stopped")
    ventilator = pipeline.ventilator("sabotage:fine", "--range", "3", "--batch", "3", "--timeout", "1.5")
    assert ends_or(ventilator, ventilator, HANGS) in (0, 1)


def test_a_module_whose_import_ends_the_process_is_named(pipeline: Pipeline) -> None:
    pipeline.module(
        "deadly",
        "import os\nwith open('imports', 'a') as file:\n    file.write('x')\nos._exit(3)\ndef f(n): return n\n",
    )
    pipeline.sink()
    worker = pipeline.worker("deadly")
    imports = pipeline.folder / "imports"
    wait_until(
        lambda: worker.popen.poll() is not None or (imports.exists() and imports.stat().st_size > 4),
        "the worker ends, or starts child after child",
    )
    assert re.search("deadly.*exit code 3|exit code 3.*deadly", worker.err), worker.err
