"""Bugs that are planted into the real machines, one at a time, to see that the simulator finds them.

Each one's docstring is the promise that it breaks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_fields

from common.errors import ExitCode
from common.protocol.codec import slice_arguments
from common.protocol.messages import Cancel, Halt, Mark
from common.protocol.sink_turns import SinkTurns
from common.sink import commits, job_rules, sqlite_writes
from common.sink.collector import Collector
from common.sink.commits import Commits, Progress
from common.sink.jobs import Jobs
from common.sink.registry import OpenJob, Registry
from common.sink.sqlite_ledger import Ledger
from common.sink.sqlite_writes import SqliteWrites
from common.sink.store import Recording
from common.sink.turns import Turns
from common.sink.whole_write import write_and_wait
from common.sink.writes import Writes
from common.ventilator import session, speculation, summary
from common.ventilator.admission import Admission
from common.ventilator.assignments import Assignments
from common.ventilator.dialog import Dialog
from common.ventilator.dispatch import Dispatch
from common.ventilator.earlier_run import EarlierRun
from common.ventilator.flights import Flight, Flights
from common.ventilator.holders import Holders
from common.ventilator.receipt_cursor import ReceiptCursor
from common.ventilator.retries import Retry
from common.ventilator.route import Route
from common.ventilator.session import VentilatorSession
from common.ventilator.settings import RelayUse
from common.ventilator.speculation import Speculation
from common.ventilator.wait_voice import WaitVoice
from common.worker.capacity import Capacity
from common.worker.holding import Holding
from common.worker.session import Disconnect, WorkerSession
from common.worker.slot_events import Outcome
from common.worker.unacked import Unacked
from tests.simulation.plan import Plan
from tests.simulation.site import HeldDisk
from tests.simulation.truth import FINAL, Disk, Task
from tests.simulation.world import Weather

Patch = pytest.MonkeyPatch


Bug = Callable[[Patch], None]
Focus = Callable[[Plan], Plan]


def any_plan(plan: Plan) -> Plan:
    """As the seed says."""
    return plan


def with_standby(plan: Plan) -> Plan:
    """The site has two sinks, one of which serves."""
    return replace(plan, has_standby=True)


def replaced_on_a_slow_disk(plan: Plan) -> Plan:
    """One of two sinks is replaced by the other while its ledger writes."""
    jobs = [replace(job, tasks=[Task(0.3)] * 60, batch_tasks=1, first_count=None) for job in plan.jobs]
    return replace(plan, has_standby=True, disk_s=0.3, jobs=jobs, faults_s=30.0)


def replaced_in_a_large_crew(plan: Plan) -> Plan:
    """The same with many workers, some of which are done before others hear of the new sink, and few other faults."""
    plan = replaced_on_a_slow_disk(plan)
    jobs = [replace(job, tasks=[Task(0.3)] * 300, trickles=False) for job in plan.jobs]
    weather = Weather(delay_s=(0.001, 0.05))
    return replace(plan, jobs=jobs, worker_count=8, slots_max=2, weather=weather, faults_s=60.0, faults_per_s=0.01)


def lasting_crew(plan: Plan) -> Plan:
    """No drain, after which none are left to die, and no timeouts."""
    return replace(plan, drain_at=None, jobs=[replace(job, timeout_s=None) for job in plan.jobs])


def failing(plan: Plan) -> Plan:
    """Tasks that fail once or twice, results that come late a second time."""
    job = replace(plan.jobs[0], tasks=[Task(3.0, failures=1)] * 8, retries=2, batch_tasks=1)
    weather = Weather(delay_s=(0.001, 0.05), duplication=0.5)
    return replace(plan, jobs=[job], worker_count=3, slots_max=4, weather=weather, faults_per_s=0.1)


def long_tasks(plan: Plan) -> Plan:
    """Tasks that last longer than a lease, and faults enough."""
    jobs = [replace(job, tasks=[Task(15.0)] * 4, batch_tasks=1) for job in plan.jobs]
    return replace(plan, jobs=jobs, faults_s=40.0, faults_per_s=0.3)


def resuming(plan: Plan) -> Plan:
    """Batches of several long tasks, some of which fail once, and faults enough to run their job again and again."""
    tasks = [Task(3.0, failures=number % 2) for number in range(24)]
    jobs = [replace(job, tasks=tasks, retries=2, batch_tasks=3, trickles=False) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=3, slots_max=2, faults_s=60.0, faults_per_s=0.7, drain_at=None)


def speculating(plan: Plan) -> Plan:
    """Tasks long enough to be copied, poison among them, and a job whose input comes bit by bit."""
    tasks = [Task(0.05), Task(0.05), *[Task(4.0)] * 6, Task(0.5, kills_worker=True)]
    jobs = [replace(job, tasks=tasks, batch_tasks=1, speculates=True) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=4, slots_max=4, trickle_per_s=1.0)


def cancelling(plan: Plan) -> Plan:
    """Jobs that are cancelled while they run, and faults enough to start the sink again."""
    jobs = [replace(job, tasks=[Task(0.5)] * 40) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=2, slots_max=2, cancels_at=2.0, faults_per_s=1.5)


def revoking(plan: Plan) -> Plan:
    """A key that some workers have is revoked while they run."""
    jobs = [replace(job, tasks=[Task(0.5)] * 60) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=3, revokes_at=2.0)


def appending(plan: Plan) -> Plan:
    """Jobs whose ventilators are killed again and again, to which the operator appends before they are done."""
    jobs = [replace(job, tasks=[Task(0.5)] * 40, first_count=20, trickles=False) for job in plan.jobs]
    return replace(plan, jobs=jobs, faults_per_s=1.5)


def forgetting(plan: Plan) -> Plan:
    """Jobs that are forgotten when they are done, and begun anew while results come late a second time."""
    jobs = [replace(job, anew=1) for job in plan.jobs]
    weather = Weather(delay_s=(0.001, 0.05), straggler=0.2, straggler_s=4.0, duplication=0.5)
    return replace(plan, jobs=jobs, weather=weather, faults_s=20.0)


def on_a_disk_that_is_full_at_times(plan: Plan) -> Plan:
    """The disk refuses writes, and nothing else goes wrong."""
    jobs = [replace(job, tasks=[Task(0.1)] * 40, trickles=False, first_count=None) for job in plan.jobs]
    return replace(plan, jobs=jobs, disk_refuses=0.3, faults_per_s=0.001, has_standby=False, faults_s=20.0)


def forgetting_on_a_slow_disk(plan: Plan) -> Plan:
    """Short jobs that are forgotten while many of their results still come late, over a disk that takes its time."""
    short = forgetting(plan)
    jobs = [replace(job, tasks=[Task(0.01)] * 40, batch_tasks=1, anew=3, trickles=False) for job in short.jobs]
    weather = Weather(delay_s=(0.001, 0.05), straggler=0.5, straggler_s=6.0, duplication=0.5)
    return replace(short, jobs=jobs, weather=weather, disk_s=1.0, faults_per_s=0.05, has_standby=False)


def bad_first_line(plan: Plan) -> Plan:
    """The first line of each input is bad."""
    return replace(plan, jobs=[replace(job, bad_at=0) for job in plan.jobs])


def bad_line(plan: Plan) -> Plan:
    """A line in the middle of each input is bad, and what is before it takes its time."""
    jobs = [replace(job, tasks=[Task(0.5)] * 20, batch_tasks=1, bad_at=10) for job in plan.jobs]
    return replace(plan, jobs=jobs)


def interrupting(plan: Plan) -> Plan:
    """Ventilators are interrupted while tasks run that outlast their patience."""
    jobs = [replace(job, tasks=[Task(0.5), Task(0.5), Task(15.0)] * 6, batch_tasks=1) for job in plan.jobs]
    return replace(plan, jobs=jobs, faults_s=40.0, drain_at=None, interrupts_per_s=0.2)


def mistaken(plan: Plan) -> Plan:
    """Operators who often give another input, or one that they have edited."""
    return replace(plan, mistakes=0.5, faults_s=30.0, jobs=[replace(job, tasks=[Task(0.5)] * 40) for job in plan.jobs])


def strangers_first(plan: Plan) -> Plan:
    """A worker that exposes another function is there before the others."""
    return replace(plan, crew_at=20.0, faults_s=40.0, faults_per_s=0.1)


def trickling(plan: Plan) -> Plan:
    """The input comes bit by bit."""
    return replace(plan, jobs=[replace(job, trickles=True) for job in plan.jobs])


def halting(plan: Plan) -> Plan:
    """Tasks of which many fail, in jobs that few failures halt, and that are run again for them."""
    tasks = [Task(0.2, failures=FINAL * (number % 2)) for number in range(30)]
    jobs = [
        replace(job, tasks=tasks, retries=0, max_fails=3, reruns=1, first_count=None, trickles=False)
        for job in plan.jobs
    ]
    return replace(plan, jobs=jobs, drain_at=None)


def draining(plan: Plan) -> Plan:
    """Workers are told to end while their tasks run, of which some outlast the grace."""
    tasks = [Task(1.0), Task(1.0), Task(1.0), Task(8.0)] * 10
    jobs = [replace(job, tasks=tasks, batch_tasks=1) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=3, slots_max=4, prefetch_max=4, drain_at=4.0, drain_grace_s=3.0)


def relayed(plan: Plan) -> Plan:
    """All tasks go through the relay."""
    return replace(plan, jobs=[replace(job, relay=RelayUse.always) for job in plan.jobs])


def behind_a_wall(plan: Plan) -> Plan:
    """Some workers cannot connect to ventilators."""
    jobs = [replace(job, relay=RelayUse.auto, is_behind_wall=True) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=1)


def told_when(plan: Plan) -> Plan:
    """All workers were told when to leave, and have too little to do."""
    jobs = [replace(job, tasks=[Task(0.5)] * 20, batch_tasks=1) for job in plan.jobs]
    return replace(plan, jobs=jobs, worker_count=4, leavers=1.0, trickle_per_s=5.0)


@dataclass(frozen=True)
class Plant:
    """A bug, what the simulator says of it, within how many seeds at most, and what they are about."""

    bug: Bug
    says: str
    focus: Focus
    seeds_max: int = 100


PLANTS: list[Plant] = []


def plant(says: str, focus: Focus = any_plan) -> Callable[[Bug], Bug]:
    """Enter a bug into the list."""

    def enter(bug: Bug) -> Bug:
        PLANTS.append(Plant(bug, says, focus))
        return bug

    return enter


# -- the sink ---------------------------------------------------------------------------------------------------


@plant("recorded twice")
def the_last_result_wins(patch: Patch) -> None:
    """A result is recorded once: the first wins."""
    insert = SqliteWrites._insert

    def without_a_look(ledger: SqliteWrites, job: Any, recording: Any) -> Any:
        results = recording.results
        query = "DELETE FROM task_rows WHERE job=? AND task>=? AND task<?"
        ledger._db.execute(query, (job.job, results.first, results.first + results.count))
        return insert(ledger, job, recording)

    patch.setattr(SqliteWrites, "_insert", without_a_look)


@plant("a recorded task changed")
def the_last_result_wins_in_silence(patch: Patch) -> None:
    """A recorded task stays as it was, also when nobody is told."""
    insert = SqliteWrites._insert

    def over_the_row(ledger: SqliteWrites, job: Any, recording: Any) -> Any:
        results = recording.results
        where = "WHERE job=? AND task>=? AND task<?"
        place = (job.job, results.first, results.first + results.count)
        known = ledger._db.execute(f"SELECT count(*) FROM results {where}", place).fetchone()[0]
        if known < results.count or recording.again:
            return insert(ledger, job, recording)
        ledger._db.execute(f"DELETE FROM task_rows {where}", place)
        insert(ledger, job, recording)
        return []

    patch.setattr(SqliteWrites, "_insert", over_the_row)


@plant("it does not converge")
def no_receipt_for_a_duplicate(patch: Patch) -> None:
    """A duplicate gets its receipt too, or a lost receipt never heals."""
    results = Collector.results

    def only_news(sink: Any, user: Any, message: Any) -> Any:
        tasks = range(message.first, message.first + message.count)
        if all(sink._ledger.is_recorded(message.job, task) for task in tasks):
            return []
        return results(sink, user, message)

    patch.setattr(Collector, "results", only_news)


@plant("a receipt before its commit")
def a_receipt_before_the_commit(patch: Patch) -> None:
    """No receipt is given for what is not committed."""
    results = Collector.results

    def at_once(sink: Any, user: Any, message: Any) -> Any:
        return results(sink, user, message) + sink._commits._tell(message.worker, [message.serial], [])

    patch.setattr(Collector, "results", at_once)


@plant("a receipt before its commit")
def receipts_although_the_disk_is_full(patch: Patch) -> None:
    """When the ledger is stuck, everybody keeps what it has."""
    flush = Collector.flush

    def forgetful(sink: Any, now: float) -> Any:
        outputs = flush(sink, now)
        if sink._turns.writes.is_stuck and sink._commits._begun is not None:
            for worker, serial in sink._commits._begun.recordings:
                outputs += sink._commits._tell(worker, [serial], [])
        return outputs

    patch.setattr(Collector, "flush", forgetful)


@plant("a receipt before its commit")
def receipts_when_the_write_is_begun(patch: Patch) -> None:
    """Receipts come after the end of the write."""
    flush = Collector.flush

    def hasty(sink: Any, now: float) -> Any:
        outputs = flush(sink, now)
        if sink.is_writing and sink._commits._begun is not None:
            outputs += sink._commits.receipts(sink._commits._begun)
        return outputs

    patch.setattr(Collector, "flush", hasty)


@plant("a job is opened before the results that came first are recorded")
def a_job_is_opened_while_its_results_wait(patch: Patch) -> None:
    """The attempts of a new run count from the failures among them."""
    patch.setattr(Commits, "needed", lambda commits: Progress())


@plant("a second write is begun")
def two_writes_at_once(patch: Patch) -> None:
    """One write is in flight."""
    patch.setattr(Writes, "is_free", property(lambda writes: True))


@plant("it does not converge", on_a_disk_that_is_full_at_times)
def a_refused_write_is_forgotten(patch: Patch) -> None:
    """What the ledger has refused is submitted again."""
    completed = Turns._completed

    def forgetful(turns: Any, now: float, completion: Any) -> Any:
        outputs = completed(turns, now, completion)
        if completion.stuck is not None:
            turns._commits._begun = None
        return outputs

    patch.setattr(Turns, "_completed", forgetful)


@plant("AssertionError", forgetting_on_a_slow_disk)
def late_results_of_a_forgotten_job_stay(patch: Patch) -> None:
    """Results that come while their job is forgotten are refused."""
    patch.setattr(Commits, "forgotten", lambda commits, name: [])


@plant("counts failures of other runs")
def receipts_ahead_of_the_counts(patch: Patch) -> None:
    """A ventilator takes the difference of receipts and counts for failures."""
    receipts = Ledger.receipts

    def unbounded(ledger: Ledger, *question: Any) -> Any:
        bound, ledger._position_max = ledger._position_max, 2**63 - 1
        try:
            return receipts(ledger, *question)
        finally:
            ledger._position_max = bound

    patch.setattr(Ledger, "receipts", unbounded)


@plant("counts on workers that are long gone")
def nobody_is_ever_lost(patch: Patch) -> None:
    """A worker that is silent is called lost after 5 s."""
    silent = Registry.silent

    def patient(registry: Registry, now: float) -> Any:
        workers, runs = silent(registry, now)
        return [worker for worker in workers if worker.heard_at < now - 60.0], runs

    patch.setattr(Registry, "silent", patient)


@plant("a cancelled job is opened by the same run again", cancelling)
def who_missed_the_cancel_opens_again(patch: Patch) -> None:
    """A ventilator that had a cancelled job open is told so, and told again."""
    patch.setattr(Jobs, "_had_it", lambda jobs, known, message: False)


@plant("a cancelled job is opened by the same run again", cancelling)
def a_sink_forgets_whom_it_has_cancelled(patch: Patch) -> None:
    """A ventilator says that it had the job open: the sink may have been started again since."""
    had_it = Jobs._had_it
    patch.setattr(Jobs, "_had_it", lambda jobs, known, said: had_it(jobs, known, replace_fields(said, reopens=False)))


@plant("results of a key that was revoked are taken", revoking)
def a_revoked_keys_results_are_recorded(patch: Patch) -> None:
    """Results of a key that was struck from the roster are not recorded."""
    patch.setattr(Collector, "results", lambda sink, user, message: sink._commits.results(user, message))


@plant("it does not converge", any_plan)
def a_worker_that_joins_is_refused(patch: Patch) -> None:
    """A worker that connects to a ventilator before that has heard of it waits until it has."""
    judge = Admission.judge
    patch.setattr(Admission, "judge", lambda admission, key: bool(judge(admission, key)))


@plant("counts on workers that are long gone", revoking)
def a_revoked_worker_leaves_in_silence(patch: Patch) -> None:
    """The ventilators hear that a worker is gone whose key was revoked, and push again what it held."""

    def in_silence(sink: Any, now: float, roster: Any) -> Any:
        sink._roster = roster
        for worker in [each for each in sink._registry.workers.values() if each.user.key not in roster]:
            sink._registry.leave(worker)
        return sink._jobs.roster_changed(roster)

    patch.setattr(Collector, "roster_changed", in_silence)


@plant("recalled from another crew")
def nothing_is_recalled_for_a_new_run(patch: Patch) -> None:
    """When a job is resumed, its crew hands back what has not started."""
    patch.setattr(Jobs, "halt", lambda jobs, open_job: [])


# -- the ventilator ---------------------------------------------------------------------------------------------


@plant("it does not converge")
def no_lease_expiry(patch: Patch) -> None:
    """A batch that no beat names is pushed again when its lease ends."""

    def never(flights: Flights, now: float) -> list[Flight]:
        if flights._sweep_at is not None and now >= flights._sweep_at:
            flights._sweep_at = None
        return []

    patch.setattr(Flights, "expired", never)


@plant("pushed again although")
def beats_do_not_extend_the_lease(patch: Patch) -> None:
    """A lease lives as long as some worker's beat names the batch."""
    patch.setattr(Assignments, "named", lambda assignments, now, name, next_task: None)


