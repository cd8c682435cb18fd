"""A farm as the user's program sees it: functions are mapped over it, and jobs looked at."""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from ..errors import OperatorError
from ..protocol.messages import Cancel, Dropped, Message, Query, Report
from ..protocol.users import OBSERVER, VENTILATOR
from ..sink.remote_reader import RemoteReader
from ..sink.store import JobSummary
from ..transport import clock
from ..transport.key_files import Certificate, load_pair
from ..transport.link_pool import JobLink, LinkPool
from ..transport.sink_talk import SinkTalk
from ..ventilator.loop import VentilatorOptions
from ..ventilator.settings import RelayUse
from ..ventilator.summary import Workers
from .arguments import input_of
from .errors import JobRefused, TradewindError, for_program, no_answer
from .executor import Executor
from .import_guard import refuse_while_imported
from .job import Job, JobLinks, JobState
from .job_run import JobRun, halted_in_time
from .map_options import Errors, MapOptions, Progress, WhenNobody, checked, dispatch_settings
from .names import NamedFunction, check_job, named, new_job
from .outcomes import AWAY_MAX_S
from .private_farm import PrivateFarm
from .progress_bar import ProgressBar
from .start_pace import StartPace
from .talk_pool import TalkPool

log = logging.getLogger(__name__)


_EXIT_S = 2.0
"""How long the end of the interpreter waits for open jobs."""
_CLOSE_S = 10.0
_VOICE_S = 30.0
_ANSWER_S = 5.0
_farms: "weakref.WeakSet[Farm]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class CrewMember:
    """A worker that the sink hears beating."""

    name: str
    key: str
    """The name that its key was enrolled under."""
    address: str
    slots: int
    running: int
    """How many batches it runs."""
    held: int
    """How many batches it has: running, waiting, or recorded without its knowing yet."""
    silent_s: float
    """How long ago its last beat came, in seconds."""


