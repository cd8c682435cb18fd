"""What the simulation knows and the machines do not: what each task does, and what the ledger may hold."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from common.protocol.codec import origin
from common.sink.sqlite_ledger import _NO_BOUND, Ledger
from common.sink.store import (
    Completion,
    DigestPage,
    Ending,
    Forgetting,
    Job,
    Opening,
    Page,
    Recording,
    Tidying,
    Write,
    jobs_of,
)
from common.sink.whole_write import write_and_wait
from common.ventilator.settings import RelayUse
from tests.simulation.world import World

HALTS_MAX = 5
"""When a job was halted this many times, its operator allows it twice as many failures, and so each time after that."""
SLOWNESS_MAX = 10.0
"""A slow worker takes up to this many times as long."""
FINAL = 1_000_000
"""How many times a task fails that always fails."""
_UNTIDY = 100
"""How many parts of tidying go by before the rows of a forgotten job are gone."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a task does: how long it runs, how often it fails first, and what it takes down."""

    seconds: float
    failures: int = 0
    final: bool = False
    """Its failure says that it is not to be retried."""
    kills_child: bool = False
    kills_worker: bool = False


@dataclass(slots=True)
class JobTruth:
    """One job of the simulation."""

    name: str
    function: str
    tasks: list[Task]
    retries: int
    batch_tasks: int | None
    quarantine_after: int
    trickles: bool
    """Its input comes bit by bit, and nobody knows its end before it is there."""
    speculates: bool = False
    timeout_s: float | None = None
    """A task that runs longer is ended, and has failed."""
    reruns: int = 0
    """How many times it is run again with `retry_failed` when it is done."""
    bad_at: int | None = None
    """This line of the input cannot be read, until the operator sees that."""
    retries_failed: bool = False
    """It is now."""
    spooled: int = 0
    """How many tasks of a stream are in its spool, which outlives the ventilator."""
    stream_ended: bool = False
    """The spool is the whole stream."""
    first_count: int | None = None
    """Its first input has this many of the tasks; when it is done, an input with the others is appended."""
    appends: bool = False
    """It is now."""
    appended_reruns: int = 0
    """How many times the failed tasks of the appended input are run again when it is done."""
    max_fails: int | None = None
    """Each run of it is halted when this many tasks have failed in it."""
    halts: int = 0
    """How many times it was halted."""
    relay: RelayUse = RelayUse.never
    """When its tasks go through the sink's relay."""
    is_behind_wall: bool = False
    """Some workers cannot connect to its ventilator."""
    anew: int = 0
    """How many times it is forgotten when it is done, and run once more under its name."""
    origins: list[bytes] = field(default_factory=list)
    """Of the jobs that have had its name, what their batches bear."""
    bases: set[int] = field(default_factory=lambda: {0})
    """The attempts that its runs have counted from."""
    losses: Counter[int] = field(default_factory=Counter)
    """How often a worker was called lost that had started the task."""
    executions: Counter[int] = field(default_factory=Counter)

    @property
    def streams(self) -> bool:
        """Its input never brings the same again."""
        return self.trickles and len(self.tasks) % 2 == 0

    @property
    def count(self) -> int:
        """How many tasks it has when it is done the next time."""
        return len(self.tasks) if self.appends or self.first_count is None else self.first_count

    def append(self) -> None:
        """From now on it is run with the input that is appended."""
        if not self.appends:
            self.appends, self.retries_failed, self.bad_at = True, False, None
            self.reruns = self.appended_reruns

    def was_halted(self) -> None:
        """The operator runs it again. With a limit that stays low, a large job would be halted a hundred times."""
        self.halts += 1
        if self.retries_failed:
            # It begins with the tasks that have failed: with the same limit it would never come further.
            self.max_fails = None
        elif self.max_fails is not None and self.halts >= HALTS_MAX:
            self.max_fails *= 2

    def begin_anew(self) -> None:
        """It was forgotten."""
        self.spooled, self.stream_ended, self.bad_at = 0, False, None
        self.retries_failed, self.appends, self.bases = False, False, {0}

    def value(self, task: int, origin: bytes | None = None) -> str:
        """What the task's function returns in a batch of this origin, or in the job that has the name now."""
        place = self.origins.index(origin) if origin in self.origins else len(self.origins) - 1
        return f"{self.name}/{task}/{place}"

    def may_time_out(self, task: Task) -> bool:
        """True when the task outlives its timeout at some worker."""
        return self.timeout_s is not None and task.seconds * SLOWNESS_MAX > self.timeout_s

    @staticmethod
    def _is_quarantined(error: str | None) -> bool:
        return error is not None and "quarantined" in error

    def fault_of_row(self, task: int, status: str, value: Any, error: str | None, attempt: int) -> str | None:
        """Why this row may not be; None if it may."""
        if task >= len(self.tasks):
            return "no such task"
        spec = self.tasks[task]
        timed_out = error is not None and "timeout" in error
        if self.may_time_out(spec):
            fits = {base + count + 1 for base in self.bases for count in range(self.retries + 1)}
            ends = {base + self.retries + 1 for base in self.bases}
            right = attempt > spec.failures and value == self.value(task) and not spec.kills_worker
            if status != "ok":
                right = attempt in ends if timed_out else spec.failures >= attempt
            if not self._is_quarantined(error):
                return None if right and attempt in fits else f"{status} {value!r} {error} at attempt {attempt}"
        if timed_out:
            return "it ran no longer than its timeout"
        if status == "ok":
            right = value == self.value(task) and attempt > spec.failures and not spec.kills_worker
            right = right and (attempt - 1 == spec.failures or attempt - 1 in self.bases)
            return None if right else f"value {value!r} at attempt {attempt}"
        if self._is_quarantined(error):
            enough = self.losses[task] >= self.quarantine_after
            return None if enough else f"quarantined after {self.losses[task]} lost workers"
        wanted = {base + (1 if spec.final else self.retries + 1) for base in self.bases}
        right = status == "failed" and spec.failures >= attempt and attempt in wanted
        return None if right else f"{status} at attempt {attempt}"