@plant("a push beyond the crew's capacity")
def the_window_is_one_too_large(patch: Patch) -> None:
    """The ventilator keeps at most the crew's capacity outstanding."""
    window = Dispatch.window.fget
    patch.setattr(Dispatch, "window", property(lambda dispatch: window(dispatch) + 1))


@plant("is gone and keeps")
def a_lost_worker_keeps_its_batches(patch: Patch) -> None:
    """What a lost worker held is pushed again at once."""

    def only_shorter(assignments: Any, now: float, *_: Any, **__: Any) -> list[Any]:
        for flight in assignments._unnamed():
            assignments._shorten(flight, now + assignments._timing.unnamed_s)
        return []

    patch.setattr(Assignments, "part_with", only_shorter)


@plant("quarantined after")
def quarantine_after_one_loss_too_few(patch: Patch) -> None:
    """A task is given up after as many lost workers as were asked for."""
    begin = Dispatch.__init__

    def hasty(dispatch: Any, settings: Any, *names: str) -> None:
        begin(dispatch, replace(settings, quarantine_after=max(1, settings.quarantine_after - 1)), *names)

    patch.setattr(Dispatch, "__init__", hasty)


@plant("pushed again although", failing)
def a_failure_of_an_earlier_attempt_counts(patch: Patch) -> None:
    """A task is tried again once for each attempt that failed."""

    def unchecked(dispatch: Any, now: float, failed: Any) -> None:
        for task in failed.tasks:
            flight = dispatch._flights.holding(task)
            if flight is None or (flight.received is not None and task in flight.received):
                continue
            argument = slice_arguments(flight.arguments, task - flight.first, 1)
            dispatch._settle(task, task + 1)
            dispatch._retries.add(now, Retry(task, failed.attempt + 1, argument), failed.attempt - dispatch._attempts)

    patch.setattr(Dispatch, "_receive_failed", unchecked)


