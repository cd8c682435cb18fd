"""A farm in an event loop, and as an executor of `concurrent.futures`."""

import asyncio
import concurrent.futures
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import common
from tests.conftest import wait_until
from tests.test_farm import MODULE


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[common.Farm]:
    """A local farm with a module `work`."""
    folder = tmp_path_factory.mktemp("farm")
    (folder / "work.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    try:
        with common.local(["work"], slots=2) as made:
            yield made
    finally:
        sys.path.remove(str(folder))


# -- asyncio --------------------------------------------------------------------------------------------------------


def test_values_and_outcomes_come_while_the_loop_goes_on(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"

    async def main() -> tuple[list[int], list[int], common.Summary]:
        job = farm.map("work:first_waits", [[1, ""], [0, str(path)], [2, ""]], batch=1)
        values = []
        async for value in job:
            values.append(value)
            # It runs while the next value is waited for.
            asyncio.get_running_loop().call_later(0.05, path.touch)
        tasks = [outcome.task async for outcome in job.outcomes_async()]
        return values, tasks, await job.wait_async()

    values, tasks, summary = asyncio.run(main())
    assert values == [1, len(str(path)), 2]
    assert tasks == [0, 1, 2]
    assert (summary.done, summary.failed) == (3, 0)


@pytest.mark.parametrize("how", ["values", "wait"])
def test_a_cancelled_task_halts_its_job(farm: common.Farm, tmp_path: Path, how: str) -> None:
    path = tmp_path / "go"
    job = farm.start("work:waits_for", [str(path)] * 1_000, batch=1)

    async def main() -> None:
        async def take() -> None:
            if how == "wait":
                await job.wait_async()
            async for _ in job:
                pass

        taking = asyncio.create_task(take())
        await asyncio.sleep(0)
        while not farm.job(job.name).done and not job._run.is_open:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

    asyncio.run(main())
    path.touch()
    assert job._run is not None and job._run.wait(30)
    assert isinstance(job._run.error, common.Halted)
    wait_until(
        lambda: not any(each.name in ("tradewind-step", "tradewind-close") for each in threading.enumerate()),
        "no thread is left",
    )


def test_errors_and_an_early_end_in_an_event_loop(farm: common.Farm) -> None:
    async def main() -> int:
        with pytest.raises(common.TaskFailed):
            async for _ in farm.map("work:odd_fails", [1]):
                pass
        async for value in farm.map("work:square", itertools.count()):
            if value == 25:
                return value
        return 0

    assert asyncio.run(main()) == 25


# -- the executor ---------------------------------------------------------------------------------------------------


def test_futures_are_real_ones(farm: common.Farm) -> None:
    with farm.executor() as executor:
        futures = [executor.submit("work:power", n, exponent=3) for n in range(20)]
        done, left = concurrent.futures.wait(futures, timeout=30)
        assert (len(done), len(left)) == (20, 0)
        assert [future.result() for future in futures] == [n**3 for n in range(20)]
        failing = executor.submit("work:odd_fails", 1)
        assert isinstance(failing.exception(30), common.TaskFailed)
        assert executor.submit("work:square", 5).result(30) == 25
        assert {future.result() for future in concurrent.futures.as_completed([executor.submit(pow_of, 2)])} == {4}
        unsendable = executor.submit("work:square", object())
        with pytest.raises(TypeError, match="the arguments of work:square cannot be sent"):
            unsendable.result(1)

        async def main() -> int:
            return await asyncio.get_running_loop().run_in_executor(executor, pow_of, 3)

        assert asyncio.run(main()) == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit("work:square", 1)


def pow_of(n: int) -> int:
    """Workers import this module too."""
    return n * n


def test_map_is_lazy_and_in_order(farm: common.Farm) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            read.append(n)
            yield n

    with farm.executor() as executor:
        found = executor.map("work:square", numbers(), buffersize=10, chunksize=7)
        assert [next(found) for _ in range(50)] == [n * n for n in range(50)]  # type: ignore[call-overload]
        assert len(read) <= 61
        assert list(executor.map("work:power", [2, 3], [3, 2])) == [8, 9]
        with pytest.raises(ValueError, match="chunksize"):
            executor.map("work:square", [1], chunksize=0)


def test_what_has_not_begun_is_cancelled_and_shutdown_waits_for_the_rest(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"
    executor = farm.executor()
    futures = [executor.submit("work:waits_for", str(path)) for _ in range(300)]
    wait_until(futures[0].running, "the first one is taken")
    assert not futures[0].cancel()
    assert futures[-1].cancel()
    with pytest.raises(concurrent.futures.TimeoutError):
        next(iter(executor.map("work:waits_for", [str(tmp_path / "never")], timeout=0.05)))
    executor.shutdown(wait=False, cancel_futures=True)
    path.touch()
    (tmp_path / "never").touch()
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert futures[0].result() == str(path)
    assert futures[-2].cancelled()


def test_a_job_that_is_cancelled_breaks_its_executor_and_the_next_call_begins_another(
    farm: common.Farm, tmp_path: Path
) -> None:
    with farm.executor() as executor:
        future = executor.submit("work:waits_for", str(tmp_path / "never"))
        [job] = [each._job for each in executor._calls.values()]
        wait_until(lambda: any(each.name == job.name for each in farm.jobs()), "it is open")
        job.cancel()
        with pytest.raises(concurrent.futures.BrokenExecutor, match="was cancelled"):
            future.result(30)
        (tmp_path / "never").touch()
        assert executor.submit("work:waits_for", str(tmp_path / "never")).result(30)


# -- what CPython's own tests ask of an executor --------------------------------------------------------------------
#
# The cases of Lib/test/test_concurrent_futures, as far as they can hold. Not these: exceptions keep their type
# (TaskFailed has the traceback as text; nothing of a worker is rebuilt here), results that are objects of any class,
# bound methods as functions, `max_workers`, initializers, process pools' own parts, and that the end of the interpreter
# waits for pending calls (it halts them, and says so).


def capture(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Workers import this module."""
    return args, kwargs


def test_submit_takes_any_names(farm: common.Farm) -> None:
    with farm.executor() as executor:
        assert executor.submit(pow, 2, 8).result(30) == 256
        assert executor.submit(capture, 1, self=2, fn=3).result(30) == ((1,), {"self": 2, "fn": 3})
        for wrong in ({"fn": capture, "arg": 1}, {"arg": 1}):
            with pytest.raises(TypeError):
                executor.submit(**wrong)


def test_map_is_like_map(farm: common.Farm) -> None:
    with farm.executor() as executor:
        for chunksize in (1, 3):
            found = executor.map(pow, range(10), range(10), chunksize=chunksize)
            assert list(found) == list(map(pow, range(10), range(10)))
        with pytest.raises(ValueError):
            executor.map(pow, [1], [1], buffersize=0)
        assert list(executor.map(pow, [], [])) == []
        results = executor.map("work:odd_fails", [0, 2, 3, 4])
        assert [next(results), next(results)] == [0, 2]  # type: ignore[call-overload]
        with pytest.raises(common.TaskFailed):
            next(results)  # type: ignore[call-overload]


def test_a_timeout_comes_after_the_results_that_were_there(
    farm: common.Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "go", [0.0]
    monkeypatch.setattr("common.farm.executor.clock", SimpleNamespace(now=lambda: now[0]))
    executor = farm.executor()
    results = executor.map("work:first_waits", [[1, ""], [2, ""], [0, str(path)]], timeout=1_000)
    assert [next(results), next(results)] == [1, 2]  # type: ignore[call-overload]
    now[0] = 1_000.0
    with pytest.raises(TimeoutError):
        next(results)  # type: ignore[call-overload]
    path.touch()
    executor.shutdown()


def test_what_was_submitted_before_a_shutdown_is_done(farm: common.Farm) -> None:
    executor = farm.executor()
    executor.map("work:square", [2] * 5)
    futures = [executor.submit("work:square", n) for n in range(50)]
    executor.shutdown(wait=False)
    executor.shutdown()
    executor.shutdown()
    assert [future.result(0) for future in futures] == [n * n for n in range(50)]


def test_an_executor_that_is_dropped_leaves_no_thread(farm: common.Farm) -> None:
    executor = farm.executor()
    future = executor.submit("work:square", 3)
    del executor
    assert future.result(30) == 9
    wait_until(lambda: all(run.has_ended for run, _ in farm._runs.values()), "its job has ended")


def test_waiting_for_the_first_and_for_all(farm: common.Farm, tmp_path: Path) -> None:
    path = tmp_path / "go"
    with farm.executor() as executor:
        slow, quick = executor.submit("work:waits_for", str(path)), executor.submit("work:square", 2)
        first = concurrent.futures.wait([slow, quick], 30, concurrent.futures.FIRST_COMPLETED)
        assert first == ({quick}, {slow})
        failing = executor.submit("work:odd_fails", 1)
        first = concurrent.futures.wait([slow, failing], 30, concurrent.futures.FIRST_EXCEPTION)
        assert first == ({failing}, {slow})
        called = []
        slow.add_done_callback(called.append)
        path.touch()
        assert concurrent.futures.wait([slow, failing, quick], 30).not_done == set()
        wait_until(lambda: called == [slow], "the callback")
