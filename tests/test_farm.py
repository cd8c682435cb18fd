"""`import tradewind` in a program: real processes, real CURVE, a real ledger."""

import doctest
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

import common
from common.farm.bell import Bell
from common.protocol.messages import Query, Report
from common.transport.link_pool import LinkPool
from common.transport.sink_link import SinkLink
from tests.conftest import TOP, Pipeline, start, wait_until

MODULE = """
import os, time

def square(n):
    return n * n

def odd_fails(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n

def exact(n):
    return (n, {1: {n}}, float("inf"), b"x")

def power(base, exponent=2):
    return base ** exponent

def waits_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return path

def first_waits(pair):
    n, path = pair
    return n if n else len(waits_for(path))
"""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[common.Farm]:
    """A local farm with a module `squares`."""
    folder = tmp_path_factory.mktemp("farm")
    (folder / "squares.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    try:
        with common.local(["squares"], slots=2) as made:
            yield made
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("name", ["errors", "entry", "executor", "farm", "job"])
def test_the_examples_of_the_docstrings(farm: common.Farm, name: str) -> None:
    module = import_module(f"common.farm.{name}")
    found = doctest.testmod(module, globs=vars(module) | {"farm": farm}, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted


def test_values_of_a_callable_over_a_generator_in_both_orders(farm: common.Farm) -> None:
    import squares  # type: ignore[import-not-found]

    assert list(farm.map(squares.square, (n for n in range(300)))) == [n * n for n in range(300)]
    job = farm.map("squares:square", list(range(300)), ordered=False)
    assert sorted(job) == [n * n for n in range(300)]
    assert (job.state, job.total, job.done, job.failed) == ("done", 300, 300, 0)
    # A second time, and from the ledger.
    assert sorted(job) == sorted(farm.job(job.name)) == [n * n for n in range(300)]
    assert list(farm.map("squares:square", [])) == []
    assert list(farm.map("squares:power", [(2, 3), [5]], star=True)) == [8, 25]
    with pytest.raises(common.TaskFailed, match=r"TypeError: power\(\) takes"):
        list(farm.map("squares:power", [(1, 2, 3)], star=True))
    assert list(farm.map("squares:exact", [4])) == [(4, {1: {4}}, float("inf"), b"x")]


def test_a_failed_task_raises_at_its_place_or_is_returned_or_skipped(farm: common.Farm) -> None:
    def failing(errors: str) -> common.Job:
        return farm.map("squares:odd_fails", range(4), errors=errors, batch=1)  # type: ignore[arg-type]

    values = iter(failing("raise"))
    assert next(values) == 0
    with pytest.raises(common.TaskFailed, match=r"task 1 failed on worker local\d+.*ValueError: 1 is odd; go on: map"):
        next(values)
    returned = list(failing("return"))
    assert returned[::2] == [0, 2]
    assert [(each.task, each.attempt) for each in returned[1::2]] == [(1, 1), (3, 1)]
    assert "Traceback" in returned[1].text
    assert list(failing("skip")) == [0, 2]
    with pytest.raises(ValueError, match="errors='ignore'"):
        failing("ignore")


def test_a_job_of_any_process_is_checked_like_one_that_is_mapped(farm: common.Farm) -> None:
    list(farm.map("squares:square", [1], job="checked"))
    for call in (farm.job, lambda name, **options: farm.map("squares:square", [1], job=name, **options)):
        with pytest.raises(ValueError, match="buffer=0"):
            call("checked", buffer=0)
        with pytest.raises(ValueError, match="errors='ignore'"):
            call("checked", errors="ignore")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"buffer=2\.5"):
            call("checked", buffer=2.5)  # type: ignore[arg-type]


def test_a_job_that_has_given_all_its_results_is_mapped_again_at_once(farm: common.Farm) -> None:
    for _ in range(4):
        assert list(farm.map("squares:square", range(5), job="often")) == [0, 1, 4, 9, 16]
    kept = farm.map("squares:square", range(5), job="often")
    assert list(kept) == [0, 1, 4, 9, 16]
    assert list(farm.map("squares:square", range(5), job="often")) == [0, 1, 4, 9, 16]


def test_a_job_goes_on_under_its_name_with_the_same_arguments_only(farm: common.Farm) -> None:
    assert farm.map("squares:odd_fails", iter([0, 1]), job="goes-on", errors="skip").wait().failed == 1
    assert list(farm.map("squares:odd_fails", iter([0, 1]), job="goes-on", errors="skip")) == [0]
    with pytest.raises(common.OtherInput, match="give the same again"):
        list(farm.map("squares:odd_fails", iter([0, 2]), job="goes-on"))
    with pytest.raises(common.JobRefused, match="no job never"):
        farm.job("never")


def test_failed_tasks_run_again_and_an_old_failure_is_not_raised(farm: common.Farm, tmp_path: Path) -> None:
    pair = [0, str(tmp_path / "not" / "there")]
    farm.map("squares:first_waits", [[1, ""], pair], job="again", errors="skip", timeout=0.2).wait()
    # A beat that names the batch would leave it to its worker.
    wait_until(lambda: not any(each.held for each in farm.crew()), "nobody holds it")
    (tmp_path / "not").mkdir()
    (tmp_path / "not" / "there").touch()
    again = farm.map("squares:first_waits", [[1, ""], pair], job="again", retry_failed=True)
    assert list(again) == [1, len(pair[1])]  # type: ignore[arg-type]


def test_the_exception_of_the_arguments_is_raised_unchanged(farm: common.Farm) -> None:
    error = KeyError("no more")

    def broken() -> Iterator[int]:
        yield from range(10)
        raise error

    with pytest.raises(KeyError) as raised:
        list(farm.map("squares:square", broken()))
    assert raised.value is error
    with pytest.raises(TypeError, match="argument 1, of type object"):
        list(farm.map("squares:square", [1, object()]))


def test_the_exception_of_arguments_that_come_late_is_raised_unchanged(farm: common.Farm) -> None:
    """The job is open and empty then, and is cancelled."""
    fails = threading.Event()

    def late() -> Iterator[int]:
        fails.wait()
        raise KeyError("no more")
        yield

    job = farm.map("squares:square", late())
    wait_until(lambda: job._run is not None and job._run.is_open, "it is open")
    timer = threading.Timer(0.3, fails.set)
    timer.start()
    with pytest.raises(KeyError):
        list(job)
    timer.join()
    with pytest.raises(KeyError):
        list(job)


def test_a_slow_task_holds_up_neither_the_others_nor_the_memory(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"
    arguments = [[0, str(path)], *([n, ""] for n in range(1, 200))]
    job = farm.map("squares:first_waits", arguments, buffer=10, batch=1)
    wait_until(lambda: job.done == 199, "all others are recorded")
    path.touch()
    assert list(job) == [len(str(path)), *range(1, 200)]


def test_what_nobody_refers_to_is_halted_and_what_was_started_goes_on(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"
    kept = farm.start("squares:waits_for", [str(path)] * 3, batch=1, job="kept")
    left = farm.map("squares:waits_for", [str(path)] * 50, batch=1, job="left")
    with pytest.raises(common.JobRefused, match="runs already in this process"):
        farm.start("squares:waits_for", [], job="kept")
    runs = left_run, kept_run = left._run, kept._run
    wait_until(lambda: all(run is not None and run.is_open for run in runs), "both are open")
    del left, kept
    path.touch()
    assert left_run is not None and left_run.wait(30)
    assert isinstance(left_run.error, common.Halted)
    assert kept_run is not None and kept_run.wait(30)
    assert kept_run.error is None
    assert farm.job("kept").done == 3


def test_what_is_refused_begins_nothing(farm: common.Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No worker is started, no bar shown, no key read, no argument."""
    path = tmp_path / "go"
    taken = farm.start("squares:waits_for", [str(path)], job="taken")
    assert farm._private is not None
    before, began = farm._private.pids, []
    monkeypatch.setattr(Progress, "start", began.append)
    monkeypatch.setattr(farm, "certificate", lambda: began.append("certificate"))
    monkeypatch.setattr("common.farm.farm.input_of", lambda *_: began.append("input"))
    try:
        with pytest.raises(common.JobRefused, match="job taken runs already in this process"):
            farm.map("fractions:Fraction", [1], job="taken", progress=True)
        for wrong in ({"batch": 0}, {"timeout": 0}, {"retries": -1}, {"quarantine_after": 0}):
            with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
                farm.map("fractions:Fraction", [1], **wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="progress='yes'"):
            farm.map("fractions:Fraction", [1], progress="yes")  # type: ignore[arg-type]
        assert (farm._private.pids, began) == (before, [])
    finally:
        path.touch()
        taken.wait()


def test_a_cancelled_job_says_so(farm: common.Farm, tmp_path: Path) -> None:
    job = farm.map("squares:waits_for", [str(tmp_path / "never")])
    job.cancel()
    with pytest.raises(common.Cancelled, match="was cancelled"):
        list(job)
    with pytest.raises(common.JobRefused, match="there is no job never"):
        farm.cancel("never")


def test_the_crew_and_the_progress(farm: common.Farm) -> None:
    assert {each.slots for each in farm.crew()} == {2}
    seen: list[common.Standing] = []
    list(farm.map("squares:square", iter(range(50)), progress=seen.append, total=50))
    assert (seen[-1].done, seen[-1].total) == (50, 50)


def test_the_end_of_a_job_of_this_process_is_known_without_the_sink(
    farm: common.Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = farm.map("squares:odd_fails", iter(range(51)))
    monkeypatch.setattr(farm, "jobs", lambda: pytest.fail("all jobs of the ledger are listed"))
    assert job.wait() == common.Summary(job.name, total=51, done=51, failed=25)


def test_a_progress_that_raises_ends_its_job_and_leaves_nothing(
    farm: common.Farm, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[common.Standing] = []

    def failing(standing: common.Standing) -> None:
        calls.append(standing)
        raise ValueError("mine")

    def descriptors() -> int:
        wait_until(lambda: all(run.has_ended for run, _ in farm._runs.values()), "all have ended")
        return len(list(Path("/dev/fd").iterdir()))

    list(farm.map("squares:square", iter([1])))
    before = descriptors()
    for _ in range(3):
        calls.clear()
        with pytest.raises(ValueError, match="mine"):
            list(farm.map("squares:square", iter([1, 2, 3]), progress=failing))
        assert len(calls) == 1
    assert descriptors() <= before + 2
    assert "progress" in caplog.text
    assert "error of Tradewind" not in caplog.text


def test_the_bar_of_a_job_stops_however_that_ends(
    farm: common.Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    began, ended = [], []
    start, stop = Progress.start, Progress.stop
    monkeypatch.setattr(Progress, "start", lambda bar: (began.append(bar), start(bar)))
    monkeypatch.setattr(Progress, "stop", lambda bar: (ended.append(bar), stop(bar)))
    list(farm.map("squares:square", [1], progress=True))
    with pytest.raises(TypeError, match="argument 0"):
        list(farm.map("squares:square", iter([object()]), progress=True))
    job = farm.map("squares:waits_for", [str(tmp_path / "go")], progress=True)
    job.halt()
    (tmp_path / "go").touch()
    with pytest.raises(common.Halted):
        job.wait()
    with pytest.raises(TypeError, match="not iterable"):
        farm.map("squares:square", 3, progress=True)  # type: ignore[arg-type]
    assert len(began) == 3
    assert set(began) <= set(ended)


def test_a_sink_that_no_longer_answers_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with common.local(slots=1) as farm:
        # Once it has started.
        assert list(farm.map("builtins:abs", [-1])) == [1]
        assert farm._private is not None
        [sink] = farm._private.pids["sink"]
        os.kill(sink, signal.SIGSTOP)
        failed: list[BaseException] = []
        asking = threading.Thread(target=lambda: failed.append(error_of(farm.jobs)), daemon=True)
        try:
            with monkeypatch.context() as patch:
                patch.setattr("common.farm.farm._ANSWER_S", 1.0)
                asking.start()
                asking.join(10)
            assert not asking.is_alive()
        finally:
            os.kill(sink, signal.SIGCONT)
        assert isinstance(failed[0], common.SinkAway)
        assert len(farm.jobs()) == 1


def test_a_key_file_that_can_no_longer_be_used_is_an_error_of_the_api(tmp_path: Path) -> None:
    with common.local(slots=1) as farm:
        job = farm.map("builtins:abs", [1])
        assert job._run is not None and job._run.wait(30)
        farm._key.chmod(0o644)
        for call in (lambda: list(job), lambda: job.state, farm.jobs, farm.crew, lambda: farm.map("builtins:abs", [1])):
            assert "others can read the secret" in str(error_of(call))


def error_of(call: Callable[[], object]) -> BaseException:
    """What the call raises."""
    with pytest.raises(common.TradewindError) as raised:
        call()
    return raised.value


def test_jobs_one_after_another_leave_nothing(farm: common.Farm) -> None:
    def size() -> tuple[int, int]:
        wait_until(lambda: all(run.has_ended for run, _ in farm._runs.values()), "all have ended")
        return len(list(Path("/dev/fd").iterdir())), threading.active_count()

    for _ in range(3):
        list(farm.map("squares:square", iter([1])))
    before = size()
    for _ in range(20):
        list(farm.map("squares:square", iter([1])))
    after = size()
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 1


def test_short_jobs_share_a_connection_and_one_that_was_cancelled_takes_its_own_along(
    farm: common.Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[LinkPool] = []

    def make(pool: LinkPool, *args: Any) -> SinkLink:
        made.append(pool)
        return make_link(pool, *args)

    make_link = LinkPool.make
    monkeypatch.setattr(LinkPool, "make", make)
    for n in range(20):
        assert list(farm.map("squares:square", [n])) == [n * n]
    # One that has rested for seconds is closed.
    assert len(made) < 10
    wait_until(lambda: not farm._ask(Query(), Report).jobs, "the sink has no open job")
    job = farm.map("squares:waits_for", [str(tmp_path / "gate")])
    assert job._run is not None
    wait_until(lambda: job._run._link.link is not None, "it has a link")
    its_own = job._run._link.link
    job.cancel()
    assert job._run.wait(30)
    assert all(link is not its_own for link, _ in farm._links._idle)
    assert list(farm.map("squares:square", [3])) == [9]


def _use(farm: common.Farm, said: "multiprocessing.connection.Connection") -> None:  # type: ignore[name-defined]
    try:
        farm.map("squares:square", [1])
    except RuntimeError as error:
        said.send(str(error))


def test_a_forked_process_is_refused(farm: common.Farm) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_use, args=(farm, theirs))
    process.start()
    assert ours.poll(30)
    assert "forked" in ours.recv()
    process.join(30)
    assert process.exitcode == 0
    assert list(farm.map("squares:square", [3])) == [9]


def test_a_bell_rings_until_it_is_silenced() -> None:
    bell = Bell()
    for _ in range(100_000):
        bell.ring()
    bell.silence()
    bell.close()
    bell.ring()


def test_ctrl_c_in_a_cell_halts_the_job_and_the_farm_goes_on(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"
    job = farm.start("squares:waits_for", [str(path)] * 100, batch=1)

    def interrupt() -> None:
        wait_until(lambda: job._run is not None and job._run.is_open, "it is open")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        # Before that all of it might be done.
        wait_until(lambda: job._run is not None and job._run.is_halted, "it halts")
        path.touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(job)
    thread.join()
    assert job._run is not None and job._run.has_ended
    assert isinstance(job._run.error, common.Halted)
    assert list(farm.map("squares:square", [4])) == [16]


def test_a_job_that_is_halted_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "squares.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(KeyError), common.local(["squares"], slots=1) as farm:
            never = str(tmp_path / "never")
            jobs = [
                farm.map("squares:waits_for", [never], job="mapped"),
                farm.start("squares:waits_for", [never], job="started"),
            ]
            wait_until(lambda: all(job._run is not None and job._run.is_open for job in jobs), "both are open")
            raise KeyError
    for job in jobs:
        assert caplog.text.count(f"job {job.name} was halted") == 1


def test_two_farms_and_a_worker_that_is_killed(farm: common.Farm, tmp_path: Path) -> None:
    with common.local(slots=1) as other:
        assert list(other.map("squares:square", [4])) == list(farm.map("squares:square", [4])) == [16]
        job = other.map("squares:waits_for", [str(tmp_path / "never")])
        wait_until(lambda: job._run is not None and job._run.standing.outstanding, "it runs")
        assert other._private is not None
        for pid in other._private.pids["worker"]:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(common.JobRefused, match="the worker of this farm has ended: killed by signal 9"):
            list(job)
        # The next job has a new one.
        assert list(other.map("squares:square", [5])) == [25]


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="has no real-time signals")
def test_a_worker_that_is_killed_by_a_signal_without_a_name() -> None:
    with common.local(["time"], slots=1) as farm:
        assert farm._private is not None
        [pid] = farm._private.pids["worker"]
        job = farm.map("time:sleep", [30])
        os.kill(pid, signal.SIGRTMIN + 1)
        with pytest.raises(common.JobRefused, match=f"has ended: killed by signal {signal.SIGRTMIN + 1}$"):
            list(job)


def test_a_function_that_the_worker_of_its_module_does_not_expose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shy.py").write_text(
        "import time\ntime.sleep(1)\ndef square(n):\n    return n * n\ndef _double(n):\n    return 2 * n\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with common.local(["shy"], slots=1) as farm:
        assert farm.map("shy:square", [3]).wait(20).done == 1
        assert farm._private is not None
        assert len(farm._private.pids["worker"]) == 1
        assert farm.map("shy:_double", [3]).wait(20).failed == 0
        with pytest.raises(common.JobRefused, match="module shy has no function nosuch; it has square"):
            farm.map("shy:nosuch", [3]).wait(20)


def test_a_private_worker_that_cannot_begin_leaves_no_job_open() -> None:
    with common.local(slots=1) as farm:
        with pytest.raises(common.JobRefused, match="the worker of this farm has ended: module nosuch not found"):
            list(farm.map("nosuch:f", [1]))
        assert [(job.state, job.done) for job in farm.jobs()] == [("cancelled", 0)]


# -- programs of their own ------------------------------------------------------------------------------------------


def test_a_script_maps_its_own_function_from_any_folder(programs: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    program = start(
        programs,
        "elsewhere/grid",
        """
        import sys
        import tradewind
        import helper

        def cell(pair):
            return helper.double(pair["x"])

        if __name__ == "__main__":
            assert not {"zmq", "typer", "rich", "asyncio"} & set(sys.modules), "import tradewind is not light"
            with tradewind.local(slots=1) as farm:
                print(list(farm.map(cell, [{"x": 2}, {"x": 3}])))
            assert not {"typer", "rich"} & set(sys.modules), "a farm is not light"
        """,
    )
    programs.module("elsewhere/helper", "def double(x):\n    return 2 * x\n")
    assert program.wait() == 0, program.err
    assert program.out == "[4, 6]\n"
    assert program.err == ""
    assert not (tmp_path / "keys").exists()


def test_a_script_without_its_guard_is_told_of_it(programs: Pipeline) -> None:
    program = start(
        programs,
        "grid",
        """
        import tradewind

        def square(n):
            return n * n

        with tradewind.local(slots=1) as farm:
            print(list(farm.map(square, [2])))
        """,
    )
    assert program.wait() == 1
    assert "grid.py begins to use a farm when a worker imports it" in program.err.splitlines()[-1]
    assert 'if __name__ == "__main__":' in program.err.splitlines()[-1]


LONG = """
    import sys
    import time
    import tradewind

    def nap(n):
        time.sleep(0.05)
        return n

    if __name__ == "__main__":
        farm = tradewind.local(slots=1, ledger="results.db")
        job = farm.map(nap, range(100_000), job="long")
        for value in job:
            print(value, flush=True)
            if value == 3 and "leave" in sys.argv[0]:
                sys.exit(0)
            if value == 3:
                print("interrupt me", file=sys.stderr, flush=True)
"""


def test_ctrl_c_ends_a_script_in_words_and_leaves_nothing(programs: Pipeline) -> None:
    program = start(programs, "script", LONG)
    program.wait_for("interrupt me")
    program.signal(signal.SIGINT)
    assert program.wait() in (130, -signal.SIGINT)
    assert "KeyboardInterrupt" in program.err
    assert programs.query("SELECT count(*) >= 4 FROM results") == [(1,)]


def test_the_end_of_the_interpreter_halts_open_jobs_and_names_them(programs: Pipeline) -> None:
    began = time.monotonic()
    program = start(programs, "leave", LONG)
    assert program.wait() == 0
    assert re.search(
        r"job long was halted: \d+ of 100000 tasks are recorded; go on: map\(..., job='long'\)", program.err
    )
    assert time.monotonic() - began < 30


def test_a_job_that_ends_by_a_failed_task_is_said_to_be_halted_once(programs: Pipeline) -> None:
    program = start(
        programs,
        "fails",
        """
        import tradewind

        def fails(n):
            return 1 / (n - 3)

        if __name__ == "__main__":
            with tradewind.local(slots=1) as farm:
                for value in farm.map(fails, range(1_000), batch=1):
                    pass
        """,
    )
    assert program.wait() == 1
    said, _, traceback = program.err.partition("Traceback")
    assert traceback.count("ZeroDivisionError: division by zero; go on: map(..., job='fails-fails-") == 1
    assert re.fullmatch(r"job \S+ was halted: \d+ of 1000 tasks are recorded; go on: map\(..., job='\S+'\)\n", said)


def test_a_killed_program_goes_on_where_it_was(programs: Pipeline) -> None:
    """The job, and whoever looks at it."""
    programs.sink()
    programs.worker("squares", "--slots", "1")
    program = start(
        programs,
        "killed",
        """
        import tradewind

        with tradewind.connect(port=0) as farm:
            job = farm.map("squares:square", iter(range(30_000)), job="endless", ordered=False)
            for outcome in job.outcomes():
                print(outcome.task, outcome.position, flush=True)
        """,
    )
    wait_until(lambda: program.out.count("\n") > 1_000, "a thousand outcomes")
    program.kill()
    seen = [[int(part) for part in line.split()] for line in program.out.splitlines()[:-1]]
    tasks, position = [task for task, _ in seen], seen[-1][1]
    with common.connect(programs.folder / "keys" / "ventilator.key_secret", port=0) as farm:
        rest = farm.map("squares:square", range(30_000), job="endless", ordered=False)
        with pytest.raises(common.JobRefused, match="input"):
            list(rest)
        rest = farm.map("squares:square", iter(range(30_000)), job="endless", ordered=False)
        later = [(outcome.task, outcome.value) for outcome in rest.outcomes(after=position)]
    assert sorted([*tasks, *(task for task, _ in later)]) == list(range(30_000))
    assert all(value == task * task for task, value in later)


def test_a_worker_is_killed_during_an_iteration(programs: Pipeline) -> None:
    programs.sink()
    workers = [programs.worker("squares", "--slots", "1") for _ in range(2)]
    with common.connect(programs.folder / "keys" / "ventilator.key_secret", port=0) as farm:
        wait_until(lambda: len(farm.crew()) == 2, "both are here")
        values = iter(farm.map("squares:square", iter(range(20_000)), batch=50))
        found = [next(values) for _ in range(100)]
        workers[0].kill()
        found += values
    assert found == [n * n for n in range(20_000)]


def test_the_sink_is_killed_during_an_iteration_and_started_again(programs: Pipeline) -> None:
    sink = programs.sink()
    programs.worker("squares", "--slots", "1")
    with common.connect(programs.folder / "keys" / "ventilator.key_secret", port=0) as farm:
        values = iter(farm.map("squares:square", iter(range(20_000)), batch=50))
        found = [next(values) for _ in range(100)]
        sink.kill()
        programs.sink()
        found += values
    assert found == [n * n for n in range(20_000)]


def test_the_script_of_the_page_prints_what_the_page_says(programs: Pipeline) -> None:
    page = (TOP / "docs" / "from-python.md").read_text()
    scripts = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    printed = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for script in scripts:
        compile(script, "page", "exec")
    program = start(programs, "grid", scripts[0])
    assert program.wait() == 0, program.err
    assert [program.out] == printed