@plant("the same input is refused")
def marks_run_ahead(patch: Patch) -> None:
    """A mark says what was read, and no more."""
    mark = Dialog.mark
    patch.setattr(Dialog, "mark", lambda talk, count, digest, total: mark(talk, count + 1, digest, total))


@plant("pushed again although")
def nothing_is_adopted(patch: Patch) -> None:
    """A ventilator that was started again does not push what living workers hold."""
    patch.setattr(EarlierRun, "_ADOPTABLE_MAX", 0)
    patch.setattr(Holders, "is_held", lambda crew, name: False)


@plant("pushed again although", resuming)
def an_earlier_runs_bounds_are_ignored(patch: Patch) -> None:
    """A resumed ventilator reads what a worker holds as the batch that the worker names."""

    def to_the_mark(earlier: Any, at: int, count: int) -> int:
        return min(count, earlier.read_count - at) if at < earlier.read_count else count

    patch.setattr(EarlierRun, "count_to_bound", to_the_mark)


@plant("before the crew is known")
def the_crew_is_not_waited_for(patch: Patch) -> None:
    """A job that is resumed while the sink does not know its whole crew waits for that."""
    opened = EarlierRun.opened
    patch.setattr(EarlierRun, "opened", lambda earlier, now, message, gather_s: opened(earlier, now, message, 0.0))