class Farm:
    """The sink of a farm, and the workers behind it. To be closed, or used as a context manager.

    Threads of the program may share it. A process that was forked from the program cannot use it.
    """

    def __init__(self, key: Path, sink: str | None, port: int | None, private: PrivateFarm | None = None) -> None:
        refuse_while_imported()
        self._key = key
        self._sink = sink
        self._port = port
        self._private = private
        self._pid = os.getpid()
        self._talks = TalkPool(self._talk)
        self._links = LinkPool()
        self._pace = StartPace()
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[JobRun, bool]] = {}
        """The jobs of this process that have not ended, and whether each is waited for at the end."""
        self._executors: weakref.WeakSet[futures.Executor] = weakref.WeakSet()
        self._is_closed = False
        _farms.add(self)

    # -- jobs ---------------------------------------------------------------------------------------------------

    def map(
        self,
        function: str | Callable[..., Any],
        arguments: Iterable[Any],
        /,
        *,
        job: str | None = None,
        ordered: bool = True,
        errors: Errors = "raise",
        buffer: int = 10_000,
        retries: int = 0,
        timeout: float | None = None,
        batch: int | None = None,
        speculate: bool = False,
        retry_failed: bool = False,
        quarantine_after: int = 3,
        total: int | None = None,
        star: bool = False,
        progress: Progress | bool | None = None,
        when_nobody: WhenNobody = "raise",
    ) -> Job:
        """Call the function with each of the arguments, on the workers; returns the job, whose values are iterated.

        `function` is a function of a module that workers expose, or its name as `"module:function"`; it is called with
        one argument, or with `star` with the elements of one. The arguments are read lazily, in a thread, up to
        `buffer` of them ahead of the workers. They are data: numbers, text, bytes, None, lists, maps; 16 MiB at most.

        >>> list(farm.map("squares:square", range(5)))
        [0, 1, 4, 9, 16]
        >>> sorted(farm.map("squares:square", (n for n in (3, 1)), ordered=False))
        [1, 9]

        `job` names it. Under the name of an earlier job that one goes on: recorded tasks are not run again, and the
        arguments must be the same. `errors` says what a failed task does: `"raise"` halts the job and raises
        TaskFailed at its place, `"return"` gives the TaskFailed in place of the value, `"skip"` leaves it out.
        With `ordered` up to `buffer` values wait here for a slow one before them; the rest waits in the ledger.

        `MapOptions` says what the others mean. The job is halted when nobody refers to it any more. Raises TypeError,
        ValueError and JobRefused at once, and while it is iterated what `Job` says.
        """
        options = MapOptions(
            {
                "job": job,
                "ordered": ordered,
                "errors": errors,
                "buffer": buffer,
                "retries": retries,
                "timeout": timeout,
                "batch": batch,
                "speculate": speculate,
                "retry_failed": retry_failed,
                "quarantine_after": quarantine_after,
                "total": total,
                "star": star,
                "progress": progress,
                "when_nobody": when_nobody,
            }
        )
        return self._begin(function, arguments, options, lives_with_us=True)

    def start(
        self, function: str | Callable[..., Any], arguments: Iterable[Any], /, **options: Unpack[MapOptions]
    ) -> Job:
        """The same as `map`, for a job that need not be iterated: it goes on when nobody refers to it.

        The end of `with farm` waits for it; the end of the interpreter halts it.

        >>> farm.start("squares:square", range(1000)).wait().done
        1000
        """
        return self._begin(function, arguments, options, lives_with_us=False)

    def job(self, name: str, /, *, ordered: bool = True, errors: Errors = "raise", buffer: int = 10_000) -> Job:
        """A job of any process and any time, to read its results. Raises JobRefused when the sink has none.

        >>> list(farm.map("squares:square", [2, 3], job="early"))
        [4, 9]
        >>> list(farm.job("early"))
        [4, 9]
        """
        self._check_usable()
        options = checked(MapOptions(ordered=ordered, errors=errors, buffer=buffer))
        check_job(name)
        with self._lock:
            run = self._runs.get(name, (None, False))[0]
        if run is None:
            self._look_up(name)
        return self._view(name, run, options, may_repeat=True)

    def jobs(self) -> list[JobSummary]:
        """All jobs in the ledger, oldest first. Raises SinkAway when no sink answers within 5 seconds."""
        self._check_usable()
        try:
            with self._talks.talk(_ANSWER_S) as talk:
                return RemoteReader(talk).jobs(_ANSWER_S)
        except OperatorError as error:
            raise no_answer(error) from None

    def crew(self) -> list[CrewMember]:
        """The workers that are here now. Raises SinkAway when no sink answers within 5 seconds."""
        found = self._ask(Query(), Report)
        return [
            CrewMember(each.worker, each.key, each.address, each.slots, each.running, each.held, each.silent_s)
            for each in found.workers
        ]

    def executor(self) -> Executor:
        """The farm as a `concurrent.futures.Executor`, which `Executor` describes. It is shut down with the farm."""
        self._check_usable()
        return Executor(self)

    def cancel(self, name: str, /) -> None:
        """Cancel a job of any process: its tasks are dropped, running ones too. Recorded results stay.

        Raises JobRefused when the sink has no such job, and SinkAway when no sink answers within 5 seconds.
        """
        self._ask(Cancel(check_job(name)), Dropped)

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the jobs of `start`, halt the others, and end a local farm. After that the farm cannot be used."""
        if self._is_closed or os.getpid() != self._pid:
            return
        for executor in list(self._executors):
            executor.shutdown()
        self._is_closed = True
        _farms.discard(self)
        self._end(waits=True)

    def __enter__(self) -> Self:
        self._check_usable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            # Something went wrong: what was only started is not worth waiting for.
            self._halt_all(_CLOSE_S)
        self.close()

    def _end(self, waits: bool) -> None:
        try:
            if waits:
                with self._lock:
                    runs = list(self._runs.values())
                halted_in_time([run for run, is_waited_for in runs if not is_waited_for], _CLOSE_S)
                for run, _ in runs:
                    while not run.wait(_VOICE_S):
                        log.warning("waiting for job %s: %d tasks are recorded", run.job, run.standing.done)
            else:
                self._halt_all(_EXIT_S)
        finally:
            self._talks.close()
            self._links.close()
            if self._private is not None:
                self._private.close()

    def _halt_all(self, within_s: float) -> None:
        with self._lock:
            # Each is named and waited for once.
            runs, self._runs = [run for run, _ in self._runs.values()], {}
        halted_in_time(runs, within_s)

    # -- what is inside -----------------------------------------------------------------------------------------

    def begin_open(self, function: str | Callable[..., Any], arguments: Iterable[Any], ahead: int) -> Job:
        """For an executor: a job of calls that come now and then."""
        options = MapOptions(ordered=False, errors="return", buffer=ahead, star=True, when_nobody="wait")
        return self._begin(function, arguments, options, lives_with_us=False, rests=True)

    def own(self, executor: futures.Executor) -> None:
        """Shut it down before the farm is closed."""
        self._executors.add(executor)

    def _begin(
        self,
        function: str | Callable[..., Any],
        arguments: Iterable[Any],
        options: MapOptions,
        lives_with_us: bool,
        rests: bool = False,
    ) -> Job:
        self._check_usable()
        options = checked(options)
        found = named(function)
        asked = options.get("job")
        name = new_job(found.name) if asked is None else check_job(asked)
        # All that can be refused is refused before anything is begun.
        run_options = replace(self._run_options(found.name, name, options), input_rests=rests)
        self._let_leave(name)
        with self._lock:
            self._check_new(name)
        certificate = self.certificate()
        opened = input_of(arguments, options["buffer"], options.get("total"), options.get("star", False))
        if self._private is not None:
            self._private.expose(found.exposed, found.script)
        run = JobRun(
            run_options,
            opened,
            JobLink(self._links, certificate, self._sink),
            lambda others: self._check_processes(found, others),
            progress_of(options.get("progress"), name),
        )
        with self._lock:
            # Another thread may have begun it meanwhile.
            self._check_new(name)
            self._runs = {each: pair for each, pair in self._runs.items() if not pair[0].has_ended}
            self._runs[name] = run, not lives_with_us
        run.start(self._pace)
        return self._view(name, run, options, options.get("job") is not None, lives_with_us)

    def _check_new(self, name: str) -> None:
        """Raise JobRefused when this job runs in this process. The lock is held."""
        if name in self._runs and not self._runs[name][0].has_ended:
            raise JobRefused(f"job {name} runs already in this process: wait for it, or give another job name")

    def _let_leave(self, name: str) -> None:
        """Wait for the job of this name to leave if it has given all its results, or if nobody wants it any more."""
        with self._lock:
            run = self._runs.get(name, (None, False))[0]
        if run is not None and not run.has_ended:
            with suppress(TradewindError):
                if run.is_halted or self._look_up(name).state != "open":
                    run.wait(_CLOSE_S)

    def _run_options(self, function: str, name: str, options: MapOptions) -> VentilatorOptions:
        return VentilatorOptions(
            function=function,
            key=self._key,
            sink=self._sink,
            job=name,
            port=self._port,
            retry_failed=options.get("retry_failed", False),
            dispatch=dispatch_settings(options),
            workers=Workers.ELSEWHERE if self._private is None else Workers.OURS,
            waits_for_worker=options.get("when_nobody", "raise") == "wait" or self._private is not None,
            sink_away_max_s=AWAY_MAX_S,
            relay=self._relay_use(),
        )

    def _relay_use(self) -> RelayUse:
        """Nobody need be able to connect to this program, unless it has named its port."""
        if self._private is not None:
            return RelayUse.never
        return RelayUse.always if self._port is None else RelayUse.auto

    def _view(
        self, name: str, run: JobRun | None, options: MapOptions, may_repeat: bool, lives_with_us: bool = False
    ) -> Job:
        return Job(
            name,
            JobLinks(self._talks, self._look_up, self.cancel),
            run,
            ordered=options.get("ordered", True),
            errors=options.get("errors", "raise"),
            buffer=options["buffer"],
            may_repeat=may_repeat,
            lives_with_us=lives_with_us,
        )

    def _look_up(self, name: str) -> JobState:
        for each in reversed(self.jobs()):
            if each.name == name:
                return JobState(each.state, each.total, each.done, each.failed)
        raise JobRefused(f"the sink has no job {name}: farm.jobs() lists those that it has")

    def _talk(self, join_s: float) -> SinkTalk:
        self._check_process()
        try:
            return SinkTalk(self._key, (VENTILATOR, OBSERVER), self._sink, join_s)
        except OperatorError as error:
            raise no_answer(error) from None

    def _ask(self, question: Message, kind: type[Any]) -> Any:
        self._check_usable()
        try:
            with self._talks.talk(_ANSWER_S) as talk:
                return talk.ask(question, kind, by=clock.now() + _ANSWER_S)
        except OperatorError as error:
            raise no_answer(error) from None

    def certificate(self) -> Certificate:
        """The key file of this program. Raises JobRefused."""
        try:
            return load_pair(self._key, VENTILATOR)
        except OperatorError as error:
            raise for_program(error) from None

    def _check_processes(self, function: NamedFunction, others: int) -> None:
        if self._private is not None:
            self._private.check(function.exposed)
            if others:
                self._private.expose_alone(function.exposed, function.script, others)

    def _check_usable(self) -> None:
        self._check_process()
        if self._is_closed:
            raise RuntimeError("this farm is closed")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("this process was forked from the one that has the farm: connect to it here again")


def progress_of(progress: Progress | bool | None, job: str) -> Progress | None:
    """What is called with each standing."""
    if progress is None or progress is False:
        return None
    if progress is True:
        return ProgressBar(job)
    return progress


@atexit.register
def _end_all() -> None:
    for farm in list(_farms):
        if os.getpid() == farm._pid and not farm._is_closed:
            farm._is_closed = True
            farm._end(waits=False)