def tasks(dice: Random, count: int, mean_s: float, troubles: dict[str, float]) -> list[Task]:
    """Tasks of all kinds; `troubles` gives the share of each unpleasant kind."""
    return [_task(dice, mean_s, troubles) for _ in range(count)]


def _task(dice: Random, mean_s: float, troubles: dict[str, float]) -> Task:
    seconds = dice.expovariate(1 / mean_s)
    kinds = dice.choices([*troubles, "fine"], [*troubles.values(), 1 - sum(troubles.values())])
    kind = kinds[0]
    if kind == "fine":
        return Task(seconds)
    if kind == "long":
        return Task(dice.uniform(8, 20))
    if kind == "fails":
        return Task(seconds, failures=dice.choice([1, 1, 2, FINAL]))
    if kind == "fails for good":
        return Task(seconds, failures=FINAL, final=True)
    if kind == "kills child":
        return Task(seconds, failures=dice.choice([1, FINAL]), kills_child=True)
    assert kind == "poison"
    return Task(seconds, kills_worker=True)


class Disk:
    """The ledger under the sink: slow at times, full now and then, watched always."""

    def __init__(self, world: World, jobs: list[JobTruth], path: str, pace_s: float, refuses: float) -> None:
        self.commit_count = 0
        self.full_until = 0.0
        self.slow_until = 0.0
        self.crash: str | None = None
        """Kill the sink at the next write: `before` or `after` it takes effect."""
        self.kill: Callable[[], None] = _nothing
        self.wake: Callable[[], None] = _nothing
        """Tell the sink's loop that a write has ended."""
        self.dice = world.dice("disk")
        self._pace_s = pace_s
        self._refuses = refuses
        self._write: Write | None = None
        """It is in flight."""
        self._made: Completion | None = None
        """What has become of it, before the sink is told."""
        self._write_count = 0
        self._before: dict[str, Job | None] = {}
        """The jobs that a write has changed, as they were before: so the sink sees them until it is told."""
        self.reopened: set[str] = set()
        """Jobs that were cancelled, and are opened again by whoever is told next that it is open."""
        self.rows: dict[tuple[str, int], tuple[Any, ...]] = {}
        """The committed rows as they were first seen."""
        self.failed_counts: Counter[str] = Counter()
        """By job, how many times a task was recorded as failed."""
        self._replaced: set[tuple[str, int]] = set()
        """Failed tasks whose second row has no receipt yet."""
        self._world = world
        self._truths = {job.name: job for job in jobs}
        self._path = path
        self._receipted: dict[str, set[int]] = {job.name: set() for job in jobs}
        self._position = 0
        self.untidy = 0
        """After this many times the rows of forgotten jobs are gone."""
        self._ended: Completion | None = None
        self.ledger = Ledger(path)
        self.holder = self.writer = ""
        """Where a site has two sinks: the one that may write, and the one that did so last."""

    def lose_sink(self) -> None:
        """The sink is dead: the write in flight is made all the same, or it is not."""
        if self._write is not None and self._made is None and self.dice.random() < 0.5:
            self._world.note("disk", "writes what nobody waits for", type(self._write).__name__)
            self._make_it()
        self._write = self._made = self._ended = None
        self._before.clear()
        self.ledger._position_max = _NO_BOUND
        self.reopened.clear()

    def hurry(self) -> None:
        """All is well with it from now on."""
        self.full_until = self.slow_until = self._refuses = 0.0
        self.crash = None
        if self._write is not None:
            self._make(self._write_count)
            self._tell(self._write_count)

    def restart(self) -> None:
        """A new sink opens what the old one had committed; in memory it just stays there."""
        if self._path != ":memory:":
            self.ledger.close()
            self.ledger = Ledger(self._path)

    # -- what Collector needs ----------------------------------------------------------------------------------

    def submit(self, write: Write) -> None:
        """Begin a write. It takes effect at some instant, and the sink is told later."""
        is_first = self._write is None and self._ended is None
        self._world.require(is_first, "a second write is begun:", (self._write, write))
        self._write_count += 1
        self._write = write
        seconds = self.dice.expovariate(1 / self._pace_s) if self._pace_s and self.dice.random() < 0.8 else 0.0
        if self._world.now < self.slow_until:
            seconds = self.dice.choice([0.1, 1.5, 12.0]) * self.dice.random()
        if not seconds and self.crash is None:
            self._make_it()
            self._write, self._ended, self._made = None, self._made, None
            return
        self._world.after(self.dice.random() * seconds, self._make, self._write_count)
        self._world.after(seconds, self._tell, self._write_count)

    def _make(self, number: int) -> None:
        if number != self._write_count or self._write is None or self._made is not None:
            return
        crash, self.crash = self.crash, None
        if crash == "before":
            self.kill()
            return
        self._make_it()
        if crash == "after":
            self.kill()

    def _tell(self, number: int) -> None:
        if number == self._write_count and self._write is not None:
            self._write, self._ended, self._made = None, self._made, None
            self.wake()

    def _make_it(self) -> None:
        write = self._write
        assert write is not None
        self._world.require(self.writer == self.holder, "a sink that was replaced writes:", self.writer)
        if self._world.now < self.full_until or (self._refuses and self.dice.random() < self._refuses):
            self._made = Completion(write, stuck="database or disk is full")
            return
        self._before = {name: self.ledger.job(name) for name in jobs_of(write)}
        position = self._position
        match write:
            case Recording():
                self._made = self._record(write)
            case Opening():
                self._made = self._open(write)
            case Ending():
                self._made = self._end(write)
            case Forgetting():
                self._made = self._forget(write)
            case Tidying():
                self._made = self._tidy(write)
        self.ledger._position_max = position

    def completed(self) -> Completion | None:
        """What has become of the write."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self._before.clear()
            self.ledger._position_max = _NO_BOUND
        return ended

    def fileno(self) -> None:
        """Nothing to poll."""

    @property
    def waits_for(self) -> str:
        """Nothing special."""
        return ""

    def _tidy(self, write: Tidying) -> Completion:
        """Remove rows of jobs that were forgotten. How many it is at a time goes by a real clock, which has no say."""
        self.untidy = max(0, self.untidy - 1)
        while not self.untidy and write_and_wait(self.ledger, write):
            pass
        return Completion(write, self.untidy > 0)

    def _forget(self, write: Forgetting) -> Completion:
        """Remove the job; what it did counts no more."""
        name = write.name
        write_and_wait(self.ledger, write)
        self.untidy = _UNTIDY
        self.rows = {key: row for key, row in self.rows.items() if key[0] != name}
        self._replaced = {key for key in self._replaced if key[0] != name}
        self._receipted[name] = set()
        self._truths[name].begin_anew()
        return Completion(write)

    @property
    def id(self) -> str:
        """The ledger's name."""
        return self.ledger.id

    def job(self, name: str) -> Job | None:
        """The job as it was before the write in flight."""
        return self._before[name] if name in self._before else self.ledger.job(name)

    def _open(self, write: Opening) -> Completion:
        """Make or find the job's row."""
        name, truth = write.name, self._truths[write.name]
        if write.appends:
            whole = (truth.first_count, len(truth.tasks) if truth.appends else None)
            known = len(self._receipted[name])
            self._world.require(known in whole, "appends to a job with tasks that are not recorded:", (name, known))
            truth.append()
        before = self.ledger.job(name)
        if before is not None and before.state == "cancelled":
            self.reopened.add(name)
        job = write_and_wait(self.ledger, write)
        assert isinstance(job, Job)
        truth.bases.add(job.attempts)
        if (born := origin(job.ticket_key)) not in truth.origins:
            truth.origins.append(born)
        return Completion(write, job)

    def _end(self, write: Ending) -> Completion:
        """Close or cancel the job."""
        name, total = write.name, write.total
        if write.state == "done" and self._truths[name].retries_failed:
            query = (
                "SELECT task FROM results JOIN jobs USING (job) WHERE name=? AND status='failed' AND attempt<=attempts"
                " AND task>=coalesce(base, 0)"
            )
            left = self.ledger.inspect(query, name)
            self._world.require(not left, "failed tasks were not run again:", (name, left))
        self._world.require(
            write.state == "cancelled" or len(self._receipted[name]) == total == self._truths[name].count,
            "a job is closed before every task is recorded:",
            (name, len(self._receipted[name]), total),
        )
        write_and_wait(self.ledger, write)
        return Completion(write)

    def _record(self, write: Recording) -> Completion:
        """Commit, and look at what is there afterwards."""
        written = write_and_wait(self.ledger, write)
        self.commit_count += 1
        for each in write.row_sets:
            self._look(each.results.job, each.results.first, each.results.count)
        self._look_at_receipts()
        return Completion(write, written)

    def size_bytes(self) -> int:
        """The size of a file that is not there."""
        return self.ledger.size_bytes()

    def receipts(self, name: str, after: int, limit: int, skipped_attempts: int) -> Page:
        """Receipts after a position."""
        return self.ledger.receipts(name, after, limit, skipped_attempts)

    def failed_attempts(self, name: str) -> int:
        """The highest attempt of the failed rows."""
        return self.ledger.failed_attempts(name)

    def failures(self, name: str, limit: int) -> list[tuple[int, str, Any]]:
        """The first failures."""
        return self.ledger.failures(name, limit)

    def digests(self, name: str, first: int, limit: int) -> DigestPage:
        """The digests of the arguments before those that are appended."""
        return self.ledger.digests(name, first, limit)

    def close(self) -> None:
        """The end of the simulation."""
        self.ledger.close()

    # -- checks -------------------------------------------------------------------------------------------------

    def _look(self, name: str, first: int, count: int) -> None:
        job = self.ledger.job(name)
        assert job is not None
        truth, require = self._truths[name], self._world.require
        query = (
            "SELECT task, argument, status, value, error, attempt, worker, seconds FROM results"
            " WHERE job=? AND task>=? AND task<?"
        )
        for task, argument, *row in self.ledger.inspect(query, job.job, first, first + count):
            require(argument == str(task), "a task with another's argument, or none:", (name, task, argument))
            is_new = (name, task) not in self.rows
            kept = self.rows.setdefault((name, task), tuple(row))
            self.failed_counts[name] += row[0] == "failed" and (is_new or kept != tuple(row))
            if kept != tuple(row):
                may = truth.retries_failed and kept[0] == "failed" and row[3] > kept[3]
                require(may, "a recorded task changed:", (name, task, kept, row))
                self.rows[name, task] = tuple(row)
                self._replaced.add((name, task))
            fault = truth.fault_of_row(task, *row[:4])
            require(fault is None, "a wrong row:", (name, task, fault))

    def _look_at_receipts(self) -> None:
        query = "SELECT position, name, first, count FROM receipts JOIN jobs USING (job) WHERE position>?"
        for position, name, first, count in self.ledger.inspect(query, self._position):
            self._position = max(self._position, position)
            got = self._receipted[name]
            for task in range(first, first + count):
                self._world.require((name, task) in self.rows, "a receipt without a row:", (name, task))
                self._world.require(task not in got or (name, task) in self._replaced, "recorded twice:", (name, task))
                self._replaced.discard((name, task))
                got.add(task)

    def is_recorded(self, name: str, task: int) -> bool:
        """True when the task's row is committed."""
        return (name, task) in self.rows

    def look_at_all(self) -> None:
        """The end: each task of each job has its one row, and the counts are right."""
        for name, truth in self._truths.items():
            count = len(truth.tasks)
            self._look(name, 0, count + 1_000)
            job = self.ledger.job(name)
            assert job is not None
            query = "SELECT count(*), sum(status='failed') FROM results WHERE job=?"
            ((rows, failed),) = self.ledger.inspect(query, job.job)
            self._world.require(rows == count, "not every task is recorded:", (name, rows, count))
            counts = (job.done, job.failed, job.total, job.state)
            self._world.require(counts == (rows, failed, count, "done"), "the job's counts are wrong:", (name, counts))


def _nothing() -> None:
    """Nobody is there."""