@plant("counts on workers that are long gone", lasting_crew)
def the_crew_is_kept_when_the_job_is_opened_again(patch: Patch) -> None:
    """Who died while the sink was away is not counted on."""
    patch.setattr(Holders, "clear", lambda crew: None)


@plant("pushed again although", long_tasks)
def leases_run_while_the_sink_is_away(patch: Patch) -> None:
    """Leases stand still while the sink is away."""
    patch.setattr(Dispatch, "_sink_away", lambda dispatch, now: False)


@plant("says again what costs the sink a commit")
def a_mark_is_resent_each_time(patch: Patch) -> None:
    """A mark that was said is not resent."""

    def every_time(talk: Any, count: int, digest: bytes, total: int | None) -> None:
        talk._mark = Mark(talk._job, count, digest, total)

    patch.setattr(Dialog, "mark", every_time)


@plant("pushed again although", speculating)
def a_refused_copy_brings_the_original_back(patch: Patch) -> None:
    """A copy that is refused says nothing of the original."""
    receive = Assignments.returned

    def all_alike(assignments: Any, now: float, returned: Any) -> None:
        receive(assignments, now, replace_fields(returned, batches=returned.batches + returned.copies, copies=[]))
        # Its first word was taken for the copy's.
        receive(assignments, now, replace_fields(returned, batches=returned.copies, copies=[]))

    patch.setattr(Assignments, "returned", all_alike)


