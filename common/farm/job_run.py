"""One job's ventilator in a thread of the user's process."""

import logging
import threading
from collections.abc import Callable

from ..errors import ExitCode, OperatorError
from ..transport import clock, polling, sink_link
from ..transport.link_pool import JobLink
from ..ventilator import loop
from ..ventilator.inputs import Input
from ..ventilator.loop import Ventilator, VentilatorOptions
from ..ventilator.summary import JobEnd, Standing
from .arguments import ArgumentsInput
from .bell import Bell, StopBell
from .errors import Halted, TradewindError, for_program
from .progress_bar import ProgressBar
from .start_pace import StartPace
from .words import in_program

log = logging.getLogger(__name__)


def _in_program(record: logging.LogRecord) -> bool:
    if (record.threadName or "").startswith(_THREAD):
        record.msg = in_program(str(record.msg))
    return True


_THREAD = "tradewind-"
for _each in (loop.log, sink_link.log):
    _each.addFilter(_in_program)

_SHOW_S = 0.25


class JobRun:
    """Runs the job until it is over. It is a `Display` of its ventilator, whose standing it keeps."""

    def __init__(
        self,
        options: VentilatorOptions,
        opened: Input,
        link: JobLink,
        check: Callable[[int], None],
        progress: Callable[[Standing], None] | None,
    ) -> None:
        self.job = options.job
        self.standing = Standing(0, 0, opened.expected, 0, 0, 0)
        self.earlier_attempts = 0
        """Failures at attempts up to this one are being repeated."""
        self.is_open = False
        """The sink has opened it, and what is recorded of it belongs to these arguments."""
        self.error: BaseException | None = None
        """Why it ended before its end; as the user's program gets it."""
        self._options = options
        self._input = opened
        self._link = link
        self._check = check
        """It is told how many workers are here, when none of them exposes the function."""
        self._bar = progress if isinstance(progress, ProgressBar) else None
        self._progress = progress
        self._progress_failure: BaseException | None = None
        """What it has raised."""
        self._show_at = 0.0
        self._stop = StopBell()
        self._ventilator: Ventilator | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._bells: list[Bell] = []
        self._halted = threading.Event()

    def start(self, pace: StartPace) -> None:
        """Begin, after a delay where it must connect to the sink anew."""
        delay_s = 0.0 if self._link.reserve() else pace.delay_s(clock.now())
        if self._bar is not None:
            self._bar.start()
        threading.Thread(target=self._work, args=(delay_s,), name=f"{_THREAD}{self.job}"[:60], daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """True when the ventilator has left."""
        return self._ended.is_set()

    def wait_until_open(self) -> None:
        """Wait until it is open, or has ended."""
        self._ready.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when it has not within `timeout` seconds."""
        return self._ended.wait(timeout)

    @property
    def is_halted(self) -> bool:
        """True once it was told to halt."""
        return self._halted.is_set()

    def halt(self, wait_s: float = 0.0) -> None:
        """Push no more tasks; wait for what runs. After `wait_s` seconds leave at once."""
        self._halted.set()
        self._stop.stop()
        if wait_s and not self._ended.wait(wait_s):
            self._stop.stop()
            self._ended.wait(1)

    def ring_at_end(self, bell: Bell) -> None:
        """Ring this bell when it has ended."""
        with self._lock:
            self._bells.append(bell)
        if self.has_ended:
            bell.ring()

    def forget(self, bell: Bell) -> None:
        """Do not ring this bell."""
        with self._lock:
            self._bells.remove(bell)

    # -- in its thread ------------------------------------------------------------------------------------------

    def _work(self, delay_s: float) -> None:
        try:
            if delay_s:
                log.info("job %s begins in %.1f s: no more jobs a minute are begun", self.job, delay_s)
                self._halted.wait(delay_s)
            if isinstance(self._input, ArgumentsInput):
                self._input.start()
            poll = polling.Poll()
            poll.register(self._stop, lambda: None)
            given = self._options, self._input, self._link.certificate
            self._ventilator = Ventilator(*given, poll, self._stop, None, self, self._link.get())
            self._end(self._ventilator.run())
        except TradewindError as error:
            self.error = error
        except OperatorError as error:
            self.error = self._failure_of_input() or self._for_program(error)
        except BaseException as error:
            by = "its progress function" if error is self._progress_failure else "an error of Tradewind"
            log.exception("job %s ended by %s", self.job, by)
            self.error = error
        finally:
            self._leave()

    def _end(self, end: JobEnd) -> None:
        self._link.is_clean = end.error is None
        for line in end.lines:
            log.debug("%s", line.text)
        if end.error is not None:
            assert isinstance(end.error, OperatorError)
            self.error = self._failure_of_input() or self._for_program(end.error)
        elif end.code is ExitCode.INTERRUPTED:
            self.error = Halted(halted(self.job, self.standing))

    def _for_program(self, error: OperatorError) -> TradewindError:
        return for_program(error, self.job, self._options.sink or self._link.certificate.sink)

    def _is_verified(self) -> bool:
        # What a range is, the sink checks by its name.
        return not isinstance(self._input, ArgumentsInput) or self._input.is_verified

    def _failure_of_input(self) -> BaseException | None:
        return self._input.failure if isinstance(self._input, ArgumentsInput) else None

    def _leave(self) -> None:
        self._ventilator = None
        self._link.give_back()
        # No more is asked of it, and it may hold much.
        self._input.leave(False)
        self._stop.close()
        try:
            if self._bar is not None:
                self._bar.close()
        finally:
            with self._lock:
                self._ended.set()
                self._ready.set()
                for bell in self._bells:
                    bell.ring()

    # -- the display of the ventilator --------------------------------------------------------------------------

    def show(self, now: float, standing: Standing) -> None:
        """Keep how the job stands. Raises OperatorError when a private sink or worker has ended."""
        self.standing = standing
        if not self.is_open and standing.is_counted and self._is_verified():
            assert self._ventilator is not None
            self.earlier_attempts = self._ventilator.session.earlier_attempts
            self.is_open = True
            self._ready.set()
        if now < self._show_at:
            return
        self._show_at = now + _SHOW_S
        assert self._ventilator is not None
        self._check(self._ventilator.session.others)
        self._tell(standing)

    def deadline(self) -> float:
        """When there is something new to show."""
        return self._show_at

    def close(self) -> None:
        """Keep and show the last standing."""
        assert self._ventilator is not None
        self.standing = self._ventilator.session.standing
        self._tell(self.standing)

    def _tell(self, standing: Standing) -> None:
        """Call the program's function, if there is one. After it has raised it is not called again."""
        progress, self._progress = self._progress, None
        if progress is None:
            return
        try:
            progress(standing)
        except BaseException as error:
            self._progress_failure = error
            raise
        self._progress = progress


def halted_in_time(runs: list[JobRun], within_s: float) -> None:
    """Halt these jobs and let them leave; those that do not within this many seconds are left alone."""
    ends_at = clock.now() + within_s
    for run in runs:
        run.halt()
        run.halt()
    for run in runs:
        has_ended = run.wait(max(0.0, ends_at - clock.now()))
        is_whole = run.standing.done == run.standing.total
        if not has_ended or (isinstance(run.error, Halted) and not is_whole):
            log.warning("%s", halted(run.job, run.standing))


def halted(job: str, standing: Standing) -> str:
    """What is said of a job that was stopped."""
    of = "" if standing.total is None else f" of {standing.total}"
    return f"job {job} was halted: {standing.done}{of} tasks are recorded; go on: map(..., job={job!r})"