@plant("a second copy beside the first", speculating)
def copies_are_forgotten(patch: Patch) -> None:
    """There is one copy of a batch at a time."""
    tick = Speculation.tick

    def forgetful(speculation: Any, now: float, sink_away: bool) -> None:
        for flight in list(speculation._flights.copied.values()):
            flight.copy_at = min(flight.copy_at, now + 1.0)
        tick(speculation, now, sink_away)

    patch.setattr(Speculation, "tick", forgetful)


@plant("batches in hands are miscounted", speculating)
def copies_do_not_count(patch: Patch) -> None:
    """A copy is one more batch in the crew's hands."""
    copy = Flights.copy

    def uncounted(flights: Any, flight: Any, due_at: float) -> None:
        copy(flights, flight, due_at)
        flights.in_flight_count -= 1

    patch.setattr(Flights, "copy", uncounted)


@plant("a copy of what may end its worker", speculating)
def suspects_are_copied(patch: Patch) -> None:
    """What a worker died with is not copied."""
    pushed = speculation._may_be_copied
    patch.setattr(speculation, "_may_be_copied", lambda flight: pushed(flight) or (flight.suspect and flight.named))


@plant("a copy that nobody asked for", speculating)
def the_input_is_not_waited_for(patch: Patch) -> None:
    """Nothing is copied while there is input to come."""
    begin = Dispatch.next_push

    def hasty(dispatch: Any, now: float) -> Any:
        total, dispatch.total = dispatch.total, dispatch.total or dispatch.next_task
        batch = begin(dispatch, now)
        dispatch.total = total
        return batch

    patch.setattr(Dispatch, "next_push", hasty)


# -- the ventilator's session -----------------------------------------------------------------------------------


@plant("leaves an empty job open", bad_first_line)
def an_empty_job_is_left_open(patch: Patch) -> None:
    """A new job that ends by a mistake before anything is recorded is cancelled."""
    patch.setattr(VentilatorSession, "_cancel_what_is_empty", lambda session: None)


@plant("cancels a job that is not empty", bad_line)
def a_job_that_has_results_is_cancelled(patch: Patch) -> None:
    """A job of which something is recorded is not cancelled."""

    def whatever(session: Any) -> None:
        if session._talk.opened is not None and not session._talk.opened.resumed:
            session._outputs.append(Cancel(session._request.job))

    patch.setattr(VentilatorSession, "_cancel_what_is_empty", whatever)


@plant("cancels a job of an earlier run", bad_first_line)
def a_job_of_an_earlier_run_is_cancelled(patch: Patch) -> None:
    """A job of an earlier run is not cancelled: workers that are away may run its tasks."""

    def whatever(session: Any) -> None:
        if not session._rules.done_count and not session._rules.in_flight_count:
            session._outputs.append(Cancel(session._request.job))

    patch.setattr(VentilatorSession, "_cancel_what_is_empty", whatever)


@plant("does not wait for the tasks before a bad line", bad_line)
def a_bad_line_ends_the_job_at_once(patch: Patch) -> None:
    """A bad line ends the job when the tasks before it are recorded."""
    over = VentilatorSession._end_if_over
    hasty = lambda session, now: session._sum_up(now) if session._input_error else over(session, now)  # noqa: E731
    patch.setattr(VentilatorSession, "_end_if_over", hasty)


@plant("it does not converge", bad_line)
def a_bad_line_is_waited_for(patch: Patch) -> None:
    """A bad line ends the job."""
    over = VentilatorSession._end_if_over

    def patient(session: Any, now: float) -> Any:
        error, session._input_error = session._input_error, None
        end = over(session, now)
        session._input_error = error
        return end

    patch.setattr(VentilatorSession, "_end_if_over", patient)


@plant("pushed from the wrong input", mistaken)
def any_input_will_do(patch: Patch) -> None:
    """A resumed job refuses an input that is not the one that it was started with."""
    patch.setattr(VentilatorSession, "_is_the_input", lambda session, now, state: True)


def streaming(plan: Plan) -> Plan:
    """Streams, whose spool operators often lose."""
    made = mistaken(plan)
    return replace(made, jobs=[replace(job, trickles=True) for job in made.jobs], trickle_per_s=5.0)


@plant("takes from a stream whose spool is lost", streaming)
def a_spool_that_is_lost_is_not_missed(patch: Patch) -> None:
    """Nothing is taken from a stream when an earlier run has read what the spool does not have."""
    patch.setattr(EarlierRun, "goes_on", lambda earlier, at: False)


@plant("a stream is refused whose spool is there", streaming)
def a_spool_is_never_trusted(patch: Patch) -> None:
    """A stream whose spool has all that the earlier run had read goes on."""
    patch.setattr(EarlierRun, "goes_on", lambda earlier, at: earlier.resumed)


@plant("it does not converge", mistaken)
def a_wrong_input_is_waited_for(patch: Patch) -> None:
    """An input that is refused before it was read as far as that of the earlier run ends the job at once."""

    def patient(session: Any, now: float, error: Any) -> None:
        session._input_error = error

    patch.setattr(VentilatorSession, "input_failed", patient)


@plant("pushed after a signal", interrupting)
def pushes_go_on_after_a_signal(patch: Patch) -> None:
    """After the first signal nothing more is pushed."""
    patch.setattr(Dialog, "halt", lambda talk: [Halt(talk._job)])


@plant("does not ask for what has not started", interrupting)
def nothing_is_handed_back_after_a_signal(patch: Patch) -> None:
    """After the first signal the crew hands back what has not started."""
    patch.setattr(Dialog, "halt", lambda talk: talk._dispatch.halt() or [])


@plant("does not wait for what runs", interrupting)
def a_signal_ends_the_job_at_once(patch: Patch) -> None:
    """After the first signal what runs is waited for."""
    patch.setattr(session, "DRAIN_S", 0.0)


@plant("drains for too long", interrupting)
def draining_never_ends(patch: Patch) -> None:
    """What runs is waited for, but not for ever."""
    patch.setattr(session, "DRAIN_S", 60.0)


@plant("a second signal does not end it", interrupting)
def a_second_signal_counts_for_nothing(patch: Patch) -> None:
    """The second signal ends the job at once."""
    interrupt = VentilatorSession.interrupt

    def once(session: Any, now: float, signal: str) -> None:
        if session._leaves_at is None:
            interrupt(session, now, signal)

    patch.setattr(VentilatorSession, "interrupt", once)


@plant("does not wait for its input", trickling)
def the_input_is_waited_for_once(patch: Patch) -> None:
    """The input is waited for whenever there is room for more of it, and not only at first."""
    want_input = VentilatorSession._want_input

    def once(session: Any, wanted: bool) -> None:
        want_input(session, wanted and not session.inspect().rules.pushed_count)

    patch.setattr(VentilatorSession, "_want_input", once)


@plant("the exit code is wrong")
def failed_tasks_exit_with_0(patch: Patch) -> None:
    """The exit code says that tasks have failed."""
    done = summary.done
    patch.setattr(summary, "done", lambda *named: replace(done(*named), code=ExitCode.OK))


@plant("waits in silence", strangers_first)
def a_wait_has_no_words(patch: Patch) -> None:
    """A job that waits for workers says so."""
    patch.setattr(WaitVoice, "is_due", lambda voice, now, waits: False)


@plant("misses workers that are there", strangers_first)
def workers_that_are_there_are_missed(patch: Patch) -> None:
    """Only a job that no worker exposes the function of ends for that reason."""
    speak = VentilatorSession._speak

    def early(session: Any, now: float, sink_away: bool) -> None:
        if session._rules.caught_up and session._rules.others_count:
            session._end = summary.mistake(summary.no_worker("", 1, ""))
        speak(session, now, sink_away)

    patch.setattr(VentilatorSession, "_speak", early)


# -- two sinks --------------------------------------------------------------------------------------------------


@plant("a sink that was replaced writes", with_standby)
def a_sink_that_was_replaced_goes_on_writing(patch: Patch) -> None:
    """Only the sink that holds the site can write."""
    patch.setattr(HeldDisk, "_is_ours", lambda _: True)


@plant("a sink that was replaced writes", replaced_on_a_slow_disk)
def the_write_in_flight_of_a_sink_that_was_replaced_is_made(patch: Patch) -> None:
    """Whoever takes the site over has it from when the write of the one before is made or undone."""
    patch.setattr(Disk, "lose_sink", lambda disk: None)


@plant("it does not converge", replaced_in_a_large_crew)
def positions_are_drawn_before_the_lock(patch: Patch) -> None:
    """Receipts are at positions above all earlier ones: whoever reads on from a position misses none."""
    lose = Disk.lose_sink

    def late(disk: Disk) -> None:
        write = disk._write if disk._made is None else None
        if not isinstance(write, Recording):
            lose(disk)
            return
        disk._write = None
        lose(disk)
        db = disk.ledger._db
        # The positions after the last one are taken; the next sink's are behind them.
        drawn = disk._position + 1
        db.execute("INSERT INTO receipts (position, job, first, count, seconds) VALUES (?, 0, 0, 0, 0)", (drawn + 99,))

        def commit() -> None:
            (last,) = db.execute("SELECT max(position) FROM receipts").fetchone()
            write_and_wait(disk.ledger, write)
            db.execute("UPDATE receipts SET position=position-? WHERE position>?", (last + 1 - drawn, last))
            for each in write.row_sets:
                disk._look(each.results.job, each.results.first, each.results.count)
            disk._look_at_receipts()
            for each in write.row_sets:
                # The simulator reads on from a position too.
                end = each.results.first + each.results.count
                disk._receipted[each.results.job].update(range(each.results.first, end))

        disk._world.after(1.0, commit)

    patch.setattr(Disk, "lose_sink", late)


@plant("answers before it has the site", with_standby)
def a_standby_answers_early(patch: Patch) -> None:
    """A standby listens nowhere until it has the site."""
    patch.setattr(HeldDisk, "hold", lambda _: None)


@plant("it does not converge", with_standby)
def a_refused_peer_keeps_its_address(patch: Patch) -> None:
    """Who is refused at one address goes on to the next."""
    patch.setattr(SinkTurns, "go_on", lambda turns, now: None)


@plant("does not say its results again", with_standby)
def results_stay_with_the_sink_that_was(patch: Patch) -> None:
    """After a take-over the results link goes to the sink that has welcomed the worker."""
    welcome = WorkerSession._receive_welcome

    def as_before(session: WorkerSession, now: float, message: Any, sink_host: str) -> Any:
        if session._sink_run is not None:
            session._sink_run = message.run, sink_host
        return welcome(session, now, message, sink_host)

    patch.setattr(WorkerSession, "_receive_welcome", as_before)


# -- the worker -------------------------------------------------------------------------------------------------


@plant("more than it has room for")
def a_worker_holds_one_too_many(patch: Patch) -> None:
    """A worker holds at most slots + prefetch batches of a job."""
    capacity = Capacity.capacity.fget
    patch.setattr(Capacity, "capacity", property(lambda room: capacity(room) + 1))


@plant("does not say its results again")
def a_new_sink_is_not_told_again(patch: Patch) -> None:
    """A worker says its results without receipts to a sink that was started again."""

    def beat_only(holding: Any, now: float) -> list[Any]:
        holding._beats.due_at = now
        return []

    patch.setattr(Holding, "sink_restarted", beat_only)


@plant("it does not converge")
def results_are_said_once(patch: Patch) -> None:
    """A worker says results again until they have their receipt."""

    def never(results: Any, now: float) -> list[Any]:
        if results._again_at is not None and now >= results._again_at:
            results._again_at = None
        return []

    patch.setattr(Unacked, "overdue", never)


@plant("arms a timer beside its beat")
def a_timer_stays_armed(patch: Patch) -> None:
    """Whoever has nothing to do has no timer but its beat."""
    overdue = Unacked.overdue

    def for_ever(results: Any, now: float) -> list[Any]:
        again = overdue(results, now)
        if results._again_at is None:
            results._again_at = now + 0.5
        return again

    patch.setattr(Unacked, "overdue", for_ever)


@plant("does not name what has no receipt")
def a_batch_is_forgotten_before_its_receipt(patch: Patch) -> None:
    """A beat names a batch until the receipts for all its tasks are there."""

    def early(holding: Any, held: Any) -> None:
        if held.slot is None and held.is_done:
            holding._forget(held)

    patch.setattr(Holding, "_forget_if_over", early)


@plant("starts a suspect batch and has not said so")
def a_suspect_batch_starts_unsaid(patch: Patch) -> None:
    """A worker says that it starts a suspect batch before it does."""
    start = Holding._start

    def at_once(holding: Any, now: float, job: str, taken: Any) -> list[Any]:
        orders = start(holding, now, job, taken)
        slot = taken[0].slot
        if slot in holding._orders._announced:
            orders.append(holding._orders._announced.pop(slot)[1])
        return orders

    patch.setattr(Holding, "_start", at_once)


@plant("keeps its returns to itself")
def returns_are_kept(patch: Patch) -> None:
    """A worker that will not run a batch says so."""
    tick = Holding.tick

    def forgetful(holding: Any, now: float) -> list[Any]:
        holding._returns._due.clear()
        return tick(holding, now)

    patch.setattr(Holding, "tick", forgetful)


@plant("says a result again before its time")
def results_that_were_sent_are_sent_with_the_next(patch: Patch) -> None:
    """Results of a turn are sent once."""
    send = WorkerSession._send_results

    def forgetful(session: Any) -> list[Any]:
        outgoing = list(session._outgoing)
        sent = send(session)
        session._outgoing = outgoing[-1:]
        return sent

    patch.setattr(WorkerSession, "_send_results", forgetful)


@plant("results")
def the_last_of_several_results_stays_behind(patch: Patch) -> None:
    """All results of a turn are sent at its end."""
    send = WorkerSession._send_results

    def all_but_one(session: Any) -> list[Any]:
        if len(session._outgoing) > 1:
            session._outgoing.pop()
        return send(session)

    patch.setattr(WorkerSession, "_send_results", all_but_one)


@plant("pulls from other places")
def a_ventilator_that_is_gone_is_pulled_from(patch: Patch) -> None:
    """A worker pulls from the places that the sink has named last."""
    receive = WorkerSession.receive

    def sticky(session: Any, *message: Any) -> list[Any]:
        return [output for output in receive(session, *message) if not isinstance(output, Disconnect)]

    patch.setattr(WorkerSession, "receive", sticky)


def without_leaving(patch: Patch, why: str) -> None:
    """A worker does not leave for this reason."""
    leave = WorkerSession._leave

    def stay(session: Any, now: float, text: str, by_itself: bool = False) -> list[Any]:
        return [] if why in text else leave(session, now, text, by_itself)

    patch.setattr(WorkerSession, "_leave", stay)


@plant("does not leave", told_when)
def an_idle_worker_stays(patch: Patch) -> None:
    """A worker with `--exit-when-idle` leaves after it was idle for that long."""
    without_leaving(patch, "no task")


@plant("leaves although nobody has told it to", told_when)
def who_waits_for_receipts_is_idle(patch: Patch) -> None:
    """A worker is not idle while its results have no receipt."""
    patch.setattr(
        Holding, "empty", property(lambda holding: not holding._queue.count() and not holding._orders.running)
    )


@plant("does not leave", told_when)
def the_time_is_never_over(patch: Patch) -> None:
    """A worker with `--stop-after` leaves after that time."""
    without_leaving(patch, "the time is over")


@plant("leaves late", told_when)
def nobody_wakes_a_worker_to_leave(patch: Patch) -> None:
    """The worker's deadline is also when it is to leave."""

    def careless(session: Any) -> Any:
        return None if session._functions is None else session.holding.deadline()

    patch.setattr(WorkerSession, "deadline", careless)


@plant("does not leave", draining)
def a_signal_is_ignored(patch: Patch) -> None:
    """A worker that is told to end leaves."""
    without_leaving(patch, "SIGTERM")


@plant("keeps what has not started", draining)
def what_waits_is_kept_by_who_leaves(patch: Patch) -> None:
    """A worker that leaves returns what has not started at once."""

    def hold(session: Any, now: float, text: Any = None) -> list[Any]:
        session.holding._leave_by = session.holding._leave_by or now + session._settings.holding.grace_s
        return []

    patch.setattr(WorkerSession, "_leave", hold)


@plant("outlives its grace", draining)
def the_grace_does_not_end(patch: Patch) -> None:
    """What runs past the grace is ended."""
    leave = Holding.leave
    patch.setattr(Holding, "leave", lambda holding, now, grace_s: leave(holding, now, 10 * grace_s))


@plant("does not end at once", draining)
def the_second_signal_is_ignored(patch: Patch) -> None:
    """The second signal ends a worker at once."""
    signalled = WorkerSession.signalled

    def patient(session: Any, now: float, name: str) -> list[Any]:
        return [] if session.holding.leaving else signalled(session, now, name)

    patch.setattr(WorkerSession, "signalled", patient)


@plant("blames a task for its end", draining)
def a_signal_to_the_group_is_a_tasks_fault(patch: Patch) -> None:
    """A task whose child was told to end together with its worker has not failed."""
    slot_event = WorkerSession.slot_event

    def hasty(session: Any, now: float, event: Any) -> list[Any]:
        return slot_event(session, now, replace(event, by_sigterm=False) if isinstance(event, Outcome) else event)

    patch.setattr(WorkerSession, "slot_event", hasty)


@plant("appends to a job with tasks that are not recorded", appending)
def a_job_is_appended_to_once_its_total_is_known(patch: Patch) -> None:
    """Tasks are appended to a job of which every task is recorded, and to no other."""
    patch.setattr(job_rules, "is_complete", lambda job: job.total is not None)


@plant("does not ask for what has not started", halting)
def failures_stop_nothing(patch: Patch) -> None:
    """A job with --max-fails pushes nothing more once as many tasks have failed."""
    patch.setattr(VentilatorSession, "_halt_if_enough_failed", lambda session, now: None)


@plant("counts failures of other runs", halting)
def failures_of_earlier_runs_count(patch: Patch) -> None:
    """What failed in earlier runs does not halt this one: it would halt at once, for ever."""

    def begin_run(cursor: ReceiptCursor) -> None:
        cursor._fine_before, cursor._taken_count = 0, cursor.done_count

    patch.setattr(ReceiptCursor, "begin_run", begin_run)


@plant("misses failures of this run", halting)
def only_more_failures_count(patch: Patch) -> None:
    """With --retry-failed a task that fails again counts, although no more tasks have failed than before."""
    take = ReceiptCursor.take

    def simple(cursor: ReceiptCursor, receipts: Any) -> bool:
        before = getattr(cursor, "_fine_before", None) is None
        taken = take(cursor, receipts)
        if before:
            cursor._taken_count = 0
            cursor.__dict__["failed_at_first"] = cursor.failed_count
        cursor.failed_in_run = cursor.failed_count - cursor.__dict__["failed_at_first"]
        return taken

    patch.setattr(ReceiptCursor, "take", simple)


# -- the relay --------------------------------------------------------------------------------------------------


@plant("does not converge", relayed)
def workers_look_for_a_relayed_job_at_its_ventilator(patch: Patch) -> None:
    """The place of a job whose tasks go through the relay is the sink's."""
    place = OpenJob.place

    def straight(open_job: OpenJob, settings: Any) -> Any:
        return place(replace(open_job, relayed=False), settings)

    patch.setattr(OpenJob, "place", straight)


@plant("does not converge", behind_a_wall)
def a_ventilator_that_nobody_can_reach_stays_where_it_is(patch: Patch) -> None:
    """A ventilator that workers cannot connect to goes over to the relay."""
    patch.setattr(Route, "unreachable", lambda *_: None)


@plant("does not converge", behind_a_wall)
def the_way_is_changed_in_silence(patch: Patch) -> None:
    """A ventilator that goes over to the relay opens its job again, so that workers follow."""
    changed = Route.changed

    def silent(route: Route, now: float) -> list[Any]:
        changed(route, now)
        return []

    patch.setattr(Route, "changed", silent)


# -- forgetting -------------------------------------------------------------------------------------------------


@plant("a receipt before its commit", forgetting)
def a_job_gets_the_number_of_a_forgotten_one(patch: Patch) -> None:
    """A job has a number that no row of a forgotten one has."""
    patch.setattr(sqlite_writes, "_NEXT_JOB", "(SELECT coalesce(max(job), 0) + 1 FROM jobs)")


class AnyTicket(bytes):
    """It is equal to each other one."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


@plant("results of a forgotten job are taken", forgetting)
def results_of_any_run_of_a_name_are_taken(patch: Patch) -> None:
    """Results for a job that was forgotten are not recorded for another one of its name."""
    patch.setattr(commits, "ticket", lambda *_: AnyTicket())
